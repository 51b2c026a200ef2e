use std::fmt;

use sha2::{Digest, Sha256};

/// Bytes hashed before the key, so that no message of the wire has this digest.
const LABEL: &[u8] = b"fence_virt key fingerprint\0";

/// Short name of a key, to compare the files of two machines: the first 4 bytes of SHA-256 over a label and the
/// key, shown as 8 hexadecimal digits. Two keys may share one; it tells nothing of a key that cannot be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFingerprint([u8; 4]);

impl KeyFingerprint {
    /// Makes the fingerprint of a key: the bytes of its file that count.
    pub(super) fn of(key: &[u8]) -> KeyFingerprint {
        let digest: [u8; 32] = Sha256::new_with_prefix(LABEL).chain_update(key).finalize().into();
        let [a, b, c, d, ..] = digest;
        KeyFingerprint([a, b, c, d])
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}
