//! The challenges a daemon issues, and the guard over those it answers.
//!
//! A daemon answers a client's challenge before it issues its own, so with
//! sessions side by side, or on hosts that share a key, it is an oracle for
//! H(key ‖ 64 chosen bytes). Two uses of it are closed here:
//!
//! * reflection: a challenge issued by a daemon is handed back to it, or to
//!   another with the same key, to learn the answer. So behind the 32 random
//!   bytes of each issued challenge stands a tag, 16 bytes of their HMAC under
//!   the key, which looks random to everybody else, and a challenge with such
//!   a tag is not answered.
//! * extension: for some key lengths an answer can be continued into the
//!   signature of a request whose first 64 bytes are the challenge. So a
//!   challenge that reads as the head of a request is not answered.
//!
//! The last 16 bytes are an HMAC of the random bytes and of the request that
//! the challenge is for. An agent with the key so knows a daemon that has
//! called back for another request: an older one of another agent on the same
//! port, or one that somebody recorded and sent again.

use std::fmt;

/// Size of a challenge on the wire, in bytes.
pub const CHALLENGE_LEN: usize = 64;

/// Bytes of randomness in an issued challenge; two tags fill the rest.
pub(crate) const NONCE_LEN: usize = 32;

/// Bytes of either tag: 128 bits of an HMAC-SHA-256.
pub(crate) const TAG_LEN: usize = 16;

/// A challenge as it stands on the wire.
pub type Challenge = [u8; CHALLENGE_LEN];

/// Why a challenge is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeRefusal {
    /// It bears the tag of a daemon with our key.
    Reflected,
    /// It reads as the head of a fence request.
    RequestHead,
    /// It was issued for another request than ours.
    OtherRequest,
}

impl fmt::Display for ChallengeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChallengeRefusal::Reflected => {
                "its challenge was issued by a daemon with this key (reflection attack)"
            }
            ChallengeRefusal::OtherRequest => "it is answering another request than ours",
            ChallengeRefusal::RequestHead => "its challenge reads as a request (extension attack)",
        })
    }
}
