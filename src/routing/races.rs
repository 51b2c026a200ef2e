//! Race guard across hosts: of VMs that fence each other, each at its own host, at least one stays.
//!
//! The group's order of the power requests decides. A host that is to carry one out looks for an earlier one of
//! another host at the host that asks: that may have ended the caller, which only the asking host knows. Then it
//! asks that host whether the caller lives, and carries the request out if so. The asking host answers once all
//! earlier power requests here are answered, and its caller has shown since that it lives. Only earlier requests
//! are waited for, so the first one never waits.
//!
//! Requests by one host never contest each other. The requests of C daemons contest, and are not contested: a C
//! daemon answers no questions.

use super::remote_queue::{HeldKind, RemoteRequest};
use super::router::Router;
use super::task::TaskOrigin;
use super::vocabulary::{CallerQuestion, Peer, RouterAction};
use crate::fence::Operation;
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, ClusterMessage, NodeId, RequestNumber};

impl Router {
    /// Notes a request that the group has delivered, of this node too.
    pub(super) fn note_order(&mut self, peer: Peer, call: &ClusterCall, at: Instant) {
        if matches!(call.operation, Operation::Off | Operation::Reboot) {
            self.races.note(peer, call, at);
        }
    }

    /// Takes the request of another node that this one is to carry out.
    pub(super) fn carry_out(&mut self, request: RemoteRequest) {
        let RemoteRequest { peer, call, .. } = &request;
        let is_power = matches!(call.operation, Operation::Off | Operation::Reboot);
        let can_ask = self.view.members.is_extended(peer.node) && !self.remote.is_stopping();
        if !(is_power && can_ask && self.races.is_contested(&request)) {
            return self.hold(request, HeldKind::CarryOut);
        }
        let question = ClusterMessage::ProveCaller { to: peer.node, number: call.number };
        match self.races.hold(request) {
            None => drop(self.outbox.send(question)),
            Some(request) => self.refuse_remote(request, "too many contested requests are waiting"),
        }
    }

    /// Takes the answer of a node to the question whether the caller of its request lives.
    pub(super) fn proof_given(&mut self, peer: Peer, number: RequestNumber, lives: bool, now: Instant) {
        let Some(mut request) = self.races.take_contested(peer, number) else { return };
        request.grow_old(now);
        if !lives {
            self.refuse_remote(
                request,
                "its caller may have been fenced itself: it has shown no sign of life",
            );
        } else if request.is_old {
            self.refuse_old(request);
        } else {
            self.hold(request, HeldKind::CarryOut);
        }
    }

    /// Takes the question of a node whether the caller of a request of this one lives.
    pub(super) fn asked_for_proof(&mut self, node: NodeId, number: RequestNumber) {
        let Some(me) = self.view.members.me().filter(|me| me.node != node) else { return };
        if !self.view.members.is_extended(node) {
            return;
        }
        let question = CallerQuestion { node, number };
        match self.tasks.awaiting_reply(number) {
            Some(_) => self.races.ask(me, question),
            // Nobody waits for it.
            None => self.caller_proved(question, false),
        }
    }

    /// Answers the questions of other nodes, or has their callers asked, once the earlier requests are answered.
    pub(super) fn pursue_questions(&mut self) {
        let Router { races, remote, .. } = self;
        for question in races.take_ready(|peer, number| remote.is_held(peer, number)) {
            let CallerQuestion { node, number } = question;
            let task = self.tasks.awaiting_reply(number).and_then(|id| self.tasks.get(id));
            let task = task.filter(|task| task.requests().contains_key(&node));
            match task.map(|task| (&task.origin, task.vm(), task.limits.answer)) {
                Some((TaskOrigin::Client(client), Some(vm), expires)) => {
                    let client = *client;
                    self.outbox.act(RouterAction::ProveCaller { client, question, vm, expires });
                }
                // A C daemon asks, which answers no questions.
                Some((TaskOrigin::Node(_), ..)) => self.caller_proved(question, true),
                // Nobody waits for it.
                Some((TaskOrigin::Client(_), None, _)) | None => self.caller_proved(question, false),
            }
        }
    }

    /// Reports whether the caller of a request has shown that it lives, after all that may have ended it before.
    pub fn caller_proved(&mut self, question: CallerQuestion, lives: bool) {
        let CallerQuestion { node, number } = question;
        let lives = lives && self.tasks.awaiting_reply(number).is_some();
        if !lives {
            self.outbox.note(format!(
                "node {node} does not carry out request {} of this node: its caller may have been fenced \
                 itself, and has shown no sign of life",
                number.0
            ));
        }
        self.outbox.send(ClusterMessage::CallerProof { to: node, number, lives });
    }

    /// Fails the requests whose callers have not shown in time that they live.
    pub(super) fn fail_unproved(&mut self, now: Instant) {
        for request in self.races.take_expired(now) {
            let reason = "its caller may have been fenced itself: its host has not said whether it lives";
            self.refuse_remote(request, reason);
        }
    }
}
