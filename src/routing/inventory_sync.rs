//! Advertisements of VMs: those of this node to the group, and those of other members.

use super::ids::Sequence;
use super::inventory::RemovedVm;
use super::limits::PROBE_LIMIT;
use super::locates::LocateProgress;
use super::router::Router;
use super::vocabulary::{LocalVm, Peer};
use crate::fence::{Operation, PowerState, UriIndex, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId};

impl Router {
    /// Applies the advertisement of a member.
    pub(super) fn advertised(&mut self, peer: Peer, vm: &Advertisement, now: Instant) {
        let node = peer.node;
        if vm.owner != node {
            return self.outbox.note(format!(
                "ignoring an advertisement from node {node}: it places {} on node {}",
                vm.domain, vm.owner
            ));
        }
        let Some(effect) = self.view.store(peer, vm, now) else {
            return self.outbox.note(format!("node {node} has too many VMs: ignoring {}", vm.domain));
        };
        if !self.view.members.is_me(node) && effect.has_started {
            self.view.inventory.runs_elsewhere(vm.domain.uuid, node);
        }
        if vm.state == PowerState::Off {
            self.view.inventory.is_not_elsewhere(vm.domain.uuid);
        }
        if effect.is_change {
            self.tasks.review_vm(vm.domain.uuid, now);
        }
    }

    /// Reports all VMs at one of this node's URIs.
    pub fn listed(&mut self, uri: UriIndex, vms: Vec<LocalVm>, now: Instant) {
        let seq = self.view.directory.next_seq();
        for removed in self.view.inventory.list(uri, vms, seq, now) {
            self.withdraw(removed, now);
        }
        self.tasks.review_all(now);
    }

    /// Reports that one of this node's URIs does not answer: until it is listed again, the group is not told
    /// that all VMs here were advertised.
    pub fn unlisted(&mut self, uri: UriIndex) {
        self.view.inventory.unlist(uri);
    }

    /// Reports a VM at one of this node's URIs.
    pub fn seen(&mut self, uri: UriIndex, vm: LocalVm, now: Instant) {
        let uuid = vm.uuid;
        let seq = self.view.directory.next_seq();
        self.view.inventory.update(uri, vm, seq);
        self.tasks.review_vm(uuid, now);
    }

    /// Reports a VM that was found before its event; it is advertised at once, before anything else.
    pub fn find(&mut self, uri: UriIndex, vm: LocalVm, now: Instant) {
        let uuid = vm.uuid;
        self.seen(uri, vm, now);
        let me = self.view.members.me();
        if let Some(message) = me.and_then(|me| self.view.inventory.advertisement(uuid, me.node)) {
            self.outbox.send(message);
        }
    }

    /// Reports that a VM is no longer at one of this node's URIs.
    pub fn vanished(&mut self, uri: UriIndex, uuid: Uuid, now: Instant) {
        let seq = self.view.directory.next_seq();
        if let Some(removed) = self.view.inventory.remove(uri, uuid, seq, now) {
            self.withdraw(removed, now);
        }
        self.tasks.review_vm(uuid, now);
    }

    /// Checks whether all members have looked for a VM since this position, and asks them to if not; returns
    /// the position since which they have. The error is the time until which to wait for that.
    pub(super) fn located_since(
        &mut self,
        since: Sequence,
        text: &str,
        now: Instant,
    ) -> Result<Sequence, Instant> {
        let view = &self.view;
        let members = view.members.nodes().map(|node| (node, !view.members.is_legacy(node)));
        let has_told = |node, at| view.has_told_after(node, at);
        match view.locates.progress(text, since, members, has_told, now) {
            LocateProgress::Complete(at) => Ok(at),
            LocateProgress::WaitUntil(at) => Err(at),
            LocateProgress::AskNow => {
                let number = self.outbox.next_number();
                self.view.locates.asked(number, text, self.view.directory.seq(), now);
                self.outbox.send(ClusterMessage::Locate { number, name: text.to_owned() });
                if self.view.members.has_legacy() {
                    self.probe(text);
                }
                Err(now + PROBE_LIMIT)
            }
        }
    }

    /// Returns the time until which a VM that no member is known to have may still be advertised; none
    /// if waiting is in vain.
    pub fn seek(&mut self, text: &str, now: Instant) -> Option<Instant> {
        if self.not_joined().is_some() {
            return None;
        }
        let mut until = self.view.members.unsettled_until(now);
        if self.view.members.has_legacy() {
            let (is_due, probed_until) = self.view.members.begin_probe(now);
            if is_due {
                self.probe(text);
            }
            until = until.max(Some(probed_until));
        }
        until
    }

    /// Asks the C daemons for a VM; they advertise all their VMs whenever they are asked for one.
    pub(super) fn probe(&mut self, text: &str) {
        let call = ClusterCall {
            number: self.outbox.next_number(),
            target: EVERY_NODE,
            name: text.to_owned(),
            operation: Operation::Status,
            client_number: 0,
        };
        self.outbox.send(ClusterMessage::Request(call));
    }

    fn withdraw(&mut self, removed: RemovedVm, now: Instant) {
        let RemovedVm { domain, has_ended } = removed;
        let me = self.view.members.me().filter(|_| self.not_joined().is_none());
        if !me.is_some_and(|me| self.view.directory.note_leaving(me.node, domain.uuid)) {
            self.view.store_vanished(&domain, has_ended, now);
            if let Some(me) = me {
                // The group has to know that it was here.
                let (domain, state) = (domain.clone(), PowerState::Running);
                let vm = Advertisement { domain, owner: me.node, state, is_active: false };
                self.outbox.send(ClusterMessage::Store(vm));
            }
        }
        if me.is_some() {
            let vm = Advertisement { domain, owner: NodeId(0), state: PowerState::Off, is_active: false };
            self.outbox.send(ClusterMessage::Gone { vm, has_ended });
        }
    }
}
