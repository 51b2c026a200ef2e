use crate::fence::Request;

/// Size of a request on a serial line or a vmchannel, in bytes.
pub const LINE_REQUEST_LEN: usize = 74;

/// Size of a response there, in bytes: the magic and a verdict, or the byte
/// that announces a host list.
pub const LINE_RESPONSE_LEN: usize = 5;

/// What requests and responses there begin with: 0x61626261, little-endian.
pub const LINE_MAGIC: [u8; 4] = *b"abba";

/// Encodes a request for a serial line or a vmchannel: magic 4, operation 1,
/// flags 1 (bit 0: the name is a UUID), name 64, number 4. It is not signed:
/// the socket on the host names the VM that asks.
pub fn encode_line_request(request: &Request, flags: u8) -> [u8; LINE_REQUEST_LEN] {
    let mut out = [0; LINE_REQUEST_LEN];
    let name = request.target.as_str().as_bytes();
    out[..4].copy_from_slice(&LINE_MAGIC);
    out[4] = request.operation.to_wire();
    out[5] = flags;
    out[6..6 + name.len()].copy_from_slice(name);
    out[70..].copy_from_slice(&request.seqno.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::{Operation, Target};

    #[test]
    fn fields_stand_where_daemons_read_them() {
        let target = Target::new(b"node1").unwrap();
        let request = Request { operation: Operation::Status, target, seqno: 0x000b_b56c };
        let bytes = encode_line_request(&request, 1);
        assert_eq!(&bytes[..12], b"abba\x04\x01node1\0");
        assert!(bytes[12..70].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[70..], &[0x6c, 0xb5, 0x0b, 0x00]);
    }
}
