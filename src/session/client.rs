use std::fmt;
use std::sync::Arc;

use super::answer::AnswerReader;
use super::gather::Gather;
use super::server::Policy;
use crate::auth::{CHALLENGE_LEN, Challenge, ChallengeRefusal, Digest, HashKind};
use crate::fence::{Answer, Operation};

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
    state: State,
    output: Vec<u8>,
}

impl ClientSession {
    /// A connection on which `opening` is sent first: the 176 bytes of the
    /// request on tcp and vsock, nothing on a multicast call-back. `nonce` is
    /// fresh randomness, and becomes the challenge to the daemon.
    pub fn new(
        policy: Arc<Policy>,
        operation: Operation,
        opening: &[u8],
        mut nonce: Challenge,
    ) -> ClientSession {
        let mut output = opening.to_vec();
        let state = match policy.auth {
            HashKind::None => State::Answer(AnswerReader::new(operation)),
            kind => {
                // Never the head of a request, which a daemon refuses to answer.
                nonce[0] |= 0x80;
                output.extend_from_slice(&nonce);
                State::Proof(policy.key.expected(kind, &nonce), Gather::new())
            }
        };
        ClientSession { policy, operation, state, output }
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
                    let answer = self.policy.key.prove(self.policy.auth, challenge);
                    self.output.extend_from_slice(answer.map_err(Breach::Challenge)?.as_bytes());
                    self.state = State::Answer(AnswerReader::new(self.operation));
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
