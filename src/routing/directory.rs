//! Placements of VMs: which node has, or had, a copy of which VM.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::copy_record::{CopyRecord, OffCause, Presence};
use super::ids::Sequence;
use super::limits::GONE_LIMIT;
use super::small_map::SmallMap;
use crate::fence::{PowerState, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, NodeId, TOLD_NAME_MAX, cut};

/// Maximum number of VMs of one node.
const VMS_MAX: usize = 16_384;
/// Minimum interval between searches for VMs that have been gone for long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How it is known that a node no longer has a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The node told it.
    Told,
    /// The VM was seen to end there.
    Ended,
    /// The node does not tell it any more.
    Inferred,
}

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
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    vms: BTreeMap<Uuid, SmallMap<NodeId, CopyRecord>>,
    /// VMs with a copy on each node.
    by_node: BTreeMap<NodeId, BTreeSet<Uuid>>,
    /// Number of copies by name in lower case, as C daemons compare names.
    names: HashMap<String, SmallMap<Uuid, usize>>,
    seq: Sequence,
    /// Nodes that may have copies that are gone.
    with_gone: BTreeSet<NodeId>,
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
        let copies = self.vms.values_mut().flat_map(SmallMap::iter_mut);
        for (_, copy) in copies.filter(|(_, copy)| copy.is_here()) {
            copy.presence = Presence::Away;
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
        }
        self.insert(node, uuid, new);
        if has_started {
            self.supersede(uuid);
        }
        Some(StoreEffect { is_change, has_started, is_new_name })
    }

    fn insert(&mut self, node: NodeId, uuid: Uuid, copy: CopyRecord) {
        let name = copy.name.to_lowercase();
        if self.vms.entry(uuid).or_default().insert(node, copy).is_none() {
            self.by_node.entry(node).or_default().insert(uuid);
            *self.names.entry(name).or_default().get_or_default(uuid) += 1;
        }
    }

    /// Takes what another member knows of a copy that its node does not tell. If the copy is known here, only
    /// that it may run counts, and only if the other one `is_newer`.
    pub(super) fn learn(&mut self, vm: &Advertisement, presence: Presence, is_newer: bool, now: Instant) {
        let node = vm.owner;
        let uuid = vm.domain.uuid;
        let may_run = presence == Presence::Away && vm.state == PowerState::Running;
        let is_known_to_run = |copy: &CopyRecord| copy.is_here() || (copy.is_away() && copy.runs());
        let is_known =
            self.copy(node, uuid).is_some_and(|copy| !is_newer || !may_run || is_known_to_run(copy));
        let runs_here = self.copies(uuid).any(|(_, copy)| copy.is_here() && copy.has_started());
        if is_known || runs_here || self.is_full(node) {
            return;
        }
        self.remove(node, uuid);
        let seq = self.next_seq();
        let record = CopyRecord::advertised(vm, None, seq, now);
        if presence != Presence::Away {
            self.with_gone.insert(node);
            self.sweep_at.get_or_insert(now + GONE_LIMIT);
        }
        let off_since = Some(now).filter(|_| presence != Presence::Away);
        let has_ended = presence == Presence::Ended;
        self.insert(node, uuid, CopyRecord { presence, has_ended, off_since, ..record });
    }

    /// Records that a VM ran on a node after it ran on another one.
    pub(super) fn has_run_after(&mut self, node: NodeId, other: NodeId, uuid: Uuid) {
        let since = self.copy(other, uuid).map_or(Sequence::START, |copy| copy.active_since).next();
        if let Some(copy) = self.copy_mut(node, uuid) {
            copy.active_since = copy.active_since.max(since);
        }
    }

    /// Returns the copies that their nodes do not tell.
    pub(super) fn untold(&self) -> impl Iterator<Item = (NodeId, Uuid, &CopyRecord)> {
        let copies = self
            .vms
            .iter()
            .flat_map(|(&uuid, copies)| copies.iter().map(move |(node, copy)| (node, uuid, copy)));
        copies.filter(|(.., copy)| !copy.is_here())
    }

    /// Returns true if no more VMs of a node can be stored; drops copies that are gone to make room.
    fn is_full(&mut self, node: NodeId) -> bool {
        let is_full =
            |directory: &Directory| directory.by_node.get(&node).is_some_and(|uuids| uuids.len() >= VMS_MAX);
        if is_full(self) && self.with_gone.remove(&node) {
            for uuid in self.of_node(node, CopyRecord::is_gone) {
                self.remove(node, uuid);
            }
        }
        is_full(self)
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
        for (_, copy) in self.vms.get_mut(&uuid).into_iter().flat_map(SmallMap::iter_mut) {
            if matches!(copy.off_cause, OffCause::Stopped(at) if at <= seq) {
                copy.off_cause = OffCause::Known;
            }
        }
    }

    /// Notes that a node is about to tell that it no longer has a VM; returns false if it has not told that VM.
    pub(super) fn note_leaving(&mut self, node: NodeId, uuid: Uuid) -> bool {
        let seq = self.next_seq();
        let copy = self.copy_mut(node, uuid).filter(|copy| copy.is_here());
        copy.map(|copy| copy.seq = seq).is_some()
    }

    /// Records that a node no longer has a VM; returns true if that is a change.
    pub(super) fn withdraw(&mut self, node: NodeId, uuid: Uuid, leaving: Leaving, now: Instant) -> bool {
        let seq = self.next_seq();
        // One that was not told to be active may have been, and moved, before that could be told.
        let begun = |copy: &CopyRecord| if copy.is_active { copy.active_since } else { seq };
        let since = self.copy(node, uuid).map_or(Sequence::START, begun);
        // A copy that was only seen to come in there, by a migration, may be gone too.
        let is_successor = |copy: &CopyRecord| copy.is_here() && copy.is_active && copy.active_since > since;
        let runs_elsewhere = self.copies(uuid).any(|(other, copy)| other != node && is_successor(copy));
        match self.copy_mut(node, uuid) {
            Some(copy) if !runs_elsewhere => {
                copy.active_since = copy.active_since.max(since);
                copy.seq = seq;
                let told_at = std::mem::replace(&mut copy.advertised_at, now);
                copy.off_since.get_or_insert(if leaving == Leaving::Inferred { told_at } else { now });
                copy.has_ended |= leaving == Leaving::Ended;
                let presence = if copy.has_ended { Presence::Ended } else { Presence::Vanished };
                let before = std::mem::replace(&mut copy.presence, presence);
                self.with_gone.insert(node);
                self.sweep_at.get_or_insert(now + GONE_LIMIT);
                before != presence
            }
            _ => self.remove(node, uuid),
        }
    }

    /// Records that a node said that its copy runs. It may be gone before its node tells that.
    pub(super) fn seen_running(&mut self, node: NodeId, uuid: Uuid) {
        let seq = self.next_seq();
        if let Some(copy) = self.copy_mut(node, uuid).filter(|copy| copy.is_here() && !copy.runs()) {
            (copy.state, copy.ran_at, copy.has_ended, copy.off_since) =
                (PowerState::Running, seq, false, None);
        }
    }

    /// Records that a copy which ran was seen to end on its node.
    pub(super) fn has_ended(&mut self, node: NodeId, uuid: Uuid) {
        if let Some(copy) = self.copy_mut(node, uuid).filter(|copy| !copy.is_away()) {
            // One that is off may run again before it goes.
            copy.has_ended = copy.runs();
            if !copy.runs() {
                copy.off_cause = OffCause::Known;
            }
            if copy.presence == Presence::Vanished {
                copy.presence = Presence::Ended;
            }
        }
    }

    /// Records that a node was off since it left the group: what ran there has ended.
    pub(super) fn node_was_off(&mut self, node: NodeId, now: Instant) {
        for uuid in self.of_node(node, |copy| copy.is_away() && copy.runs()) {
            self.withdraw(node, uuid, Leaving::Ended, now);
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
        let Some(copy) = copies.remove(node) else { return false };
        if copies.is_empty() {
            self.vms.remove(&uuid);
        }
        if let Some(uuids) = self.by_node.get_mut(&node) {
            uuids.remove(&uuid);
            if uuids.is_empty() {
                self.by_node.remove(&node);
            }
        }
        let name = copy.name.to_lowercase();
        if let Some(uuids) = self.names.get_mut(&name) {
            if let Some(count) = uuids.get_mut(uuid) {
                *count -= 1;
                if *count == 0 {
                    uuids.remove(uuid);
                }
            }
            if uuids.is_empty() {
                self.names.remove(&name);
            }
        }
        true
    }

    /// Returns the copies that a node told when it told last, in the order of their UUIDs.
    pub(super) fn told(&self, node: NodeId) -> impl Iterator<Item = (Uuid, &CopyRecord)> {
        let uuids = self.by_node.get(&node).into_iter().flatten().copied();
        uuids.filter_map(move |uuid| Some((uuid, self.copy(node, uuid).filter(|copy| !copy.is_gone())?)))
    }

    fn of_node(&self, node: NodeId, is_meant: impl Fn(&CopyRecord) -> bool) -> Vec<Uuid> {
        let uuids = self.by_node.get(&node).into_iter().flatten().copied();
        uuids.filter(|&uuid| self.copy(node, uuid).is_some_and(&is_meant)).collect()
    }

    /// Returns true if a node has a copy that it has told and not withdrawn, and that was not seen to run
    /// elsewhere since.
    pub(super) fn has_copies(&self, node: NodeId) -> bool {
        let mut uuids = self.by_node.get(&node).into_iter().flatten();
        let has = |copy: &CopyRecord, uuid| copy.is_here() && !self.ran_since(node, uuid, copy.seq);
        uuids.any(|&uuid| self.copy(node, uuid).is_some_and(|copy| has(copy, uuid)))
    }

    /// Returns true if a VM was seen to be active on a member other than this node since this position.
    pub(super) fn ran_since(&self, node: NodeId, uuid: Uuid, seq: Sequence) -> bool {
        let ran =
            |(other, copy): (NodeId, &CopyRecord)| other != node && copy.is_here() && copy.active_since > seq;
        self.copies(uuid).any(ran)
    }

    /// Withdraws the copies that a returned node did not advertise again.
    pub(super) fn forget_departed(&mut self, node: NodeId, now: Instant) {
        for uuid in self.of_node(node, CopyRecord::is_away) {
            self.withdraw(node, uuid, Leaving::Inferred, now);
        }
    }

    /// Takes a name from VMs that have it no more, since a member advertised another VM under it:
    /// from those that are gone, if the other was not called so before, and on that member from all, if
    /// it does not report itself that a VM is gone. No libvirt has two domains of a name.
    pub(super) fn pass_name(&mut self, node: NodeId, vm: &Advertisement, is_new: bool, is_legacy: bool) {
        let name = &vm.domain.name;
        if !is_new && !is_legacy {
            return;
        }
        // A longer one was cut: they may differ.
        let is_whole = name.len() < TOLD_NAME_MAX;
        let Some(uuids) = self.names.get(&name.to_lowercase()).filter(|_| is_whole) else { return };
        for uuid in uuids.keys().filter(|&&uuid| uuid != vm.domain.uuid) {
            for (other, copy) in self.vms.get_mut(uuid).into_iter().flat_map(SmallMap::iter_mut) {
                let is_gone = is_new && copy.is_gone();
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
            for (node, copy) in copies.iter_mut().filter(|(_, copy)| copy.is_gone()) {
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

    /// Records that a node has left the group, or that the daemon which told its copies before this position
    /// was replaced.
    pub(super) fn depart(&mut self, node: NodeId, before: Option<Sequence>) {
        for uuid in self.of_node(node, CopyRecord::is_here) {
            if let Some(copy) =
                self.copy_mut(node, uuid).filter(|copy| before.is_none_or(|seq| copy.seq < seq))
            {
                copy.presence = Presence::Away;
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
        let uuids = self.names.get(&name).into_iter().flat_map(SmallMap::keys);
        let copies = uuids.flat_map(|&uuid| self.copies(uuid).map(move |(node, copy)| (uuid, node, copy)));
        copies.filter(move |(.., copy)| copy.has_name && copy.name.to_lowercase() == name)
    }

    pub(super) fn copy(&self, node: NodeId, uuid: Uuid) -> Option<&CopyRecord> {
        self.vms.get(&uuid)?.get(node)
    }

    fn copy_mut(&mut self, node: NodeId, uuid: Uuid) -> Option<&mut CopyRecord> {
        self.vms.get_mut(&uuid)?.get_mut(node)
    }

    /// Returns the copies of a VM, by node.
    pub(super) fn copies(&self, uuid: Uuid) -> impl Iterator<Item = (NodeId, &CopyRecord)> {
        self.vms.get(&uuid).into_iter().flat_map(SmallMap::iter)
    }

    pub(super) fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.vms.keys().copied()
    }
}
