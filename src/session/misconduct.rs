use std::fmt;

use crate::auth::{ChallengeRefusal, HashKind};
use crate::wire::PacketError;

/// What a client did that ends its session without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// No request at all.
    Packet(PacketError),
    /// A signature weaker than the listener takes.
    WeakHash {
        /// What the client used.
        sent: HashKind,
        /// The weakest that is taken.
        wanted: HashKind,
    },
    /// A signature that is not of our key.
    Signature(HashKind),
    /// A challenge that is not answered.
    Challenge(ChallengeRefusal),
    /// A request of multicast that came by another way.
    Callback,
    /// A wrong answer to our challenge.
    Proof,
    /// Bytes after all that a client has to say.
    Trailing,
    /// It took longer than [`HANDSHAKE_LIMIT`](super::HANDSHAKE_LIMIT) to prove itself, or than
    /// [`REPLY_LIMIT`](super::REPLY_LIMIT) to read its answer; the words say what was awaited.
    Late(&'static str),
    /// It hung up; the words say what was awaited.
    HungUp(&'static str),
    /// It hung up after it had proven itself.
    Impatient,
}

impl fmt::Display for Misconduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misconduct::Packet(error) => write!(f, "no fence request: {error}"),
            Misconduct::WeakHash { sent, wanted } => {
                write!(
                    f,
                    "its hash is {sent}, but this listener takes {wanted} or stronger (hash in the configuration, -c of the agent)"
                )
            }
            Misconduct::Signature(hash) => {
                write!(f, "its {hash} signature does not fit: the key differs, or the request was altered")
            }
            Misconduct::Callback => {
                f.write_str("its request asks for a call-back: it was heard by multicast and sent again here")
            }
            Misconduct::Challenge(refusal) => refusal.fmt(f),
            Misconduct::Proof => {
                f.write_str("its answer to the challenge is wrong: auth (-C of the agent) or the key differs")
            }
            Misconduct::Trailing => f.write_str("it sent more than a request"),
            Misconduct::Late(awaited) => write!(f, "it took too long: {awaited} did not come"),
            Misconduct::Impatient => f.write_str("it hung up before it had its answer"),
            Misconduct::HungUp(awaited) => write!(f, "it hung up: {awaited} did not come"),
        }
    }
}
