//! The thread that has this daemon's membership in corosync's group. All that
//! can block with corosync is done here; nothing is decided.
//!
//! 1. It joins, again and again at growing intervals if corosync is not there.
//! 2. It reads what the group says and puts it into a channel for the worker,
//!    stamped with the time. If the worker does not fetch it, it reads no more.
//! 3. It sends what the worker posts, in that order. What corosync refuses for
//!    the moment is tried again.
//! 4. Once a second it asks corosync something, so that one that is frozen is
//!    noticed though nothing is sent.
//! 5. If it did not get to read for more than a second, frozen or held up, all
//!    that it then finds is marked: requests among it may be of any age.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use log::warn;

use crate::threads::join_by;
use crate::worker::Message;
use fence_virt::routing::{MembershipChange, Outgoing, Peer};
use fence_virt::sys::clock::since_boot;
use fence_virt::sys::corosync;
use fence_virt::sys::mailbox::{Address, mailbox};
use fence_virt::wire::cluster::{MESSAGE_LEN, NodeId};

use super::membership::Engine;
use super::thread::Group;

/// How long it may not have read before requests count as too old.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long it may not have turned before the group counts as silent.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How many batches may wait for the worker.
pub(super) const BATCHES: usize = 64;
/// How many messages of the worker may wait to be sent.
pub(super) const UNSENT_MAX: usize = 256;
/// With how few the worker is told that there is room.
pub(super) const UNSENT_LOW: usize = 64;

/// What the worker is told of the group.
#[derive(Debug)]
pub(crate) enum Tidings {
    Joined(Peer),
    Lost(String),
    Changed(MembershipChange),
    Votes {
        is_quorate: bool,
        nodes: Vec<NodeId>,
    },
    Message {
        from: Peer,
        bytes: Vec<u8>,
        at: Instant,
        is_old: bool,
    },
    /// A message of the worker had expired before corosync took it.
    Unsent([u8; MESSAGE_LEN]),
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    Send(Parcel),
    Stop,
}

/// A message of the worker.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) message: Outgoing,
    /// For the so-manieth group that was joined: it is for no other.
    pub(super) group: u64,
}

/// What thread and worker both look at.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) unsent: AtomicUsize,
    /// When the thread last turned, in milliseconds since the machine was started.
    pub(super) turned: AtomicU64,
    /// Until when it has read all, and given it to the worker.
    pub(super) caught_up: AtomicU64,
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
pub(crate) struct GroupLink {
    pub(super) orders: Address<Order>,
    pub(super) tidings: Receiver<Vec<Tidings>>,
    pub(super) shared: Arc<Shared>,
    /// How many times a group was joined, as far as the worker has heard.
    pub(super) groups: u64,
}

impl GroupLink {
    /// What was heard since, and is not fetched yet; an error if the thread is gone.
    pub(crate) fn fetch(&mut self) -> Result<Vec<Tidings>, String> {
        match self.tidings.try_recv() {
            Ok(batch) => {
                let joins = batch.iter().filter(|tidings| matches!(tidings, Tidings::Joined(_)));
                self.groups += joins.count() as u64;
                Ok(batch)
            }
            Err(TryRecvError::Empty) => Ok(Vec::new()),
            Err(TryRecvError::Disconnected) => Err("the thread of the group has ended".to_owned()),
        }
    }

    /// Whether there is something to fetch.
    pub(crate) fn has_tidings(&self) -> bool {
        !self.tidings.is_empty()
    }

    /// Whether the group may have said things that are not fetched yet.
    pub(crate) fn is_behind(&self) -> bool {
        let pause = now_millis().saturating_sub(self.shared.caught_up.load(Ordering::Acquire));
        !self.tidings.is_empty() || pause > millis(PAUSE_MAX)
    }

    /// Whether another message can be taken. If not, an event says when.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.unsent.load(Ordering::Acquire) < UNSENT_MAX
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: Outgoing) {
        self.shared.unsent.fetch_add(1, Ordering::AcqRel);
        // A thread that has ended is seen when the worker fetches.
        let _ = self.orders.post(Order::Send(Parcel { message, group: self.groups }));
    }

    /// Whether corosync does not answer: the thread hangs in a call.
    pub(crate) fn is_silent(&self) -> bool {
        now_millis().saturating_sub(self.shared.turned.load(Ordering::Acquire)) > millis(SILENCE_MAX)
    }
}

/// The outcome of the first attempt to join.
pub(crate) type First = Receiver<Result<(), String>>;

/// Starts the thread.
///
/// # Errors
///
/// If the system gives none.
pub(crate) fn start(
    engine: impl Engine,
    worker: &Sender<Message>,
) -> Result<(GroupThread, GroupLink, First), String> {
    let (orders, inbox) = mailbox().map_err(|error| format!("cannot make a mailbox: {error}"))?;
    let (sender, tidings) = bounded(BATCHES);
    let (first_sender, first) = bounded(1);
    let shared = Arc::new(Shared::default());
    let mut group = Group::new(inbox, worker.clone(), sender, shared.clone(), first_sender);
    let thread = thread::Builder::new()
        .name("cpg".into())
        .stack_size(corosync::STACK)
        .spawn(move || group.run(&engine))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let link = GroupLink { orders: orders.clone(), tidings, shared, groups: 0 };
    Ok((GroupThread { orders, thread }, link, first))
}

pub(super) fn now_millis() -> u64 {
    millis(since_boot())
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
