use std::sync::Arc;

use super::agent_session::AgentSession;
use super::answer::{AnswerReader, FixedBuf};
use super::policy::Policy;
use super::protocol_error::{Awaited, ProtocolError};
use crate::auth::{CHALLENGE_LEN, Challenge, Digest, HashKind};
use crate::fence::{Answer, Operation};
use crate::wire::{Binding, Packet};

/// Message that the client waits for.
#[derive(Debug)]
enum ClientState {
    Proof(Digest, FixedBuf<CHALLENGE_LEN>),
    Challenge(FixedBuf<CHALLENGE_LEN>),
    Answer(AnswerReader),
}

/// Agent's side of one connection.
///
/// ```text
/// Proof ─► Challenge ─► Answer ─► done
/// auth none:            Answer ─► done
/// ```
#[derive(Debug)]
pub struct ClientSession {
    policy: Arc<Policy>,
    operation: Operation,
    /// Requests that were sent: the daemon must answer one of these.
    bindings: Vec<Binding>,
    is_bound: bool,
    state: ClientState,
    output: Vec<u8>,
}

impl ClientSession {
    /// Starts a session on a connection to the daemon (tcp, vsock): the request
    /// is sent first. `nonce` is fresh randomness for the challenge to the daemon.
    pub fn opening(policy: Arc<Policy>, packet: &Packet, nonce: Challenge) -> ClientSession {
        let opening = packet.encode_signed(&policy.key).to_vec();
        ClientSession::new(policy, packet.request.operation, vec![packet.binding()], nonce, opening)
    }

    /// Starts a session on a call-back to one of the requests with these
    /// bindings, sent by multicast. The answer must be one to `operation`.
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
            HashKind::None => ClientState::Answer(AnswerReader::new(operation)),
            kind => {
                // A daemon refuses a challenge that reads as the head of a request; this bit prevents that.
                nonce[0] |= 0x80;
                output.extend_from_slice(&nonce);
                ClientState::Proof(policy.key.expected(kind, &nonce), FixedBuf::default())
            }
        };
        ClientSession { policy, operation, bindings, is_bound: false, state, output }
    }

    /// True if the daemon has proven that it answers exactly our request.
    /// Daemons of ours do, C daemons do not.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }
}

impl AgentSession for ClientSession {
    fn output(&self) -> &[u8] {
        &self.output
    }

    fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, ProtocolError> {
        loop {
            match &mut self.state {
                ClientState::Proof(expected, buf) => {
                    let Some(proof) = buf.take(input) else { return Ok(None) };
                    if !expected.matches(proof) {
                        return Err(ProtocolError::Proof);
                    }
                    self.state = ClientState::Challenge(FixedBuf::default());
                }
                ClientState::Challenge(buf) => {
                    let Some(challenge) = buf.take(input) else { return Ok(None) };
                    let key = &self.policy.key;
                    let answer = key.prove(self.policy.auth, challenge, &self.bindings);
                    self.is_bound = key.issued(challenge);
                    self.output.extend_from_slice(answer.map_err(ProtocolError::Challenge)?.as_bytes());
                    self.state = ClientState::Answer(AnswerReader::new(self.operation));
                }
                // An answer to a request that has not been sent yet is bogus.
                ClientState::Answer(_) if !self.output.is_empty() => {
                    return if input.is_empty() { Ok(None) } else { Err(ProtocolError::Early) };
                }
                ClientState::Answer(reader) => {
                    let answer = reader.take(input)?;
                    let is_verdict = matches!(answer, Some(Answer::Verdict(_)));
                    let is_trailed = is_verdict && !input.is_empty();
                    return if is_trailed { Err(ProtocolError::Trailing) } else { Ok(answer) };
                }
            }
        }
    }

    fn is_committed(&self) -> bool {
        matches!(self.state, ClientState::Answer(_))
    }

    fn awaited(&self) -> Awaited {
        match &self.state {
            ClientState::Proof(_, buf) if buf.is_empty() => Awaited::Anything,
            ClientState::Proof(..) => Awaited::Proof,
            ClientState::Challenge(_) => Awaited::Challenge,
            ClientState::Answer(reader) if reader.is_listing() => Awaited::List,
            ClientState::Answer(_) if self.policy.auth == HashKind::None => Awaited::Unproven,
            ClientState::Answer(_) => Awaited::Answer,
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
