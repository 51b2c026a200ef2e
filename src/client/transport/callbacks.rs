//! Concurrent call-backs: the first peer to connect need not be the host.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use super::agent_request::AgentRequest;
use super::driver::exchange;
use crate::fence::Answer;
use crate::session::{AgentSession, ClientSession};
use crate::sys::error_text;
use crate::sys::poll::{Interest, PollSet};
use crate::time::Instant;

/// Maximum number of concurrent call-backs; one more evicts the oldest of the address with the most.
const CALLBACKS_MAX: usize = 64;

/// Pause after a failed accept(2).
const PAUSE: Duration = Duration::from_millis(100);

/// Call-back of a daemon, or of an impostor.
pub(super) struct Callback {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) session: ClientSession,
}

/// Progress of a call-back that is removed from the set.
pub(super) enum CallbackEvent {
    /// The peer has the key, or needs none; our proof has not been sent yet.
    Committed(Callback),
    /// The peer answered.
    Answered(Callback, Answer),
    /// The connection broke after our proof, or without auth.
    Broken(Callback),
}

/// Socket for call-backs, and the connections to it.
pub(super) struct Callbacks {
    /// `None` once a host has been selected.
    listener: Option<TcpListener>,
    calls: Vec<Callback>,
    /// End of the pause after a failed accept(2).
    resume: Option<Instant>,
    /// Failure of the last call-back that failed.
    pub(super) last_failure: Option<String>,
}

impl Callbacks {
    pub(super) fn new(listener: TcpListener) -> Callbacks {
        Callbacks { listener: Some(listener), calls: Vec::new(), resume: None, last_failure: None }
    }

    /// Drops all connections.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    /// Drops all connections and closes the socket.
    pub(super) fn close(&mut self) {
        self.listener = None;
        self.clear();
    }

    /// Addresses of the peers that have the key, or need none, and have not answered.
    pub(super) fn committed(&self) -> impl Iterator<Item = IpAddr> {
        self.calls.iter().filter(|call| call.session.is_committed()).map(|call| call.peer.ip())
    }

    /// Newest connection.
    pub(super) fn last(&self) -> Option<&Callback> {
        self.calls.last()
    }

    /// Waits until a socket is ready, or until `until`.
    pub(super) fn wait(&mut self, until: Instant) -> Result<(), String> {
        let now = Instant::now();
        self.resume = self.resume.filter(|&resume| resume > now);
        let until = self.resume.map_or(until, |resume| resume.min(until));
        let mut set = PollSet::new();
        if let (Some(listener), None) = (&self.listener, self.resume) {
            set.add(listener.as_fd(), Interest::Read);
        }
        for call in &self.calls {
            let is_silent = call.session.output().is_empty();
            set.add(call.stream.as_fd(), if is_silent { Interest::Read } else { Interest::Both });
        }
        set.wait(Some(until.saturating_duration_since(now))).map_err(|error| error_text(&error))
    }

    /// Accepts all waiting connections, each with its own session. `session` makes one for a call to this address of
    /// ours.
    pub(super) fn accept(
        &mut self,
        request: &AgentRequest,
        session: impl Fn(IpAddr) -> Result<ClientSession, String>,
    ) -> Result<(), String> {
        for _ in 0..CALLBACKS_MAX {
            let Some(listener) = &self.listener else { return Ok(()) };
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) {
                        // Most likely out of descriptors: polling at once would fail the same way.
                        request.log.debug(format_args!("cannot accept a connection: {}", error_text(&error)));
                        self.evict();
                        self.resume = Some(Instant::now() + PAUSE);
                    }
                    return Ok(());
                }
            };
            let prepared = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            let Ok(called) = prepared.and_then(|()| stream.local_addr()) else { continue };
            request.log.debug(format_args!("{peer} called back"));
            if self.calls.len() == CALLBACKS_MAX {
                self.evict();
            }
            self.calls.push(Callback { stream, peer, session: session(called.ip())? });
        }
        Ok(())
    }

    /// Drops the oldest connection of the address with the most, so that a flood
    /// from one address does not evict the host.
    fn evict(&mut self) {
        let calls_of = |ip: IpAddr| self.calls.iter().filter(|call| call.peer.ip() == ip).count();
        let counts: Vec<usize> = self.calls.iter().map(|call| calls_of(call.peer.ip())).collect();
        let most = counts.iter().max();
        if let Some(at) = counts.iter().position(|count| Some(count) == most) {
            self.calls.remove(at);
        }
    }

    /// Exchanges data with each peer, up to the first event. A committed call-back for which `hold` is true is
    /// returned before our proof is sent. An error of an unproven peer ends only its own connection.
    pub(super) fn next_event(
        &mut self,
        request: &AgentRequest,
        hold: fn(&ClientSession) -> bool,
    ) -> Option<CallbackEvent> {
        let mut at = 0;
        while let Some(Callback { stream, peer, session }) = self.calls.get_mut(at) {
            if session.is_committed() && hold(session) {
                return Some(CallbackEvent::Committed(self.calls.remove(at)));
            }
            match exchange(peer, stream, session, request) {
                Ok(Some(answer)) => return Some(CallbackEvent::Answered(self.calls.remove(at), answer)),
                Ok(None) if session.is_committed() && hold(session) => {}
                Ok(None) => at += 1,
                Err(reason) => {
                    request.log.debug(format_args!("{peer}: {reason}"));
                    self.last_failure = Some(format!("{peer} called back, but {reason}"));
                    let call = self.calls.remove(at);
                    if call.session.is_committed() {
                        return Some(CallbackEvent::Broken(call));
                    }
                }
            }
        }
        None
    }
}
