use std::sync::Arc;
use std::time::Duration;

use super::answer::FixedBuf;
use super::answer_with_macs;
use super::misconduct::Misconduct;
use super::policy::{CheckedPacket, Policy, Signer, WhichKey};
use crate::auth::{AnswerMacs, CHALLENGE_LEN, Digest, HashKind, MAC_LEN, Transcript};
use crate::fence::{Answer, Identity, KeyHolder, Request, WireVersion};
use crate::time::Instant;
use crate::wire::{PACKET_LEN, encode_host_list};

/// Time limit from the connection to the client's proof.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for the client to read its answer.
pub const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// Event that the listener has to handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Signed request of a client that has not yet proven itself, with its identity.
    Requested(Request, Identity),
    /// Request of a proven client: carry it out and call [`ServerSession::answer`].
    Authenticated(Request, Identity),
}

#[derive(Debug)]
enum ServerState {
    AwaitRequest(FixedBuf<PACKET_LEN>),
    AwaitChallenge(CheckedPacket, FixedBuf<CHALLENGE_LEN>),
    AwaitProof {
        checked: CheckedPacket,
        which: WhichKey,
        expected: Digest,
        buf: FixedBuf<CHALLENGE_LEN>,
    },
    /// In version 2.
    AwaitMac {
        checked: CheckedPacket,
        transcript: Transcript,
        buf: FixedBuf<MAC_LEN>,
    },
    /// With the MACs of the answer, in version 2.
    AwaitAnswer(Option<AnswerMacs>),
    Replying,
}

/// Daemon's side of one connection.
///
/// ```text
/// tcp, vsock:  AwaitRequest ─► AwaitChallenge ─► AwaitProof ─► AwaitAnswer ─► Replying
/// multicast:                   AwaitChallenge ─► ...
/// auth none:   AwaitRequest ─────────────────────────────────► AwaitAnswer ─► ...
/// version 2:   AwaitRequest ─► AwaitMac ─────────────────────► AwaitAnswer ─► ...
/// ```
#[derive(Debug)]
pub struct ServerSession {
    policy: Arc<Policy>,
    nonce: [u8; 32],
    /// VM that has proven a key of its own.
    holder: Option<Arc<KeyHolder>>,
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
        let deadline = Some(now + HANDSHAKE_LIMIT);
        ServerSession { policy, nonce, holder: None, state, deadline, output: Vec::new() }
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
            ServerState::AwaitMac { checked, .. } => {
                // Whose key it is may have changed.
                *checked = policy.check(&checked.bytes).map_err(|_| Misconduct::Revoked)?;
                return Ok(());
            }
            ServerState::AwaitProof { checked, which, .. } => {
                // The key of the challenges counts too: a request with hash none has no signature.
                let has_key = policy.has(self.policy.key(*which));
                let is_valid = has_key && policy.auth == self.policy.auth;
                return match policy.check(&checked.bytes) {
                    Ok(_) if is_valid => Ok(()),
                    _ => Err(Misconduct::Revoked),
                };
            }
            ServerState::AwaitAnswer(_) | ServerState::Replying => return Ok(()),
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
                let event = SessionEvent::Requested(checked.packet.request.clone(), checked.identity());
                self.state = ServerState::AwaitChallenge(checked, FixedBuf::default());
                Ok(Some(event))
            }
            ServerState::AwaitChallenge(checked, buf) => {
                let which = match &checked.signer {
                    Signer::Shared(which) => *which,
                    Signer::Mac { keys, .. } => {
                        let mut transcript = Transcript::new(keys.clone(), &checked.bytes);
                        self.output.extend_from_slice(&transcript.challenge(&self.nonce));
                        let checked = checked.clone();
                        self.state = ServerState::AwaitMac { checked, transcript, buf: FixedBuf::default() };
                        return self.receive(input);
                    }
                };
                let kind = self.policy.auth;
                let key = self.policy.key(which);
                if kind == HashKind::None {
                    let checked = checked.clone();
                    return Ok(Some(self.authenticated(&checked, None)));
                }
                let Some(challenge) = buf.take(input) else { return Ok(None) };
                let answer = self.policy.answer(which, challenge).map_err(Misconduct::Challenge)?;
                let own = key.issue(self.nonce, &checked.packet.binding());
                self.output.extend_from_slice(answer.as_bytes());
                self.output.extend_from_slice(&own);
                let expected = key.expected(kind, &own);
                let checked = checked.clone();
                self.state = ServerState::AwaitProof { checked, which, expected, buf: FixedBuf::default() };
                self.receive(input)
            }
            ServerState::AwaitProof { checked, expected, buf, .. } => {
                let Some(proof) = buf.take(input) else { return Ok(None) };
                if !expected.matches(proof) {
                    return Err(Misconduct::Proof);
                }
                let checked = checked.clone();
                Ok(Some(self.authenticated(&checked, None)))
            }
            ServerState::AwaitMac { checked, transcript, buf } => {
                let Some(proof) = buf.take(input) else { return Ok(None) };
                if !transcript.accept_proof(proof) {
                    return Err(Misconduct::ProofMac);
                }
                let checked = checked.clone();
                let macs = transcript.clone().answer();
                Ok(Some(self.authenticated(&checked, Some(macs))))
            }
            ServerState::AwaitAnswer(_) | ServerState::Replying if input.is_empty() => Ok(None),
            ServerState::AwaitAnswer(_) | ServerState::Replying => Err(Misconduct::Trailing),
        }
    }

    fn authenticated(&mut self, checked: &CheckedPacket, macs: Option<AnswerMacs>) -> SessionEvent {
        self.holder = checked.holder().cloned();
        self.state = ServerState::AwaitAnswer(macs);
        self.deadline = None;
        SessionEvent::Authenticated(checked.packet.request.clone(), checked.identity())
    }

    /// Queues the answer; no effect unless the session waits for one.
    pub fn answer(&mut self, answer: &Answer, now: Instant) {
        let ServerState::AwaitAnswer(macs) = &mut self.state else { return };
        match (macs, answer) {
            (Some(macs), answer) => self.output.extend(answer_with_macs::encode(answer, macs)),
            (None, Answer::Verdict(verdict)) => self.output.push(verdict.to_wire()),
            (None, Answer::HostList(entries)) => self.output.extend(encode_host_list(entries)),
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

    /// VM whose own key the client has proven; none with a shared key.
    pub fn holder(&self) -> Option<&Arc<KeyHolder>> {
        self.holder.as_ref()
    }

    /// Version in which the client speaks, while it proves itself or the worker has its request.
    pub fn version(&self) -> WireVersion {
        match self.state {
            ServerState::AwaitMac { .. } | ServerState::AwaitAnswer(Some(_)) => WireVersion::Two,
            _ => WireVersion::One,
        }
    }

    /// True once the client has proven itself.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.state, ServerState::AwaitAnswer(_) | ServerState::Replying)
    }

    /// True while the worker has the request.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, ServerState::AwaitAnswer(_))
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
            ServerState::AwaitAnswer(_) | ServerState::Replying => Some(Misconduct::Impatient),
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
            ServerState::AwaitMac { .. } => "its proof",
            ServerState::AwaitAnswer(_) | ServerState::Replying => "it to read the answer",
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
