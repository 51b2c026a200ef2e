//! Placements of VMs: which node has, or had, a copy of which VM.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::copy_record::{CopyRecord, OffCause, Presence};
use super::ids::Sequence;
use super::vocabulary::Names;
use crate::fence::Uuid;
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, NodeId, cut};

/// Maximum number of VMs of one node.
const VMS_MAX: usize = 16_384;

/// Effect of an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreEffect {
    pub(super) is_change: bool,
    /// The VM was started on that node, or has moved there.
    pub(super) has_started: bool,
}

/// Copies of all VMs.
#[derive(Debug, Default)]
pub(super) struct Directory {
    vms: BTreeMap<Uuid, BTreeMap<NodeId, CopyRecord>>,
    /// Number of copies by node.
    counts: BTreeMap<NodeId, usize>,
    /// Number of copies by name in lower case, as C daemons compare names.
    names: HashMap<String, BTreeMap<Uuid, usize>>,
    seq: Sequence,
    /// Nodes that may have vanished copies.
    with_vanished: BTreeSet<NodeId>,
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
        Some(StoreEffect { is_change, has_started })
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
    pub(super) fn withdraw(&mut self, node: NodeId, uuid: Uuid) -> bool {
        let seq = self.next_seq();
        let runs_elsewhere =
            self.copies(uuid).any(|(other, copy)| other != node && copy.is_here() && copy.runs());
        match self.copy_mut(node, uuid) {
            Some(copy) if copy.runs() && !runs_elsewhere => {
                copy.seq = seq;
                let before = std::mem::replace(&mut copy.presence, Presence::Vanished);
                self.with_vanished.insert(node);
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
    pub(super) fn forget_departed(&mut self, node: NodeId) {
        for uuid in self.of_node(node, CopyRecord::is_away) {
            self.withdraw(node, uuid);
        }
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

    /// Returns the VMs that a name or UUID refers to.
    pub(super) fn lookup(&self, text: &str, names: Names) -> BTreeSet<Uuid> {
        let mut found = BTreeSet::new();
        if names != Names::Name {
            found.extend(Uuid::parse(text).filter(|uuid| self.vms.contains_key(uuid)));
        }
        if names != Names::Uuid {
            let named = self.names.get(&cut(text).to_lowercase());
            found.extend(named.into_iter().flat_map(|uuids| uuids.keys()));
        }
        found
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

    /// Returns the names under which a VM was advertised.
    pub(super) fn names_of(&self, uuid: Uuid) -> impl Iterator<Item = &str> {
        self.copies(uuid).map(|(_, copy)| copy.name.as_str())
    }
}
