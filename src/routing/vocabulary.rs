//! Inputs and outputs of the router.

use super::ids::{ClientId, JobId};
use crate::fence::{HostEntry, Operation, PowerState, Request, UriIndex, Uuid, Verdict};
use crate::groups::PermittedNames;
use crate::time::Instant;
use crate::wire::cluster::{MESSAGE_LEN, NodeId, RequestNumber};

/// A process in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Node.
    pub node: NodeId,
    /// Process id on that node.
    pub pid: u32,
}

/// Manner in which a process left the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The process ended or left; its node is up.
    Process,
    /// The node left the cluster.
    Node,
}

/// A change of the group's membership.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// All members after the change.
    pub members: Vec<Peer>,
    /// Members that left.
    pub left: Vec<(Peer, Departure)>,
    /// Members that joined.
    pub joined: Vec<Peer>,
}

/// A VM of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalVm {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
    /// Running, unless it is shut off.
    pub state: PowerState,
    /// True if it is neither off nor paused, nor in another state between.
    pub is_active: bool,
    /// True if another host may run it, by what libvirt remembers: it is off because it has migrated away,
    /// or a migration in either direction has paused it.
    pub may_run_elsewhere: bool,
}

/// What carrying an operation out has shown about the copy of a VM, besides the verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing besides the verdict: if that is success of off, or off, the copy was off already.
    #[default]
    None,
    /// The copy ran, and was destroyed and seen off for this request.
    Ended,
    /// The same, while it was migrating to another host: it may run there.
    EndedWhileMigrating,
    /// The copy was off already since it has migrated away.
    Moved,
    /// The copy was off already, and nobody knows why: libvirt has not told of its end yet, or a migration had paused
    /// it, in either direction. The VM may run elsewhere.
    Unexplained,
}

impl Evidence {
    /// Returns the number that goes to the group.
    pub(super) fn encode(self) -> u8 {
        self as u8
    }

    /// Returns the evidence that a number means. An unknown number is no evidence.
    pub(super) fn decode(number: u8) -> Evidence {
        let all = [Evidence::Ended, Evidence::EndedWhileMigrating, Evidence::Moved, Evidence::Unexplained];
        all.into_iter().find(|evidence| *evidence as u8 == number).unwrap_or_default()
    }
}

/// Outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutcome {
    /// Verdict on the operation.
    pub verdict: Verdict,
    /// What it has shown besides.
    pub evidence: Evidence,
    /// Reason, for the log.
    pub reason: String,
}

/// A copy of a VM on a member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterCopy {
    /// Node that has it.
    pub node: NodeId,
    /// URI that has it, if that is known: on this node.
    pub uri: Option<UriIndex>,
    /// Name that it has there.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
    /// Running, unless it is shut off.
    pub state: PowerState,
}

impl ClusterCopy {
    /// Returns the place in words, for messages; URIs are counted from 1.
    pub fn place(&self) -> String {
        match self.uri {
            Some(uri) => format!("node {}, URI {}", self.node, uri.0 + 1),
            None => format!("node {}", self.node),
        }
    }
}

/// A client's request for off, on, reboot or status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// Number of the client's request.
    pub client: ClientId,
    /// Request.
    pub request: Request,
    /// Names by which the groups permit the VM.
    pub permitted: PermittedNames,
    /// Time of its arrival.
    pub received: Instant,
}

/// Identifiers by which a VM can be requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Name and UUID.
    Both,
    /// Name only.
    Name,
    /// UUID only.
    Uuid,
}

/// A message to send to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Encoded message.
    pub bytes: [u8; MESSAGE_LEN],
    /// Expiry, of a request to another node, or of the notice that a node was fenced.
    pub expiry: Option<RequestExpiry>,
}

/// Expiry of a request to another node, or of the notice that a node was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestExpiry {
    /// Time from which this goes to [`Router::unsent`](super::Router::unsent) instead.
    pub at: Instant,
    /// Node that would have been asked, or that was fenced.
    pub node: NodeId,
    /// Number of the request; [`NO_REQUEST`](crate::wire::cluster::NO_REQUEST) for a notice.
    pub number: RequestNumber,
}

/// Something to do on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterAction {
    /// Carry out an operation and report it to [`Router::done`](super::Router::done).
    Begin {
        /// Number of the job.
        job: JobId,
        /// Operation to carry out.
        operation: Operation,
        /// Name or UUID of the VM.
        name: String,
        /// Requester.
        on_behalf: OnBehalf,
        /// Names by which the VM is permitted; a copy with another name must not be touched.
        permitted: PermittedNames,
        /// Time from which the job must not begin, nor destroy the VM.
        expires: Instant,
    },
    /// Look for a VM on this node and report it to [`Router::found`](super::Router::found).
    Find {
        /// Number of the job.
        job: JobId,
        /// Name or UUID of the VM.
        name: String,
    },
    /// Cancel a job that nobody waits for.
    HangUp {
        /// Number of the job.
        job: JobId,
    },
    /// Answer a client.
    Answer {
        /// Number of the client's request.
        client: ClientId,
        /// Answer.
        verdict: Verdict,
        /// Reason, for the log.
        reason: String,
        /// True if any node was asked.
        is_begun: bool,
    },
    /// Have a client show that it lives, after all that may have ended it before, and report it to
    /// [`Router::caller_proved`](super::Router::caller_proved).
    ProveCaller {
        /// Number of the client's request.
        client: ClientId,
        /// Question that this answers.
        question: CallerQuestion,
        /// VM that the client asks for.
        vm: Uuid,
        /// Time from which nobody waits for it.
        expires: Instant,
    },
    /// Log the answer to another node for which nothing was carried out here.
    Replied {
        /// Node that asked.
        node: NodeId,
        /// Operation.
        operation: Operation,
        /// Name or UUID of the VM.
        name: String,
        /// Answer.
        verdict: Verdict,
        /// Reason.
        reason: String,
        /// Time at which the request was delivered.
        received: Instant,
    },
    /// Log a message.
    Note(String),
}

/// Question of another node whether the caller of a request of this node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerQuestion {
    /// Node that asks, and is to carry the request out.
    pub node: NodeId,
    /// Number of the request.
    pub number: RequestNumber,
}

/// Requester of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBehalf {
    /// A client of this node.
    Client(ClientId),
    /// Another node.
    Node(NodeId),
}

/// Answer to a client's request for the list of all VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterList {
    /// All VMs that a member has, each once, with its copies.
    Complete(Vec<Vec<HostEntry>>),
    /// Time to try again, since a member has not advertised all its VMs.
    RetryAt(Instant),
    /// Reason why this node is not in the group.
    NotJoined(String),
}
