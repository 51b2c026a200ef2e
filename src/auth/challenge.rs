//! Challenges that a daemon issues, and the refusal of dangerous ones.
//!
//! A daemon answers the client's challenge before it issues its own. So with parallel sessions, or on hosts
//! that share a key, it is an oracle for H(key ‖ 64 chosen bytes). This module closes two attacks:
//!
//! * Reflection: an attacker hands a daemon's challenge back to it, or to
//!   another daemon with the same key, and learns the answer. Each issued
//!   challenge therefore has a tag behind its 32 random bytes: 16 bytes of
//!   their HMAC under the key, which look random without the key. A challenge
//!   with a valid tag is not answered.
//! * Extension: for some key lengths, an answer can be extended into the
//!   signature of a request whose first 64 bytes are the challenge. A
//!   challenge that reads as the head of a request is not answered.
//!
//! The last 16 bytes are an HMAC of the random bytes and of the request that the challenge is for. An agent
//! with the key so recognises a daemon that calls back for another request: an older one of another agent on
//! the same port, or a replayed one.

use std::fmt;

/// Size of a challenge on the wire, in bytes.
pub const CHALLENGE_LEN: usize = 64;

/// Random bytes in an issued challenge; two tags fill the rest.
pub(crate) const NONCE_LEN: usize = 32;

/// Size of each tag, in bytes: HMAC-SHA-256, truncated to 128 bits.
pub(crate) const TAG_LEN: usize = 16;

/// Challenge on the wire.
pub type Challenge = [u8; CHALLENGE_LEN];

/// Reason why a challenge is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeRefusal {
    /// Has the tag of a daemon with our key.
    Reflected,
    /// Reads as the head of a fence request.
    RequestHead,
    /// Issued for another request than ours.
    OtherRequest,
}

impl fmt::Display for ChallengeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChallengeRefusal::Reflected => {
                "its challenge was issued by a daemon with our key (reflection attack)"
            }
            ChallengeRefusal::OtherRequest => "it answers a different request",
            ChallengeRefusal::RequestHead => "its challenge reads as a request (extension attack)",
        })
    }
}
