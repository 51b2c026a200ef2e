use std::fmt;

use super::Uuid;

/// Size of a key's id, in bytes.
pub const KEY_ID_LEN: usize = 16;

/// Public name of a key: a hash over it. Shown as a fingerprint of 8 hexadecimal digits, its first 4 bytes, by which
/// people compare the key files of two machines. It tells nothing of a key that cannot be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl KeyId {
    /// Makes an id of its bytes on the wire.
    pub fn from_bytes(bytes: [u8; KEY_ID_LEN]) -> KeyId {
        KeyId(bytes)
    }

    /// Bytes on the wire.
    pub fn to_bytes(self) -> [u8; KEY_ID_LEN] {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{:08x}", u32::from_be_bytes([a, b, c, d]))
    }
}

/// VM that has a key of its own, as the configuration states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyHolder {
    /// Name of the key, which is the VM's name.
    pub name: String,
    /// UUID of the VM, if it is stated.
    pub uuid: Option<Uuid>,
    /// Id of the key.
    pub key: KeyId,
}

impl fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:?}", self.name)
    }
}
