//! The decisions of a cluster: which node carries a request out, what its
//! answer is worth, and who answers for a VM that nobody knows.
//!
//! [`Router`] owns neither socket nor clock. It is told what the group says,
//! in the order of the group, what happens on this node, and what clients ask;
//! it gives messages for the group ([`Router::next_message`]) and things to do on this
//! node ([`Router::next_action`]).
//!
//! | part | has |
//! | --- | --- |
//! | `directory` | which VM is where, or was |
//! | `inventory`, `tombstones` | the VMs of this node, and what the group was told of them |
//! | `client_requests` | requests of clients here, and of nodes for VMs that are here: each copy of the VM is asked |
//! | `task`, `decide` | what their answers are worth |
//! | `uncertainty` | whether a VM may run where nobody can be asked |
//! | `stale_placements` | copies that others have overtaken, on nodes that do not say so |
//! | `inventory_sync` | what is told of VMs, to the group and by it |
//! | `members` | who is in the group, and who has told all its VMs; the votes |
//! | `remote_requests` | requests of other nodes, each carried out here once |
//! | `rules` | what is said of a VM that no member has |
//!
//! 1. A request is for all copies of its VM: members that tell it, this node
//!    included. To a member goes a message with its node id as the target; here
//!    it is an [`RouterAction`].
//! 2. A reply counts if it is from the node that was asked, with the number,
//!    operation and name that it was asked with, while that node is a member.
//! 3. C daemons do not look at the target, and act if they have the VM. Their
//!    own requests name no target: of those nodes of this suite that have the VM
//!    the one that told it last asks the others, and replies for all.
//! 4. Nobody has a VM that was gone from a node while it ran, or that is off at a C
//!    daemon which ran it, until all have told their VMs since: it may have moved.
#![forbid(unsafe_code)]

mod client_requests;
mod decide;
mod directory;
mod ids;
mod inventory;
mod inventory_sync;
mod members;
mod outbox;
mod remote_requests;
mod router;
mod rules;
mod stale_placements;
mod task;
mod tombstones;
mod uncertainty;

use crate::wire::cluster::NodeId;
use std::time::{Duration, Instant};

use crate::fence::{HostEntry, Operation, PowerState, Uuid, Verdict};
use crate::wire::cluster::MESSAGE_LEN;

pub use ids::{ClientId, JobId};
pub use router::Router;
pub use rules::{Names, Rules, Unknown};

/// How long after it was received a client's request is answered, with
/// failure if need be: 2 s before the agents' default timeout is over.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(28);
/// How old a client's request may be when corosync takes what asks another
/// node for it.
pub const SEND_LIMIT: Duration = Duration::from_secs(7);
/// How old, from its delivery, a request of another node may be when a VM is
/// destroyed for it. What is left to [`ANSWER_LIMIT`], after which its caller has
/// given up, corosync may need to deliver it: when a node is lost it delivers
/// nothing for its token timeout and the consensus, 8 s with three nodes and
/// its defaults (corosync.conf(5)).
pub const SERVE_LIMIT: Duration = Duration::from_secs(13);
/// How long a member may take to tell its VMs, after it or this node has joined.
pub const TELL_LIMIT: Duration = Duration::from_secs(5);
/// How long C daemons may take to tell their VMs when one is asked for that nobody knows.
pub const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long all members may take to tell all their VMs when they are asked to.
pub const TOLD_LIMIT: Duration = Duration::from_secs(4);
/// How often everything is told anew, though nothing has changed.
pub const RESYNC_EVERY: Duration = Duration::from_secs(300);

/// A process in the group: node id and process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its node, as corosync numbers it.
    pub node: NodeId,
    /// Its process id there.
    pub pid: u32,
}

/// How a process left the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It ended or left, its node is up.
    Process,
    /// Its node left the cluster.
    Node,
}

/// A change of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipChange {
    /// All members after it.
    pub members: Vec<Peer>,
    /// Who left.
    pub left: Vec<(Peer, Departure)>,
    /// Who came.
    pub joined: Vec<Peer>,
}

/// A VM of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalVm {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Whether it runs; all but shut off counts as that.
    pub state: PowerState,
    /// It is neither off nor paused, nor otherwise in between.
    pub is_active: bool,
}

/// A message for the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Its bytes.
    pub bytes: [u8; MESSAGE_LEN],
    /// Not to be given to corosync from then on, but to [`Router::unsent`].
    pub expires: Option<Instant>,
}

/// Something to do on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterAction {
    /// Carry an operation out on the VM with this name or UUID, and tell the outcome.
    Begin {
        /// Its number.
        job: JobId,
        /// What.
        operation: Operation,
        /// The VM, by name or UUID.
        name: String,
        /// For whom.
        on_behalf: OnBehalf,
        /// Not to be begun, nor a VM destroyed for it, from then on.
        expires: Instant,
    },
    /// Look whether there is such a VM here, and tell it.
    Find {
        /// Its number.
        job: JobId,
        /// The VM, by name or UUID.
        name: String,
    },
    /// Nobody waits for this job any more.
    HangUp {
        /// Its number.
        job: JobId,
    },
    /// Answer a client.
    Answer {
        /// The number that it was asked with.
        client: ClientId,
        /// The answer.
        verdict: Verdict,
        /// Why, for the log.
        reason: String,
        /// Whether anybody was asked to do anything.
        is_begun: bool,
    },
    /// Something for the log.
    Note(String),
}

/// Who wants something done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBehalf {
    /// A client of this node.
    Client(ClientId),
    /// Another node.
    Node(NodeId),
}

/// A client's question for all VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterList {
    /// All VMs that a member has, each once.
    Complete(Vec<HostEntry>),
    /// Ask again at this time: not every member has told its VMs.
    RetryAt(Instant),
    /// This node is not in the group; why.
    NotJoined(String),
}
