//! Placements of VMs: which node has, or had, a copy of which VM.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::copy_record::{CopyRecord, OffCause, Presence};
use super::ids::Sequence;
use super::limits::GONE_LIMIT;
use crate::fence::Uuid;
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, NodeId, TOLD_NAME_MAX, cut};

/// Maximum number of VMs of one node.
const VMS_MAX: usize = 16_384;
/// Minimum interval between searches for VMs that have been gone for long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Effect of an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreEffect {
    pub(super) is_change: bool,
    /// The VM was started on that node, or has moved there.
    pub(super) has_started: bool,
    /// No copy of the VM had this name before.
    pub(super) is_new_name: bool,
}

/// Copies of all VMs.
#[derive(Debug, Default, Clone)]
pub(super) struct Directory {
    vms: BTreeMap<Uuid, BTreeMap<NodeId, CopyRecord>>,
    /// Number of copies by node.
    counts: BTreeMap<NodeId, usize>,
    /// Number of copies by name in lower case, as C daemons compare names.
    names: HashMap<String, BTreeMap<Uuid, usize>>,
    seq: Sequence,
    /// Nodes that may have vanished copies.
    with_vanished: BTreeSet<NodeId>,
    /// Time of the next search for VMs that have been gone for long.
    sweep_at: Option<Instant>,
}

impl Directory {
    /// Returns the position of the last advertisement.
    pub(super) fn seq(&self) -> Sequence {
        self.seq
    }

    /// Takes the next position, also for an event that this node did not receive from the group.
    pub(super) fn next_seq(&mut self) -> Sequence {
        self.seq = self.seq.next();
        self.seq
    }

    /// Marks all copies as away, since this node has left the group.
    pub(super) fn leave(&mut self) {
        let copies = self.vms.values_mut().flat_map(BTreeMap::values_mut);
        for copy in copies.filter(|copy| copy.presence != Presence::Vanished) {
            copy.presence = Presence::Left;
        }
    }

    /// Stores an advertisement; none if there is no room for it. `has_all` tells whether all nodes
    /// ever seen are members.
    pub(super) fn store(
        &mut self,
        node: NodeId,
        vm: &Advertisement,
        has_all: bool,
        now: Instant,
    ) -> Option<StoreEffect> {
        let seq = self.next_seq();
        let uuid = vm.domain.uuid;
        let before = self.copy(node, uuid);
        let mut new = CopyRecord::advertised(vm, before, seq, now);
        let is_new = before.is_none();
        new.is_known_to_all |= is_new && has_all;
        // A copy that is just coming in from another node has not started yet.
        let has_started = vm.is_active && !before.is_some_and(CopyRecord::has_started);
        let status = |copy: &CopyRecord| (copy.state, copy.is_active, copy.presence);
        let is_change = before.is_none_or(|copy| status(copy) != status(&new));
        let is_renamed = before.is_none_or(|copy| copy.name != new.name);
        let has_it = |(_, copy): (NodeId, &CopyRecord)| copy.has_name && copy.name == new.name;
        let is_new_name = !self.copies(uuid).any(has_it);
        if is_new && self.is_full(node) {
            return None;
        }
        if is_renamed {
            self.remove(node, uuid);
            *self.counts.entry(node).or_default() += 1;
            *self.names.entry(new.name.to_lowercase()).or_default().entry(uuid).or_default() += 1;
        }
        self.vms.entry(uuid).or_default().insert(node, new);
        if has_started {
            self.supersede(uuid);
        }
        Some(StoreEffect { is_change, has_started, is_new_name })
    }

    /// Returns true if no more VMs of a node can be stored; drops vanished copies to make room.
    fn is_full(&mut self, node: NodeId) -> bool {
        let is_full = |counts: &BTreeMap<NodeId, usize>| counts.get(&node).is_some_and(|&n| n >= VMS_MAX);
        if is_full(&self.counts) && self.with_vanished.remove(&node) {
            for uuid in self.of_node(node, |copy| copy.presence == Presence::Vanished) {
                self.remove(node, uuid);
            }
        }
        is_full(&self.counts)
    }

    /// Removes the copies that are not on members, since the VM was started on a member.
    fn supersede(&mut self, uuid: Uuid) {
        self.has_run_elsewhere(self.seq, uuid);
        let superseded = self.copies(uuid).filter(|(_, copy)| !copy.is_here());
        for node in superseded.map(|(node, _)| node).collect::<Vec<_>>() {
            self.remove(node, uuid);
        }
    }

    /// Explains earlier stops: the VM ran on a member at this position, so it had moved there.
    pub(super) fn has_run_elsewhere(&mut self, seq: Sequence, uuid: Uuid) {
        for copy in self.vms.get_mut(&uuid).into_iter().flat_map(BTreeMap::values_mut) {
            if matches!(copy.off_cause, OffCause::Stopped(at) if at <= seq) {
                copy.off_cause = OffCause::NeverRan;
            }
        }
    }

    /// Records that a member no longer has a VM; returns true if that is a change.
    pub(super) fn withdraw(&mut self, node: NodeId, uuid: Uuid, now: Instant) -> bool {
        let seq = self.next_seq();
        let runs_elsewhere =
            self.copies(uuid).any(|(other, copy)| other != node && copy.is_here() && copy.runs());
        match self.copy_mut(node, uuid) {
            Some(copy) if copy.runs() && !runs_elsewhere => {
                copy.seq = seq;
                copy.advertised_at = now;
                let before = std::mem::replace(&mut copy.presence, Presence::Vanished);
                self.with_vanished.insert(node);
                self.sweep_at.get_or_insert(now + GONE_LIMIT);
                before != Presence::Vanished
            }
            _ => self.remove(node, uuid),
        }
    }

    /// Records a C daemon's reply that it did an off; before that it advertised whether the VM runs.
    pub(super) fn mark_destroyed(&mut self, node: NodeId, uuid: Uuid) {
        if let Some(copy) = self.copy_mut(node, uuid) {
            copy.is_destroyed = copy.is_here() && copy.is_active;
        }
    }

    /// Returns true if a member has advertised a VM since this position.
    pub(super) fn has_advertised_since(&self, node: NodeId, uuid: Uuid, seq: Sequence) -> bool {
        self.copy(node, uuid).is_some_and(|copy| copy.is_here() && copy.seq > seq)
    }

    pub(super) fn remove(&mut self, node: NodeId, uuid: Uuid) -> bool {
        let Some(copies) = self.vms.get_mut(&uuid) else { return false };
        let Some(copy) = copies.remove(&node) else { return false };
        if copies.is_empty() {
            self.vms.remove(&uuid);
        }
        if let Some(count) = self.counts.get_mut(&node) {
            *count -= 1;
        }
        let name = copy.name.to_lowercase();
        if let Some(uuids) = self.names.get_mut(&name) {
            if let Some(count) = uuids.get_mut(&uuid) {
                *count -= 1;
                if *count == 0 {
                    uuids.remove(&uuid);
                }
            }
            if uuids.is_empty() {
                self.names.remove(&name);
            }
        }
        true
    }

    fn of_node(&self, node: NodeId, is_meant: impl Fn(&CopyRecord) -> bool) -> Vec<Uuid> {
        let uuids = self.vms.iter().filter(|(_, copies)| copies.get(&node).is_some_and(&is_meant));
        uuids.map(|(&uuid, _)| uuid).collect()
    }

    /// Withdraws the copies that a returned node did not advertise again.
    pub(super) fn forget_departed(&mut self, node: NodeId, now: Instant) {
        for uuid in self.of_node(node, CopyRecord::is_away) {
            self.withdraw(node, uuid, now);
        }
    }

    /// Takes a name from VMs that have it no more, since a member advertised another VM under it:
    /// from those that are gone, if the other was not called so before, and on that member from all, if
    /// it does not report itself that a VM is gone. No libvirt has two domains of a name.
    pub(super) fn pass_name(&mut self, node: NodeId, vm: &Advertisement, is_new: bool, is_legacy: bool) {
        let name = &vm.domain.name;
        // A longer one was cut: they may differ.
        let is_whole = name.len() < TOLD_NAME_MAX;
        let Some(uuids) = self.names.get(&name.to_lowercase()).filter(|_| is_whole) else { return };
        for uuid in uuids.keys().filter(|&&uuid| uuid != vm.domain.uuid) {
            for (&other, copy) in self.vms.get_mut(uuid).into_iter().flatten() {
                let is_gone = is_new && copy.presence == Presence::Vanished;
                if copy.name == *name && (is_gone || (is_legacy && other == node)) {
                    copy.has_name = false;
                }
            }
        }
    }

    /// Ends the names of VMs that have been gone for long, and forgets those of them that
    /// `is_confirmed` tells, by the position at which they went, to be on no node.
    pub(super) fn sweep(&mut self, is_confirmed: impl Fn(Uuid, Sequence) -> bool, now: Instant) {
        if self.sweep_at.is_none_or(|at| now < at) {
            return;
        }
        let mut confirmed = Vec::new();
        let mut next = None;
        for (&uuid, copies) in &mut self.vms {
            for (&node, copy) in copies.iter_mut().filter(|(_, copy)| copy.presence == Presence::Vanished) {
                if now < copy.advertised_at + GONE_LIMIT {
                    next = next.min(Some(copy.advertised_at + GONE_LIMIT)).or(next);
                } else if is_confirmed(uuid, copy.seq) {
                    confirmed.push((node, uuid));
                } else {
                    copy.has_name = false;
                    next = Some(now);
                }
            }
        }
        self.sweep_at = next.map(|at| at.max(now + SWEEP_INTERVAL));
        for (node, uuid) in confirmed {
            self.remove(node, uuid);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Records that a node has left the group.
    pub(super) fn depart(&mut self, node: NodeId, presence: Presence) {
        let copies = self.vms.values_mut().filter_map(|copies| copies.get_mut(&node));
        for copy in copies.filter(|copy| copy.is_here()) {
            copy.presence = presence;
        }
    }

    /// Records that a node is up: if it was lost, it may run what it ran.
    pub(super) fn node_is_up(&mut self, node: NodeId) {
        if self.counts.get(&node).is_none_or(|&count| count == 0) {
            return;
        }
        for copy in self.vms.values_mut().filter_map(|copies| copies.get_mut(&node)) {
            if matches!(copy.presence, Presence::Lost { .. }) {
                copy.presence = Presence::Left;
            }
        }
    }

    /// Confirms or revokes losses by the nodes that the quorum service sees.
    pub(super) fn confirm_losses(&mut self, nodes: &BTreeSet<NodeId>) {
        for (node, copy) in self.vms.values_mut().flatten() {
            let Presence::Lost { is_confirmed, .. } = &mut copy.presence else { continue };
            match (nodes.contains(node), *is_confirmed) {
                (false, _) => *is_confirmed = true,
                // The node went and came back; otherwise this report precedes its loss.
                (true, true) => copy.presence = Presence::Left,
                (true, false) => {}
            }
        }
    }

    /// Returns true if any node has or had a copy of a VM.
    pub(super) fn knows(&self, uuid: Uuid) -> bool {
        self.vms.contains_key(&uuid)
    }

    /// Returns the copies that have a name, in whatever case.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = (Uuid, NodeId, &CopyRecord)> {
        let name = cut(name).to_lowercase();
        let uuids = self.names.get(&name).into_iter().flat_map(BTreeMap::keys);
        let copies = uuids.flat_map(|&uuid| self.copies(uuid).map(move |(node, copy)| (uuid, node, copy)));
        copies.filter(move |(.., copy)| copy.has_name && copy.name.to_lowercase() == name)
    }

    pub(super) fn copy(&self, node: NodeId, uuid: Uuid) -> Option<&CopyRecord> {
        self.vms.get(&uuid)?.get(&node)
    }

    fn copy_mut(&mut self, node: NodeId, uuid: Uuid) -> Option<&mut CopyRecord> {
        self.vms.get_mut(&uuid)?.get_mut(&node)
    }

    /// Returns the copies of a VM, by node.
    pub(super) fn copies(&self, uuid: Uuid) -> impl Iterator<Item = (NodeId, &CopyRecord)> {
        self.vms.get(&uuid).into_iter().flatten().map(|(&node, copy)| (node, copy))
    }

    pub(super) fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.vms.keys().copied()
    }
}
