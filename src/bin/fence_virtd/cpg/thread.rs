//! What the thread does: joins, reads, sends, and again.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use log::{info, warn};

use super::link::{Order, PAUSE_MAX, Shared, Tidings, UNSENT_LOW, now_millis};
use super::membership::{Engine, Seat};
use crate::backend::Event;
use crate::worker::Message;
use fence_virt::routing::{Departure, MembershipChange, Outgoing, Peer};
use fence_virt::sys::clock::since_boot;
use fence_virt::sys::corosync::{self, Change, Error, Heard};
use fence_virt::sys::mailbox::Mailbox;
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::wire::cluster::{GROUP, MESSAGE_LEN, NodeId};

/// How often it looks though nothing happens.
const TICK: Duration = Duration::from_millis(250);
/// How soon it tries again what corosync or the worker did not take.
const AGAIN: Duration = Duration::from_millis(2);
/// The first and the longest interval between attempts to join.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How much is read at a time.
const BATCH: usize = 256;
/// How often corosync is asked something.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long what is still to be sent may take when the daemon stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The thread's own.
pub(super) struct Group {
    inbox: Mailbox<Order>,
    worker: Sender<Message>,
    sender: Sender<Vec<Tidings>>,
    shared: Arc<Shared>,
    first: Option<Sender<Result<(), String>>>,
    unsent: VecDeque<Outgoing>,
    /// How many times a group was joined.
    groups: u64,
    /// What the worker has not taken yet.
    untold: Vec<Tidings>,
    is_stopped: bool,
}

impl Group {
    pub(super) fn new(
        inbox: Mailbox<Order>,
        worker: Sender<Message>,
        sender: Sender<Vec<Tidings>>,
        shared: Arc<Shared>,
        first: Sender<Result<(), String>>,
    ) -> Group {
        Group {
            inbox,
            worker,
            sender,
            shared,
            first: Some(first),
            unsent: VecDeque::new(),
            groups: 0,
            untold: Vec::new(),
            is_stopped: false,
        }
    }

    pub(super) fn run(&mut self, engine: &impl Engine) {
        let mut backoff = BACKOFF.0;
        let mut last_reason = None;
        while !self.is_stopped {
            let joined = engine.join();
            if let Some(first) = self.first.take() {
                // Nobody waits for it with wait_for_init.
                let _ = first.send(joined.as_ref().map(|_| ()).map_err(Error::to_string));
            }
            let since = Instant::now();
            let error = match joined {
                Ok(seat) => {
                    info!("cpg: joined the group {GROUP} as node {}", seat.peer().node);
                    last_reason = None;
                    match self.keep(seat) {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if last_reason != Some(error) {
                warn!("cpg: {error}: requests fail until it is back");
                last_reason = Some(error);
            }
            self.forget_unsent();
            self.untold.push(Tidings::Lost(error.to_string()));
            // One that is lost at once is not joined again at once.
            if since.elapsed() >= BACKOFF.1 {
                backoff = BACKOFF.0;
            }
            self.rest(backoff);
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// What was to be sent was for a group that is lost.
    fn forget_unsent(&mut self) {
        self.shared.unsent.fetch_sub(self.unsent.len(), Ordering::AcqRel);
        self.unsent.clear();
    }

    /// Waits before the next attempt to join.
    fn rest(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.is_stopped && Instant::now() < until {
            self.tell();
            let mut set = PollSet::new();
            set.add(self.inbox.as_fd(), Interest::Read);
            let left = until.saturating_duration_since(Instant::now()).min(TICK);
            // Without poll there is nothing to wait with; the next turn tries again.
            let _ = set.wait(Some(left));
            self.take_orders();
            self.forget_unsent();
            self.turned();
        }
    }

    fn turned(&self) {
        self.shared.turned.store(now_millis(), Ordering::Release);
    }

    /// Reads and sends until corosync is lost; `Ok` if it was told to stop.
    fn keep(&mut self, mut seat: impl Seat) -> Result<(), Error> {
        self.groups += 1;
        self.untold.push(Tidings::Joined(seat.peer()));
        let mut read_at = since_boot();
        let mut asked_at = read_at;
        let mut is_old = false;
        loop {
            self.turned();
            self.wait(&seat);
            self.take_orders();
            if self.is_stopped {
                self.send_last(&mut seat);
                seat.leave();
                return Ok(());
            }
            let began = now_millis();
            let mut has_all = false;
            if self.untold.is_empty() {
                is_old |= since_boot().saturating_sub(read_at) > PAUSE_MAX;
                let mut heard = Vec::new();
                let is_all = seat.dispatch(BATCH, &mut heard);
                read_at = since_boot();
                let at = Instant::now();
                self.untold.extend(heard.into_iter().map(|heard| tidings(heard, at, is_old)));
                has_all = is_all?;
                is_old &= !has_all;
            }
            self.tell();
            if has_all && self.untold.is_empty() {
                self.shared.caught_up.store(began, Ordering::Release);
            }
            self.send(&mut seat)?;
            if since_boot().saturating_sub(asked_at) > ASK_EVERY {
                asked_at = since_boot();
                seat.await_answer()
                    .or_else(|error| if error.is_temporary() { Ok(()) } else { Err(error) })?;
            }
        }
    }

    /// Sends what is there, as far as corosync takes it in time.
    fn send_last(&mut self, seat: &mut impl Seat) {
        let until = Instant::now() + LAST_WORDS;
        while !self.unsent.is_empty() && Instant::now() < until {
            if let Err(error) = self.send(seat) {
                return warn!("cpg: {error}: answers to other nodes are lost");
            }
            self.wait(seat);
        }
    }

    fn wait(&self, seat: &impl Seat) {
        let mut set = PollSet::new();
        set.add(self.inbox.as_fd(), Interest::Read);
        if self.untold.is_empty() {
            for fd in seat.fds() {
                set.add(fd, Interest::Read);
            }
        }
        let is_pending = !self.untold.is_empty() || !self.unsent.is_empty();
        // Without poll it turns anyway.
        let _ = set.wait(Some(if is_pending { AGAIN } else { TICK }));
    }

    fn take_orders(&mut self) {
        for order in self.inbox.take() {
            match order {
                Order::Send(parcel) if parcel.group == self.groups => self.unsent.push_back(parcel.message),
                Order::Send(_) => drop(self.shared.unsent.fetch_sub(1, Ordering::AcqRel)),
                Order::Stop => self.is_stopped = true,
            }
        }
    }

    /// Gives the worker what was heard, if it has room, and wakes it.
    fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        match self.sender.try_send(std::mem::take(&mut self.untold)) {
            Ok(()) => self.wake(),
            Err(TrySendError::Full(untold) | TrySendError::Disconnected(untold)) => self.untold = untold,
        }
    }

    fn wake(&self) {
        // With a full inbox the worker is awake, and looks at every turn.
        let _ = self.worker.try_send(Message::Event(Event::Cluster));
    }

    fn send(&mut self, seat: &mut impl Seat) -> Result<(), Error> {
        let mut sent = 0;
        let outcome = loop {
            let Some(message) = self.unsent.front() else { break Ok(()) };
            let has_expired = message.expires.is_some_and(|at| Instant::now() >= at);
            if has_expired {
                self.untold.push(Tidings::Unsent(message.bytes));
            }
            match if has_expired { Ok(()) } else { seat.send(&message.bytes) } {
                Ok(()) => {
                    self.unsent.pop_front();
                    sent += 1;
                }
                Err(error) if error.is_temporary() => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let before = self.shared.unsent.fetch_sub(sent, Ordering::AcqRel);
        if before >= UNSENT_LOW && before - sent < UNSENT_LOW {
            self.wake();
        }
        outcome
    }
}

// A message of which only a part is kept is none.
const _: () = assert!(corosync::KEPT > MESSAGE_LEN);

fn tidings(heard: Heard, at: Instant, is_old: bool) -> Tidings {
    match heard {
        Heard::Message { node, pid, bytes, .. } => {
            Tidings::Message { from: Peer { node: NodeId(node), pid }, bytes, at, is_old }
        }
        Heard::Changed(change) => Tidings::Changed(membership(change)),
        Heard::Quorum { is_quorate, nodes } => {
            Tidings::Votes { is_quorate, nodes: nodes.into_iter().map(NodeId).collect() }
        }
    }
}

fn membership(change: Change) -> MembershipChange {
    let peer = |(node, pid)| Peer { node: NodeId(node), pid };
    let how = |how| match how {
        corosync::Departure::Process => Departure::Process,
        corosync::Departure::Node => Departure::Node,
    };
    MembershipChange {
        members: change.members.into_iter().map(peer).collect(),
        left: change.left.into_iter().map(|(node, pid, left)| (peer((node, pid)), how(left))).collect(),
        joined: change.joined.into_iter().map(peer).collect(),
    }
}
