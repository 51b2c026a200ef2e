//! Power requests in the order of the group, the requests that wait for a proof, and the questions about callers.

use std::collections::VecDeque;

use super::limits::{ANSWER_LIMIT, SERVE_LIMIT};
use super::remote_queue::RemoteRequest;
use super::vocabulary::{CallerQuestion, Peer};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, EVERY_NODE, NodeId, RequestNumber};

/// Maximum number of power requests that are remembered.
const ORDER_MAX: usize = 8192;
/// Maximum number of requests that wait for a proof, and of questions that wait for an answer.
const WAITING_MAX: usize = 8192;

/// A power request in the order of the group.
#[derive(Debug, Clone, Copy)]
struct PowerRequest {
    from: Peer,
    number: RequestNumber,
    target: NodeId,
    /// Time from which it contests no further request: it has ended, and who asked before has given up.
    expires: Instant,
}

impl PowerRequest {
    /// Returns true if it may power off a VM of this node.
    fn may_hit(&self, node: NodeId) -> bool {
        self.target == node || self.target == EVERY_NODE
    }
}

/// A question of another node that is not answered yet.
#[derive(Debug, Clone)]
struct OpenQuestion {
    question: CallerQuestion,
    /// Requests of other nodes that precede the request of the caller, and are not answered.
    earlier: Vec<(Peer, RequestNumber)>,
}

/// Power requests of the group, and what waits for proofs.
#[derive(Debug, Clone, Default)]
pub(super) struct Races {
    /// In the order of the group.
    order: VecDeque<PowerRequest>,
    /// Time until which every request is contested, as there was no room for an earlier one.
    blind_until: Option<Instant>,
    /// Requests of other nodes that wait until their caller has shown that it lives.
    contested: Vec<RemoteRequest>,
    questions: Vec<OpenQuestion>,
}

impl Races {
    pub(super) fn clear(&mut self) {
        *self = Races::default();
    }

    /// Notes a power request that the group has delivered.
    pub(super) fn note(&mut self, from: Peer, call: &ClusterCall, at: Instant) {
        while self.order.front().is_some_and(|oldest| at >= oldest.expires) {
            self.order.pop_front();
        }
        if self.order.len() >= ORDER_MAX {
            let oldest = self.order.pop_front().map(|oldest| oldest.expires);
            self.blind_until = self.blind_until.max(oldest);
        }
        let expires = at + SERVE_LIMIT + ANSWER_LIMIT;
        self.order.push_back(PowerRequest { from, number: call.number, target: call.target, expires });
    }

    /// Returns true if an earlier request may have powered off the caller of this one, which is the last so far.
    pub(super) fn is_contested(&self, request: &RemoteRequest) -> bool {
        let at = request.at;
        let may_hit = |other: &PowerRequest| other.may_hit(request.peer.node) && at < other.expires;
        self.blind_until.is_some_and(|until| at < until) || self.order.iter().any(may_hit)
    }

    /// Returns the requests of other nodes to this one that precede its own one of this number.
    fn before(&self, me: Peer, number: RequestNumber) -> Vec<(Peer, RequestNumber)> {
        let is_own = |other: &&PowerRequest| other.from == me && other.number == number;
        let earlier = self.order.iter().take_while(|other| !is_own(other));
        earlier.filter(|other| other.may_hit(me.node)).map(|other| (other.from, other.number)).collect()
    }

    /// Lets a request of another node wait for a proof; none if there is room.
    pub(super) fn hold(&mut self, request: RemoteRequest) -> Option<RemoteRequest> {
        if self.contested.len() >= WAITING_MAX {
            return Some(request);
        }
        self.contested.push(request);
        None
    }

    /// Notes the question of another node about a request of this one; without room the request fails in the end.
    pub(super) fn ask(&mut self, me: Peer, question: CallerQuestion) {
        let is_open = self.questions.iter().any(|open| open.question == question);
        if self.questions.len() < WAITING_MAX && !is_open {
            let earlier = self.before(me, question.number);
            self.questions.push(OpenQuestion { question, earlier });
        }
    }

    /// Takes the request of another node that waits for this proof.
    pub(super) fn take_contested(&mut self, peer: Peer, number: RequestNumber) -> Option<RemoteRequest> {
        let is_meant = |request: &RemoteRequest| request.peer == peer && request.call.number == number;
        let place = self.contested.iter().position(is_meant)?;
        Some(self.contested.remove(place))
    }

    /// Takes the requests whose callers have not shown in time that they live.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<RemoteRequest> {
        let (expired, kept) =
            std::mem::take(&mut self.contested).into_iter().partition(|request| now >= proof_limit(request));
        self.contested = kept;
        expired
    }

    /// Takes all requests that wait for a proof.
    pub(super) fn take_all_contested(&mut self) -> Vec<RemoteRequest> {
        std::mem::take(&mut self.contested)
    }

    /// Drops what peers wait for that have left.
    pub(super) fn abandon(&mut self, is_gone: &impl Fn(Peer) -> bool, is_member: impl Fn(NodeId) -> bool) {
        self.contested.retain(|request| !is_gone(request.peer));
        self.questions.retain(|open| is_member(open.question.node));
    }

    /// Returns when the next request expires that waits for a proof.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.contested.iter().map(proof_limit).min()
    }

    /// Takes the questions for which no earlier request is awaited any more.
    pub(super) fn take_ready(
        &mut self,
        is_held: impl Fn(Peer, RequestNumber) -> bool,
    ) -> Vec<CallerQuestion> {
        let mut ready = Vec::new();
        self.questions.retain_mut(|open| {
            while open.earlier.last().is_some_and(|&(peer, number)| !is_held(peer, number)) {
                open.earlier.pop();
            }
            if open.earlier.is_empty() {
                ready.push(open.question);
            }
            !open.earlier.is_empty()
        });
        ready
    }
}

/// Returns when a request fails whose caller has not shown that it lives.
fn proof_limit(request: &RemoteRequest) -> Instant {
    request.at + SERVE_LIMIT
}
