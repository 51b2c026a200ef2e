use std::fmt;

use crate::auth::ChallengeRefusal;

/// What a daemon, or whoever plays one, did that ends an exchange without an
/// answer. None of these is ever a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// A wrong answer to our challenge: it has another key, or answers with another hash.
    Proof,
    /// A challenge that is not answered.
    Challenge(ChallengeRefusal),
    /// A byte that answers nothing that was asked.
    Answer(u8),
    /// An answer before our request, or our proof, was sent.
    Early,
    /// Bytes after the answer.
    Trailing,
    /// A host list with bytes that are no VM.
    Record,
    /// A host list of more than [`LIST_MAX`](super::LIST_MAX) VMs.
    Endless,
    /// It hung up before it had said this.
    HungUp(Awaited),
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The first byte of anything.
    Anything,
    /// The answer, to a request without auth.
    Unproven,
    /// The answer on a line, which has no auth.
    Response,
    /// The rest of its answer to our challenge.
    Proof,
    /// Its own challenge.
    Challenge,
    /// The answer; it may have carried out the request.
    Answer,
    /// The rest of a host list.
    List,
    /// The answer to a request that was made before this one.
    OlderAnswer,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Awaited::Anything => "a first byte",
            Awaited::Response => "its answer",
            Awaited::Unproven => "an answer (auth is none here; is it there too?)",
            Awaited::Proof => "its answer to our challenge",
            Awaited::Challenge => "its own challenge",
            Awaited::Answer => "its answer to the request",
            Awaited::List => "the rest of its list",
            Awaited::OlderAnswer => "its answer to an older request, behind which ours would be",
        })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::Proof => f.write_str(
                "its answer to our challenge is wrong: it has another key, or auth is another there",
            ),
            ProtocolError::Challenge(refusal) => refusal.fmt(f),
            ProtocolError::Answer(byte) => write!(f, "it answered {byte}, which is no answer to this"),
            ProtocolError::Early => f.write_str("it answered before it was asked"),
            ProtocolError::Trailing => f.write_str("it said more than one answer"),
            ProtocolError::Record => f.write_str("its list holds what is no VM"),
            ProtocolError::Endless => f.write_str("its list has no end"),
            ProtocolError::HungUp(Awaited::Anything | Awaited::Unproven) => f.write_str(
                "it hung up without a word: the key, hash or auth is another there, or it is busy",
            ),
            ProtocolError::HungUp(Awaited::Proof) => {
                f.write_str("it hung up before its answer to our challenge was whole: is auth none there?")
            }
            ProtocolError::HungUp(Awaited::Answer) => f.write_str(
                "it hung up after our answer to its challenge: auth is another there, or it gave up",
            ),
            ProtocolError::HungUp(awaited) => write!(f, "it hung up before {awaited} was whole"),
        }
    }
}
