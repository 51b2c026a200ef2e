use std::time::{Duration, Instant};

use super::directory::Fate;
use super::members::Quorum;
use crate::fence::{Operation, Verdict};
use crate::wire::cluster::NodeId;

/// Under what a VM is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Its name and its UUID.
    Both,
    /// Its name.
    Name,
    /// Its UUID.
    Uuid,
}

/// What a VM counts as that was never seen anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing is known of it: every operation fails.
    Fail,
    /// As off, the rule of the C daemon.
    Off,
}

/// What the administrator has stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Under what VMs are known.
    pub names: Names,
    /// How long after its loss from a quorate cluster a host is off for sure;
    /// none if nobody has said so.
    pub host_fence_delay: Option<Duration>,
    /// What a VM counts as that was never seen.
    pub unknown: Unknown,
}

/// What is said of a VM that no member has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It counts as off; why.
    Off(String),
    /// It may run; why.
    Doubt(String),
}

impl Judgement {
    /// The answer to a request for it.
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
    /// A VM that was never seen.
    pub(super) fn never_seen(&self) -> Judgement {
        match self.unknown {
            Unknown::Off => {
                Judgement::Off("no host knows it, which counts as off here (unknown_vm)".to_owned())
            }
            Unknown::Fail => Judgement::Doubt("no host of the cluster knows it".to_owned()),
        }
    }

    /// Why a VM is not taken for off that no member is seen to run.
    pub(super) fn unseen(&self, lacks_quorum: bool) -> Option<String> {
        let reason = "it is off here, but there is no quorum: it may run on the other side of a cut";
        (lacks_quorum && self.unknown == Unknown::Fail).then(|| reason.to_owned())
    }

    /// A VM, or a copy of it, that was last seen on a node which is no member any more.
    pub(super) fn departed(&self, node: NodeId, fate: Fate, quorum: &Quorum, now: Instant) -> Judgement {
        if fate == Fate::Gone {
            return match self.unknown {
                Unknown::Off => Judgement::Off(format!(
                    "it is gone from node {node}, which counts as off here (unknown_vm)"
                )),
                Unknown::Fail => Judgement::Doubt(format!(
                    "it ran on node {node} and is gone from there, perhaps to another host"
                )),
            };
        }
        let Fate::Lost { at, is_confirmed } = fate else {
            return Judgement::Doubt(format!(
                "it was last seen on node {node}, whose daemon has left: it may run there"
            ));
        };
        let Some(since) = quorum.quorate_since else {
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
