//! Keys, signatures and challenges of the wire (docs/WIRE.md).
#![forbid(unsafe_code)]

mod challenge;
mod fingerprint;
mod hash;
mod key;
mod weakness;

pub use crate::fence::HashKind;
pub use challenge::{CHALLENGE_LEN, Challenge, ChallengeRefusal};
pub use fingerprint::KeyFingerprint;
pub use hash::{DIGEST_LEN, Digest};
pub use key::{KEY_MAX, Key};
pub use weakness::{KeyWeakness, examine};
