//! A request under way.

use std::collections::BTreeMap;

use super::copy_request::{CopyRequest, CopyRequests};
use super::ids::{ClientId, Sequence, TaskId};
use super::judgement::Search;
use super::limits::{ANSWER_LIMIT, SEND_LIMIT, SERVE_LIMIT};
use super::remote_queue::RemoteRequest;
use super::vocabulary::ClientRequest;
use crate::fence::{Operation, Uuid, Verdict};
use crate::groups::PermittedNames;
use crate::time::Instant;
use crate::wire::cluster::{NodeId, cut};

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
    /// Position at which it was begun.
    pub(super) seq: Sequence,
    pub(super) phase: Phase,
    /// The member that was last seen to run the VM has been asked whether it does.
    pub(super) is_confirmed: bool,
    pub(super) search: TaskSearch,
    /// Reason for which it is held, and fails at its time limit.
    pub(super) held: Option<String>,
    pub(super) wake: Instant,
}

/// Phase of a task, with what is known in it.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// The VM that the text means is not known yet.
    Resolving,
    /// Other copies may be stale: the member that was last seen to run the VM is asked whether it does.
    Confirming { vm: Uuid, node: NodeId, question: CopyRequest },
    /// The copies of the VM are asked.
    Asking {
        vm: Uuid,
        copies: CopyRequests,
        /// Node that is asked last, to start the VM again, in a reboot with several copies.
        restart_node: Option<NodeId>,
    },
    /// In a reboot: the VM was off on all hosts, for this reason, and is started again on this node.
    Restarting { vm: Uuid, node: NodeId, request: CopyRequest, was_off: String },
}

/// Search of a task for its VM on all members.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TaskSearch {
    /// What it has led to.
    pub(super) result: Search,
    /// The position since which it is needed, and the start of the wait for it.
    pub(super) awaited: Option<(Sequence, Instant)>,
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

impl Phase {
    /// Phase in which no copy was asked yet.
    pub(super) fn asking(vm: Uuid) -> Phase {
        Phase::Asking { vm, copies: CopyRequests::default(), restart_node: None }
    }
}

impl Task {
    /// A task for a client of this node.
    pub(super) fn of_client(id: TaskId, seq: Sequence, asked: ClientRequest) -> Task {
        let ClientRequest { client, request, permitted, received } = asked;
        let answer = received + ANSWER_LIMIT;
        let limits = TaskLimits { send: received + SEND_LIMIT, carry_out: answer, answer };
        let text = request.target.as_str().to_owned();
        let task = Task::new(id, TaskOrigin::Client(client), request.operation, text, limits, seq);
        Task { client_number: request.seqno, permitted, ..task }
    }

    /// A task for another node. It has no deadline of its own if it is a C daemon.
    pub(super) fn of_node(id: TaskId, seq: Sequence, request: RemoteRequest) -> Task {
        let at = request.at;
        let limits =
            TaskLimits { send: at + SEND_LIMIT, carry_out: at + SERVE_LIMIT, answer: at + ANSWER_LIMIT };
        let operation = request.call.operation;
        let text = request.call.name.clone();
        let client_number = request.call.client_number;
        let permitted = permitted_by(&text);
        let task = Task::new(id, TaskOrigin::Node(request), operation, text, limits, seq);
        Task { client_number, permitted, ..task }
    }

    fn new(
        id: TaskId,
        origin: TaskOrigin,
        operation: Operation,
        text: String,
        limits: TaskLimits,
        seq: Sequence,
    ) -> Task {
        Task {
            id,
            origin,
            operation,
            text,
            client_number: 0,
            permitted: PermittedNames::These(Vec::new()),
            limits,
            seq,
            phase: Phase::Resolving,
            is_confirmed: false,
            search: TaskSearch::default(),
            held: None,
            wake: limits.answer,
        }
    }

    pub(super) fn is_of_node(&self) -> bool {
        matches!(self.origin, TaskOrigin::Node(_))
    }

    /// Returns the VM, once any copy was asked.
    pub(super) fn vm(&self) -> Option<Uuid> {
        match self.phase {
            Phase::Resolving => None,
            Phase::Confirming { vm, .. } | Phase::Asking { vm, .. } | Phase::Restarting { vm, .. } => {
                Some(vm)
            }
        }
    }

    /// Returns the requests to copies, by node.
    pub(super) fn requests(&self) -> BTreeMap<NodeId, &CopyRequest> {
        match &self.phase {
            Phase::Resolving => BTreeMap::new(),
            Phase::Confirming { node, question: request, .. } | Phase::Restarting { node, request, .. } => {
                [(*node, request)].into()
            }
            Phase::Asking { copies, .. } => copies.iter().collect(),
        }
    }

    /// Returns the request to a copy that this is true for.
    pub(super) fn request_mut(
        &mut self,
        is_meant: impl Fn(NodeId, &CopyRequest) -> bool,
    ) -> Option<&mut CopyRequest> {
        match &mut self.phase {
            Phase::Resolving => None,
            Phase::Confirming { node, question: request, .. } | Phase::Restarting { node, request, .. } => {
                Some(request).filter(|request| is_meant(*node, request))
            }
            Phase::Asking { copies, .. } => copies.find_mut(is_meant),
        }
    }

    /// Takes the node that is to start the VM again.
    pub(super) fn take_restart_node(&mut self) -> Option<NodeId> {
        match &mut self.phase {
            Phase::Asking { restart_node, .. } => restart_node.take(),
            Phase::Resolving | Phase::Confirming { .. } | Phase::Restarting { .. } => None,
        }
    }

    /// Removes the request to a node.
    pub(super) fn forget_request(&mut self, node: NodeId) {
        match &mut self.phase {
            Phase::Asking { copies, .. } => copies.remove(node),
            Phase::Confirming { node: asked, .. } if *asked == node => {
                self.phase = Phase::Resolving;
                self.is_confirmed = true;
            }
            Phase::Confirming { .. } | Phase::Restarting { .. } | Phase::Resolving => {}
        }
    }

    /// Returns the reason of a task that was not answered in time.
    pub(super) fn timeout_reason(&self) -> String {
        if let Some(reason) = &self.held {
            return reason.clone();
        }
        let limit = ANSWER_LIMIT.as_secs();
        let requests = self.requests();
        let silent = requests.iter().filter(|(_, copy)| !copy.is_answered());
        let nodes: Vec<String> = silent.map(|(node, _)| format!("node {node}")).collect();
        match nodes.is_empty() {
            true => format!("no answer within {limit} s"),
            false => format!("no answer within {limit} s from {}", nodes.join(", ")),
        }
    }
}
