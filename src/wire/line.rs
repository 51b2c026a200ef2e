use crate::fence::{Answer, Operation, Request, Target};

use super::hostlist::encode_host_list;

/// Size of a request on a serial line or a vmchannel, in bytes.
pub const LINE_REQUEST_LEN: usize = 74;

/// Size of a response on a serial line or a vmchannel, in bytes: the magic, and
/// a verdict or the byte that announces a host list.
pub const LINE_RESPONSE_LEN: usize = 5;

/// Magic at the start of requests and responses: 0x61626261, little-endian.
pub const LINE_MAGIC: [u8; 4] = *b"abba";

/// Encodes a request for a serial line or a vmchannel. Fields in bytes: magic 4,
/// operation 1, flags 1 (bit 0: the name is a UUID), name 64, sequence number 4.
/// It is not signed: the socket on the host identifies the requesting VM.
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

/// Position of the name; its last byte is always NUL.
const NAME: std::ops::Range<usize> = 6..70;

/// Maximum value of the flags.
const FLAGS_MAX: u8 = 1;

/// Returns true if a request can begin with these bytes (at most [`LINE_REQUEST_LEN`] are checked): the
/// magic, a valid operation, known flags, a name without control characters, padded with NUL.
pub fn can_begin_line_request(bytes: &[u8]) -> bool {
    let mut name_is_over = false;
    bytes.iter().take(NAME.end).enumerate().all(|(at, &byte)| match at {
        0..4 => byte == LINE_MAGIC[at],
        4 => Operation::from_wire(byte).is_some(),
        5 => byte <= FLAGS_MAX,
        _ if byte == 0 => {
            name_is_over = true;
            true
        }
        _ => !name_is_over && at + 1 < NAME.end && !byte.is_ascii_control(),
    })
}

/// Decodes a request of a serial line or a vmchannel; none if it is malformed.
/// The flags are ignored: names and UUIDs both find a VM.
pub fn decode_line_request(bytes: &[u8; LINE_REQUEST_LEN]) -> Option<Request> {
    if !can_begin_line_request(bytes) {
        return None;
    }
    let operation = Operation::from_wire(bytes[4])?;
    let name = bytes[NAME].split(|&byte| byte == 0).next()?;
    let target = Target::new(name).ok()?;
    let seqno = bytes[NAME.end..].iter().rev().fold(0, |seqno, &byte| seqno << 8 | u32::from(byte));
    Some(Request { operation, target, seqno })
}

/// Encodes an answer for a serial line or a vmchannel: the magic and the verdict; or the magic and 253,
/// the records of a host list and one of zeros, the magic and 0.
pub fn encode_line_answer(answer: &Answer) -> Vec<u8> {
    let mut out = LINE_MAGIC.to_vec();
    match answer {
        Answer::Verdict(verdict) => out.push(verdict.to_wire()),
        Answer::HostList(entries) => {
            let list = encode_host_list(entries);
            if let Some((last, records)) = list.split_last() {
                out.extend_from_slice(records);
                out.extend_from_slice(&LINE_MAGIC);
                out.push(*last);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::{HostEntry, PowerState, Verdict};

    #[test]
    fn fields_are_where_daemons_read_them() {
        let target = Target::new(b"node1").unwrap();
        let request = Request { operation: Operation::Status, target, seqno: 0x000b_b56c };
        let bytes = encode_line_request(&request, 1);
        assert_eq!(&bytes[..12], b"abba\x04\x01node1\0");
        assert!(bytes[12..70].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[70..], &[0x6c, 0xb5, 0x0b, 0x00]);
    }

    fn request(operation: Operation, name: &[u8], seqno: u32) -> Request {
        Request { operation, target: Target::new(name).unwrap(), seqno }
    }

    #[test]
    fn requests_survive_a_round_trip() {
        for operation in Operation::ALL {
            for name in [&b""[..], b"node1", "kn\u{f6}del two".as_bytes(), &[b'x'; 63]] {
                for flags in [0, 1] {
                    let request = request(operation, name, 0x8001_0203);
                    let bytes = encode_line_request(&request, flags);
                    assert_eq!(decode_line_request(&bytes), Some(request));
                    assert!((0..=bytes.len()).all(|length| can_begin_line_request(&bytes[..length])));
                }
            }
        }
    }

    #[test]
    fn a_malformed_request_is_recognised_by_its_first_wrong_byte() {
        let good = encode_line_request(&request(Operation::Off, b"node1", 1), 0);
        for (at, byte) in [(0, b'b'), (3, b'b'), (4, 7), (4, b'a'), (5, 2), (7, b'\n'), (13, b'x'), (69, 1)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(can_begin_line_request(&bad[..at]), "{at}");
            assert!(!can_begin_line_request(&bad[..=at]), "{at}");
            assert_eq!(decode_line_request(&bad), None, "{at}");
        }
        let mut endless = good;
        endless[6..70].fill(b'x');
        assert!(can_begin_line_request(&endless[..69]) && !can_begin_line_request(&endless[..70]));
        let mut garbled = good;
        garbled[6] = 0xff;
        assert!(can_begin_line_request(&garbled));
        assert_eq!(decode_line_request(&garbled), None, "not UTF-8");
    }

    #[test]
    fn answers_are_framed_by_the_magic() {
        assert_eq!(encode_line_answer(&Verdict::Off.into()), b"abba\x02");
        let entry = HostEntry { name: "a".into(), uuid: "u".into(), state: PowerState::Off };
        let list = encode_line_answer(&Answer::HostList(vec![entry]));
        assert_eq!(list.len(), 5 + 2 * 130 + 5);
        assert_eq!((&list[..7], list[5 + 64], list[5 + 128]), (&b"abba\xfda\0"[..], b'u', 5));
        assert!(list[135..265].iter().all(|&byte| byte == 0));
        assert_eq!(&list[265..], b"abba\0");
    }
}
