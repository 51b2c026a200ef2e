//! Requests of other nodes that are held here until they are answered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::ids::JobId;
use super::limits::{ANSWER_LIMIT, SERVE_LIMIT};
use super::vocabulary::Peer;
use crate::backlog::Backlog;
use crate::fence::{Operation, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, NodeId, RequestNumber};

/// Maximum number of held requests of all nodes; a further one fails.
const HELD_MAX: usize = 16_384;
/// Maximum number of them that the worker has at a time.
const BEGUN_MAX: usize = 32;
/// Maximum number of requests of C daemons that are watched until somebody answers them.
const WATCHED_MAX: usize = 16_384;

/// A request of another node.
#[derive(Debug, Clone)]
pub(super) struct RemoteRequest {
    pub(super) peer: Peer,
    pub(super) call: ClusterCall,
    /// Time of its delivery.
    pub(super) at: Instant,
    /// True if it may have waited unread before that, or has waited too long since.
    pub(super) is_old: bool,
}

/// A request that waits for the worker, or that the worker has.
#[derive(Debug, Clone)]
pub(super) struct HeldRequest {
    pub(super) request: RemoteRequest,
    pub(super) kind: HeldKind,
    /// The node has left: no reply is due.
    is_abandoned: bool,
}

/// What is to be done for a held request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldKind {
    /// Carry it out.
    CarryOut,
    /// Look for the VM, to find out whether this node answers.
    Find,
    /// Look for the VM, and say so.
    Locate,
}

/// A request of a C daemon that nobody has answered.
#[derive(Debug, Clone)]
struct UnansweredRequest {
    call: ClusterCall,
    at: Instant,
    due: Instant,
}

/// Requests of other nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct RemoteQueue {
    waiting: Backlog<HeldRequest>,
    /// Requests that name no node, while it is not settled which node of this suite answers.
    deferred: Vec<RemoteRequest>,
    /// Requests that the worker has.
    begun: HashMap<JobId, HeldRequest>,
    /// All requests that are not answered, to recognise duplicates.
    held: HashSet<(Peer, RequestNumber)>,
    unanswered: HashMap<(NodeId, RequestNumber), UnansweredRequest>,
    /// The unanswered requests by the time at which they are due.
    due: BTreeSet<(Instant, (NodeId, RequestNumber))>,
    is_stopping: bool,
}

impl RemoteRequest {
    /// Notes if it has waited too long by now.
    pub(super) fn grow_old(&mut self, now: Instant) {
        self.is_old |= now.saturating_duration_since(self.at) >= SERVE_LIMIT;
    }
}

impl RemoteQueue {
    /// Holds a request; false for a duplicate.
    pub(super) fn accept(&mut self, request: &RemoteRequest) -> bool {
        self.held.insert((request.peer, request.call.number))
    }

    /// Ends a request that is answered, or not for this node.
    pub(super) fn close(&mut self, request: &RemoteRequest) {
        self.held.remove(&(request.peer, request.call.number));
    }

    /// Returns true if a request is not answered yet.
    pub(super) fn is_held(&self, peer: Peer, number: RequestNumber) -> bool {
        self.held.contains(&(peer, number))
    }

    /// Returns the number of held requests, and of their jobs.
    pub(super) fn under_way(&self) -> usize {
        self.held.len() + self.begun.len()
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Watches a request of a C daemon until somebody answers it; false if there is no room.
    pub(super) fn watch(&mut self, request: &RemoteRequest) -> bool {
        let is_room = self.due.len() < WATCHED_MAX;
        if is_room {
            let key = (request.peer.node, request.call.number);
            // A number that is used again is another request.
            self.answered(key.0, key.1);
            let due = request.at + ANSWER_LIMIT;
            self.unanswered
                .insert(key, UnansweredRequest { call: request.call.clone(), at: request.at, due });
            self.due.insert((due, key));
        }
        is_room
    }

    /// Notes that some node answered a request.
    pub(super) fn answered(&mut self, requester: NodeId, number: RequestNumber) {
        if let Some(UnansweredRequest { due, .. }) = self.unanswered.remove(&(requester, number)) {
            self.due.remove(&(due, (requester, number)));
        }
    }

    /// Returns true if nobody has answered a watched request.
    pub(super) fn is_unanswered(&self, request: &RemoteRequest) -> bool {
        self.unanswered.contains_key(&(request.peer.node, request.call.number))
    }

    pub(super) fn forget_unanswered(&mut self) {
        self.unanswered.clear();
        self.due.clear();
    }

    /// Takes a request that nobody has answered `delay` after it was due, as a call back to its node.
    pub(super) fn take_overdue(&mut self, delay: Duration, now: Instant) -> Option<ClusterCall> {
        while let Some((due, key)) = self.due.pop_first() {
            if due > now {
                self.due.insert((due, key));
                return None;
            }
            let Some(unanswered) = self.unanswered.get_mut(&key) else { continue };
            unanswered.due = unanswered.at + ANSWER_LIMIT + delay;
            if unanswered.due > now {
                self.due.insert((unanswered.due, key));
            } else if let Some(UnansweredRequest { call, .. }) = self.unanswered.remove(&key) {
                return Some(ClusterCall { target: key.0, ..call });
            }
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    pub(super) fn can_defer(&self) -> bool {
        self.deferred.len() < HELD_MAX
    }

    pub(super) fn defer(&mut self, request: RemoteRequest) {
        self.deferred.push(request);
    }

    pub(super) fn take_deferred(&mut self) -> Vec<RemoteRequest> {
        std::mem::take(&mut self.deferred)
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= HELD_MAX
    }

    /// Lets a request wait for the worker.
    pub(super) fn push(&mut self, request: RemoteRequest, kind: HeldKind) {
        let is_power = request.call.operation.is_power();
        self.waiting.push(HeldRequest { request, kind, is_abandoned: false }, is_power);
    }

    /// Takes the next request for the worker, if it may have another one.
    pub(super) fn pop(&mut self) -> Option<HeldRequest> {
        if self.begun.len() < BEGUN_MAX { self.waiting.pop() } else { None }
    }

    pub(super) fn begin(&mut self, job: JobId, held: HeldRequest) {
        self.begun.insert(job, held);
    }

    /// Takes the request of a job that has ended, if a reply is due.
    pub(super) fn finish(&mut self, job: JobId) -> Option<HeldRequest> {
        self.begun.remove(&job).filter(|held| !held.is_abandoned)
    }

    /// Returns the VM and the operation of a job, if it names the VM by its UUID.
    pub(super) fn asked_of(&self, job: JobId) -> Option<(Uuid, Operation)> {
        let call = &self.begun.get(&job)?.request.call;
        Some((Uuid::parse(&call.name)?, call.operation))
    }

    /// Drops requests of peers that have left; returns the jobs that nobody waits for.
    pub(super) fn abandon(
        &mut self,
        is_gone: &impl Fn(Peer) -> bool,
        is_member: impl Fn(NodeId) -> bool,
    ) -> Vec<JobId> {
        self.waiting.retain(|held| !is_gone(held.request.peer));
        self.deferred.retain(|request| !is_gone(request.peer));
        self.held.retain(|(peer, _)| !is_gone(*peer));
        self.unanswered.retain(|(node, _), _| is_member(*node));
        self.due.retain(|(_, key)| self.unanswered.contains_key(key));
        let abandoned = self.begun.iter_mut().filter(|(_, held)| is_gone(held.request.peer));
        let abandon = |(&job, held): (&JobId, &mut HeldRequest)| {
            held.is_abandoned = true;
            job
        };
        abandoned.map(abandon).collect()
    }
}
