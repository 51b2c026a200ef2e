//! The sessions of one listener, and their way to the worker and back.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use super::mail::Answered;
use super::posting::{Order, Outcome, Posting};
use super::stream::{Input, Stream};
use crate::job::{CancelToken, RequestLabel};
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Answer, Identity, ListenerName, Request, Source, Verdict};
use fence_virt::quota::{self, Admission, OpenSession, Origin};
use fence_virt::session::{Misconduct, Policy, ServerSession, SessionEvent};
use fence_virt::sys::poll::{Interest, PollSet, Readiness, Slot};
use fence_virt::wire::PACKET_LEN;

/// A connection and the machine that speaks on it.
struct Session {
    stream: Stream,
    machine: ServerSession,
    source: Source,
    received: Instant,
    /// Where a call-back goes, and for which request.
    callback: Option<(SocketAddr, Identity)>,
    /// Told if the client hangs up on the worker.
    cancel: CancelToken,
}

/// Why a session ends without its answer having been sent.
enum Ending {
    Misconduct(Misconduct),
    Error(io::Error),
    Unreachable(io::Error),
    HungUp,
}

pub(super) struct Sessions {
    listener: ListenerName,
    counts: Arc<Counts>,
    policy: Arc<Policy>,
    live: BTreeMap<u64, Session>,
    next_id: u64,
    posting: Posting,
}

impl Sessions {
    pub(super) fn new(counts: Arc<Counts>, policy: Arc<Policy>, posting: Posting) -> Sessions {
        let listener = counts.name().clone();
        Sessions { listener, counts, policy, live: BTreeMap::new(), next_id: 0, posting }
    }

    /// Whether nobody waits for anything any more.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Clients whose requests come from now on are served by this policy.
    pub(super) fn adopt(&mut self, policy: Arc<Policy>) {
        self.live.values_mut().for_each(|session| session.machine.set_policy(&policy));
        self.policy = policy;
    }

    /// A client connected.
    pub(super) fn accept(&mut self, stream: Stream, source: Source, now: Instant) {
        let Some(nonce) = self.nonce(now) else { return };
        let machine = ServerSession::accepted(self.policy.clone(), nonce, now);
        if let Some(id) = self.admit(stream, machine, source, None, now) {
            // The request mostly is here already, which saves a turn.
            self.attend(id, Readiness { read: true, write: false }, now);
        }
    }

    /// A datagram came in on the interface with this index: checks it and
    /// calls its sender back.
    pub(super) fn call_back(&mut self, bytes: &[u8; PACKET_LEN], interface: u32, now: Instant) {
        let checked = match self.policy.check(bytes) {
            Ok(checked) => checked,
            Err(misconduct) => return self.drop_datagram(Refusal::from(&misconduct), now, &misconduct),
        };
        let address = match checked.packet.callback(interface) {
            Ok(address) => address,
            Err(error) => return self.drop_datagram(Refusal::Malformed, now, &error),
        };
        let request = &checked.packet.request;
        let callback = (address, request.identity());
        let is_under_way = self.live.values().any(|session| session.callback.as_ref() == Some(&callback));
        if is_under_way || self.posting.holds(&callback.1, now) {
            return debug!("{} {address}: {}: dropped as a duplicate", self.listener, RequestLabel(request));
        }
        let Some(nonce) = self.nonce(now) else { return };
        match Stream::connect(address) {
            Ok(stream) => {
                let machine = ServerSession::called_back(self.policy.clone(), nonce, &checked, now);
                self.admit(stream, machine, Source::ip(address.ip()), Some(callback), now);
            }
            Err(error) => {
                let from = Source::ip(address.ip());
                self.complain(
                    Refusal::Unreachable,
                    Some(&from),
                    now,
                    format_args!("no route for the call-back to {address}: {error}"),
                )
            }
        }
    }

    fn drop_datagram(&mut self, refusal: Refusal, now: Instant, reason: &dyn fmt::Display) {
        self.complain(refusal, None, now, format_args!("a datagram was dropped: {reason}"));
    }

    fn nonce(&mut self, now: Instant) -> Option<[u8; 32]> {
        let mut nonce = [0; 32];
        match getrandom::fill(&mut nonce) {
            Ok(()) => Some(nonce),
            Err(error) => {
                self.complain(
                    Refusal::Error,
                    None,
                    now,
                    format_args!("the system gives no random numbers: {error}"),
                );
                None
            }
        }
    }

    fn admit(
        &mut self,
        stream: Stream,
        machine: ServerSession,
        source: Source,
        callback: Option<(SocketAddr, Identity)>,
        now: Instant,
    ) -> Option<u64> {
        let holders = self.live.iter().map(|(&id, session)| OpenSession {
            id,
            origin: Origin::from(&session.source),
            is_waiting: session.machine.is_waiting(),
        });
        match quota::admit(Origin::from(&source), holders) {
            Admission::Admit => {}
            Admission::Evict(id) => {
                if let Some(evicted) = self.live.remove(&id) {
                    let source = &evicted.source;
                    let reason = "closed to make room, too many sessions";
                    self.complain(Refusal::Crowded, Some(source), now, format_args!("{source}: {reason}"));
                }
            }
            Admission::Refuse => {
                let reason = "refused, too many sessions";
                self.complain(Refusal::Crowded, Some(&source), now, format_args!("{source}: {reason}"));
                return None;
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let cancel = CancelToken::default();
        self.live.insert(id, Session { stream, machine, source, received: now, callback, cancel });
        Some(id)
    }

    /// Adds all sessions to the poll set of a turn.
    pub(super) fn register<'a>(&'a self, set: &mut PollSet<'a>) -> Vec<(u64, Slot)> {
        let slot = |session: &'a Session, set: &mut PollSet<'a>| {
            let interest = match session.machine.output().is_empty() {
                _ if session.stream.is_connecting() => Interest::Write,
                true => Interest::Read,
                false => Interest::Both,
            };
            set.add(session.stream.as_fd(), interest)
        };
        self.live.iter().map(|(&id, session)| (id, slot(session, set))).collect()
    }

    /// Tells the reports how many there are.
    pub(super) fn count(&self) {
        self.counts.set_open(self.live.len());
    }

    /// The next deadline of a session.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.live.values().filter_map(|session| session.machine.deadline()).min()
    }

    /// Attends to a session on whose connection something happened.
    pub(super) fn attend(&mut self, id: u64, ready: Readiness, now: Instant) {
        let Some(session) = self.live.get_mut(&id) else { return };
        if session.stream.is_connecting() {
            if let Err(error) = session.stream.connected() {
                return self.end(id, &Ending::Unreachable(error), now);
            }
            // With auth none the request is proven by the connection alone.
            return self.feed(id, &[], now);
        }
        if ready.read {
            let mut buffer = [0; 512];
            match session.stream.read(&mut buffer) {
                Ok(Input::Bytes(count)) => self.feed(id, &buffer[..count], now),
                Ok(Input::Nothing) => {}
                Ok(Input::End) => return self.end(id, &Ending::HungUp, now),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return self.end(id, &Ending::HungUp, now);
                }
                Err(error) => return self.end(id, &Ending::Error(error), now),
            }
        }
        if ready.write {
            self.flush(id, now);
        }
    }

    /// Hands bytes to a session's machine and attends to what it makes of them.
    fn feed(&mut self, id: u64, mut input: &[u8], now: Instant) {
        loop {
            let Some(session) = self.live.get_mut(&id) else { return };
            match session.machine.receive(&mut input) {
                Ok(None) => return self.flush(id, now),
                Ok(Some(SessionEvent::Requested(request))) => {
                    if self.posting.holds(&request.identity(), now) {
                        return self.drop_duplicate(id, &request, now);
                    }
                }
                Ok(Some(SessionEvent::Authenticated(request))) if input.is_empty() => {
                    self.submit(id, request, now)
                }
                Ok(Some(SessionEvent::Authenticated(_))) => {
                    return self.end(id, &Ending::Misconduct(Misconduct::Trailing), now);
                }
                Err(misconduct) => return self.end(id, &Ending::Misconduct(misconduct), now),
            }
        }
    }

    fn drop_duplicate(&mut self, id: u64, request: &Request, now: Instant) {
        if let Some(session) = self.live.remove(&id) {
            self.posting.complain_of_twin(request, &session.source, now);
        }
    }

    /// Posts an authenticated request to the worker.
    fn submit(&mut self, id: u64, request: Request, now: Instant) {
        let Some(session) = self.live.get_mut(&id) else { return };
        session.callback = None;
        // A hang-up, or more bytes, may be behind what was read.
        match session.stream.peek() {
            Ok(Input::Nothing) => {}
            Ok(Input::End) | Err(_) => return self.end(id, &Ending::HungUp, now),
            Ok(Input::Bytes(_)) => return self.end(id, &Ending::Misconduct(Misconduct::Trailing), now),
        }
        let identity = request.identity();
        let source = session.source.clone();
        let cancel = session.cancel.clone();
        let order = Order { id, request, identity, source, received: session.received, cancel };
        match self.posting.post(order, now) {
            Outcome::Posted => {}
            Outcome::Refused => self.answer(id, &Verdict::Failure.into(), now),
            Outcome::Duplicate => drop(self.live.remove(&id)),
        }
    }

    /// The worker's answer to the request of a session.
    pub(super) fn answered(&mut self, answered: &Answered, now: Instant) {
        // The client first, it waits; the rest after it.
        let is_awaited = self.live.contains_key(&answered.request);
        self.answer(answered.request, &answered.answer, now);
        self.posting.answered(answered, is_awaited, now);
    }

    fn answer(&mut self, id: u64, answer: &Answer, now: Instant) {
        if let Some(session) = self.live.get_mut(&id) {
            session.machine.answer(answer, now);
        }
        self.flush(id, now);
    }

    /// Writes what a session has to say, as far as its client takes it.
    fn flush(&mut self, id: u64, now: Instant) {
        let Some(session) = self.live.get_mut(&id) else { return };
        while !session.machine.output().is_empty() {
            match session.stream.write(session.machine.output()) {
                Ok(0) => return,
                Ok(count) => session.machine.sent(count),
                Err(error) => return self.end(id, &Ending::Error(error), now),
            }
        }
        if session.machine.is_done() {
            self.live.remove(&id);
        }
    }

    /// Ends the sessions whose clients let their deadline pass.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |session: &Session| session.machine.deadline().is_some_and(|at| now >= at);
        let ids: Vec<u64> = self.live.iter().filter(|(_, s)| late(s)).map(|(&id, _)| id).collect();
        for id in ids {
            let Some(session) = self.live.get(&id) else { continue };
            let ending = match session.stream.is_connecting() {
                true => Ending::Unreachable(io::ErrorKind::TimedOut.into()),
                false => Ending::Misconduct(session.machine.on_timeout()),
            };
            self.end(id, &ending, now);
        }
    }

    /// Closes a session without an answer. A request of its that the worker
    /// has not begun will be dropped.
    fn end(&mut self, id: u64, ending: &Ending, now: Instant) {
        let Some(session) = self.live.remove(&id) else { return };
        session.cancel.cancel();
        let (source, port) = (&session.source, session.callback.map(|(address, _)| address.port()));
        match ending {
            Ending::Misconduct(misconduct) => self.complain(
                Refusal::from(misconduct),
                Some(source),
                now,
                format_args!("{source}: {misconduct}"),
            ),
            Ending::Error(error) => {
                self.complain(Refusal::Error, Some(source), now, format_args!("{source}: {error}"))
            }
            Ending::Unreachable(error) => self.complain(
                Refusal::Unreachable,
                Some(source),
                now,
                format_args!(
                    "no way for the call-back to {source} TCP port {}: {error} (a firewall there?)",
                    port.unwrap_or(0)
                ),
            ),
            Ending::HungUp => match session.machine.on_hang_up() {
                Some(misconduct) => {
                    let refusal = Refusal::from(&misconduct);
                    self.complain(refusal, Some(source), now, format_args!("{source}: {misconduct}"));
                }
                None => debug!("{} {source}: the client hung up", self.listener),
            },
        }
    }

    /// The daemon stops: nobody new is let in.
    pub(super) fn close_unauthenticated(&mut self) {
        self.live.retain(|_, session| session.machine.is_authenticated());
    }

    /// The grace is over: what is not answered has failed, and is not begun any more.
    pub(super) fn abort(&mut self, now: Instant) {
        let ids: Vec<u64> = self.live.keys().copied().collect();
        for id in ids {
            let Some(session) = self.live.get(&id) else { continue };
            if session.machine.is_authenticated() {
                session.cancel.cancel();
                warn!("{} {}: answered with failure, the daemon stops", self.listener, session.source);
                self.answer(id, &Verdict::Failure.into(), now);
            }
        }
        self.live.clear();
    }

    /// A line about something that a client did, or the network.
    pub(super) fn complain(
        &mut self,
        refusal: Refusal,
        from: Option<&Source>,
        now: Instant,
        line: fmt::Arguments<'_>,
    ) {
        self.posting.journal.complain(refusal, from, now, line);
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
