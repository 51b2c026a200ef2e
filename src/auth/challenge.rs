//! The challenges a daemon issues, and the guard over those it answers.
//!
//! A daemon answers a client's challenge before it issues its own, so with
//! sessions side by side, or on hosts that share a key, it is an oracle for
//! H(key ‖ 64 chosen bytes). Two uses of it are closed here:
//!
//! * reflection: a challenge issued by a daemon is handed back to it, or to
//!   another with the same key, to learn the answer. So the second half of
//!   each issued challenge is an HMAC of the first under the key, which looks
//!   random to everybody else, and a challenge with such a tag is not answered.
//! * extension: for some key lengths an answer can be continued into the
//!   signature of a request whose first 64 bytes are the challenge. So a
//!   challenge that reads as the head of a request is not answered.

use std::fmt;

/// Size of a challenge on the wire, in bytes.
pub const CHALLENGE_LEN: usize = 64;

/// Bytes of randomness in an issued challenge; the tag fills the rest.
pub(crate) const NONCE_LEN: usize = 32;

/// A challenge as it stands on the wire.
pub type Challenge = [u8; CHALLENGE_LEN];

/// Why a challenge is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeRefusal {
    /// It bears the tag of a daemon with our key.
    Reflected,
    /// It reads as the head of a fence request.
    RequestHead,
}

impl fmt::Display for ChallengeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChallengeRefusal::Reflected => {
                "its challenge was issued by a daemon with this key (reflection attack)"
            }
            ChallengeRefusal::RequestHead => "its challenge reads as a request (extension attack)",
        })
    }
}
