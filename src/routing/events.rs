//! Events of the group, and what the router's caller fetches after each.

use super::limits::NOTICE_LIMIT;
use super::remote_queue::RemoteRequest;
use super::router::Router;
use super::vocabulary::{Membership, Names, Outgoing, Peer, RequestExpiry, RouterAction};
use crate::time::Instant;
use crate::wire::cluster::{ClusterMessage, NO_REQUEST, NodeId};

impl Router {
    /// Reports that this node joins the group; it has joined once [`Router::changed`] reports it as a member.
    pub fn joined(&mut self, me: Peer, now: Instant) {
        self.view.join(me, now);
        self.advertise_all();
    }

    /// Reports that this node is no longer in the group; everything that waits for other nodes fails.
    pub fn lost(&mut self, reason: &str) {
        self.fail_tasks(reason);
        self.abandon(|_| true);
        self.remote.forget_unanswered();
        self.outbox.clear_messages();
        self.view.leave(reason);
    }

    /// Prepares to leave the group: requests that wait for other nodes fail; requests of other nodes
    /// that are being carried out are still answered.
    pub fn stop(&mut self) {
        self.remote.stop();
        self.fail_tasks("the daemon is stopping");
        self.refuse_deferred();
    }

    /// Reports a change of the group.
    pub fn changed(&mut self, change: &Membership, now: Instant) {
        let Some(me) = self.view.members.me() else { return };
        self.view.change(change, now);
        self.abandon(|peer| change.left.iter().any(|(left, _)| *left == peer));
        // C daemons expect advertisements also when a member has left.
        if change.joined.iter().any(|&peer| peer != me) || self.view.members.has_legacy() {
            self.advertise_all();
        }
        self.tasks.review_all(now);
    }

    /// Reports whether messages of the group are undelivered, after a freeze or in a crowd. Nothing is
    /// decided meanwhile.
    pub fn set_undelivered(&mut self, has_undelivered: bool, now: Instant) {
        if self.view.set_undelivered(has_undelivered) && !has_undelivered {
            self.tasks.review_all(now);
        }
    }

    /// Reports what the quorum service says.
    pub fn votes(&mut self, is_quorate: bool, nodes: &[NodeId], now: Instant) {
        self.view.votes(is_quorate, nodes, now);
        self.tasks.review_all(now);
    }

    /// Reports that the fencer of this host has recorded a successful off or reboot of a host that was lost
    /// from the cluster, made after that host was last up. The group is told.
    pub fn host_fenced(&mut self, node: NodeId, now: Instant) {
        if self.view.members.host_fenced(node) {
            self.tell_of_fence(node, now);
            self.tasks.review_all(now);
        }
    }

    /// Tells the group that a node was fenced, if it is not back.
    pub(super) fn tell_of_fence(&mut self, node: NodeId, now: Instant) {
        if self.view.members.is_fenced(node) {
            self.outbox.send_until(ClusterMessage::HostFenced { node }, Some(now + NOTICE_LIMIT));
        }
    }

    /// Reports a message of the group, delivered at `at`. `is_old` tells that it may have waited unread
    /// before that.
    pub fn heard(&mut self, peer: Peer, bytes: &[u8], at: Instant, is_old: bool, now: Instant) {
        let node = peer.node;
        if !self.view.members.is_member(node) {
            return;
        }
        let message = match ClusterMessage::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                return self.outbox.note(format!("ignoring malformed message from node {node}: {error}"));
            }
        };
        match message {
            ClusterMessage::Request(call) => self.requested(RemoteRequest { peer, call, at, is_old }, now),
            ClusterMessage::Reply { call, response } => self.replied(node, &call, response, now),
            ClusterMessage::Store(vm) => self.advertised(node, &vm, now),
            ClusterMessage::Gone(vm) => {
                self.view.inventory.is_not_elsewhere(vm.domain.uuid);
                if self.view.directory.withdraw(node, vm.domain.uuid, now) {
                    self.tasks.review_vm(vm.domain.uuid, now);
                }
            }
            ClusterMessage::Hello { is_complete } => {
                if self.view.hello(node, is_complete, now) {
                    self.resume_deferred(now);
                    self.tasks.review_all(now);
                }
            }
            ClusterMessage::AdvertiseAll { number } if !self.view.members.is_me(node) => {
                self.view.inventory.advertise_all_to(node, number);
            }
            ClusterMessage::AllAdvertised { to, number } if self.view.members.is_me(to) => {
                if self.view.members.answered(node, number) {
                    self.tasks.review_all(now);
                }
            }
            ClusterMessage::HostFenced { node: fenced } if self.view.members.is_extended(node) => {
                if self.view.members.host_fenced(fenced) {
                    self.outbox.note(format!("node {node} tells that node {fenced} was fenced"));
                    self.tasks.review_all(now);
                }
            }
            ClusterMessage::AdvertiseAll { .. }
            | ClusterMessage::AllAdvertised { .. }
            | ClusterMessage::HostFenced { .. } => {}
        }
    }

    /// Returns the next message for the group.
    pub fn next_message(&mut self, now: Instant) -> Option<Outgoing> {
        self.review_changes();
        let me = self.view.members.me()?;
        while let Some((message, expires)) = self.outbox.next_message() {
            let expiry = match (&message, expires) {
                (ClusterMessage::Request(call), Some(at)) => {
                    Some(RequestExpiry { at, node: call.target, number: call.number })
                }
                (&ClusterMessage::HostFenced { node }, Some(at)) => {
                    Some(RequestExpiry { at, node, number: NO_REQUEST })
                }
                _ => None,
            };
            match expiry.filter(|expiry| now >= expiry.at) {
                Some(expiry) => self.unsent(expiry, now),
                None => return Some(Outgoing { bytes: self.still_true(message).encode(), expiry }),
            }
        }
        if self.not_joined().is_some() {
            return None;
        }
        let message = self.view.inventory.next_message(me.node)?;
        Some(Outgoing { bytes: message.encode(), expiry: None })
    }

    /// Corrects a reply that a VM is off, if it runs by now: the reply may have waited.
    fn still_true(&self, message: ClusterMessage) -> ClusterMessage {
        match message {
            ClusterMessage::Reply { call, response: 2 } => {
                let mut meant = self.view.meant_here(&call.name, Names::Both).into_iter();
                let runs = meant.any(|uuid| self.view.inventory.runs(uuid));
                ClusterMessage::Reply { call, response: if runs { 0 } else { 2 } }
            }
            other => other,
        }
    }

    /// Returns the next thing to do on this node.
    pub fn next_action(&mut self) -> Option<RouterAction> {
        self.review_changes();
        self.pump();
        self.outbox.next_action()
    }

    /// Does what is due.
    pub fn turn(&mut self, now: Instant) {
        self.review_changes();
        if self.view.members.deadline().is_some_and(|at| now >= at) {
            self.view.turn(now);
            self.tasks.review_all(now);
        }
        self.view.sweep(now);
        while let Some(task) = self.tasks.take_due(now) {
            self.proceed(task, now);
        }
        if self.view.inventory.is_resync_due(now) {
            self.advertise_all();
        }
        self.resume_deferred(now);
        self.fail_overdue(now);
    }

    /// Returns when something is due.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let parts = [
            self.tasks.deadline(now),
            self.view.members.deadline(),
            self.view.inventory.deadline(),
            self.view.directory.deadline(),
            self.remote.deadline(),
            self.deferred_until(now),
        ];
        parts.into_iter().flatten().min()
    }
}
