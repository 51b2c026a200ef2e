//! The serial listener: the lines of all VMs that run, in one poll loop.
//!
//! A watcher connects to the sockets and hands them over; a line that breaks
//! is handed back, and the watcher looks whether its VM still runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::mail::{Answered, SerialMail};
use super::posting::{Order, Outcome, Posting};
use super::stream::{Input, Stream};
use crate::job::CancelToken;
use crate::logging::{Limiter, Suppressed};
use crate::serial_event::{ConnectedLine, LineId, SerialEvent};
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Answer, Domain, ListenerName, Source, Verdict};
use fence_virt::session::{GuestLine, LINE_READ_MAX};
use fence_virt::sys::mailbox::Mailbox;
use fence_virt::sys::poll::{Interest, PollSet, Readiness, Slot};
use fence_virt::wire::RECORD_LEN;

/// For how long after something happened only the lines where it did are polled.
const LIVELY: Duration = Duration::from_millis(1);

/// So many bytes of answers may wait for their guests to read them, of all lines together.
const UNREAD_MAX: usize = 64 << 20;

/// A line of a VM.
struct Line {
    stream: Stream,
    machine: GuestLine,
    source: Source,
    domain: Arc<Domain>,
    path: PathBuf,
    /// Told if the line breaks.
    on_lost: Box<dyn FnOnce() + Send>,
    /// Told if the line breaks while a request of it is carried out.
    cancel: CancelToken,
}

/// A line in the poll set of a turn.
struct Polled {
    id: LineId,
    slot: Slot,
    interest: Interest,
}

impl Line {
    fn interest(&self, is_stopping: bool) -> Interest {
        match (!is_stopping && self.machine.wants_input(), self.machine.output().is_empty()) {
            (true, true) => Interest::Read,
            (true, false) => Interest::Both,
            (false, false) => Interest::Write,
            (false, true) => Interest::HangUp,
        }
    }

    /// Writes what there is to say, as far as the guest takes it.
    fn flush(&mut self) -> io::Result<()> {
        while !self.machine.output().is_empty() {
            match self.stream.write(self.machine.output())? {
                0 => break,
                count => self.machine.sent(count),
            }
        }
        Ok(())
    }
}

pub(super) struct Lines {
    name: ListenerName,
    counts: Arc<Counts>,
    live: BTreeMap<LineId, Line>,
    /// Those whose machines have a deadline.
    timed: BTreeSet<LineId>,
    /// Those on which something happened since all were polled, and until
    /// when these alone are polled.
    lively: BTreeSet<LineId>,
    lively_until: Option<Instant>,
    posting: Posting,
    /// The lines of the requests that the worker has, by the number of the order.
    orders: HashMap<u64, LineId>,
    next_order: u64,
    is_stopping: bool,
    /// Keeps lines that come and go from filling the log.
    notes: Limiter,
}

impl Lines {
    pub(super) fn new(counts: Arc<Counts>, posting: Posting) -> Lines {
        Lines {
            live: BTreeMap::new(),
            timed: BTreeSet::new(),
            lively: BTreeSet::new(),
            lively_until: None,
            name: counts.name().clone(),
            posting,
            counts,
            orders: HashMap::new(),
            next_order: 0,
            is_stopping: false,
            notes: Limiter::new(100, Duration::from_secs(1), Instant::now()),
        }
    }

    /// Serves the lines until it is told to stop and what it took is answered.
    ///
    /// # Errors
    ///
    /// poll(2)'s, with which no listener can go on.
    pub(super) fn run(mut self, mailbox: &Mailbox<SerialMail>) -> io::Result<()> {
        while !(self.is_stopping && self.live.is_empty()) {
            self.turn(mailbox)?;
            self.counts.set_open(self.live.len());
        }
        Ok(())
    }

    /// One turn: wait, look at the clock once, attend to everything that is ready.
    ///
    /// To poll thousands of silent lines takes longer than all the rest of a
    /// request. So for a moment after something happened only the mailbox is
    /// polled, which will have the answer, and the lines where it happened.
    fn turn(&mut self, mailbox: &Mailbox<SerialMail>) -> io::Result<()> {
        let began = Instant::now();
        let until = self.lively_until.filter(|at| began < *at);
        if until.is_none() {
            self.lively.clear();
        }
        let mut set = PollSet::new();
        let mail = set.add(mailbox.as_fd(), Interest::Read);
        let slots = self.register(&mut set, until.is_none());
        let times = self.timed.iter().filter_map(|id| self.live.get(id)?.machine.deadline());
        let wake = times.chain(until).min();
        set.wait(wake.map(|at| at.saturating_duration_since(began)))?;

        let now = Instant::now();
        let mail = set.ready(mail);
        let ready: Vec<_> = slots
            .iter()
            .map(|polled| (polled.id, polled.interest, set.ready(polled.slot)))
            .filter(|(.., ready)| ready.any())
            .collect();
        drop(set);
        let is_idle = ready.is_empty() && !mail.any();
        self.lively_until = match until {
            None if !is_idle => Some(now + LIVELY),
            Some(_) if is_idle => None,
            unchanged => unchanged,
        };

        self.expire(now);
        for (id, interest, ready) in ready {
            self.lively.insert(id);
            self.attend(id, interest, ready, now);
        }
        if mail.any() {
            self.read_mail(mailbox, now);
        }
        Ok(())
    }

    fn register<'a>(&'a self, set: &mut PollSet<'a>, all: bool) -> Vec<Polled> {
        let mut slots = Vec::new();
        let mut add = |id: LineId, line: &'a Line| {
            let interest = line.interest(self.is_stopping);
            slots.push(Polled { id, slot: set.add(line.stream.as_fd(), interest), interest });
        };
        match all {
            true => self.live.iter().for_each(|(&id, line)| add(id, line)),
            false => self
                .lively
                .iter()
                .filter_map(|id| self.live.get_key_value(id))
                .for_each(|(&id, line)| add(id, line)),
        }
        slots
    }

    fn read_mail(&mut self, mailbox: &Mailbox<SerialMail>, now: Instant) {
        for mail in mailbox.take() {
            match mail {
                SerialMail::Answered(answered) => self.answered(answered, now),
                SerialMail::Line(SerialEvent::Connected(line)) => self.open(line, now),
                SerialMail::Line(SerialEvent::Removed(line)) => {
                    self.close(line, "its VM has it no more", now);
                }
                SerialMail::Stop => self.stop(now),
                SerialMail::Abort => self.abort(now),
            }
        }
    }

    fn open(&mut self, line: ConnectedLine, now: Instant) {
        if self.is_stopping {
            return;
        }
        let ConnectedLine { id, stream, domain, path, on_lost } = line;
        if let Some(left_out) = self.notes.allow(now) {
            info!("{}: {domain}: connected to {}{}", self.name, path.display(), Suppressed(left_out));
        }
        let line = Line {
            stream: Stream::connected_by(stream),
            machine: GuestLine::default(),
            source: Source::Domain(domain.clone()),
            domain,
            path,
            on_lost,
            cancel: CancelToken::default(),
        };
        self.live.insert(id, line);
    }

    /// Attends to a line on which something happened of what was awaited.
    fn attend(&mut self, id: LineId, interest: Interest, ready: Readiness, now: Instant) {
        let Some(line) = self.live.get_mut(&id) else { return };
        if ready.read && matches!(interest, Interest::Write | Interest::HangUp) {
            // Nothing but a hang-up was awaited.
            return self.lose(id, "the VM's side hung up", now);
        }
        if ready.read {
            let mut buffer = [0; LINE_READ_MAX];
            match line.stream.read(&mut buffer) {
                Ok(Input::Bytes(count)) => line.machine.receive(&buffer[..count], count < buffer.len(), now),
                Ok(Input::Nothing) => line.machine.receive(&[], true, now),
                Ok(Input::End) => return self.lose(id, "the VM's side hung up", now),
                Err(error) => return self.lose(id, &error.to_string(), now),
            }
        }
        self.advance(id, now);
    }

    /// Gives up requests that stay incomplete.
    fn expire(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.timed) {
            if let Some(line) = self.live.get_mut(&id) {
                line.machine.expire(now);
            }
            self.advance(id, now);
        }
    }

    /// Writes what can be written, and posts the next request if it is its turn.
    fn advance(&mut self, id: LineId, now: Instant) {
        loop {
            let Some(line) = self.live.get_mut(&id) else { return };
            if let Err(error) = line.flush() {
                return self.lose(id, &error.to_string(), now);
            }
            let Some((request, received)) = line.machine.next_request() else { break };
            let identity = request.identity().requested_by(line.domain.uuid);
            let source = line.source.clone();
            let cancel = line.cancel.clone();
            let order = self.next_order;
            self.next_order += 1;
            let outcome =
                self.posting.post(Order { id: order, request, identity, source, received, cancel }, now);
            match outcome {
                Outcome::Posted => {
                    self.orders.insert(order, id);
                    break;
                }
                Outcome::Refused => line.machine.answer(&Verdict::Failure.into()),
                Outcome::Duplicate => line.machine.skip(),
            }
        }
        if self.live.get(&id).is_some_and(|line| line.machine.deadline().is_some()) {
            self.timed.insert(id);
        }
        self.end_if_done(id);
    }

    /// The worker's answer to an order.
    fn answered(&mut self, mut answered: Answered, now: Instant) {
        let Some(id) = self.orders.remove(&answered.request) else { return };
        if !self.has_room_for(&answered.answer, now) {
            answered.answer = Verdict::Failure.into();
        }
        // The guest first, it waits; the rest after it.
        let mut is_awaited = false;
        if let Some(line) = self.live.get_mut(&id) {
            is_awaited = true;
            line.machine.answer(&answered.answer);
        }
        self.advance(id, now);
        self.posting.answered(&answered, is_awaited, now);
    }

    /// Lists that nobody reads must not fill the memory, however many guests leave theirs.
    fn has_room_for(&mut self, answer: &Answer, now: Instant) -> bool {
        let Answer::HostList(entries) = answer else { return true };
        let unread: usize = self.live.values().map(|line| line.machine.output().len()).sum();
        let has_room = unread + entries.len() * RECORD_LEN <= UNREAD_MAX;
        if !has_room {
            let unread = unread >> 20;
            self.posting.journal.complain(
                Refusal::Crowded,
                None,
                now,
                format_args!("a list was refused: guests left {unread} MiB unread"),
            );
        }
        has_room
    }

    /// The line broke by itself: its VM may run on.
    fn lose(&mut self, id: LineId, reason: &str, now: Instant) {
        if let Some(line) = self.close(id, reason, now) {
            (line.on_lost)();
        }
    }

    fn close(&mut self, id: LineId, reason: &str, now: Instant) -> Option<Line> {
        let line = self.live.remove(&id)?;
        // A request of its that the worker has not begun will be dropped.
        line.cancel.cancel();
        if let Some(left_out) = self.notes.allow(now) {
            let (domain, path) = (&line.domain, line.path.display());
            info!("{}: {domain}: {path} is closed: {reason}{}", self.name, Suppressed(left_out));
        }
        Some(line)
    }

    /// The daemon stops: what the worker has is answered, nothing new is taken.
    fn stop(&mut self, now: Instant) {
        self.is_stopping = true;
        let ids: Vec<LineId> = self.live.keys().copied().collect();
        for id in ids {
            let Some(line) = self.live.get_mut(&id) else { continue };
            let dropped = line.machine.clear();
            if dropped > 0 {
                let source = &line.source;
                self.posting.journal.complain(
                    Refusal::Error,
                    Some(source),
                    now,
                    format_args!("{source}: {dropped} requests dropped, the daemon stops"),
                );
            }
            self.end_if_done(id);
        }
    }

    fn end_if_done(&mut self, id: LineId) {
        let is_done = |line: &Line| !line.machine.is_waiting() && line.machine.output().is_empty();
        if self.is_stopping && self.live.get(&id).is_some_and(is_done) {
            self.live.remove(&id);
        }
    }

    /// The grace is over: what is not answered has failed, and is not begun any more.
    fn abort(&mut self, now: Instant) {
        self.stop(now);
        for line in self.live.values_mut().filter(|line| line.machine.is_waiting()) {
            line.cancel.cancel();
            warn!("{}: {}: answered with failure, the daemon stops", self.name, line.source);
            line.machine.answer(&Verdict::Failure.into());
            // A guest that does not read has had its time.
            let _ = line.flush();
        }
        self.live.clear();
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
