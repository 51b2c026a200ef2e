use std::sync::Arc;

use super::agent_session::AgentSession;
use super::answer::{AnswerReader, FixedBuf};
use super::answer_with_macs::AnswerWithMacsReader;
use super::policy::Policy;
use super::protocol_error::{Awaited, ProtocolError};
use crate::auth::{CHALLENGE_2_LEN, CHALLENGE_LEN, Challenge, Digest, HashKind, Transcript};
use crate::fence::{Answer, Operation, SignatureKind};
use crate::wire::{Binding, PACKET_LEN, Packet};

/// Message that the client waits for.
#[derive(Debug)]
enum ClientState {
    Proof(Digest, FixedBuf<CHALLENGE_LEN>),
    Challenge(FixedBuf<CHALLENGE_LEN>),
    Answer(AnswerReader),
    /// In version 2, with a transcript for each request that was sent.
    Challenge2(Vec<Transcript>, FixedBuf<CHALLENGE_2_LEN>),
    /// In version 2.
    AnswerWithMacs(Box<AnswerWithMacsReader>),
}

/// Agent's side of one connection.
///
/// ```text
/// Proof ─► Challenge ─► Answer ─► done
/// auth none:            Answer ─► done
/// version 2:            Challenge2 ─► AnswerWithMacs ─► done
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
        let request = policy.sign(packet);
        let state = ClientSession::version_2(&policy, &[request]);
        let bindings = vec![packet.binding()];
        ClientSession::new(policy, packet.request.operation, bindings, state, nonce, request.to_vec())
    }

    /// Starts a session on a call-back to one of these requests, sent by multicast from the address that is called
    /// back, which they have in them. The answer must be one to `operation`.
    pub fn called_back(
        policy: Arc<Policy>,
        operation: Operation,
        packets: &[Packet],
        nonce: Challenge,
    ) -> ClientSession {
        let is_version_2 = policy.hash == SignatureKind::HmacSha256;
        let signed: Vec<_> =
            packets.iter().filter(|_| is_version_2).map(|packet| policy.sign(packet)).collect();
        let state = ClientSession::version_2(&policy, &signed);
        let bindings = packets.iter().map(Packet::binding).collect();
        ClientSession::new(policy, operation, bindings, state, nonce, Vec::new())
    }

    /// First state in version 2, after these requests; none in version 1.
    fn version_2(policy: &Policy, requests: &[[u8; PACKET_LEN]]) -> Option<ClientState> {
        let transcripts = requests.iter().map(|request| policy.transcript(request)).collect();
        let is_version_2 = policy.hash == SignatureKind::HmacSha256;
        is_version_2.then(|| ClientState::Challenge2(transcripts, FixedBuf::default()))
    }

    fn new(
        policy: Arc<Policy>,
        operation: Operation,
        bindings: Vec<Binding>,
        version_2: Option<ClientState>,
        mut nonce: Challenge,
        mut output: Vec<u8>,
    ) -> ClientSession {
        let state = match (version_2, policy.auth) {
            (Some(state), _) => state,
            (None, HashKind::None) => ClientState::Answer(AnswerReader::new(operation)),
            (None, kind) => {
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
                ClientState::Challenge2(transcripts, buf) => {
                    let Some(challenge) = buf.take(input) else { return Ok(None) };
                    let accepts = |transcript: &mut Transcript| transcript.accept_challenge(challenge);
                    let at = transcripts.iter_mut().position(accepts).ok_or(ProtocolError::ChallengeMac)?;
                    let mut transcript = transcripts.swap_remove(at);
                    self.output.extend_from_slice(&transcript.proof());
                    self.is_bound = true;
                    let reader = AnswerWithMacsReader::new(self.operation, transcript.answer());
                    self.state = ClientState::AnswerWithMacs(Box::new(reader));
                }
                // An answer to a request that has not been sent yet is bogus.
                ClientState::Answer(_) | ClientState::AnswerWithMacs(_) if !self.output.is_empty() => {
                    return if input.is_empty() { Ok(None) } else { Err(ProtocolError::Early) };
                }
                ClientState::Answer(reader) => {
                    let answer = reader.take(input)?;
                    let is_verdict = matches!(answer, Some(Answer::Verdict(_)));
                    let is_trailed = is_verdict && !input.is_empty();
                    return if is_trailed { Err(ProtocolError::Trailing) } else { Ok(answer) };
                }
                ClientState::AnswerWithMacs(reader) => {
                    let answer = reader.take(input)?;
                    let is_trailed = answer.is_some() && !input.is_empty();
                    return if is_trailed { Err(ProtocolError::Trailing) } else { Ok(answer) };
                }
            }
        }
    }

    fn is_committed(&self) -> bool {
        matches!(self.state, ClientState::Answer(_) | ClientState::AnswerWithMacs(_))
    }

    fn awaited(&self) -> Awaited {
        match &self.state {
            ClientState::Proof(_, buf) if buf.is_empty() => Awaited::Anything,
            ClientState::Proof(..) => Awaited::Proof,
            ClientState::Challenge2(_, buf) if buf.is_empty() => Awaited::AnythingOfVersion2,
            ClientState::Challenge(_) | ClientState::Challenge2(..) => Awaited::Challenge,
            ClientState::AnswerWithMacs(reader) if reader.is_listing() => Awaited::List,
            ClientState::AnswerWithMacs(_) => Awaited::AnswerOfVersion2,
            ClientState::Answer(reader) if reader.is_listing() => Awaited::List,
            ClientState::Answer(_) if self.policy.auth == HashKind::None => Awaited::Unproven,
            ClientState::Answer(_) => Awaited::Answer,
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
