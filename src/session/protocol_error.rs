use std::fmt;

use crate::auth::ChallengeRefusal;

/// Protocol error of a daemon, or of an impostor, that ends the exchange
/// without an answer. None of these is ever a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// Wrong answer to our challenge: the key or the hash differs.
    Proof,
    /// Challenge of version 2 that does not verify: no holder of our key made it for our request.
    ChallengeMac,
    /// Answer of version 2 that does not verify.
    AnswerMac,
    /// Challenge that we do not answer.
    Challenge(ChallengeRefusal),
    /// Byte that is not an answer to the operation.
    Answer(u8),
    /// Answer before our request, or our proof, was sent.
    Early,
    /// Bytes after the answer.
    Trailing,
    /// Host list with an invalid record.
    Record,
    /// Host list of more than [`LIST_MAX`](super::LIST_MAX) VMs.
    Endless,
    /// Connection closed before this was complete.
    HungUp(Awaited),
}

/// Message that a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// First byte of anything.
    Anything,
    /// The same in version 2 of the wire.
    AnythingOfVersion2,
    /// Answer to a request without auth.
    Unproven,
    /// Answer on a line, which has no auth.
    Response,
    /// Rest of the daemon's answer to our challenge.
    Proof,
    /// Challenge of the daemon.
    Challenge,
    /// Answer; the daemon may have carried out the request.
    Answer,
    /// The same in version 2 of the wire.
    AnswerOfVersion2,
    /// Rest of a host list.
    List,
    /// Answer to an older request.
    OlderAnswer,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Awaited::Anything | Awaited::AnythingOfVersion2 => "a first byte",
            Awaited::Response => "its answer",
            Awaited::Unproven => "an answer (does the host require auth?)",
            Awaited::Proof => "its answer to our challenge",
            Awaited::Challenge => "its challenge",
            Awaited::Answer | Awaited::AnswerOfVersion2 => "its answer to the request",
            Awaited::List => "the rest of its host list",
            Awaited::OlderAnswer => "its answer to an older request, which blocks ours",
        })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ProtocolError::Proof => {
                "its answer to our challenge is wrong: the key or auth differs (compare keys by --key-fingerprint)"
            }
            ProtocolError::Challenge(refusal) => return refusal.fmt(f),
            ProtocolError::ChallengeMac => {
                "its challenge is not valid for our request: it is not the host, or something altered the exchange"
            }
            ProtocolError::AnswerMac => "its answer is not authentic: something altered it on its way",
            ProtocolError::Answer(byte) => {
                return write!(f, "it answered {byte}, which is not a valid answer");
            }
            ProtocolError::Early => "it answered too early",
            ProtocolError::Trailing => "it sent more than one answer",
            ProtocolError::Record => "its host list is invalid",
            ProtocolError::Endless => "its host list is too long",
            ProtocolError::HungUp(Awaited::Anything | Awaited::Unproven) => {
                "it hung up without an answer: the key, hash or auth differs, or it is busy; its log on the host says which"
            }
            ProtocolError::HungUp(Awaited::AnythingOfVersion2) => {
                "it hung up without an answer: it does not know this key, takes no hmac-sha256 (C daemons), or is busy; \
                 its log on the host says which"
            }
            ProtocolError::HungUp(Awaited::Proof) => {
                "it hung up before its answer to our challenge was complete: is its auth none?"
            }
            ProtocolError::HungUp(Awaited::Answer) => {
                "it hung up after our answer to its challenge: auth differs, or it gave up"
            }
            ProtocolError::HungUp(Awaited::AnswerOfVersion2) => "it hung up before its answer",
            ProtocolError::HungUp(awaited) => return write!(f, "it hung up before {awaited} was complete"),
        };
        f.write_str(text)
    }
}
