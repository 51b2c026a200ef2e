//! The thread that has this daemon's membership in corosync's group. All that
//! can block with corosync is done here; nothing is decided.
//!
//! 1. It joins, again and again at growing intervals if corosync is not there.
//! 2. It reads what the group says and puts it into a channel for the worker,
//!    stamped with the time. If the worker does not fetch it, it reads no more.
//! 3. It sends what the worker posts, in that order. What corosync refuses for
//!    the moment is tried again.
//! 4. If it did not get to read for more than a second, frozen or held up, all
//!    that it then finds is marked: requests among it may be of any age.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use log::{info, warn};

use super::backend::Event;
use super::threads::join_by;
use super::worker::Message;
use crate::routing::{Departure, Membership, Peer};
use crate::sys::clock::since_boot;
use crate::sys::corosync::{self, Change, Error, Heard, Libraries, Member};
use crate::sys::mailbox::{Address, Mailbox, mailbox};
use crate::sys::poll::{Interest, PollSet};
use crate::wire::cluster::{GROUP, MESSAGE_LEN};

/// How often it looks though nothing happens.
const TICK: Duration = Duration::from_millis(250);
/// How soon it tries again what corosync or the worker did not take.
const AGAIN: Duration = Duration::from_millis(2);
/// How long it may not have read before requests count as too old.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long it may not have turned before the group counts as silent.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// The first and the longest interval between attempts to join.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How much is read at a time.
const BATCH: usize = 256;
/// How many batches may wait for the worker.
const BATCHES: usize = 64;
/// How many messages of the worker may wait to be sent.
const UNSENT_MAX: usize = 256;
/// With how few the worker is told that there is room.
const UNSENT_LOW: usize = 64;

/// What the worker is told of the group.
#[derive(Debug)]
pub(crate) enum Tidings {
    Joined(Peer),
    Lost(String),
    Changed(Membership),
    Votes { is_quorate: bool, nodes: Vec<u32> },
    Message { from: Peer, bytes: Vec<u8>, at: Instant, is_old: bool },
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Send([u8; MESSAGE_LEN]),
    Stop,
}

/// What thread and worker both look at.
#[derive(Debug, Default)]
struct Shared {
    unsent: AtomicUsize,
    /// When the thread last turned, in milliseconds since the machine was started.
    turned: AtomicU64,
    /// Until when it has read all, and given it to the worker.
    caught_up: AtomicU64,
}

/// The thread, as the main one holds it.
pub(crate) struct GroupThread {
    orders: Address<Order>,
    thread: JoinHandle<()>,
}

impl GroupThread {
    /// Has it leave the group and end, and waits for that until `deadline`.
    /// One that hangs with its corosync is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        if self.orders.post(Order::Stop).is_ok() && !join_by(self.thread, deadline) {
            warn!("cpg: corosync does not answer: ending without it");
        }
    }
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct GroupLink {
    orders: Address<Order>,
    tidings: Receiver<Vec<Tidings>>,
    shared: Arc<Shared>,
}

impl GroupLink {
    /// What was heard since, and is not fetched yet; an error if the thread is gone.
    pub(super) fn fetch(&self) -> Result<Vec<Tidings>, String> {
        match self.tidings.try_recv() {
            Ok(batch) => Ok(batch),
            Err(TryRecvError::Empty) => Ok(Vec::new()),
            Err(TryRecvError::Disconnected) => Err("the thread of the group has ended".to_owned()),
        }
    }

    /// Whether there is something to fetch.
    pub(super) fn has_tidings(&self) -> bool {
        !self.tidings.is_empty()
    }

    /// Whether the group may have said things that are not fetched yet.
    pub(super) fn is_behind(&self) -> bool {
        let pause = now_millis().saturating_sub(self.shared.caught_up.load(Ordering::Acquire));
        !self.tidings.is_empty() || pause > millis(PAUSE_MAX)
    }

    /// Whether another message can be taken. If not, an event says when.
    pub(super) fn has_room(&self) -> bool {
        self.shared.unsent.load(Ordering::Acquire) < UNSENT_MAX
    }

    /// Sends a message.
    pub(super) fn send(&self, message: [u8; MESSAGE_LEN]) {
        self.shared.unsent.fetch_add(1, Ordering::AcqRel);
        // A thread that has ended is seen when the worker fetches.
        let _ = self.orders.post(Order::Send(message));
    }

    /// Whether corosync does not answer: the thread hangs in a call.
    pub(super) fn is_silent(&self) -> bool {
        now_millis().saturating_sub(self.shared.turned.load(Ordering::Acquire)) > millis(SILENCE_MAX)
    }
}

/// The outcome of the first attempt to join.
pub(super) type First = Receiver<Result<(), String>>;

/// Starts the thread.
///
/// # Errors
///
/// If the system gives none.
pub(super) fn start(
    libraries: Libraries,
    worker: &Sender<Message>,
) -> Result<(GroupThread, GroupLink, First), String> {
    let (orders, inbox) = mailbox().map_err(|error| format!("cannot make a mailbox: {error}"))?;
    let (sender, tidings) = bounded(BATCHES);
    let (first_sender, first) = bounded(1);
    let shared = Arc::new(Shared::default());
    let mut group = Group {
        libraries,
        inbox,
        worker: worker.clone(),
        sender,
        shared: shared.clone(),
        first: Some(first_sender),
        unsent: VecDeque::new(),
        untold: Vec::new(),
        is_stopped: false,
    };
    let thread = thread::Builder::new()
        .name("cpg".into())
        .stack_size(corosync::STACK)
        .spawn(move || group.run())
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let link = GroupLink { orders: orders.clone(), tidings, shared };
    Ok((GroupThread { orders, thread }, link, first))
}

/// The thread's own.
struct Group {
    libraries: Libraries,
    inbox: Mailbox<Order>,
    worker: Sender<Message>,
    sender: Sender<Vec<Tidings>>,
    shared: Arc<Shared>,
    first: Option<Sender<Result<(), String>>>,
    unsent: VecDeque<[u8; MESSAGE_LEN]>,
    /// What the worker has not taken yet.
    untold: Vec<Tidings>,
    is_stopped: bool,
}

impl Group {
    fn run(&mut self) {
        let mut backoff = BACKOFF.0;
        let mut last_reason = None;
        while !self.is_stopped {
            let joined = Member::join(&self.libraries, GROUP);
            if let Some(first) = self.first.take() {
                // Nobody waits for it with wait_for_init.
                let _ = first.send(joined.as_ref().map(|_| ()).map_err(Error::to_string));
            }
            let since = Instant::now();
            let error = match joined {
                Ok(member) => {
                    info!("cpg: joined the group {GROUP} as node {}", member.node());
                    last_reason = None;
                    match self.keep(member) {
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
    fn keep(&mut self, mut member: Member) -> Result<(), Error> {
        self.untold.push(Tidings::Joined(Peer { node: member.node(), pid: member.pid() }));
        let mut read_at = since_boot();
        let mut is_old = false;
        loop {
            self.turned();
            self.wait(&member);
            self.take_orders();
            if self.is_stopped {
                member.leave(GROUP);
                return Ok(());
            }
            let began = now_millis();
            let mut has_all = false;
            if self.untold.is_empty() {
                is_old |= since_boot().saturating_sub(read_at) > PAUSE_MAX;
                let mut heard = Vec::new();
                let is_all = member.dispatch(BATCH, &mut heard);
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
            self.send(&mut member)?;
        }
    }

    fn wait(&self, member: &Member) {
        let mut set = PollSet::new();
        set.add(self.inbox.as_fd(), Interest::Read);
        if self.untold.is_empty() {
            for fd in member.fds() {
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
                Order::Send(message) => self.unsent.push_back(message),
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

    fn send(&mut self, member: &mut Member) -> Result<(), Error> {
        let mut sent = 0;
        let outcome = loop {
            let Some(message) = self.unsent.front() else { break Ok(()) };
            match member.send(message) {
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

fn tidings(heard: Heard, at: Instant, is_old: bool) -> Tidings {
    match heard {
        Heard::Message { node, pid, mut bytes, length } => {
            if length != bytes.len() {
                // Too long to be one of ours, and only its beginning is kept.
                bytes.truncate(0);
            }
            Tidings::Message { from: Peer { node, pid }, bytes, at, is_old }
        }
        Heard::Changed(change) => Tidings::Changed(membership(change)),
        Heard::Quorum { is_quorate, nodes } => Tidings::Votes { is_quorate, nodes },
    }
}

fn membership(change: Change) -> Membership {
    let peer = |(node, pid)| Peer { node, pid };
    let how = |how| match how {
        corosync::Departure::Process => Departure::Process,
        corosync::Departure::Node => Departure::Node,
    };
    Membership {
        members: change.members.into_iter().map(peer).collect(),
        left: change.left.into_iter().map(|(node, pid, left)| (peer((node, pid)), how(left))).collect(),
        joined: change.joined.into_iter().map(peer).collect(),
    }
}

fn now_millis() -> u64 {
    millis(since_boot())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
