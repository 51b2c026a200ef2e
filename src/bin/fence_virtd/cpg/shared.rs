//! Data that the worker and the cpg thread exchange.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use fence_virt::routing::{Membership, Outgoing, Peer, RequestExpiry};
use fence_virt::time::{Instant, millis};
use fence_virt::wire::cluster::NodeId;

/// Capacity of the event channel to the worker, in batches.
pub(super) const BATCHES_MAX: usize = 64;
/// Messages of the worker that may wait to be sent.
pub(super) const UNSENT_MAX: usize = 256;
/// Unsent messages at which the worker is woken because there is room again.
pub(super) const UNSENT_LOW: usize = 64;

/// An event of the group, in the group's order.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    Joined(Peer),
    Lost(String),
    Changed(Membership),
    Quorum {
        is_quorate: bool,
        nodes: Vec<NodeId>,
    },
    /// Nodes that corosync's nodelist names; none if that is not known.
    Configured(Option<Vec<NodeId>>),
    Message {
        from: Peer,
        bytes: Vec<u8>,
        at: Instant,
        /// True if the message may have waited for any length of time.
        is_old: bool,
    },
    /// A message of the worker expired before corosync took it.
    Unsent(RequestExpiry),
}

/// Number of joins of the group; a message for an earlier generation is dropped after a rejoin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct JoinGeneration(pub(super) u64);

/// A command to the cpg thread.
#[derive(Debug)]
pub(super) enum CpgCommand {
    Send(Outbound),
    Stop,
}

/// A message of the worker.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) message: Outgoing,
    pub(super) generation: JoinGeneration,
}

/// Progress of both sides, readable without a lock.
#[derive(Debug, Default)]
pub(super) struct ThreadProgress {
    /// Messages that are not sent yet.
    pub(super) unsent: AtomicUsize,
    /// Last turn of the thread, in milliseconds since boot.
    pub(super) turned: AtomicU64,
    /// Time up to which everything was read and handed to the worker, in milliseconds since boot.
    pub(super) caught_up: AtomicU64,
}

/// Milliseconds since boot.
pub(super) fn now_millis() -> u64 {
    millis(Instant::now().since_boot())
}
