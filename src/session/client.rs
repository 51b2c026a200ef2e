use std::fmt;
use std::sync::Arc;

use super::answer::AnswerReader;
use super::fixed_buf::Gather;
use super::server::Policy;
use crate::auth::{CHALLENGE_LEN, Challenge, ChallengeRefusal, Digest, HashKind};
use crate::fence::{Answer, Operation};
use crate::wire::{Binding, Packet};

/// What a daemon, or whoever plays one, did that ends an exchange without an
/// answer. None of these is ever a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
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

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Proof => f.write_str(
                "its answer to our challenge is wrong: it has another key, or auth is another there",
            ),
            Breach::Challenge(refusal) => refusal.fmt(f),
            Breach::Answer(byte) => write!(f, "it answered {byte}, which is no answer to this"),
            Breach::Early => f.write_str("it answered before it was asked"),
            Breach::Trailing => f.write_str("it said more than one answer"),
            Breach::Record => f.write_str("its list holds what is no VM"),
            Breach::Endless => f.write_str("its list has no end"),
            Breach::HungUp(Awaited::Anything | Awaited::Unproven) => f.write_str(
                "it hung up without a word: the key, hash or auth is another there, or it is busy",
            ),
            Breach::HungUp(Awaited::Proof) => {
                f.write_str("it hung up before its answer to our challenge was whole: is auth none there?")
            }
            Breach::HungUp(Awaited::Answer) => f.write_str(
                "it hung up after our answer to its challenge: auth is another there, or it gave up",
            ),
            Breach::HungUp(awaited) => write!(f, "it hung up before {awaited} was whole"),
        }
    }
}

/// What is awaited.
#[derive(Debug)]
enum State {
    Proof(Digest, Gather<CHALLENGE_LEN>),
    Challenge(Gather<CHALLENGE_LEN>),
    Answer(AnswerReader),
}

/// The agent's side of one connection.
///
/// ```text
/// Proof ─► Challenge ─► Answer ─► the answer
/// auth none:            Answer ─► the answer
/// ```
#[derive(Debug)]
pub struct ClientSession {
    policy: Arc<Policy>,
    operation: Operation,
    /// What was asked: the daemon has to mean one of these.
    bindings: Vec<Binding>,
    is_bound: bool,
    state: State,
    output: Vec<u8>,
}

impl ClientSession {
    /// A connection on which the request is sent first: tcp and vsock. `nonce`
    /// is fresh randomness, and becomes the challenge to the daemon.
    pub fn opening(policy: Arc<Policy>, packet: &Packet, nonce: Challenge) -> ClientSession {
        let opening = packet.encode_signed(&policy.key).to_vec();
        ClientSession::new(policy, packet.request.operation, vec![packet.binding()], nonce, opening)
    }

    /// A call-back to one of the requests with these bindings, which went by
    /// multicast. What answers `operation` is taken as an answer.
    pub fn called_back(
        policy: Arc<Policy>,
        operation: Operation,
        bindings: Vec<Binding>,
        nonce: Challenge,
    ) -> ClientSession {
        ClientSession::new(policy, operation, bindings, nonce, Vec::new())
    }

    fn new(
        policy: Arc<Policy>,
        operation: Operation,
        bindings: Vec<Binding>,
        mut nonce: Challenge,
        mut output: Vec<u8>,
    ) -> ClientSession {
        let state = match policy.auth {
            HashKind::None => State::Answer(AnswerReader::new(operation)),
            kind => {
                // Never the head of a request, which a daemon refuses to answer.
                nonce[0] |= 0x80;
                output.extend_from_slice(&nonce);
                State::Proof(policy.key.expected(kind, &nonce), Gather::new())
            }
        };
        ClientSession { policy, operation, bindings, is_bound: false, state, output }
    }

    /// Takes bytes off the front of `input` until the answer is whole.
    ///
    /// # Errors
    ///
    /// [`Breach`] ends the exchange: it has failed.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, Breach> {
        loop {
            match &mut self.state {
                State::Proof(expected, gather) => {
                    let Some(proof) = gather.take(input) else { return Ok(None) };
                    if !expected.matches(proof) {
                        return Err(Breach::Proof);
                    }
                    self.state = State::Challenge(Gather::new());
                }
                State::Challenge(gather) => {
                    let Some(challenge) = gather.take(input) else { return Ok(None) };
                    let key = &self.policy.key;
                    let answer = key.prove(self.policy.auth, challenge, &self.bindings);
                    self.is_bound = key.issued(challenge);
                    self.output.extend_from_slice(answer.map_err(Breach::Challenge)?.as_bytes());
                    self.state = State::Answer(AnswerReader::new(self.operation));
                }
                // Nobody can answer what has not been sent.
                State::Answer(_) if !self.output.is_empty() => {
                    return if input.is_empty() { Ok(None) } else { Err(Breach::Early) };
                }
                State::Answer(reader) => {
                    let answer = reader.take(input)?;
                    let is_verdict = matches!(answer, Some(Answer::Verdict(_)));
                    return if is_verdict && !input.is_empty() { Err(Breach::Trailing) } else { Ok(answer) };
                }
            }
        }
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of the output are on their way.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// Whether the daemon may be carrying out the request: it has proven that
    /// it has the key, and has our proof, or no proof is asked for.
    pub fn is_committed(&self) -> bool {
        matches!(self.state, State::Answer(_))
    }

    /// Whether the daemon has said, under the key, that it answers our very
    /// request. Daemons of ours do, C daemons do not.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// What the daemon owes.
    pub fn awaited(&self) -> Awaited {
        match &self.state {
            State::Proof(_, gather) if gather.is_empty() => Awaited::Anything,
            State::Proof(..) => Awaited::Proof,
            State::Challenge(_) => Awaited::Challenge,
            State::Answer(reader) if reader.is_listing() => Awaited::List,
            State::Answer(_) if self.policy.auth == HashKind::None => Awaited::Unproven,
            State::Answer(_) => Awaited::Answer,
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
