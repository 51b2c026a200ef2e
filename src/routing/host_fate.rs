//! What it means for a VM that its host is not in the group.

use super::rules::Rules;
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// Where a host is, as far as the group and the quorum service tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostPresence {
    /// In the cluster; `left_at` is the time at which its daemon left the group.
    Up { left_at: Option<Instant> },
    /// Out of the cluster, since its corosync was stopped in order.
    Stopped { at: Instant },
    /// Out of the cluster for another reason.
    Lost {
        at: Instant,
        /// The quorum service has lost the node too.
        is_confirmed: bool,
    },
}

/// Answer to whether a host that is not in the group may run a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostFate {
    /// It is off, for this reason.
    Off(String),
    /// It may run VMs, for this reason.
    MayRun(String, Passes),
    /// It may run VMs, for this reason, which is that there is no quorum.
    NoQuorum(String),
}

/// End of a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Passes {
    /// Nothing that this daemon awaits ends it.
    Never,
    /// An event may end it soon.
    Soon,
    /// It ends at this time, unless something happens before.
    At(Instant),
}

fn fenced(node: NodeId) -> String {
    format!("node {node}, which the cluster has fenced: it counts as off")
}

impl HostPresence {
    /// Returns what the standing of this node means for a VM that was last seen there.
    pub(super) fn fate(
        self,
        node: NodeId,
        is_fenced: bool,
        awaits_fencing: bool,
        quorate_since: Option<Instant>,
        rules: &Rules,
        now: Instant,
    ) -> HostFate {
        let (at, is_confirmed) = match self {
            HostPresence::Up { left_at } => {
                let daemon = if left_at.is_some() { "has left" } else { "is not in" };
                let reason = format!("node {node}, whose daemon {daemon} the group: it may run there");
                return HostFate::MayRun(reason, Passes::Never);
            }
            HostPresence::Stopped { .. } if is_fenced && quorate_since.is_some() => {
                return HostFate::Off(fenced(node));
            }
            HostPresence::Stopped { .. } => {
                let reason = format!("node {node}, whose corosync was stopped: it may run there");
                return HostFate::MayRun(reason, Passes::Never);
            }
            HostPresence::Lost { at, is_confirmed } => (at, is_confirmed),
        };
        if !is_confirmed {
            let reason =
                format!("node {node}, which is being lost: the quorum service has not confirmed that yet");
            return HostFate::MayRun(reason, Passes::Soon);
        }
        let Some(since) = quorate_since else {
            return HostFate::NoQuorum(format!("node {node}, which is lost, and there is no quorum"));
        };
        if is_fenced {
            return HostFate::Off(fenced(node));
        }
        let Some(delay) = rules.host_fence_delay else {
            let reason = format!(
                "node {node}, which is lost: it may run there (no fence is known, host_fence_delay is not set)"
            );
            return HostFate::MayRun(reason, if awaits_fencing { Passes::Soon } else { Passes::Never });
        };
        let from = at.max(since);
        let gone = now.saturating_duration_since(from);
        let seen = format!("node {node}, which was lost {} s ago: it counts as off", gone.as_secs());
        match gone < delay {
            true => {
                let reason = format!("{seen} after {} s (host_fence_delay)", delay.as_secs());
                HostFate::MayRun(reason, Passes::At(from + delay))
            }
            false => HostFate::Off(format!("{seen} (host_fence_delay)")),
        }
    }
}
