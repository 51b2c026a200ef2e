use std::fmt;

use crate::auth::{ChallengeRefusal, KeyId};
use crate::fence::SignatureKind;
use crate::wire::PacketError;

/// Misconduct of a client that ends its session without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// Malformed request.
    Packet(PacketError),
    /// Signature weaker than the listener's minimum.
    WeakHash {
        /// Hash that the client used.
        sent: SignatureKind,
        /// Minimum of the listener.
        wanted: SignatureKind,
    },
    /// Signature that our key does not verify.
    Signature(SignatureKind),
    /// Id of a key that the listener does not have.
    UnknownKey(KeyId),
    /// MAC of a request that the key with this id does not verify.
    Mac(KeyId),
    /// Challenge that we do not answer.
    Challenge(ChallengeRefusal),
    /// Multicast request on another transport.
    Callback,
    /// Wrong answer to our challenge.
    Proof,
    /// The same in version 2.
    ProofMac,
    /// Key, hash or auth that a reload has put out of force before the proof.
    Revoked,
    /// Bytes after the end of the exchange.
    Trailing,
    /// Longer than [`HANDSHAKE_LIMIT`](super::HANDSHAKE_LIMIT) until the proof, or than
    /// [`REPLY_LIMIT`](super::REPLY_LIMIT) to read the answer; with the missing message.
    Late(&'static str),
    /// Hang-up before the proof; with the missing message.
    HungUp(&'static str),
    /// Hang-up after the proof.
    Impatient,
}

impl fmt::Display for Misconduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Misconduct::Packet(error) => return write!(f, "malformed request: {error}"),
            Misconduct::WeakHash { sent, wanted } => {
                return write!(
                    f,
                    "its hash is {sent}, but this listener requires {wanted} or stronger (`hash` in the configuration, -c of the agent)"
                );
            }
            Misconduct::Signature(hash) => {
                return write!(
                    f,
                    "its {hash} signature is invalid: the keys differ, or the request was altered"
                );
            }
            Misconduct::UnknownKey(key) => {
                return write!(
                    f,
                    "neither this listener nor a VM has the key {key} with which it signs (--key-fingerprint of the \
                     agents prints the same for a file)"
                );
            }
            Misconduct::Mac(key) => {
                return write!(
                    f,
                    "its signature with key {key} is invalid: the request was altered, or it was made for another kind \
                     of listener or another port"
                );
            }
            Misconduct::Callback => "its request asks for a call-back: it is a replay of a multicast request",
            Misconduct::Challenge(refusal) => return refusal.fmt(f),
            Misconduct::ProofMac => "its proof is not valid: the exchange was altered, or is a replay",
            Misconduct::Proof => {
                "its answer to the challenge is wrong: auth (-C of the agent) or the key differs"
            }
            Misconduct::Revoked => "a reload has put its key, hash or auth out of force",
            Misconduct::Trailing => "it sent unexpected bytes after its request",
            Misconduct::Late(awaited) => return write!(f, "timed out waiting for {awaited}"),
            Misconduct::Impatient => "it hung up before it received its answer",
            Misconduct::HungUp(awaited) => return write!(f, "it hung up before sending {awaited}"),
        };
        f.write_str(text)
    }
}
