//! Events of the group, and what the router's caller fetches after each.

use super::directory::Leaving;
use super::greetings::Greetings;
use super::limits::NOTICE_LIMIT;
use super::remote_queue::RemoteRequest;
use super::remote_requests::STOPPING;
use super::router::Router;
use super::rules::Rules;
use super::vocabulary::{Membership, Names, Outgoing, Peer, RequestExpiry, RouterAction};
use crate::time::Instant;
use crate::wire::cluster::{ClusterMessage, NO_REQUEST, NodeId, Report};

impl Router {
    /// Reports that this node joins the group; it has joined once [`Router::changed`] reports it as a member.
    pub fn joined(&mut self, me: Peer, now: Instant) {
        self.view.join(me, now);
        self.races.clear();
        self.greetings = Greetings::default();
        self.advertise_all(now);
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
        for request in self.races.take_all_contested() {
            self.refuse_remote(request, STOPPING);
        }
    }

    /// Reports a change of the group.
    pub fn changed(&mut self, change: &Membership, now: Instant) {
        let Some(me) = self.view.members.me() else { return };
        let before = self.view.directory.seq();
        let told = self.view.members.told_before_leaving(&change.left);
        self.view.change(change, now);
        self.abandon(|peer| change.left.iter().any(|(left, _)| *left == peer));
        let changed = change.left.iter().map(|(left, _)| left).chain(&change.joined);
        changed.for_each(|peer| self.view.tables.forget(peer.node));
        let has_joined = change.joined.iter().any(|&peer| peer != me);
        let mut has_told = false;
        if has_joined {
            has_told = self.tell_of_absent(before, now);
            let fenced: Vec<NodeId> = self.view.hosts.all_fenced().collect();
            fenced.into_iter().for_each(|node| self.tell_of_fence(node, now));
        }
        if let Some(told) = told.filter(|_| !has_told) {
            self.tell_of_departed(told, now);
        }
        self.advertise_after_change(has_joined, now);
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

    /// Reports the nodes that corosync's configuration names; none if it names none.
    pub fn configured(&mut self, nodes: Option<Vec<NodeId>>, now: Instant) {
        self.view.hosts.configure(nodes, now);
        self.tasks.review_all(now);
    }

    /// Reports that the fencer of this host has recorded a successful off or reboot of a host that was lost
    /// from the cluster, made after that host was last up. The group is told.
    pub fn host_fenced(&mut self, node: NodeId, now: Instant) {
        if self.view.hosts.fenced(node, now) {
            self.tell_of_fence(node, now);
            self.tasks.review_all(now);
        }
    }

    /// Tells the group that a node was fenced, if it is not back.
    pub(super) fn tell_of_fence(&mut self, node: NodeId, now: Instant) {
        if self.view.hosts.is_fenced(node) {
            self.outbox.send_until(ClusterMessage::HostFenced { node }, Some(now + NOTICE_LIMIT));
        }
    }

    /// Reports whether the cluster's fencer on this host is asked which hosts it has fenced. If so, requests for
    /// VMs of a lost host wait for that.
    pub fn set_awaits_fencing(&mut self, awaits_fencing: bool, now: Instant) {
        self.view.hosts.set_awaits_fencing(awaits_fencing);
        self.tasks.review_all(now);
    }

    /// Adopts the administrator's rules after a reload.
    pub fn set_rules(&mut self, rules: Rules, now: Instant) {
        self.view.rules = rules;
        self.tasks.review_all(now);
    }

    /// Reports a message of the group, delivered at `at`. `is_old` tells that it may have waited unread
    /// before that.
    pub fn heard(&mut self, peer: Peer, bytes: &[u8], at: Instant, is_old: bool, now: Instant) {
        let node = peer.node;
        if !self.view.members.has(peer) {
            return;
        }
        let message = match ClusterMessage::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                return self.outbox.note(format!("ignoring malformed message from node {node}: {error}"));
            }
        };
        match message {
            ClusterMessage::Request(call) => {
                self.note_order(peer, &call, at);
                let request = RemoteRequest { peer, call, at, is_old };
                self.requested(request, now);
            }
            ClusterMessage::Reply { call, response } => self.replied(node, &call, response, now),
            ClusterMessage::Store(vm) => self.advertised(peer, &vm, now),
            ClusterMessage::Gone { vm, has_ended } => {
                self.view.inventory.is_not_elsewhere(vm.domain.uuid);
                let leaving = if has_ended { Leaving::Ended } else { Leaving::Told };
                if self.view.directory.withdraw(node, vm.domain.uuid, leaving, now) {
                    self.tasks.review_vm(vm.domain.uuid, now);
                }
            }
            ClusterMessage::Hello { is_complete } => self.hello(peer, is_complete, now),
            ClusterMessage::Table(digest) => self.told_digest(peer, digest, now),
            ClusterMessage::TellAll { node: asked } => self.asked_to_tell(asked, now),
            ClusterMessage::Locate { number, name } => self.locate(peer, number, name, at),
            ClusterMessage::Located { to, number } if self.view.members.is_me(to) => {
                if self.view.locates.answered(node, number) {
                    self.tasks.review_all(now);
                }
            }
            ClusterMessage::Located { .. } => {}
            ClusterMessage::Report(report) => self.reported(node, &report, now),
            ClusterMessage::HostFenced { node: fenced } if self.view.members.is_extended(node) => {
                if self.view.hosts.fenced(fenced, now) {
                    self.outbox.note(format!("node {node} tells that node {fenced} was fenced"));
                    self.tasks.review_all(now);
                }
            }
            ClusterMessage::HostFenced { .. } => {}
            ClusterMessage::ProveCaller { to, number } if self.view.members.is_me(to) => {
                self.asked_for_proof(node, number);
            }
            ClusterMessage::CallerProof { to, number, lives } if self.view.members.is_me(to) => {
                self.proof_given(peer, number, lives, now);
            }
            ClusterMessage::ProveCaller { .. } | ClusterMessage::CallerProof { .. } => {}
            ClusterMessage::Host(notice) => self.view.learn_host(notice, now),
            ClusterMessage::Copy { vm, fate, age_ms } => self.view.learn(&vm, fate, age_ms, now),
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
        let query = self.view.tables.next_to_ask().map(|node| ClusterMessage::TellAll { node });
        let message = query.or_else(|| self.view.inventory.next_message(me.node))?;
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
            ClusterMessage::Report(report) if report.response == 2 => {
                let mut meant = self.view.meant_here(&report.call.name, Names::Both).into_iter();
                match meant.any(|uuid| self.view.inventory.runs(uuid)) {
                    true => {
                        ClusterMessage::Report(Report { response: 0, evidence: 0, moved_to: None, ..report })
                    }
                    false => ClusterMessage::Report(report),
                }
            }
            other => other,
        }
    }

    /// Returns the next thing to do on this node.
    pub fn next_action(&mut self) -> Option<RouterAction> {
        self.review_changes();
        self.pursue_questions();
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
        self.advertise_due(now);
        self.tell_of_silent(now);
        self.resume_deferred(now);
        self.fail_overdue(now);
        self.fail_unproved(now);
    }

    /// Returns when something is due.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let parts = [
            self.tasks.deadline(now),
            self.view.members.deadline(),
            self.view.members.legacy_deadline(),
            self.view.tables.deadline(),
            self.greetings.deadline(),
            self.view.inventory.deadline(),
            self.view.directory.deadline(),
            self.remote.deadline(),
            self.deferred_until(now),
            self.races.deadline(),
        ];
        parts.into_iter().flatten().min()
    }
}
