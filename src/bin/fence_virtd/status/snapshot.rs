//! State of the daemon at one moment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::place::ListeningPlace;
use super::reception::ReceptionState;
use crate::restraints::RestraintReport;
use fence_virt::auth::KeyId;
use fence_virt::fence::Operation;
use fence_virt::power_log::PowerRecord;
use fence_virt::time::Instant;

/// State of the daemon at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Version of the daemon.
    pub(crate) version: &'static str,
    /// Process id of the daemon.
    pub(crate) pid: u32,
    /// Time since the start.
    pub(crate) uptime: Duration,
    /// Configuration, with an absolute path.
    pub(crate) config: PathBuf,
    /// Last reload, if it was refused.
    pub(crate) refused_reload: Option<RefusedReload>,
    /// Listeners in the order of the configuration.
    pub(crate) listeners: Vec<ListenerState>,
    /// Keys of VMs in force.
    pub(crate) vm_keys: usize,
    /// Queue of the worker.
    pub(crate) queue: QueueState,
    /// Duration of the worker's current turn; none while it is idle.
    pub(crate) busy_for: Option<Duration>,
    /// True unless that turn takes too long.
    pub(crate) is_worker_healthy: bool,
    /// The libvirt URIs.
    pub(crate) uris: Vec<UriState>,
    /// The cluster, with the backend cpg.
    pub(crate) cluster: Option<ClusterState>,
    /// Holds and caps.
    pub(crate) restraints: RestraintReport,
    /// Last power operations, oldest first.
    pub(crate) last_operations: Vec<Arc<PowerRecord>>,
}

/// Queue of the worker, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueState {
    pub(crate) len: usize,
    pub(crate) max: usize,
}

/// State of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerState {
    pub(crate) name: String,
    pub(crate) place: ListeningPlace,
    pub(crate) reception: ReceptionState,
    /// Keys in force; none if the listener needs no key.
    pub(crate) keys: Option<KeyNames>,
    /// Open connections, or open lines of VMs.
    pub(crate) open: usize,
    pub(crate) requests: Vec<RequestCount>,
    pub(crate) refusals: Vec<RefusalCount>,
    /// Questions of agents that probe for late answers.
    pub(crate) probes: u64,
    /// Answered requests of version 1 of the protocol.
    pub(crate) version_1: u64,
}

/// Fingerprints of a listener's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyNames {
    pub(crate) key: KeyId,
    /// `old_key_file`, if it is set.
    pub(crate) old: Option<KeyId>,
}

/// Reload that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedReload {
    pub(crate) reason: String,
    pub(crate) at: Instant,
}

/// Number of requests with one operation and one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestCount {
    pub(crate) operation: Operation,
    pub(crate) verdict: &'static str,
    pub(crate) count: u64,
}

/// Number of refusals for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusalCount {
    pub(crate) reason: &'static str,
    pub(crate) count: u64,
    /// Those since the last request that was carried out.
    pub(crate) streak: Option<Streak>,
}

/// Refusals for one reason since the last request that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streak {
    pub(crate) count: u64,
    /// Time since the first one.
    pub(crate) began: Duration,
    /// Time since the last one.
    pub(crate) ended: Duration,
}

/// State of one place of VMs: a libvirt URI, or a fence agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UriState {
    /// URI, or name of the agent's place.
    pub(crate) uri: String,
    pub(crate) is_agent: bool,
    /// Reason why requests pass the place by; none while it answers.
    pub(crate) obstacle: Option<String>,
    /// Time since the last reply; none if there never was one.
    pub(crate) answered: Option<Duration>,
    pub(crate) lanes: LaneReport,
}

/// Use of the lanes of one place: the threads that make the calls which may take long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LaneReport {
    /// Lanes with a call in progress.
    pub(crate) busy: usize,
    /// Maximum of lanes.
    pub(crate) max: usize,
    /// Calls that wait for a lane.
    pub(crate) queued: usize,
    pub(crate) oldest: Option<OldestCall>,
}

/// Call that has been in progress for the longest time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OldestCall {
    /// Name of the call, and of its VM if it has one.
    pub(crate) label: String,
    pub(crate) began: Instant,
}

/// This host's place in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClusterState {
    /// Reason for not being in the group.
    pub(crate) alone: Option<String>,
    /// Number of members of the group.
    pub(crate) members: usize,
    /// Requests of clients and of other hosts in flight.
    pub(crate) under_way: usize,
    pub(crate) fencing: HostFencingState,
}

/// Sources of knowledge about lost hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct HostFencingState {
    /// None with `host_fencing = "none"`.
    pub(crate) fencer: Option<FencerState>,
    /// `host_fence_delay`, if it is set.
    pub(crate) delay: Option<Duration>,
}

impl HostFencingState {
    /// Returns true if pacemaker's fencer answers; none if it is not asked.
    pub(crate) fn is_connected(&self) -> Option<bool> {
        self.fencer.as_ref().map(|fencer| matches!(fencer, FencerState::Connected(_)))
    }
}

/// State of pacemaker's fencer on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum FencerState {
    /// No attempt to connect has ended yet.
    #[default]
    Unknown,
    /// It has never answered, for this reason.
    Absent(String),
    /// It answers; the name of its library.
    Connected(String),
    /// It has answered, and does not any more.
    Lost(String),
}
