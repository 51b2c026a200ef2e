//! The serial listener's service: the lines of all running VMs.
//!
//! A watcher connects to the sockets of the VMs and sends the lines here. It is
//! notified of a line that breaks, and checks whether the VM still runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use super::dispatcher::{DispatchOutcome, Dispatcher};
use super::liveness::{Liveness, SignOfLife};
use super::request_log::PendingRequest;
use super::service::{Answered, Mail, Service};
use super::stream::{NonblockingStream, ReadOutcome};
use crate::job::{CancelToken, RequestLabel};
use crate::logging::{Limiter, Suppressed};
use crate::serial_event::{ConnectedLine, LineId, SerialEvent};
use crate::status::Refusal;
use fence_virt::fence::{Answer, Domain, Source, Verdict, WireVersion, counted};
use fence_virt::session::{Arrival, GuestLine, LINE_READ_MAX, is_probe};
use fence_virt::sys::error_text;
use fence_virt::sys::poll::{Interest, Readiness};
use fence_virt::time::Instant;
use fence_virt::wire::RECORD_LEN;

/// Time for which, after activity on some lines, only these lines are polled. To poll thousands
/// of idle lines takes longer than everything else that a request needs.
const ACTIVE: Duration = Duration::from_millis(1);

/// Maximum bytes of answers that guests have not read, all lines together.
const UNREAD_MAX: usize = 64 << 20;

/// Message to a serial listener.
pub(super) type SerialMail = Mail<LineId, SerialEvent>;

/// A connected line of a VM.
struct SerialLine {
    stream: NonblockingStream,
    machine: GuestLine,
    domain: Arc<Domain>,
    path: PathBuf,
    /// Called if the line breaks.
    on_lost: Box<dyn FnOnce() + Send>,
    /// Cancelled if the line breaks while the worker has its request.
    cancel: CancelToken,
}

impl SerialLine {
    fn source(&self) -> Source {
        Source::Domain(self.domain.clone())
    }

    fn interest(&self, is_stopping: bool) -> Interest {
        match (!is_stopping && self.machine.wants_input(), self.machine.output().is_empty()) {
            (true, true) => Interest::Read,
            (true, false) => Interest::Both,
            (false, false) => Interest::Write,
            (false, true) => Interest::HangUp,
        }
    }

    /// Writes pending output, as far as the guest takes it.
    fn flush(&mut self) -> io::Result<()> {
        let count = self.stream.write(self.machine.output())?;
        self.machine.sent(count);
        Ok(())
    }
}

/// All lines of a serial listener.
pub(super) struct SerialLines {
    lines: BTreeMap<LineId, SerialLine>,
    /// Lines whose machines have a deadline.
    timed: BTreeSet<LineId>,
    /// Lines with activity since all lines were polled last.
    recently_active: BTreeSet<LineId>,
    /// End of the time for which only these are polled; none while there is no activity.
    active_until: Option<Instant>,
    dispatcher: Dispatcher<LineId, SerialEvent>,
    is_stopping: bool,
    /// Limit of log lines about connections.
    connections: Limiter,
}

impl SerialLines {
    pub(super) fn new(dispatcher: Dispatcher<LineId, SerialEvent>) -> SerialLines {
        SerialLines {
            lines: BTreeMap::new(),
            timed: BTreeSet::new(),
            recently_active: BTreeSet::new(),
            active_until: None,
            dispatcher,
            is_stopping: false,
            connections: Limiter::new(100, Duration::from_secs(1), Instant::now()),
        }
    }

    fn mark_active(&mut self, id: LineId, now: Instant) {
        self.recently_active.insert(id);
        self.active_until.get_or_insert(now + ACTIVE);
    }

    fn open(&mut self, line: ConnectedLine, now: Instant) {
        if self.is_stopping {
            return;
        }
        let ConnectedLine { id, stream, domain, path, on_lost } = line;
        if let Some(suppressed) = self.connections.allow(now) {
            let listener = self.dispatcher.log.listener();
            info!("{listener}: {domain}: connected to {}{}", path.display(), Suppressed(suppressed));
        }
        let stream = NonblockingStream::connected(stream);
        let machine = GuestLine::default();
        let cancel = CancelToken::default();
        self.lines.insert(id, SerialLine { stream, machine, domain, path, on_lost, cancel });
        self.mark_active(id, now);
    }

    /// Writes pending output, and dispatches the next request if none is in flight.
    fn advance(&mut self, id: LineId, now: Instant) {
        loop {
            let Some(line) = self.lines.get_mut(&id) else { return };
            if let Err(error) = line.flush() {
                return self.lose(id, &error_text(&error), now);
            }
            let Some((request, Arrival { at: received, is_late })) = line.machine.next_request() else {
                break;
            };
            if !is_probe(request.operation, request.target.as_str()) {
                let listener = self.dispatcher.log.listener();
                debug!("{listener}: {}: {}: read from its line", line.domain, RequestLabel(&request));
            }
            if is_late {
                self.dispatcher.log_late(&request, &line.source(), received, now);
                line.machine.answer(&Verdict::Failure.into());
                continue;
            }
            let Some(alive_at) = Liveness::Local.alive_at(&line.stream, received, now) else {
                return self.lose(id, "the VM's side hung up", now);
            };
            let identity = request.identity().requested_by(line.domain.uuid);
            let (source, version) = (line.source(), WireVersion::One);
            let pending = PendingRequest { request, identity, source, version, received };
            match self.dispatcher.dispatch(id, pending, alive_at, line.cancel.clone(), now) {
                DispatchOutcome::Dispatched => break,
                DispatchOutcome::Refused => line.machine.answer(&Verdict::Failure.into()),
                DispatchOutcome::Duplicate => line.machine.skip(),
            }
        }
        if self.lines.get(&id).is_some_and(|line| line.machine.deadline().is_some()) {
            self.timed.insert(id);
        }
        self.end_if_done(id);
    }

    /// Returns false for a list that would exceed the memory for unread answers.
    fn has_room_for(&mut self, answer: &Answer, now: Instant) -> bool {
        let Answer::HostList(entries) = answer else { return true };
        let unread: usize = self.lines.values().map(|line| line.machine.output().len()).sum();
        let has_room = unread + entries.len() * RECORD_LEN <= UNREAD_MAX;
        if !has_room {
            self.dispatcher.log.log_refusal(
                Refusal::Crowded,
                None,
                format_args!("refused a list: guests have left {} MiB of answers unread", unread >> 20),
                now,
            );
        }
        has_room
    }

    /// Closes a line that broke, and notifies the watcher: its VM may still run.
    fn lose(&mut self, id: LineId, reason: &str, now: Instant) {
        if let Some(line) = self.close(id, reason, now) {
            (line.on_lost)();
        }
    }

    /// Closes a line. The worker drops its request, unless it has begun it.
    fn close(&mut self, id: LineId, reason: &str, now: Instant) -> Option<SerialLine> {
        let line = self.lines.remove(&id)?;
        line.cancel.cancel();
        if let Some(suppressed) = self.connections.allow(now) {
            let listener = self.dispatcher.log.listener();
            let SerialLine { domain, path, .. } = &line;
            info!("{listener}: {domain}: {} is closed: {reason}{}", path.display(), Suppressed(suppressed));
        }
        Some(line)
    }

    fn end_if_done(&mut self, id: LineId) {
        let is_done = |line: &SerialLine| !line.machine.is_waiting() && line.machine.output().is_empty();
        if self.is_stopping && self.lines.get(&id).is_some_and(is_done) {
            self.lines.remove(&id);
        }
    }
}

impl Service for SerialLines {
    type Id = LineId;
    type Update = SerialEvent;

    fn open_count(&self) -> usize {
        self.lines.len()
    }

    fn set_waiting_since(&mut self, since: Option<Instant>) {
        self.dispatcher.waiting_since = since;
    }

    fn polls_all(&self, now: Instant) -> bool {
        self.active_until.is_none_or(|at| now >= at)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadlines = self.timed.iter().filter_map(|id| self.lines.get(id)?.machine.deadline());
        deadlines.chain(self.active_until.filter(|at| now < *at)).min()
    }

    fn register<'a>(&'a mut self, now: Instant, mut add: impl FnMut(LineId, BorrowedFd<'a>, Interest)) {
        if self.active_until.is_some_and(|at| now >= at) {
            self.active_until = None;
            self.recently_active.clear();
        }
        let mut add = |id: LineId, line: &'a SerialLine| {
            add(id, line.stream.as_fd(), line.interest(self.is_stopping));
        };
        match self.active_until {
            None => self.lines.iter().for_each(|(&id, line)| add(id, line)),
            Some(_) => {
                let active = self.recently_active.iter().filter_map(|id| self.lines.get_key_value(id));
                active.for_each(|(&id, line)| add(id, line));
            }
        }
    }

    /// Gives up requests that stay incomplete.
    fn expire(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.timed) {
            if let Some(line) = self.lines.get_mut(&id) {
                line.machine.expire(now);
            }
            self.advance(id, now);
        }
    }

    fn attend(&mut self, id: LineId, interest: Interest, ready: Readiness, now: Instant) {
        self.mark_active(id, now);
        let Some(line) = self.lines.get_mut(&id) else { return };
        if ready.read && matches!(interest, Interest::Write | Interest::HangUp) {
            // The line was not polled for input, so this is a hang-up.
            return self.lose(id, "the VM's side hung up", now);
        }
        if ready.read {
            if let Some(since) = self.dispatcher.waiting_since {
                line.machine.note_late(since);
            }
            let mut buffer = [0; LINE_READ_MAX];
            match line.stream.read(&mut buffer) {
                Ok(ReadOutcome::Bytes(count)) => {
                    line.machine.receive(&buffer[..count], count < buffer.len(), now);
                }
                Ok(ReadOutcome::WouldBlock) => line.machine.receive(&[], true, now),
                Ok(ReadOutcome::HungUp) => return self.lose(id, "the VM's side hung up", now),
                Err(error) => return self.lose(id, &error_text(&error), now),
            }
        }
        self.advance(id, now);
    }

    fn answered(&mut self, mut answered: Answered<LineId>, now: Instant) {
        let id = answered.client;
        let pending = self.dispatcher.take(id);
        if !self.has_room_for(&answered.answer, now) {
            answered.answer = Verdict::Failure.into();
        }
        // The guest comes first, since it waits.
        let is_awaited = self.lines.contains_key(&id);
        if let Some(line) = self.lines.get_mut(&id) {
            line.machine.answer(&answered.answer);
            self.mark_active(id, now);
            self.advance(id, now);
        }
        self.dispatcher.finish(pending, &answered, is_awaited, now);
    }

    fn sign_of_life(&mut self, id: LineId, after: Instant, now: Instant) -> SignOfLife {
        match self.lines.get(&id) {
            Some(line) => Liveness::Local.sign(&line.stream, after, now),
            None => SignOfLife::HungUp,
        }
    }

    fn update(&mut self, event: SerialEvent, now: Instant) {
        match event {
            SerialEvent::Connected(line) => self.open(line, now),
            SerialEvent::Removed(id) => drop(self.close(id, "the VM stopped or lost the device", now)),
        }
    }

    fn stop(&mut self, now: Instant) {
        self.is_stopping = true;
        let ids: Vec<LineId> = self.lines.keys().copied().collect();
        for id in ids {
            let Some(line) = self.lines.get_mut(&id) else { continue };
            let dropped = line.machine.clear();
            if dropped > 0 {
                self.dispatcher.log.log_refusal(
                    Refusal::Error,
                    Some(&line.source()),
                    format_args!("dropped {}: the daemon is stopping", counted(dropped, "request")),
                    now,
                );
            }
            self.end_if_done(id);
        }
    }

    fn abort(&mut self, now: Instant) {
        self.stop(now);
        for line in self.lines.values_mut().filter(|line| line.machine.is_waiting()) {
            line.cancel.cancel();
            let listener = self.dispatcher.log.listener();
            warn!("{listener}: {}: answered with failure: the daemon is stopping", line.domain);
            line.machine.answer(&Verdict::Failure.into());
            // A guest that does not read has had its time.
            let _ = line.flush();
        }
        self.lines.clear();
    }
}

#[cfg(test)]
#[path = "serial_lines_tests.rs"]
mod tests;
