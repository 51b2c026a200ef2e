/// Size of an encoded endpoint, in bytes.
pub const ENDPOINT_LEN: usize = 17;

/// First bytes of an encoded endpoint: the protocol and its version.
const LABEL: [u8; 12] = *b"fence_virt 2";

/// Transport of a request. The numbers are those of version 2 of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Carrier {
    /// Datagram to a multicast group, with a call-back over TCP.
    Multicast = 1,
    /// TCP connection.
    Tcp = 2,
    /// Vsock connection.
    Vsock = 3,
    /// Serial line or channel. Its requests are not authenticated.
    Line = 4,
}

/// Listener that a client means. Version 2 authenticates it, so that a request to one listener is none to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Transport.
    pub carrier: Carrier,
    /// Port to which the client connects, or the UDP port of the multicast group; 0 for lines.
    pub port: u32,
}

impl Endpoint {
    /// Serial line or channel.
    pub const LINE: Endpoint = Endpoint { carrier: Carrier::Line, port: 0 };

    /// Encodes the endpoint for version 2 of the wire.
    pub fn encode(self) -> [u8; ENDPOINT_LEN] {
        let mut out = [0; ENDPOINT_LEN];
        out[..12].copy_from_slice(&LABEL);
        out[12] = self.carrier as u8;
        out[13..].copy_from_slice(&self.port.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_version_transport_and_port() {
        let encoded = Endpoint { carrier: Carrier::Vsock, port: 0x0102_0304 }.encode();
        assert_eq!(&encoded, b"fence_virt 2\x03\x04\x03\x02\x01");
    }
}
