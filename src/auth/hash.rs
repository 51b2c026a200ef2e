use std::fmt;

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::fence::HashKind;

/// Size of a digest on the wire, in bytes: SHA-512 fills it, shorter digests
/// are left-aligned and padded with zeros.
pub const DIGEST_LEN: usize = 64;

/// Hash states that have absorbed the key, so that it is hashed once for all messages. As secret as the key.
pub(super) struct Keyed {
    sha1: Sha1,
    sha256: Sha256,
    sha512: Sha512,
}

impl Keyed {
    pub(super) fn new(key: &[u8]) -> Keyed {
        Keyed {
            sha1: Sha1::new_with_prefix(key),
            sha256: Sha256::new_with_prefix(key),
            sha512: Sha512::new_with_prefix(key),
        }
    }

    /// Returns H(key ‖ message); all zero for [`HashKind::None`].
    pub(super) fn digest(&self, kind: HashKind, message: &[u8]) -> Digest {
        let mut out = [0; DIGEST_LEN];
        match kind {
            HashKind::None => {}
            HashKind::Sha1 => out[..20].copy_from_slice(&finish(&self.sha1, message)),
            HashKind::Sha256 => out[..32].copy_from_slice(&finish(&self.sha256, message)),
            HashKind::Sha512 => out.copy_from_slice(&finish(&self.sha512, message)),
        }
        Digest(out)
    }
}

fn finish<D: sha2::Digest + Clone>(keyed: &D, message: &[u8]) -> sha2::digest::Output<D> {
    keyed.clone().chain_update(message).finalize()
}

/// Digest on the wire. `Debug` hides the bytes: an expected digest in a log
/// would give the answer to a challenge away.
#[derive(Clone, Copy)]
pub struct Digest([u8; DIGEST_LEN]);

impl Digest {
    /// Bytes to send.
    pub fn as_bytes(&self) -> &[u8; DIGEST_LEN] {
        &self.0
    }

    /// Returns true if all 64 bytes are equal; runs in constant time.
    pub fn matches(&self, received: &[u8; DIGEST_LEN]) -> bool {
        self.0.ct_eq(received).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_left_aligned_and_zero_padded() {
        // FIPS 180 test vector: the digest of "abc".
        let keyed = Keyed::new(b"a");
        let sha1 = keyed.digest(HashKind::Sha1, b"bc");
        assert_eq!(&sha1.as_bytes()[..4], &[0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(&sha1.as_bytes()[20..], &[0; 44]);
        let sha256 = Keyed::new(b"a").digest(HashKind::Sha256, b"bc");
        assert_eq!(&sha256.as_bytes()[..4], &[0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(&sha256.as_bytes()[32..], &[0; 32]);
        let sha512 = keyed.digest(HashKind::Sha512, b"bc");
        assert_eq!(&sha512.as_bytes()[..4], &[0xdd, 0xaf, 0x35, 0xa1]);
        assert_eq!(keyed.digest(HashKind::None, b"bc").as_bytes(), &[0; 64]);
    }

    #[test]
    fn a_digest_matches_only_itself() {
        let digest = Keyed::new(b"a").digest(HashKind::Sha1, b"bc");
        let mut bytes = *digest.as_bytes();
        assert!(digest.matches(&bytes));
        for i in 0..DIGEST_LEN {
            bytes[i] ^= 0x40;
            assert!(!digest.matches(&bytes), "byte {i} is compared");
            bytes[i] ^= 0x40;
        }
    }

    #[test]
    fn debug_shows_no_digest() {
        assert_eq!(format!("{:?}", Keyed::new(b"a").digest(HashKind::Sha256, b"bc")), "Digest(..)");
    }
}
