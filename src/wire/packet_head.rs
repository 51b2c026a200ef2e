use std::fmt;

use crate::fence::NameError;

/// Size of what tells requests apart, in bytes: operation 1, name 64, port 2, salt 6, number 4.
pub const BINDING_LEN: usize = 77;

/// What tells a request from every other; see [`Packet::binding`](super::Packet::binding).
pub type Binding = [u8; BINDING_LEN];

/// The first four bytes of a fence request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHead {
    pub(super) operation: u8,
    pub(super) hash: u8,
    pub(super) address_len: u8,
    pub(super) flags: u8,
}

impl PacketHead {
    /// Whether bytes begin like a fence request that some daemon might take.
    /// No daemon of ours takes a request outside this set, and no challenge
    /// inside it is answered.
    pub fn is_plausible(bytes: &[u8]) -> bool {
        matches!(bytes, [operation, hash, address_len, flags, ..]
            if PacketHead { operation: *operation, hash: *hash, address_len: *address_len, flags: *flags }
                .check().is_ok())
    }

    pub(super) fn check(self) -> Result<(), PacketError> {
        if self.operation > 8 {
            return Err(PacketError::Operation(self.operation));
        }
        if self.hash > 3 {
            return Err(PacketError::Hash(self.hash));
        }
        if !matches!(self.address_len, 0 | 4 | 16) {
            return Err(PacketError::AddressLength(self.address_len));
        }
        if self.flags > 1 {
            return Err(PacketError::Flags(self.flags));
        }
        Ok(())
    }
}

/// Why 176 bytes are no fence request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// An operation that no daemon carries out.
    Operation(u8),
    /// An unknown hash type.
    Hash(u8),
    /// An address length that is not 0, 4 or 16.
    AddressLength(u8),
    /// Flags other than bit 0.
    Flags(u8),
    /// No closing NUL, or no text.
    Name(NameError),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::Operation(number) => write!(f, "it asks for the unknown operation {number}"),
            PacketError::Hash(number) => write!(f, "it claims the unknown hash type {number}"),
            PacketError::AddressLength(length) => write!(f, "its address has the impossible length {length}"),
            PacketError::Flags(flags) => write!(f, "it has the unknown flags {flags:#04x}"),
            PacketError::Name(error) => error.fmt(f),
        }
    }
}
