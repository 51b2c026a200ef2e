//! Rules that the administrator has stated.

use std::time::{Duration, Instant};

use super::copy_record::Presence;
use super::vocabulary::Names;
use crate::fence::{Operation, Verdict};
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
    /// It counts as off, for this reason.
    Off(String),
    /// It may run, for this reason.
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
        match self.unknown {
            Unknown::Off => {
                Judgement::Off("no host knows it, which counts as off here (unknown_vm)".to_owned())
            }
            Unknown::Fail => Judgement::Doubt("no host of the cluster knows it".to_owned()),
        }
    }

    /// Returns the reason why a VM that no member is seen to run does not count as off.
    pub(super) fn unseen(&self, lacks_quorum: bool) -> Option<String> {
        let reason = "it is off here, but there is no quorum: it may run on the other side of a cut";
        (lacks_quorum && self.unknown == Unknown::Fail).then(|| reason.to_owned())
    }

    /// Judges a VM, or a copy of it, that was last seen on a node that is no longer a member.
    pub(super) fn departed(
        &self,
        node: NodeId,
        presence: Presence,
        quorate_since: Option<Instant>,
        now: Instant,
    ) -> Judgement {
        if presence == Presence::Vanished {
            return match self.unknown {
                Unknown::Off => Judgement::Off(format!(
                    "it is gone from node {node}, which counts as off here (unknown_vm)"
                )),
                Unknown::Fail => Judgement::Doubt(format!(
                    "it ran on node {node} and is gone from there, perhaps to another host"
                )),
            };
        }
        let Presence::Lost { at, is_confirmed } = presence else {
            return Judgement::Doubt(format!(
                "it was last seen on node {node}, whose daemon has left: it may run there"
            ));
        };
        let Some(since) = quorate_since else {
            let reason = format!("it was last seen on node {node}, which is lost, and there is no quorum");
            return match self.unknown {
                Unknown::Off => Judgement::Off(format!("{reason}: that counts as off here (unknown_vm)")),
                Unknown::Fail => Judgement::Doubt(reason),
            };
        };
        if !is_confirmed {
            return Judgement::Doubt(format!(
                "it was last seen on node {node}, which is just being lost: the quorum is not settled yet"
            ));
        }
        let Some(delay) = self.host_fence_delay else {
            return Judgement::Doubt(format!(
                "it was last seen on node {node}, which is lost: it may run there (host_fence_delay is not set)"
            ));
        };
        let gone = now.saturating_duration_since(at.max(since));
        if gone < delay {
            return Judgement::Doubt(format!(
                "it was last seen on node {node}, which was lost {} s ago: it counts as off after {} s \
                 (host_fence_delay)",
                gone.as_secs(),
                delay.as_secs()
            ));
        }
        Judgement::Off(format!(
            "it was last seen on node {node}, which was lost {} s ago: by host_fence_delay it is off",
            gone.as_secs()
        ))
    }
}
