//! What is known of a request under way, and what its answers so far are worth.

use super::ids::{ClientId, JobId, Sequence};
use crate::wire::cluster::{NodeId, RequestNumber};
use std::collections::BTreeMap;
use std::time::Instant;

use super::{ANSWER_LIMIT, Peer};
use crate::fence::{Operation, Uuid, Verdict};
use crate::wire::cluster::ClusterCall;

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    /// A client of this node.
    Client(ClientId),
    /// A node, for whichever has the VM.
    Node(Peer, ClusterCall),
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) asker: Asker,
    pub(super) operation: Operation,
    /// The VM, as it was asked for.
    pub(super) text: String,
    pub(super) client_number: u32,
    pub(super) limits: Limits,
    /// The VM, once anybody was asked.
    pub(super) vm: Option<Uuid>,
    pub(super) asks: BTreeMap<NodeId, Ask>,
    /// Who is being asked whether it runs, before anything else.
    pub(super) witness: Option<NodeId>,
    /// Whether somebody was asked that.
    pub(super) has_witness: bool,
    /// Of a reboot with several copies: where it is started again, asked last.
    pub(super) runner: Option<NodeId>,
    /// When C daemons were asked whether they have it.
    pub(super) probed: Option<Instant>,
    /// Since when it is waited for all to tell all their VMs.
    pub(super) in_doubt: Option<Instant>,
    pub(super) wake: Instant,
}

/// Until when what may be done for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Others may be asked.
    pub(super) send: Instant,
    /// A VM may be destroyed on this node.
    pub(super) carry_out: Instant,
    /// It is answered.
    pub(super) answer: Instant,
}

/// One copy that was asked.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) operation: Operation,
    /// How the VM was called.
    pub(super) name: String,
    /// Whether it was seen to run when it was asked.
    pub(super) has_run: bool,
    /// The last telling before it was asked.
    pub(super) order: Sequence,
    pub(super) at: Instant,
    pub(super) state: AskState,
}

#[derive(Debug)]
pub(super) enum AskState {
    /// The number of the request to another node.
    Reply(RequestNumber),
    /// The number of the job on this one.
    Job(JobId),
    /// Its answer, and the last telling before it.
    Shown(Verdict, String, Sequence),
}

/// How far a task has come.
pub(super) enum Progress {
    Done(Verdict, String),
    /// Another node answers.
    Dropped,
    Wait(Instant),
}

/// What a reply is worth.
pub(super) fn verdict_of(response: u32, operation: Operation) -> Verdict {
    match (response, operation) {
        (0, _) => Verdict::Success,
        (2, Operation::Status) => Verdict::Off,
        _ => Verdict::Failure,
    }
}

impl Ask {
    /// Whether it was answered.
    pub(super) fn is_shown(&self) -> bool {
        matches!(self.state, AskState::Shown(..))
    }

    /// Whether it destroyed a copy that was seen to run.
    pub(super) fn has_ended_it(&self) -> bool {
        let is_power = matches!(self.operation, Operation::Off | Operation::Reboot);
        is_power && self.has_run && matches!(self.state, AskState::Shown(Verdict::Success, ..))
    }

    /// Whether it has answered that the copy is off.
    pub(super) fn says_off(&self) -> bool {
        let is_power = matches!(self.operation, Operation::Off | Operation::Reboot);
        match self.state {
            AskState::Shown(Verdict::Off, ..) => true,
            AskState::Shown(Verdict::Success, ..) => is_power,
            _ => false,
        }
    }
}

impl Task {
    /// What can be said before all have answered.
    pub(super) fn early(&self) -> Option<Progress> {
        let shown = self.asks.values().filter_map(|ask| match &ask.state {
            AskState::Shown(verdict, reason, _) => Some((ask.operation, *verdict, reason)),
            _ => None,
        });
        let is_question = matches!(self.operation, Operation::Status | Operation::On);
        let all_shown = self.asks.values().all(Ask::is_shown);
        for (operation, verdict, reason) in shown {
            match (operation, verdict) {
                (_, Verdict::Success) if is_question => {
                    return Some(Progress::Done(Verdict::Success, reason.clone()));
                }
                (_, Verdict::Success) | (Operation::Status, Verdict::Off) => {}
                // One that runs would still make it a success.
                _ if is_question && !all_shown => {}
                _ if is_question && self.any_success() => {}
                _ => return Some(Progress::Done(Verdict::Failure, self.failures())),
            }
        }
        None
    }

    /// Whether a copy was destroyed for this request that was seen to run.
    pub(super) fn has_ended_it(&self) -> bool {
        self.asks.values().any(Ask::has_ended_it)
    }

    pub(super) fn any_success(&self) -> bool {
        self.asks.values().any(|ask| matches!(ask.state, AskState::Shown(Verdict::Success, ..)))
    }

    /// Copies that were only asked whether they run, and do.
    pub(super) fn found_running(&self) -> impl Iterator<Item = NodeId> {
        let runs = |ask: &Ask| {
            ask.operation == Operation::Status && matches!(ask.state, AskState::Shown(Verdict::Success, ..))
        };
        self.asks.iter().filter(move |(_, ask)| runs(ask)).map(|(&node, _)| node)
    }

    pub(super) fn failures(&self) -> String {
        let failed = self.asks.values().filter_map(|ask| match &ask.state {
            AskState::Shown(Verdict::Failure | Verdict::Denied, reason, _) => Some(reason.as_str()),
            AskState::Shown(Verdict::Off, reason, _) if ask.operation != Operation::Status => {
                Some(reason.as_str())
            }
            _ => None,
        });
        failed.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn reasons(&self) -> String {
        let reasons = self.asks.values().filter_map(|ask| match &ask.state {
            AskState::Shown(_, reason, _) => Some(reason.as_str()),
            _ => None,
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn who_is_silent(&self) -> String {
        let limit = ANSWER_LIMIT.as_secs();
        let silent = self.asks.iter().filter(|(_, ask)| !ask.is_shown());
        let nodes: Vec<String> = silent.map(|(node, _)| format!("node {node}")).collect();
        match nodes.is_empty() {
            true => format!("no answer within {limit} s"),
            false => format!("no answer within {limit} s from {}", nodes.join(", ")),
        }
    }
}
