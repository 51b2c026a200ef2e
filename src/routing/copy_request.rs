//! Requests to the copies of a VM, and what their answers are worth.

use std::collections::BTreeMap;

use super::ids::{JobId, Sequence};
use super::vocabulary::Evidence;
use crate::fence::{Operation, Verdict};
use crate::time::Instant;
use crate::wire::cluster::{NodeId, RequestNumber};

/// Request to one copy of the VM.
#[derive(Debug, Clone)]
pub(super) struct CopyRequest {
    pub(super) operation: Operation,
    /// Name or UUID that was sent.
    pub(super) name: String,
    /// The node has a C daemon.
    pub(super) is_of_c: bool,
    /// The copy was seen to run when it was asked.
    pub(super) has_run: bool,
    /// Position of the last advertisement before it was asked.
    pub(super) seq: Sequence,
    pub(super) at: Instant,
    pub(super) state: CopyState,
}

/// Progress of a request to one copy.
#[derive(Debug, Clone)]
pub(super) enum CopyState {
    /// Sent to another node under this number.
    Sent(RequestNumber),
    /// Begun on this node as this job.
    Begun(JobId),
    Answered(CopyAnswer),
}

/// Answer of a copy.
#[derive(Debug, Clone)]
pub(super) struct CopyAnswer {
    pub(super) verdict: Verdict,
    pub(super) evidence: Evidence,
    pub(super) reason: String,
    /// Position of the last advertisement before the answer.
    pub(super) seq: Sequence,
}

/// Requests to the copies of a VM, by node.
#[derive(Debug, Clone, Default)]
pub(super) struct CopyRequests(BTreeMap<NodeId, CopyRequest>);

/// Answer of a task that is certain before all copies have answered.
pub(super) enum EarlyAnswer {
    Success(String),
    Failure(String),
}

/// Returns the verdict that a reply means.
pub(super) fn verdict_of(response: u32, operation: Operation) -> Verdict {
    match (response, operation) {
        (0, _) => Verdict::Success,
        (2, Operation::Status) => Verdict::Off,
        _ => Verdict::Failure,
    }
}

impl CopyState {
    /// State of a copy whose node was not asked, for this reason.
    pub(super) fn not_asked(node: NodeId, reason: &str, seq: Sequence) -> CopyState {
        let reason = format!("node {node} was not asked: {reason}");
        CopyState::Answered(CopyAnswer { verdict: Verdict::Failure, evidence: Evidence::None, reason, seq })
    }
}

impl CopyRequest {
    pub(super) fn answer(&self) -> Option<&CopyAnswer> {
        match &self.state {
            CopyState::Answered(answer) => Some(answer),
            CopyState::Sent(_) | CopyState::Begun(_) => None,
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answer().is_some()
    }

    pub(super) fn is_success(&self) -> bool {
        self.answer().is_some_and(|answer| answer.verdict == Verdict::Success)
    }

    pub(super) fn is_power(&self) -> bool {
        matches!(self.operation, Operation::Off | Operation::Reboot)
    }

    /// Returns true if a reboot destroyed the copy while it was migrating, and has not started it again.
    pub(super) fn is_left_off(&self) -> bool {
        let evidence = self.answer().map(|answer| answer.evidence);
        let is_migrating = evidence == Some(Evidence::EndedWhileMigrating);
        self.operation == Operation::Reboot && self.is_success() && is_migrating && !self.is_of_c
    }

    /// Returns true if the answer is neither that it was done nor that the copy is off.
    fn is_failure(&self) -> bool {
        self.answer().is_some_and(|answer| match (answer.verdict, answer.evidence) {
            // Whether that is off depends on the other copies.
            (_, Evidence::Moved) => self.operation == Operation::On,
            (Verdict::Success, _) => false,
            (Verdict::Off, _) => self.operation != Operation::Status,
            (Verdict::Failure | Verdict::Denied, _) => true,
        })
    }
}

impl CopyRequests {
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &CopyRequest)> {
        self.0.iter().map(|(&node, copy)| (node, copy))
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&CopyRequest> {
        self.0.get(&node)
    }

    pub(super) fn insert(&mut self, node: NodeId, request: CopyRequest) {
        self.0.insert(node, request);
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(NodeId, &CopyRequest) -> bool) {
        self.0.retain(|&node, copy| is_kept(node, copy));
    }

    pub(super) fn find_mut(
        &mut self,
        is_meant: impl Fn(NodeId, &CopyRequest) -> bool,
    ) -> Option<&mut CopyRequest> {
        self.0.iter_mut().find(|(node, copy)| is_meant(**node, copy)).map(|(_, copy)| copy)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if all copies have answered.
    pub(super) fn are_answered(&self) -> bool {
        self.0.values().all(CopyRequest::is_answered)
    }

    /// Returns the node of the only copy.
    pub(super) fn only(&self) -> Option<(NodeId, &CopyRequest)> {
        self.iter().next().filter(|_| self.0.len() == 1)
    }

    /// Returns what is certain before all copies have answered.
    pub(super) fn early(&self, operation: Operation) -> Option<EarlyAnswer> {
        let is_question = matches!(operation, Operation::Status | Operation::On);
        let runs = self.0.values().find(|copy| copy.is_success()).and_then(CopyRequest::answer);
        if let Some(answer) = runs.filter(|_| is_question) {
            return Some(EarlyAnswer::Success(answer.reason.clone()));
        }
        let is_failure = self.0.values().any(CopyRequest::is_failure);
        // A copy that runs would still make a question a success.
        let is_certain = is_failure && (!is_question || self.are_answered());
        is_certain.then(|| EarlyAnswer::Failure(self.join_reasons(CopyRequest::is_failure)))
    }

    /// Returns the copies that run and were only asked for their status.
    pub(super) fn found_running(&self) -> Vec<NodeId> {
        let runs = |copy: &CopyRequest| copy.operation == Operation::Status && copy.is_success();
        self.iter().filter(|(_, copy)| runs(copy)).map(|(node, _)| node).collect()
    }

    pub(super) fn reasons(&self) -> String {
        self.join_reasons(|_| true)
    }

    /// Returns the position at which a copy was asked that ran then, and was destroyed.
    pub(super) fn ended_at(&self) -> Option<Sequence> {
        let has_ended = |(_, copy): &(NodeId, &CopyRequest)| {
            let evidence = copy.answer().map(|answer| answer.evidence);
            let ran = matches!(evidence, Some(Evidence::Ended | Evidence::EndedWhileMigrating));
            ran && copy.is_power() && copy.is_success()
        };
        self.iter().filter(has_ended).map(|(_, copy)| copy.seq).max()
    }

    /// Returns the node of a copy that a reboot destroyed while it was migrating, and has not started again.
    pub(super) fn left_off(&self) -> Option<NodeId> {
        self.iter().find(|(_, copy)| copy.is_left_off()).map(|(node, _)| node)
    }

    pub(super) fn nodes(&self) -> String {
        let nodes: Vec<String> = self.0.keys().map(|node| format!("node {node}")).collect();
        nodes.join(", ")
    }

    fn join_reasons(&self, is_meant: impl Fn(&CopyRequest) -> bool) -> String {
        let meant = self.0.values().filter(|copy| is_meant(copy)).filter_map(CopyRequest::answer);
        meant.map(|answer| answer.reason.as_str()).collect::<Vec<_>>().join("; ")
    }
}
