use sha2::{Digest, Sha256};

use crate::fence::KeyId;

/// Bytes hashed before the key, so that no message of the wire has this digest.
const LABEL: &[u8] = b"fence_virt key fingerprint\0";

/// Returns the id of a key, the bytes of its file that count: the first 16 bytes of SHA-256 over a label and the key.
pub(super) fn id_of(key: &[u8]) -> KeyId {
    let digest: [u8; 32] = Sha256::new_with_prefix(LABEL).chain_update(key).finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    KeyId::from_bytes(id)
}
