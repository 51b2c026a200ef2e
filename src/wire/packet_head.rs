use std::fmt;

use crate::fence::NameError;

/// Size of a binding, in bytes: operation 1, name 64, port 2, salt 6, sequence number 4.
pub const BINDING_LEN: usize = 77;

/// Fields that distinguish a request from all others; see [`Packet::binding`](super::Packet::binding).
pub type Binding = [u8; BINDING_LEN];

/// First four bytes of a fence request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHead {
    pub(super) operation: u8,
    pub(super) hash: u8,
    pub(super) address_len: u8,
    pub(super) flags: u8,
}

impl PacketHead {
    /// Returns true if bytes begin like a fence request that some daemon may accept. Our daemon accepts
    /// no request outside this set, and answers no challenge inside it.
    pub fn is_plausible(bytes: &[u8]) -> bool {
        matches!(bytes, [operation, hash, address_len, flags, ..]
            if PacketHead { operation: *operation, hash: *hash, address_len: *address_len, flags: *flags }
                .check().is_ok())
    }

    pub(super) fn check(self) -> Result<(), PacketError> {
        match self {
            PacketHead { operation: 9.., .. } => Err(PacketError::Operation(self.operation)),
            PacketHead { hash: 5.., .. } => Err(PacketError::Hash(self.hash)),
            PacketHead { address_len: 1..=3 | 5..=15 | 17.., .. } => {
                Err(PacketError::AddressLength(self.address_len))
            }
            PacketHead { flags: 2.., .. } => Err(PacketError::Flags(self.flags)),
            _ => Ok(()),
        }
    }
}

/// Reason why 176 bytes are not a fence request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// Operation that no daemon carries out.
    Operation(u8),
    /// Unknown hash type.
    Hash(u8),
    /// Address length other than 0, 4 or 16.
    AddressLength(u8),
    /// Flags other than bit 0.
    Flags(u8),
    /// Invalid VM name, or one without a closing NUL.
    Name(NameError),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::Operation(number) => write!(f, "unknown operation {number}"),
            PacketError::Hash(number) => write!(f, "unknown hash type {number}"),
            PacketError::AddressLength(length) => write!(f, "invalid address length {length}"),
            PacketError::Flags(flags) => write!(f, "unknown flags {flags:#04x}"),
            PacketError::Name(error) => error.fmt(f),
        }
    }
}
