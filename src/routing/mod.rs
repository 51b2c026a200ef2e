//! Decisions of a cluster: which node carries out a request, what its answer is worth, and which node
//! answers for a VM that nobody knows.
//!
//! [`Router`] owns neither a socket nor a clock. It receives the messages of the group, in the order of
//! the group, the events of this node, and the requests of clients; it returns messages for the group
//! ([`Router::next_message`]) and actions for this node ([`Router::next_action`]).
//!
//! | part | contents |
//! | --- | --- |
//! | `directory`, `copy_record` | which node has, or had, a copy of which VM |
//! | `inventory`, `tombstones` | the VMs of this node, and what the group was told about them |
//! | `members` | members of the group, which of them have advertised all their VMs; votes |
//! | `tables`, `table_digest` | tables of VMs that are asked for, and their digests |
//! | `greetings`, `notices` | what members that have joined are told of others |
//! | `view`, `meaning` | the three above: what this node knows, and which VMs a text means by that |
//! | `tasks`, `task`, `remote_queue`, `outbox` | requests under way, requests of other nodes, output |
//! | `permissions` | copies that a request may touch |
//! | `races`, `race_order` | power requests in the group's order: those of VMs that fence each other |
//! | `decide` | progress of a task; `copies`, `stale_placements`, `uncertainty`: its steps |
//! | `client_requests`, `remote_requests`, `inventory_sync`, `table_sync`, `events` | input |
//!
//! 1. A request is for all copies of its VM, on members that advertise it, this node included. To a
//!    member goes a message with its node id as the target; here it is a [`RouterAction`].
//! 2. A reply counts if it is from the node that was asked, with the number, operation and name that it
//!    was asked with, while that node is a member.
//! 3. C daemons ignore the target, and act if they have the VM. Their own requests name no target: of
//!    the nodes of this suite that have the VM, the one that advertised it last asks the others, and
//!    replies for all.
//! 4. A UUID means its VM, whatever others are called; an exact name precedes one that differs in case.
//!    Several VMs of the same rank are ambiguous, unless all but one are gone.
//! 5. Nobody has a VM that vanished from a node while it ran, or that is off at a C daemon which ran it,
//!    until all have advertised their VMs since: it may have moved.
#![forbid(unsafe_code)]

mod client_requests;
mod copies;
mod copy_record;
mod copy_request;
mod decide;
mod directory;
mod events;
mod evidence;
mod greetings;
mod host_fate;
mod hosts;
mod ids;

mod inventory;
mod inventory_sync;
mod judgement;
mod limits;
mod locates;
mod meaning;
mod members;
mod notices;
mod outbox;
mod permissions;
mod process;
mod race_order;
mod races;
mod remote_queue;
mod remote_requests;
mod restart;
mod router;
mod rules;
mod small_map;
mod stale_placements;
mod table_digest;
mod table_sync;
mod tables;
mod task;
mod tasks;
mod tombstones;
mod view;
mod vocabulary;

pub use ids::{ClientId, JobId};
pub use limits::{
    ANSWER_LIMIT, GONE_LIMIT, PROBE_LIMIT, RESYNC_EVERY, SEND_LIMIT, SERVE_LIMIT, TELL_LIMIT, TOLD_LIMIT,
};
pub use router::Router;
pub use rules::{Rules, Unknown};
pub use vocabulary::{
    CallerQuestion, ClientRequest, ClusterCopy, ClusterList, Departure, Evidence, JobOutcome, LocalVm,
    Membership, Names, OnBehalf, Outgoing, Peer, RequestExpiry, RouterAction,
};
