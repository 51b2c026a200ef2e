//! Messages to the worker: requests from the listeners, events from the connection
//! managers, watchers and the cluster, and control from the main thread.
#![forbid(unsafe_code)]

use crossbeam_channel::Sender;

use crate::access::Permissions;
use crate::job::Job;
use crate::libvirt::{CallId, CallOutcome};
use fence_virt::arbiter::OperationId;
use fence_virt::config::HostFencing;
use fence_virt::fence::{Target, UriIndex, Uuid};
use fence_virt::routing::{LocalVm, Rules};
use fence_virt::time::Instant;

/// Capacity of the worker's inbox in messages, all senders together. A listener
/// whose request finds it full answers failure at once.
pub(crate) const INBOX_MAX: usize = 512;

/// A message to the worker.
#[derive(Debug)]
pub(crate) enum Message {
    /// A request from a listener.
    Job(Job),
    /// An event for the backend.
    Event(Event),
    /// Settings after a reload; they replace those in force.
    Settings(BackendSettings),
    /// Question of the main thread if this host, or its cluster, has such a VM now.
    Knows {
        target: Target,
        /// Takes one reply.
        reply: Sender<Result<bool, String>>,
    },
    /// The listeners have ended: finish what is pending, then end.
    Stop,
}

/// Settings of a backend that a reload changes.
#[derive(Debug)]
pub(crate) struct BackendSettings {
    pub(crate) permissions: Permissions,
    /// Those of the backend cpg.
    pub(crate) cluster: Option<ClusterSettings>,
}

/// Settings of the backend cpg that a reload changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClusterSettings {
    pub(crate) rules: Rules,
    pub(crate) host_fencing: HostFencing,
}

/// An event for the backend.
#[derive(Debug)]
pub(crate) enum Event {
    /// Result of a probe that the backend asked a connection manager for.
    Probed {
        uri: UriIndex,
        /// Error text if the URI does not answer.
        outcome: Result<(), String>,
    },
    /// Outcome of a call that a lane has made.
    CallEnded { uri: UriIndex, call: CallId, outcome: CallOutcome },
    /// Reply of a listener about the requester of an operation: the time at which it
    /// lived, or none without a sign of life.
    SignOfLife { operation: OperationId, lived: Option<Instant> },
    /// Change in the domains of a URI, as its watcher saw it.
    Domains { uri: UriIndex, change: DomainChange },
    /// The cpg thread has queued group events.
    Cluster,
}

/// Change in the domains of a URI.
#[derive(Debug, Clone)]
pub(crate) enum DomainChange {
    /// Complete list.
    All(Vec<LocalVm>),
    /// A domain that is new or has changed.
    One(LocalVm),
    /// A domain that no longer exists.
    Gone(Uuid),
    /// The URI does not answer: its domains are unknown until the next complete list.
    Lost,
}
