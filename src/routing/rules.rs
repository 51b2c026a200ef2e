//! Rules that the administrator has stated.

use std::time::Duration;

use super::copy_record::Presence;
use super::vocabulary::Names;
use crate::fence::{Operation, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// State of a VM that was never seen on any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Unknown; every operation fails.
    Fail,
    /// Off, the rule of the C daemon.
    Off,
}

/// Rules from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Identifiers by which VMs can be requested.
    pub names: Names,
    /// Time after its loss from a quorate cluster in which a host is certainly off; none if not stated.
    pub host_fence_delay: Option<Duration>,
    /// State of a VM that was never seen.
    pub unknown: Unknown,
}

/// Judgement on a VM that no member has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Off, for this reason.
    Off(String),
    /// Possibly running, for this reason.
    Doubt(String),
}

impl Judgement {
    /// Returns the answer to a request for the VM.
    pub(super) fn answer(self, operation: Operation) -> (Verdict, String) {
        match (self, operation) {
            (Judgement::Doubt(reason), _) => (Verdict::Failure, reason),
            (Judgement::Off(reason), Operation::Off | Operation::Reboot) => (Verdict::Success, reason),
            (Judgement::Off(reason), Operation::Status) => (Verdict::Off, reason),
            (Judgement::Off(reason), _) => (Verdict::Failure, format!("{reason}, and no host has it")),
        }
    }
}

impl Rules {
    /// Judges a VM that was never seen.
    pub(super) fn never_seen(&self) -> Judgement {
        self.unknown("no host of the cluster knows the VM".to_owned())
    }

    fn unknown(&self, reason: String) -> Judgement {
        match self.unknown {
            Unknown::Off => Judgement::Off(format!("{reason}: it counts as off (unknown_vm)")),
            Unknown::Fail => Judgement::Doubt(reason),
        }
    }

    /// Returns the reason why a VM that no member is seen to run does not count as off.
    pub(super) fn unseen(&self, lacks_quorum: bool) -> Option<String> {
        let reason = "the VM is off here, but there is no quorum: it may run in another partition";
        (lacks_quorum && self.unknown == Unknown::Fail).then(|| reason.to_owned())
    }

    /// Judges a VM, or a copy of it, that was last seen on a node that is no longer a member. `is_fenced`
    /// tells that the hosts' own cluster has fenced that node since.
    pub(super) fn departed(
        &self,
        node: NodeId,
        presence: Presence,
        is_fenced: bool,
        quorate_since: Option<Instant>,
        now: Instant,
    ) -> Judgement {
        if presence == Presence::Vanished {
            let reason = format!("the VM ran on node {node} and is no longer there, perhaps on another host");
            return self.unknown(reason);
        }
        let seen = format!("the VM was last seen on node {node}");
        let Presence::Lost { at, is_confirmed } = presence else {
            return Judgement::Doubt(format!("{seen}, whose daemon has left the group: it may run there"));
        };
        let seen = format!("{seen}, which");
        let Some(since) = quorate_since else {
            return self.unknown(format!("{seen} is lost, and there is no quorum"));
        };
        if !is_confirmed {
            let reason = format!("{seen} is being lost: the quorum service has not confirmed that yet");
            return Judgement::Doubt(reason);
        }
        if is_fenced {
            return Judgement::Off(format!("{seen} was fenced since: it counts as off (host_fencing)"));
        }
        let Some(delay) = self.host_fence_delay else {
            let reason =
                format!("{seen} is lost: it may run there (no fence is known, host_fence_delay is not set)");
            return Judgement::Doubt(reason);
        };
        let gone = now.saturating_duration_since(at.max(since));
        let seen = format!("{seen} was lost {} s ago: it counts as off", gone.as_secs());
        match gone < delay {
            true => Judgement::Doubt(format!("{seen} after {} s (host_fence_delay)", delay.as_secs())),
            false => Judgement::Off(format!("{seen} (host_fence_delay)")),
        }
    }
}
