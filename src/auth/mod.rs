//! Keys, signatures and challenges of the wire (docs/WIRE.md, docs/WIRE-2.md).
#![forbid(unsafe_code)]

mod challenge;
mod hash;
mod key;
mod key_bytes;
mod key_id;
mod key_ring;
mod mac_keys;
mod weakness;

pub use crate::fence::{HashKind, KeyId};
pub use challenge::{CHALLENGE_LEN, Challenge, ChallengeRefusal};
pub use hash::{DIGEST_LEN, Digest};
pub use key::Key;
pub use key_bytes::KEY_MAX;
pub use key_ring::{KeyRing, VmKey};
pub use mac_keys::{AnswerMacs, CHALLENGE_2_LEN, MAC_LEN, MacKeys, Transcript};
pub use weakness::{KeyWeakness, examine};
