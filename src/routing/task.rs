//! A request under way, and what the answers of the VM's copies are worth.

use std::collections::BTreeMap;

use super::ids::{ClientId, JobId, Sequence, TaskId};
use super::limits::{ANSWER_LIMIT, SEND_LIMIT, SERVE_LIMIT};
use super::remote_queue::RemoteRequest;
use super::vocabulary::ClientRequest;
use crate::fence::{Operation, Uuid, Verdict};
use crate::groups::PermittedNames;
use crate::time::Instant;
use crate::wire::cluster::{NodeId, RequestNumber, cut};

/// Requester of a task.
#[derive(Debug, Clone)]
pub(super) enum TaskOrigin {
    /// A client of this node.
    Client(ClientId),
    /// A node that asks whichever node has the VM.
    Node(RemoteRequest),
}

/// A request under way.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) origin: TaskOrigin,
    pub(super) operation: Operation,
    /// Name or UUID of the VM, as requested.
    pub(super) text: String,
    pub(super) client_number: u32,
    /// Names by which the VM is permitted.
    pub(super) permitted: PermittedNames,
    pub(super) limits: TaskLimits,
    /// The VM, once any copy was asked.
    pub(super) vm: Option<Uuid>,
    pub(super) copies: BTreeMap<NodeId, CopyRequest>,
    pub(super) confirmation: Confirmation,
    /// Node that is asked last, to start the VM again, in a reboot with several copies.
    pub(super) restart_node: Option<NodeId>,
    /// Time at which C daemons were asked whether they have the VM.
    pub(super) probed_at: Option<Instant>,
    /// Start of the wait until all members have advertised all their VMs.
    pub(super) awaiting_inventory: Option<Instant>,
    pub(super) wake: Instant,
}

/// First step of a request where other copies may be stale: the member that was last seen to run the VM is
/// asked whether it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    NotTried,
    Awaited(NodeId),
    Done,
}

/// Time limits of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskLimits {
    /// Until then other nodes may be asked.
    pub(super) send: Instant,
    /// Until then a VM may be destroyed on this node.
    pub(super) carry_out: Instant,
    /// Then it is answered.
    pub(super) answer: Instant,
}

/// Request to one copy of the VM.
#[derive(Debug, Clone)]
pub(super) struct CopyRequest {
    pub(super) operation: Operation,
    /// Name or UUID that was sent.
    pub(super) name: String,
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
    /// Answered; `seq` is the position of the last advertisement before the answer.
    Answered { verdict: Verdict, reason: String, seq: Sequence },
}

/// Progress of a task.
pub(super) enum TaskProgress {
    Done(Verdict, String),
    /// Another node answers.
    Dropped,
    Wait(Instant),
}

/// Returns the names that the request of another node permits, whose text is this.
pub(super) fn permitted_by(text: &str) -> PermittedNames {
    PermittedNames::These(vec![text.to_owned(), cut(text).to_owned()])
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
    /// State of a copy whose node was not asked.
    pub(super) fn not_asked(node: NodeId, seq: Sequence) -> CopyState {
        let reason = format!("node {node} was not asked: the request had waited too long");
        CopyState::Answered { verdict: Verdict::Failure, reason, seq }
    }
}

impl CopyRequest {
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, CopyState::Answered { .. })
    }

    fn is_success(&self) -> bool {
        matches!(self.state, CopyState::Answered { verdict: Verdict::Success, .. })
    }

    fn is_power(&self) -> bool {
        matches!(self.operation, Operation::Off | Operation::Reboot)
    }

    /// Returns true if it destroyed a copy that was seen to run.
    pub(super) fn has_ended_it(&self) -> bool {
        self.is_power() && self.has_run && self.is_success()
    }

    /// Returns true if the answer is that the copy is off.
    pub(super) fn says_off(&self) -> bool {
        let is_off = matches!(self.state, CopyState::Answered { verdict: Verdict::Off, .. });
        is_off || (self.is_power() && self.is_success())
    }
}

impl Task {
    /// A task for a client of this node.
    pub(super) fn of_client(id: TaskId, asked: ClientRequest) -> Task {
        let ClientRequest { client, request, permitted, received } = asked;
        let answer = received + ANSWER_LIMIT;
        let limits = TaskLimits { send: received + SEND_LIMIT, carry_out: answer, answer };
        let text = request.target.as_str().to_owned();
        let task = Task::new(id, TaskOrigin::Client(client), request.operation, text, limits);
        Task { client_number: request.seqno, permitted, ..task }
    }

    /// A task for another node. It has no deadline of its own if it is a C daemon.
    pub(super) fn of_node(id: TaskId, request: RemoteRequest) -> Task {
        let at = request.at;
        let limits =
            TaskLimits { send: at + SEND_LIMIT, carry_out: at + SERVE_LIMIT, answer: at + ANSWER_LIMIT };
        let operation = request.call.operation;
        let text = request.call.name.clone();
        let client_number = request.call.client_number;
        let permitted = permitted_by(&text);
        let task = Task::new(id, TaskOrigin::Node(request), operation, text, limits);
        Task { client_number, permitted, probed_at: Some(at), ..task }
    }

    fn new(id: TaskId, origin: TaskOrigin, operation: Operation, text: String, limits: TaskLimits) -> Task {
        Task {
            id,
            origin,
            operation,
            text,
            client_number: 0,
            permitted: PermittedNames::These(Vec::new()),
            limits,
            vm: None,
            copies: BTreeMap::new(),
            confirmation: Confirmation::NotTried,
            restart_node: None,
            probed_at: None,
            awaiting_inventory: None,
            wake: limits.answer,
        }
    }

    pub(super) fn is_of_node(&self) -> bool {
        matches!(self.origin, TaskOrigin::Node(_))
    }

    /// Returns what is certain before all copies have answered.
    pub(super) fn early(&self) -> Option<TaskProgress> {
        let is_question = matches!(self.operation, Operation::Status | Operation::On);
        let all_answered = self.copies.values().all(CopyRequest::is_answered);
        for copy in self.copies.values() {
            let CopyState::Answered { verdict, reason, .. } = &copy.state else { continue };
            match (copy.operation, verdict) {
                (_, Verdict::Success) if is_question => {
                    return Some(TaskProgress::Done(Verdict::Success, reason.clone()));
                }
                (_, Verdict::Success) | (Operation::Status, Verdict::Off) => {}
                // A copy that runs would still make it a success.
                _ if is_question && (!all_answered || self.any_success()) => {}
                _ => return Some(TaskProgress::Done(Verdict::Failure, self.failures())),
            }
        }
        None
    }

    /// Returns true if a copy that was seen to run was destroyed for this request.
    pub(super) fn has_ended_it(&self) -> bool {
        self.copies.values().any(CopyRequest::has_ended_it)
    }

    /// Returns the position at which such a copy was asked.
    pub(super) fn ended_at(&self) -> Option<Sequence> {
        self.copies.values().filter(|copy| copy.has_ended_it()).map(|copy| copy.seq).max()
    }

    fn any_success(&self) -> bool {
        self.copies.values().any(CopyRequest::is_success)
    }

    /// Returns the copies that run and were only asked for their status.
    pub(super) fn found_running(&self) -> Vec<NodeId> {
        let runs = |copy: &CopyRequest| copy.operation == Operation::Status && copy.is_success();
        self.copies.iter().filter(|(_, copy)| runs(copy)).map(|(&node, _)| node).collect()
    }

    fn failures(&self) -> String {
        self.join_reasons(|operation, verdict| match verdict {
            Verdict::Failure | Verdict::Denied => true,
            Verdict::Off => operation != Operation::Status,
            Verdict::Success => false,
        })
    }

    pub(super) fn reasons(&self) -> String {
        self.join_reasons(|_, _| true)
    }

    fn join_reasons(&self, is_meant: impl Fn(Operation, Verdict) -> bool) -> String {
        let reasons = self.copies.values().filter_map(|copy| match &copy.state {
            CopyState::Answered { verdict, reason, .. } if is_meant(copy.operation, *verdict) => {
                Some(reason.as_str())
            }
            _ => None,
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Returns the reason of a task that was not answered in time.
    pub(super) fn timeout_reason(&self) -> String {
        let limit = ANSWER_LIMIT.as_secs();
        let silent = self.copies.iter().filter(|(_, copy)| !copy.is_answered());
        let nodes: Vec<String> = silent.map(|(node, _)| format!("node {node}")).collect();
        match nodes.is_empty() {
            true => format!("no answer within {limit} s"),
            false => format!("no answer within {limit} s from {}", nodes.join(", ")),
        }
    }
}
