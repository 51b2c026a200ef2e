use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::cursor::Cursor;
use super::packet_head::{BINDING_LEN, Binding, PacketError, PacketHead};
use crate::auth::{HashKind, Key};
use crate::fence::{NameError, Operation, Request, Target};

/// Size of a fence request on multicast, tcp and vsock, in bytes.
pub const PACKET_LEN: usize = 176;

const HASH_AT: usize = 112;

/// `family` of an IPv4 call-back: Linux's AF_INET.
pub const FAMILY_IPV4: u32 = 2;
/// `family` of an IPv6 call-back: Linux's AF_INET6.
pub const FAMILY_IPV6: u32 = 10;

/// Why no call-back can go where a multicast request asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackError {
    /// Family and address length do not belong together.
    Family,
    /// Port 0.
    Port,
    /// An unspecified, multicast or broadcast address.
    Address(IpAddr),
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallbackError::Family => {
                f.write_str("the family and length of its call-back address do not agree")
            }
            CallbackError::Port => f.write_str("it asks for a call-back to port 0"),
            CallbackError::Address(address) => write!(f, "it asks for a call-back to {address}"),
        }
    }
}

/// A fence request of multicast, tcp and vsock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What is asked of which VM.
    pub request: Request,
    /// How it is signed.
    pub hash: HashKind,
    /// Length of the call-back address: 0, 4 or 16 bytes.
    pub address_len: u8,
    /// Bit 0: the name is a UUID. Daemons ignore it.
    pub flags: u8,
    /// The call-back address, network order, left-aligned.
    pub address: [u8; 28],
    /// The TCP port of the call-back.
    pub port: u16,
    /// Salt.
    pub random: [u8; 6],
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`] on multicast.
    pub family: u32,
    /// The signature, over all 64 bytes.
    pub digest: [u8; 64],
}

impl Packet {
    /// Decodes a request. The signature is not looked at: see [`Packet::is_signed_by`].
    ///
    /// # Errors
    ///
    /// [`PacketError`] names the field that no client would send.
    pub fn decode(bytes: &[u8; PACKET_LEN]) -> Result<Packet, PacketError> {
        let mut cursor = Cursor::new(bytes);
        let [operation, hash, address_len, flags] = cursor.take();
        PacketHead { operation, hash, address_len, flags }.check()?;
        let operation = Operation::from_wire(operation).ok_or(PacketError::Operation(operation))?;
        let hash = HashKind::from_wire(hash).ok_or(PacketError::Hash(hash))?;
        let name: [u8; 64] = cursor.take();
        let end = name.iter().position(|&byte| byte == 0).ok_or(PacketError::Name(NameError::TooLong))?;
        let target = Target::new(&name[..end]).map_err(PacketError::Name)?;
        let address = cursor.take();
        let port = u16::from_le_bytes(cursor.take());
        let random = cursor.take();
        let seqno = u32::from_le_bytes(cursor.take());
        let family = u32::from_le_bytes(cursor.take());
        let digest = cursor.take();
        debug_assert!(cursor.is_at_end());
        let request = Request { operation, target, seqno };
        Ok(Packet { request, hash, address_len, flags, address, port, random, family, digest })
    }

    /// Encodes the request with its digest as it is.
    pub fn encode(&self) -> [u8; PACKET_LEN] {
        let mut out = [0; PACKET_LEN];
        let name = self.request.target.as_str().as_bytes();
        out[0] = self.request.operation.to_wire();
        out[1] = self.hash.to_wire();
        out[2] = self.address_len;
        out[3] = self.flags;
        out[4..4 + name.len()].copy_from_slice(name);
        out[68..96].copy_from_slice(&self.address);
        out[96..98].copy_from_slice(&self.port.to_le_bytes());
        out[98..104].copy_from_slice(&self.random);
        out[104..108].copy_from_slice(&self.request.seqno.to_le_bytes());
        out[108..112].copy_from_slice(&self.family.to_le_bytes());
        out[HASH_AT..].copy_from_slice(&self.digest);
        out
    }

    /// Encodes the request and signs it as its `hash` says.
    pub fn encode_signed(&self, key: &Key) -> [u8; PACKET_LEN] {
        let mut out = self.encode();
        out[HASH_AT..].fill(0);
        let digest = key.sign(self.hash, &out);
        out[HASH_AT..].copy_from_slice(digest.as_bytes());
        out
    }

    /// What tells this request from every other. The datagrams that a client
    /// sends from its addresses are one request, and have the same.
    pub fn binding(&self) -> Binding {
        let bytes = self.encode();
        let mut out = [0; BINDING_LEN];
        out[0] = bytes[0];
        out[1..65].copy_from_slice(&bytes[4..68]);
        out[65..].copy_from_slice(&bytes[96..108]);
        out
    }

    /// Whether the request asks for a call-back, as by multicast. No other
    /// transport takes such a one: it may have been heard by anybody.
    pub fn asks_for_callback(&self) -> bool {
        self.address_len != 0
    }

    /// Whether the request as it came in, `bytes`, bears the signature of
    /// this key. A request that claims hash none has none to be wrong: whether
    /// it is taken is the listener's weakest `hash`.
    pub fn is_signed_by(&self, bytes: &[u8; PACKET_LEN], key: &Key) -> bool {
        if self.hash == HashKind::None {
            return true;
        }
        let mut unsigned = *bytes;
        unsigned[HASH_AT..].fill(0);
        key.sign(self.hash, &unsigned).matches(&self.digest)
    }

    /// Where a multicast request asks to be called back. A link-local address
    /// gets `scope`, the index of the interface that the request came in on.
    ///
    /// # Errors
    ///
    /// [`CallbackError`] if no client can wait there.
    pub fn callback(&self, scope: u32) -> Result<SocketAddr, CallbackError> {
        let mut cursor = Cursor::new(&self.address);
        let address = match (self.family, self.address_len) {
            (FAMILY_IPV4, 4) => IpAddr::from(cursor.take::<4>()),
            (FAMILY_IPV6, 16) => IpAddr::from(cursor.take::<16>()),
            _ => return Err(CallbackError::Family),
        };
        if self.port == 0 {
            return Err(CallbackError::Port);
        }
        let plain = address.to_canonical();
        if plain.is_unspecified() || plain.is_multicast() || plain == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(CallbackError::Address(address));
        }
        Ok(match address {
            IpAddr::V6(v6) if is_link_local(v6) => SocketAddrV6::new(v6, self.port, 0, scope).into(),
            _ => SocketAddr::new(address, self.port),
        })
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
