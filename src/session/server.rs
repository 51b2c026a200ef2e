use std::sync::Arc;
use std::time::Duration;

use super::answer::FixedBuf;
use super::misconduct::Misconduct;
use super::policy::{CheckedPacket, Policy};
use crate::auth::{CHALLENGE_LEN, Digest, HashKind};
use crate::fence::{Answer, Request};
use crate::time::Instant;
use crate::wire::{PACKET_LEN, encode_host_list};

/// Time limit from the connection to the client's proof.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for the client to read its answer.
pub const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// Event that the listener has to handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Signed request of a client that has not yet proven itself.
    Requested(Request),
    /// Request of a proven client: carry it out and call [`ServerSession::answer`].
    Authenticated(Request),
}

#[derive(Debug)]
enum ServerState {
    AwaitRequest(FixedBuf<PACKET_LEN>),
    AwaitChallenge(CheckedPacket, FixedBuf<CHALLENGE_LEN>),
    AwaitProof { checked: CheckedPacket, expected: Digest, buf: FixedBuf<CHALLENGE_LEN> },
    AwaitAnswer,
    Replying,
}

/// Daemon's side of one connection.
///
/// ```text
/// tcp, vsock:  AwaitRequest ─► AwaitChallenge ─► AwaitProof ─► AwaitAnswer ─► Replying
/// multicast:                   AwaitChallenge ─► ...
/// auth none:   AwaitRequest ─────────────────────────────────► AwaitAnswer ─► ...
/// ```
#[derive(Debug)]
pub struct ServerSession {
    policy: Arc<Policy>,
    nonce: [u8; 32],
    state: ServerState,
    deadline: Option<Instant>,
    output: Vec<u8>,
}

impl ServerSession {
    /// Starts a session on a connection accepted at `now`, which the request
    /// follows. `nonce` is fresh randomness for the challenge.
    pub fn accepted(policy: Arc<Policy>, nonce: [u8; 32], now: Instant) -> ServerSession {
        ServerSession::new(policy, nonce, ServerState::AwaitRequest(FixedBuf::default()), now)
    }

    /// Starts a session on a call-back for a request that arrived as a datagram at `now`.
    pub fn called_back(
        policy: Arc<Policy>,
        nonce: [u8; 32],
        checked: &CheckedPacket,
        now: Instant,
    ) -> ServerSession {
        let state = ServerState::AwaitChallenge(checked.clone(), FixedBuf::default());
        ServerSession::new(policy, nonce, state, now)
    }

    fn new(policy: Arc<Policy>, nonce: [u8; 32], state: ServerState, now: Instant) -> ServerSession {
        ServerSession { policy, nonce, state, deadline: Some(now + HANDSHAKE_LIMIT), output: Vec::new() }
    }

    /// Replaces the policy after a reload, unless the client has proven itself already.
    ///
    /// # Errors
    ///
    /// [`Misconduct::Revoked`] if the new policy would not have let the client come so far: close the
    /// connection without an answer.
    pub fn set_policy(&mut self, policy: &Arc<Policy>) -> Result<(), Misconduct> {
        match &mut self.state {
            ServerState::AwaitRequest(_) => {}
            ServerState::AwaitChallenge(checked, _) => {
                *checked = policy.check(&checked.bytes).map_err(|_| Misconduct::Revoked)?;
            }
            ServerState::AwaitProof { checked, .. } => {
                // The key of the challenges counts too: a request with hash none has no signature.
                let has_key = policy.has(self.policy.key(checked.key));
                let is_valid = has_key && policy.auth == self.policy.auth;
                return match policy.check(&checked.bytes) {
                    Ok(_) if is_valid => Ok(()),
                    _ => Err(Misconduct::Revoked),
                };
            }
            ServerState::AwaitAnswer | ServerState::Replying => return Ok(()),
        }
        self.policy = policy.clone();
        Ok(())
    }

    /// Consumes bytes from the front of `input`. Call it again until it returns
    /// none: the same bytes may hold more events.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] ends the session: close the connection without an answer.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<SessionEvent>, Misconduct> {
        match &mut self.state {
            ServerState::AwaitRequest(buf) => {
                let Some(bytes) = buf.take(input) else { return Ok(None) };
                let checked = self.policy.check(bytes)?;
                if checked.packet.asks_for_callback() {
                    return Err(Misconduct::Callback);
                }
                let request = checked.packet.request.clone();
                self.state = ServerState::AwaitChallenge(checked, FixedBuf::default());
                Ok(Some(SessionEvent::Requested(request)))
            }
            ServerState::AwaitChallenge(checked, buf) => {
                let kind = self.policy.auth;
                let key = self.policy.key(checked.key);
                if kind == HashKind::None {
                    let request = checked.packet.request.clone();
                    return Ok(Some(self.authenticated(request)));
                }
                let Some(challenge) = buf.take(input) else { return Ok(None) };
                let answer = self.policy.answer(checked.key, challenge).map_err(Misconduct::Challenge)?;
                let own = key.issue(self.nonce, &checked.packet.binding());
                self.output.extend_from_slice(answer.as_bytes());
                self.output.extend_from_slice(&own);
                let expected = key.expected(kind, &own);
                let checked = checked.clone();
                self.state = ServerState::AwaitProof { checked, expected, buf: FixedBuf::default() };
                self.receive(input)
            }
            ServerState::AwaitProof { checked, expected, buf } => {
                let Some(proof) = buf.take(input) else { return Ok(None) };
                if !expected.matches(proof) {
                    return Err(Misconduct::Proof);
                }
                let request = checked.packet.request.clone();
                Ok(Some(self.authenticated(request)))
            }
            ServerState::AwaitAnswer | ServerState::Replying if input.is_empty() => Ok(None),
            ServerState::AwaitAnswer | ServerState::Replying => Err(Misconduct::Trailing),
        }
    }

    fn authenticated(&mut self, request: Request) -> SessionEvent {
        self.state = ServerState::AwaitAnswer;
        self.deadline = None;
        SessionEvent::Authenticated(request)
    }

    /// Queues the answer; no effect unless the session waits for one.
    pub fn answer(&mut self, answer: &Answer, now: Instant) {
        if !matches!(self.state, ServerState::AwaitAnswer) {
            return;
        }
        match answer {
            Answer::Verdict(verdict) => self.output.push(verdict.to_wire()),
            Answer::HostList(entries) => self.output.extend(encode_host_list(entries)),
        }
        self.state = ServerState::Replying;
        self.deadline = Some(now + REPLY_LIMIT);
    }

    /// Bytes to send.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Removes the first `count` bytes of the output, which were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// True once the answer is sent: close the connection.
    pub fn is_done(&self) -> bool {
        matches!(self.state, ServerState::Replying) && self.output.is_empty()
    }

    /// True once the client has proven itself.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.state, ServerState::AwaitAnswer | ServerState::Replying)
    }

    /// True while the worker has the request.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, ServerState::AwaitAnswer)
    }

    /// Deadline for the next step of the client; none while the worker has the request.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Misconduct of a client that missed the deadline.
    pub fn on_timeout(&self) -> Misconduct {
        Misconduct::Late(self.awaited())
    }

    /// Misconduct of a client that hangs up now; none if it never sent anything.
    pub fn on_hang_up(&self) -> Option<Misconduct> {
        match &self.state {
            ServerState::AwaitRequest(buf) if buf.is_empty() => None,
            ServerState::AwaitAnswer | ServerState::Replying => Some(Misconduct::Impatient),
            _ => Some(Misconduct::HungUp(self.awaited())),
        }
    }

    fn awaited(&self) -> &'static str {
        match self.state {
            ServerState::AwaitRequest(_) => "its request",
            ServerState::AwaitChallenge(..) => "its challenge (is the agent's auth none?)",
            ServerState::AwaitProof { .. } => {
                "its answer to the challenge (does auth, -C of the agent, or the key differ?)"
            }
            ServerState::AwaitAnswer | ServerState::Replying => "it to read the answer",
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
