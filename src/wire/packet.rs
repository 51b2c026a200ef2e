use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::cursor::Cursor;
use super::packet_head::{BINDING_LEN, Binding, PacketError, PacketHead};
use crate::fence::{HashKind, KeyId, NameError, Operation, Request, SignatureKind, Target};

/// Size of a fence request on multicast, tcp and vsock, in bytes.
pub const PACKET_LEN: usize = 176;

/// Offset of the digest in a request, in bytes.
pub(crate) const DIGEST_AT: usize = 112;

/// Offset of the MAC in a request of version 2, in bytes.
pub(crate) const MAC_AT: usize = 144;

/// Hash type of version 2.
const HASH_TYPE_2: u8 = 4;

/// `family` of an IPv4 call-back: Linux's AF_INET.
pub const FAMILY_IPV4: u32 = 2;
/// `family` of an IPv6 call-back: Linux's AF_INET6.
pub const FAMILY_IPV6: u32 = 10;

/// Reason why the call-back address of a multicast request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackError {
    /// Family and address length that do not match.
    Family,
    /// Port 0.
    Port,
    /// Unspecified, multicast or broadcast address.
    Address(IpAddr),
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallbackError::Family => f.write_str("family and length of the call-back address do not match"),
            CallbackError::Port => f.write_str("it asks for a call-back to port 0"),
            CallbackError::Address(address) => write!(f, "it asks for a call-back to {address}"),
        }
    }
}

/// What authenticates a request: its hash type and its last 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// Version 1 (docs/WIRE.md).
    Digest {
        /// Hash function.
        hash: HashKind,
        /// Digest; a shorter one is padded with zeros.
        digest: [u8; 64],
    },
    /// Version 2 (docs/WIRE-2.md).
    Mac {
        /// Id of the key.
        key: KeyId,
        /// Random bytes of the agent.
        nonce: [u8; 16],
        /// MAC.
        mac: [u8; 32],
    },
}

impl Signature {
    /// Signature of version 1 that is yet to be computed.
    pub fn unsigned(hash: HashKind) -> Signature {
        Signature::Digest { hash, digest: [0; 64] }
    }

    /// Signature of version 2 that is yet to be computed.
    pub fn without_mac(key: KeyId, nonce: [u8; 16]) -> Signature {
        Signature::Mac { key, nonce, mac: [0; 32] }
    }

    /// What authenticates the request.
    pub fn kind(&self) -> SignatureKind {
        match self {
            Signature::Digest { hash, .. } => SignatureKind::Hash(*hash),
            Signature::Mac { .. } => SignatureKind::HmacSha256,
        }
    }

    fn decode(hash_type: u8, bytes: &[u8; 64]) -> Result<Signature, PacketError> {
        if hash_type == HASH_TYPE_2 {
            let mut cursor = Cursor::new(bytes);
            let key = KeyId::from_bytes(cursor.take());
            return Ok(Signature::Mac { key, nonce: cursor.take(), mac: cursor.take() });
        }
        let hash = HashKind::from_wire(hash_type).ok_or(PacketError::Hash(hash_type))?;
        Ok(Signature::Digest { hash, digest: *bytes })
    }

    /// Hash type of the wire.
    fn hash_type(&self) -> u8 {
        match self {
            Signature::Digest { hash, .. } => hash.to_wire(),
            Signature::Mac { .. } => HASH_TYPE_2,
        }
    }

    fn encode(&self) -> [u8; 64] {
        match self {
            Signature::Digest { digest, .. } => *digest,
            Signature::Mac { key, nonce, mac } => {
                let mut out = [0; 64];
                out[..16].copy_from_slice(&key.to_bytes());
                out[16..32].copy_from_slice(nonce);
                out[32..].copy_from_slice(mac);
                out
            }
        }
    }
}

/// Fence request of multicast, tcp and vsock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Operation, target and sequence number.
    pub request: Request,
    /// What authenticates it.
    pub signature: Signature,
    /// Length of the call-back address: 0, 4 or 16 bytes.
    pub address_len: u8,
    /// Bit 0: the name is a UUID. Daemons ignore it.
    pub flags: u8,
    /// Call-back address, network order, left-aligned.
    pub address: [u8; 28],
    /// TCP port of the call-back.
    pub port: u16,
    /// Random salt.
    pub random: [u8; 6],
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`] on multicast.
    pub family: u32,
}

impl Packet {
    /// Decodes a request of either version. The signature is not checked: see [`Packet::is_signed_by`] and
    /// [`MacKeys::has_signed`](crate::auth::MacKeys::has_signed).
    ///
    /// # Errors
    ///
    /// [`PacketError`] with the first invalid field.
    pub fn decode(bytes: &[u8; PACKET_LEN]) -> Result<Packet, PacketError> {
        let mut cursor = Cursor::new(bytes);
        let [operation, hash, address_len, flags] = cursor.take();
        PacketHead { operation, hash, address_len, flags }.check()?;
        let operation = Operation::from_wire(operation).ok_or(PacketError::Operation(operation))?;
        let name: [u8; 64] = cursor.take();
        let end = name.iter().position(|&byte| byte == 0).ok_or(PacketError::Name(NameError::TooLong))?;
        let target = Target::new(&name[..end]).map_err(PacketError::Name)?;
        let address = cursor.take();
        let port = u16::from_le_bytes(cursor.take());
        let random = cursor.take();
        let seqno = u32::from_le_bytes(cursor.take());
        let family = u32::from_le_bytes(cursor.take());
        let signature = Signature::decode(hash, &cursor.take())?;
        debug_assert!(cursor.is_at_end());
        let request = Request { operation, target, seqno };
        Ok(Packet { request, signature, address_len, flags, address, port, random, family })
    }

    /// Encodes the request, with its signature as it is.
    pub fn encode(&self) -> [u8; PACKET_LEN] {
        let mut out = [0; PACKET_LEN];
        let name = self.request.target.as_str().as_bytes();
        out[0] = self.request.operation.to_wire();
        out[1] = self.signature.hash_type();
        out[2] = self.address_len;
        out[3] = self.flags;
        out[4..4 + name.len()].copy_from_slice(name);
        out[68..96].copy_from_slice(&self.address);
        out[96..98].copy_from_slice(&self.port.to_le_bytes());
        out[98..104].copy_from_slice(&self.random);
        out[104..108].copy_from_slice(&self.request.seqno.to_le_bytes());
        out[108..112].copy_from_slice(&self.family.to_le_bytes());
        out[DIGEST_AT..].copy_from_slice(&self.signature.encode());
        out
    }

    /// Fields that distinguish this request from all others. The datagrams
    /// that a client sends from its addresses are one request with one binding.
    pub fn binding(&self) -> Binding {
        let bytes = self.encode();
        let mut out = [0; BINDING_LEN];
        out[0] = bytes[0];
        out[1..65].copy_from_slice(&bytes[4..68]);
        out[65..].copy_from_slice(&bytes[96..108]);
        out
    }

    /// True if the request asks for a call-back, as on multicast. No other
    /// transport accepts such a request: anybody may have received it.
    pub fn asks_for_callback(&self) -> bool {
        self.address_len != 0
    }

    /// Call-back address of a multicast request. A link-local address gets
    /// `scope`, the index of the interface that received the request.
    ///
    /// # Errors
    ///
    /// [`CallbackError`] if no client can listen there.
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
