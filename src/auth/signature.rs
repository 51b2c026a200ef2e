use super::Key;
use crate::fence::HashKind;
use crate::wire::{DIGEST_AT, PACKET_LEN, Packet};

impl Packet {
    /// Encodes the request and signs it with its `hash`.
    pub fn encode_signed(&self, key: &Key) -> [u8; PACKET_LEN] {
        let mut out = self.encode();
        out[DIGEST_AT..].fill(0);
        let digest = key.sign(self.hash, &out);
        out[DIGEST_AT..].copy_from_slice(digest.as_bytes());
        out
    }

    /// Returns true if `bytes`, the request as received, has a valid signature of this key. Hash none
    /// has no signature to check and is always valid: the listener's minimum `hash` decides about it.
    pub fn is_signed_by(&self, bytes: &[u8; PACKET_LEN], key: &Key) -> bool {
        if self.hash == HashKind::None {
            return true;
        }
        let mut unsigned = *bytes;
        unsigned[DIGEST_AT..].fill(0);
        key.sign(self.hash, &unsigned).matches(&self.digest)
    }
}
