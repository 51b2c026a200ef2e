//! How the daemon is, at one moment.

use std::time::Duration;

use fence_virt::fence::Operation;

/// How long a URI may not have answered before that is a problem.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The daemon's version.
    pub(crate) version: &'static str,
    /// Its process id.
    pub(crate) pid: u32,
    /// Since when it runs.
    pub(crate) uptime: Duration,
    /// The listeners, as they are configured.
    pub(crate) listeners: Vec<ListenerState>,
    /// Requests and events that wait for the worker, and how many may.
    pub(crate) queue: (usize, usize),
    /// For how long the worker has been in its present turn; none while it waits.
    pub(crate) busy: Option<Duration>,
    /// Whether that is within its bound.
    pub(crate) is_worker_well: bool,
    /// The libvirt URIs.
    pub(crate) uris: Vec<UriState>,
    /// The cluster, with the backend cpg.
    pub(crate) cluster: Option<ClusterState>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerState {
    pub(crate) name: String,
    /// Connections, or lines of VMs, that are open.
    pub(crate) open: usize,
    /// Operation, verdict, count.
    pub(crate) requests: Vec<(Operation, &'static str, u64)>,
    /// Reason, count.
    pub(crate) refusals: Vec<(&'static str, u64)>,
}

/// One libvirt URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UriState {
    pub(crate) uri: String,
    /// Why there is no connection.
    pub(crate) closed: Option<String>,
    /// How long ago it last answered; none if it never did.
    pub(crate) answered: Option<Duration>,
}

/// This host in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClusterState {
    /// Why it is not in the group.
    pub(crate) alone: Option<String>,
    /// How many members the group has.
    pub(crate) members: usize,
    /// Requests of clients and of other hosts that are under way.
    pub(crate) under_way: usize,
}

impl Snapshot {
    /// What is not as it should be, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.is_worker_well {
            let busy = self.busy.unwrap_or_default().as_secs();
            problems.push(format!("the worker has been in one call for {busy} s"));
        }
        if self.queue.0 >= self.queue.1 {
            problems.push("the worker's queue is full: requests fail".to_owned());
        }
        for uri in &self.uris {
            let (name, silence) = (&uri.uri, SILENCE.as_secs());
            match (&uri.closed, uri.answered) {
                (Some(reason), _) => problems.push(format!("{name}: {reason}")),
                (None, Some(ago)) if ago < SILENCE => {}
                (None, _) => problems.push(format!("{name} has not answered for {silence} s")),
            }
        }
        let alone = self.cluster.as_ref().and_then(|cluster| cluster.alone.as_ref());
        problems.extend(alone.map(|reason| format!("this host is not in the cluster's group: {reason}")));
        problems
    }
}
