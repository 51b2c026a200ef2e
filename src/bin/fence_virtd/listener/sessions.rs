//! Sessions of the clients that connect to a listener, or that it calls back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use log::{debug, warn};

use super::call_back::{CallBack, with_sender};
use super::dispatcher::{DispatchOutcome, Dispatcher};
use super::liveness::{Liveness, SignOfLife};
use super::request_log::{PendingRequest, RequestLog};
use super::service::{Answered, Mail, Service};
use super::stream::{NO_DESCRIPTOR, NonblockingStream, ReadOutcome};
use crate::job::{CancelToken, RequestLabel};
use crate::status::Refusal;
use fence_virt::fence::{Answer, Identity, Request, Source, Target, Verdict};
use fence_virt::origins::Prefix;
use fence_virt::quota::{self, OpenSession};
use fence_virt::session::{Misconduct, Policy, ServerSession, SessionEvent};
use fence_virt::sys::error_text;
use fence_virt::sys::poll::{Interest, Readiness};
use fence_virt::time::Instant;

/// Id of a session; a lower one is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(u64);

/// Change that a listener whose clients connect has to take over.
#[derive(Debug, Clone)]
pub(super) enum SessionsUpdate {
    /// Policy for requests from then on.
    Policy(Arc<Policy>),
    /// Prefixes of this host's links.
    Prefixes(Arc<[Prefix]>),
}

/// Message to a listener whose clients connect.
pub(super) type SessionMail = Mail<SessionId, SessionsUpdate>;

/// A connection with its state machine.
pub(super) struct LiveSession {
    pub(super) stream: NonblockingStream,
    pub(super) machine: ServerSession,
    pub(super) source: Source,
    received: Instant,
    liveness: Liveness,
    /// None once its request is authenticated.
    pub(super) callback: Option<CallBack>,
    /// Name that its request asks for, if that is a question of a probe.
    pub(super) probe: Option<Box<Target>>,
    /// Cancelled if the client hangs up while the worker has its request.
    pub(super) cancel: CancelToken,
}

/// All sessions of a listener.
pub(super) struct Sessions {
    pub(super) policy: Arc<Policy>,
    pub(super) sessions: BTreeMap<SessionId, LiveSession>,
    sessions_max: usize,
    next_id: u64,
    pub(super) dispatcher: Dispatcher<SessionId, SessionsUpdate>,
}

impl Sessions {
    pub(super) fn new(
        policy: Arc<Policy>,
        sessions_max: usize,
        dispatcher: Dispatcher<SessionId, SessionsUpdate>,
    ) -> Sessions {
        Sessions { policy, sessions: BTreeMap::new(), sessions_max, next_id: 0, dispatcher }
    }

    /// Log of the listener.
    pub(super) fn log(&mut self) -> &mut RequestLog {
        &mut self.dispatcher.log
    }

    /// Time since which the input of this turn may have waited, unread.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.dispatcher.waiting_since
    }

    /// Starts a session on a connection that was accepted, and may have waited for that since this time.
    pub(super) fn accept(
        &mut self,
        stream: NonblockingStream,
        source: Source,
        waiting_since: Option<Instant>,
        now: Instant,
    ) {
        let Some(nonce) = self.nonce(now) else { return };
        let machine = ServerSession::accepted(self.policy.clone(), nonce, now);
        debug!("{}: {source}: connected", self.dispatcher.log.listener());
        let Some(id) = self.admit(stream, machine, source, None, now) else { return };
        if let (Some(since), Some(session)) = (waiting_since, self.sessions.get_mut(&id)) {
            session.received = since;
        }
        // Mostly the request is pending already: reading it now saves a turn.
        let of_turn = std::mem::replace(&mut self.dispatcher.waiting_since, waiting_since);
        self.attend(id, Interest::Read, Readiness { read: true, write: false }, now);
        self.dispatcher.waiting_since = of_turn;
    }

    /// Starts a session on a connection for which another one has to go, since there is no descriptor left.
    pub(super) fn accept_in_place(
        &mut self,
        stream: NonblockingStream,
        source: Source,
        waiting_since: Option<Instant>,
        now: Instant,
    ) {
        if self.make_room(Some(&source), None, NO_DESCRIPTOR, now) {
            self.accept(stream, source, waiting_since, now);
        }
    }

    /// Closes a session to free its descriptor; false if none can be closed.
    pub(super) fn free_descriptor(&mut self, now: Instant) -> bool {
        self.make_room(None, None, NO_DESCRIPTOR, now)
    }

    pub(super) fn nonce(&mut self, now: Instant) -> Option<[u8; 32]> {
        let mut nonce = [0; 32];
        let Err(error) = getrandom::fill(&mut nonce) else { return Some(nonce) };
        self.log().log_refusal(Refusal::Error, None, format_args!("cannot get random numbers: {error}"), now);
        None
    }

    pub(super) fn admit(
        &mut self,
        stream: NonblockingStream,
        machine: ServerSession,
        source: Source,
        callback: Option<CallBack>,
        now: Instant,
    ) -> Option<SessionId> {
        if self.sessions.len() >= self.sessions_max
            && !self.make_room(Some(&source), callback.as_ref(), "too many sessions", now)
        {
            return None;
        }
        let id = SessionId(self.next_id);
        self.next_id += 1;
        let cancel = CancelToken::default();
        let liveness = Liveness::of(&source);
        let session =
            LiveSession { stream, machine, source, received: now, liveness, callback, probe: None, cancel };
        self.sessions.insert(id, session);
        Some(id)
    }

    /// Closes a session to make room for one of this source, if it is known, which is refused if that is not
    /// possible.
    pub(super) fn make_room(
        &mut self,
        source: Option<&Source>,
        callback: Option<&CallBack>,
        shortage: &str,
        now: Instant,
    ) -> bool {
        let origins = &self.dispatcher.log.origins;
        let open = self.sessions.iter().map(|(&id, session)| OpenSession {
            id,
            standing: origins.standing(&session.source),
            is_waiting: session.machine.is_waiting(),
        });
        let newcomer = source.map(|source| origins.standing(source));
        match quota::make_room(newcomer.as_ref(), &open.collect::<Vec<_>>()) {
            Some(id) => {
                self.refuse(id, Refusal::Crowded, format_args!("closed to make room: {shortage}"), now);
                true
            }
            None => {
                let reason = with_sender(callback, format_args!("refused: {shortage}"));
                self.log().log_refusal(Refusal::Crowded, source, reason, now);
                false
            }
        }
    }

    /// Passes bytes to a session's machine and handles its events.
    fn feed(&mut self, id: SessionId, mut input: &[u8], now: Instant) {
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            match session.machine.receive(&mut input) {
                Ok(None) => return self.flush(id, now),
                Ok(Some(SessionEvent::Requested(request, identity))) => {
                    session.note_request(self.dispatcher.log.listener(), &request);
                    if self.dispatcher.is_duplicate(&identity, now) {
                        self.dispatcher.log_duplicate(&request, &session.source, now);
                        self.sessions.remove(&id);
                    }
                }
                Ok(Some(SessionEvent::Authenticated(request, identity))) if input.is_empty() => {
                    self.dispatch(id, request, identity, now);
                }
                Ok(Some(SessionEvent::Authenticated(..))) => {
                    return self.refuse_misconduct(id, Misconduct::Trailing, now);
                }
                Err(misconduct) => return self.refuse_misconduct(id, misconduct, now),
            }
        }
    }

    /// Sends an authenticated request to the worker.
    fn dispatch(&mut self, id: SessionId, request: Request, identity: Identity, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.callback = None;
        // A hang-up, or more bytes, may have followed since the read.
        match session.stream.peek() {
            Ok(ReadOutcome::WouldBlock) => {}
            Ok(ReadOutcome::HungUp) | Err(_) => return self.hung_up(id, now),
            Ok(ReadOutcome::Bytes(_)) => return self.refuse_misconduct(id, Misconduct::Trailing, now),
        }
        if let Some(since) = self.dispatcher.waiting_since {
            self.dispatcher.log_late(&request, &session.source, since, now);
            return self.answer(id, &Verdict::Failure.into(), now);
        }
        let alive_at = if request.operation.is_power() {
            session.liveness.alive_at(&session.stream, session.received, now)
        } else {
            // Nobody contests a question: this saves it two system calls, 2 % of the time of a status.
            Some(session.received)
        };
        let Some(alive_at) = alive_at else { return self.hung_up(id, now) };
        if session.probe.is_none() {
            let listener = self.dispatcher.log.listener();
            debug!(
                "{listener}: {}: {}: the client has proven itself",
                session.source,
                RequestLabel(&request)
            );
        }
        let source = session.proven_source();
        if let Source::Key(keyed) = &source {
            // Its address has room for further sessions.
            self.dispatcher.log.origins.proved(&keyed.via, now);
        }
        let version = session.machine.version();
        let pending = PendingRequest { request, identity, source, version, received: session.received };
        match self.dispatcher.dispatch(id, pending, alive_at, session.cancel.clone(), now) {
            DispatchOutcome::Dispatched => {}
            DispatchOutcome::Refused => self.answer(id, &Verdict::Failure.into(), now),
            DispatchOutcome::Duplicate => drop(self.sessions.remove(&id)),
        }
    }

    fn answer(&mut self, id: SessionId, answer: &Answer, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.machine.answer(answer, now);
        }
        self.flush(id, now);
    }

    /// Writes pending output, as far as the client takes it; ends a session that is done.
    fn flush(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.stream.write(session.machine.output()) {
            Ok(count) => session.machine.sent(count),
            Err(error) => return self.refuse(id, Refusal::Error, error_text(&error), now),
        }
        if session.machine.is_done() {
            self.sessions.remove(&id);
        }
    }

    /// Puts a policy into force, and closes the sessions that it does not admit.
    fn adopt(&mut self, policy: Arc<Policy>, now: Instant) {
        let mut refused = Vec::new();
        for (&id, session) in &mut self.sessions {
            refused.extend(session.machine.set_policy(&policy).err().map(|misconduct| (id, misconduct)));
        }
        self.policy = policy;
        for (id, misconduct) in refused {
            self.refuse_misconduct(id, misconduct, now);
        }
    }
}

impl Service for Sessions {
    type Id = SessionId;
    type Update = SessionsUpdate;

    fn open_count(&self) -> usize {
        self.sessions.len()
    }

    fn set_waiting_since(&mut self, since: Option<Instant>) {
        self.dispatcher.waiting_since = since;
    }

    fn polls_all(&self, _now: Instant) -> bool {
        true
    }

    fn deadline(&self, _now: Instant) -> Option<Instant> {
        self.sessions.values().filter_map(|session| session.machine.deadline()).min()
    }

    fn register<'a>(&'a mut self, _now: Instant, mut add: impl FnMut(SessionId, BorrowedFd<'a>, Interest)) {
        for (&id, session) in &self.sessions {
            let is_quiet = session.machine.output().is_empty();
            let connected = if is_quiet { Interest::Read } else { Interest::Both };
            let interest = if session.stream.is_connecting() { Interest::Write } else { connected };
            add(id, session.stream.as_fd(), interest);
        }
    }

    /// Closes the sessions whose deadline has passed.
    fn expire(&mut self, now: Instant) {
        let is_late = |session: &LiveSession| session.machine.deadline().is_some_and(|at| now >= at);
        let late: Vec<_> = self.sessions.iter().filter(|(_, s)| is_late(s)).map(|(&id, _)| id).collect();
        for id in late {
            let Some(session) = self.sessions.get(&id) else { continue };
            match session.stream.is_connecting() {
                true => self.refuse_unreachable(id, io::ErrorKind::TimedOut.into(), now),
                false => self.refuse_misconduct(id, session.machine.on_timeout(), now),
            }
        }
    }

    fn attend(&mut self, id: SessionId, _interest: Interest, ready: Readiness, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.stream.is_connecting() {
            if let Err(error) = session.stream.finish_connect() {
                return self.refuse_unreachable(id, error, now);
            }
            // With auth none, the connection alone proves the client.
            return self.feed(id, &[], now);
        }
        if ready.read {
            let mut buffer = [0; 512];
            match session.stream.read(&mut buffer) {
                Ok(ReadOutcome::Bytes(count)) => self.feed(id, &buffer[..count], now),
                Ok(ReadOutcome::WouldBlock) => {}
                Ok(ReadOutcome::HungUp) => return self.hung_up(id, now),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return self.hung_up(id, now),
                Err(error) => return self.refuse(id, Refusal::Error, error_text(&error), now),
            }
        }
        if ready.write {
            self.flush(id, now);
        }
    }

    fn answered(&mut self, answered: Answered<SessionId>, now: Instant) {
        let pending = self.dispatcher.take(answered.client);
        // The client comes first, since it waits.
        let is_awaited = self.sessions.contains_key(&answered.client);
        self.answer(answered.client, &answered.answer, now);
        self.dispatcher.finish(pending, &answered, is_awaited, now);
    }

    fn sign_of_life(&mut self, id: SessionId, after: Instant, now: Instant) -> SignOfLife {
        match self.sessions.get_mut(&id) {
            Some(LiveSession { stream, liveness, .. }) => liveness.sign(stream, after, now),
            None => SignOfLife::HungUp,
        }
    }

    fn update(&mut self, update: SessionsUpdate, now: Instant) {
        match update {
            SessionsUpdate::Policy(policy) => self.adopt(policy, now),
            SessionsUpdate::Prefixes(prefixes) => self.log().origins.set_prefixes(&prefixes),
        }
    }

    fn stop(&mut self, _now: Instant) {
        self.sessions.retain(|_, session| session.machine.is_authenticated());
    }

    fn abort(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get(&id) else { continue };
            if session.machine.is_authenticated() {
                session.cancel.cancel();
                let listener = self.dispatcher.log.listener();
                warn!("{listener}: {}: answered with failure: the daemon is stopping", session.source);
                self.answer(id, &Verdict::Failure.into(), now);
            }
        }
        self.sessions.clear();
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
