//! Callback-backs, side by side: the first who connects need not be the host.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::AgentRequest;
use super::driver::turn;
use crate::fence::Answer;
use crate::session::ClientSession;
use crate::sys::poll::{Interest, PollSet};

/// Callback-backs at the same time; one more ends the oldest of the address that has most.
const CALLS_MAX: usize = 64;

/// How long nobody is taken after the system could not give us a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A daemon that called back, or somebody else.
pub(super) struct Callback {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) session: ClientSession,
}

/// What a call came to.
pub(super) enum CallbackEvent {
    /// It has the key, or needs none; our proof has not been sent yet.
    Committed(Callback),
    /// It answered.
    Answered(Callback, Answer),
    /// It broke after our proof, or where none is needed.
    Broken(Callback),
}

/// The socket for call-backs, and who has connected to it.
pub(super) struct Callbacks {
    /// None when nobody else is to be heard.
    listener: Option<TcpListener>,
    calls: Vec<Callback>,
    /// While nobody is taken: until when.
    resume: Option<Instant>,
    /// What the last call that came to nothing came to.
    pub(super) note: Option<String>,
}

impl Callbacks {
    pub(super) fn new(listener: TcpListener) -> Callbacks {
        Callbacks { listener: Some(listener), calls: Vec::new(), resume: None, note: None }
    }

    /// Drops everybody.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    /// Drops everybody, and takes nobody any more.
    pub(super) fn close(&mut self) {
        self.listener = None;
        self.clear();
    }

    /// One that has not come to its end.
    pub(super) fn last(&self) -> Option<&Callback> {
        self.calls.last()
    }

    /// Waits until something can be done, and no longer than until `until`.
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
        set.wait(Some(until.saturating_duration_since(now))).map_err(|error| error.to_string())
    }

    /// Takes who has connected, each with a session of its own.
    pub(super) fn accept(
        &mut self,
        request: &AgentRequest,
        session: impl Fn() -> Result<ClientSession, String>,
    ) -> Result<(), String> {
        for _ in 0..CALLS_MAX {
            let Some(listener) = &self.listener else { return Ok(()) };
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) {
                        // Most likely descriptors are short: polling again at once would find the same.
                        request.log.debug(format_args!("cannot take a connection: {error}"));
                        self.make_room();
                        self.resume = Some(Instant::now() + PAUSE);
                    }
                    return Ok(());
                }
            };
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_err() {
                continue;
            }
            request.log.debug(format_args!("{peer} called back"));
            if self.calls.len() == CALLS_MAX {
                self.make_room();
            }
            self.calls.push(Callback { stream, peer, session: session()? });
        }
        Ok(())
    }

    /// Ends the oldest call of the address that has most of them, so that a
    /// crowd from one does not push out the host.
    fn make_room(&mut self) {
        let calls_of = |ip: IpAddr| self.calls.iter().filter(|call| call.peer.ip() == ip).count();
        let counts: Vec<usize> = self.calls.iter().map(|call| calls_of(call.peer.ip())).collect();
        let most = counts.iter().max();
        if let Some(at) = counts.iter().position(|count| Some(count) == most) {
            self.calls.remove(at);
        }
    }

    /// Lets each call say and hear what it can, up to the first of which there
    /// is something to tell. With `hold`, one that is committed is given out
    /// before our proof is sent. What an unproven one does wrong ends that call alone.
    pub(super) fn attend(&mut self, request: &AgentRequest, hold: bool) -> Option<CallbackEvent> {
        let mut at = 0;
        while let Some(Callback { stream, peer, session }) = self.calls.get_mut(at) {
            if hold && session.is_committed() {
                return Some(CallbackEvent::Committed(self.calls.remove(at)));
            }
            match turn(peer, stream, session, request) {
                Ok(Some(answer)) => return Some(CallbackEvent::Answered(self.calls.remove(at), answer)),
                Ok(None) if hold && session.is_committed() => {}
                Ok(None) => at += 1,
                Err(reason) => {
                    request.log.debug(format_args!("{peer}: {reason}"));
                    self.note = Some(format!("{peer} called back, but {reason}"));
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
