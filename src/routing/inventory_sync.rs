//! What is told of VMs: to the group of those here, and by it of all others.

use super::ids::Sequence;
use std::time::Instant;

use super::client_requests::LOOK_AGAIN;
use super::directory::News;
use super::inventory::Lost;
use super::members::HasTold;
use super::router::Router;
use super::{LocalVm, PROBE_LIMIT, Peer};
use crate::fence::{PowerState, Uuid};
use crate::wire::cluster::{Advertisement, ClusterMessage, NodeId};

impl Router {
    /// A member has told a VM.
    pub(super) fn told(&mut self, from: Peer, told: &Advertisement, now: Instant) {
        if told.owner != from.node {
            let (node, owner) = (from.node, told.owner);
            return self.note(format!("node {node} says that {} is on node {owner}", told.domain));
        }
        match self.table.store(from.node, told, now) {
            None => self.note(format!("node {} has too many VMs: {} is left out", from.node, told.domain)),
            Some(News { is_news, has_started }) => {
                if !self.table.is_me(from.node) && has_started {
                    self.local.is_elsewhere(told.domain.uuid);
                }
                if told.state == PowerState::Off {
                    self.local.is_not_elsewhere(told.domain.uuid);
                }
                if is_news {
                    self.review_vm(told.domain.uuid, now);
                }
            }
        }
    }

    /// All VMs at one of this node's URIs.
    pub fn listed(&mut self, place: usize, vms: Vec<LocalVm>, now: Instant) {
        let order = self.table.next_order();
        for gone in self.local.list(place, vms, order) {
            self.tell_gone(gone, now);
        }
        self.review_all(now);
    }

    /// One of this node's URIs does not answer: until it is listed again, nobody is
    /// told that all VMs here were told.
    pub fn unlisted(&mut self, place: usize) {
        self.local.unlist(place);
    }

    /// A VM at one of this node's URIs, as it was seen.
    pub fn seen(&mut self, place: usize, vm: LocalVm, now: Instant) {
        let uuid = vm.uuid;
        let order = self.table.next_order();
        self.local.see(place, vm, order);
        self.review_vm(uuid, now);
    }

    /// A VM is not at this URI any more.
    pub fn vanished(&mut self, place: usize, uuid: Uuid, now: Instant) {
        let order = self.table.next_order();
        if let Some(gone) = self.local.lose(place, uuid, order) {
            self.tell_gone(gone, now);
        }
        self.review_vm(uuid, now);
    }

    /// Whether all have told all their VMs since what was told at this place in the
    /// order of the group; without one, whether all members have told them at all.
    /// If not, they are asked to, and it says until when to wait for that, if it is
    /// not in vain; `text` is the VM that it is about.
    pub(super) fn has_told_since(
        &mut self,
        order: Option<Sequence>,
        text: &str,
        now: Instant,
    ) -> Result<(), Option<Instant>> {
        if order.is_some() && !self.table.has_all() {
            return Err(None);
        }
        match self.table.told_since(order.unwrap_or_default(), now) {
            HasTold::All if !self.local.is_listed() => Err(Some(now + LOOK_AGAIN)),
            HasTold::All => Ok(()),
            HasTold::Until(at) => Err(Some(at)),
            HasTold::Ask => {
                let number = self.next_number();
                self.table.asked(number, now);
                self.push(ClusterMessage::AdvertiseAll { number });
                if self.table.mutes().next().is_some() {
                    // C daemons tell all when they are asked for one.
                    self.probe(text);
                }
                Err(Some(now + PROBE_LIMIT))
            }
        }
    }

    /// Until when to wait for a VM of this name or UUID to be told, that no
    /// member is known to have; none if that is in vain.
    pub fn seek(&mut self, text: &str, now: Instant) -> Option<Instant> {
        if self.not_joined().is_some() {
            return None;
        }
        let has_mutes = self.table.mutes().next().is_some();
        let is_due = self.sought.is_none_or(|at| now >= at + PROBE_LIMIT);
        if has_mutes && is_due {
            self.probe(text);
            self.sought = Some(now);
        }
        let probed = self.sought.filter(|_| has_mutes).map(|at| at + PROBE_LIMIT);
        self.table.unsettled_until(now).max(probed)
    }

    fn tell_gone(&mut self, lost: Lost, now: Instant) {
        if lost.has_run {
            self.table.gone_here(&lost.domain, now);
        }
        if self.not_joined().is_none() {
            let (domain, owner, state) = (lost.domain, NodeId(0), PowerState::Off);
            self.push(ClusterMessage::Gone(Advertisement { domain, owner, state, is_active: false }));
        }
    }

    pub(super) fn tell_all(&mut self) {
        self.push(ClusterMessage::Hello { is_complete: false });
        self.local.tell_all();
    }
}
