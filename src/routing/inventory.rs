//! VMs of this node, and what the group has to be told about them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ids::Sequence;
use super::limits::RESYNC_EVERY;
use super::table_digest::TableSum;
use super::tombstones::Tombstones;
use super::vocabulary::LocalVm;
use crate::fence::{Domain, PowerState, UriIndex, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, ClusterMessage, NodeId, TableDigest};

/// Positions at which a VM here changed its state; the start if that was not seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Transitions {
    /// Last start, or arrival from another node.
    pub(super) started: Sequence,
    /// Last start or end.
    pub(super) last: Sequence,
}

/// A VM that is no longer here.
#[derive(Debug, Clone)]
pub(super) struct RemovedVm {
    pub(super) domain: Domain,
    /// True if it ran until it was seen to end here.
    pub(super) has_ended: bool,
}

/// Message that ends the advertisement of all VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Notice that this was all, for those who have heard all.
    Complete,
    /// Digest.
    Digest,
}

/// VMs of this node, by libvirt URI.
#[derive(Debug, Clone, Default)]
pub(super) struct LocalInventory {
    /// By the index of the URI.
    vms: BTreeMap<Uuid, BTreeMap<UriIndex, LocalVm>>,
    /// By each URI's name of it, in lower case.
    names: HashMap<String, BTreeSet<Uuid>>,
    /// URIs that were not listed since they last failed.
    unlisted: BTreeSet<UriIndex>,
    /// VMs to advertise since all are.
    pending: BTreeSet<Uuid>,
    /// VMs to advertise since they have changed: before the others.
    changed: BTreeSet<Uuid>,
    /// All VMs are being advertised, or their digest is to be.
    closing: Option<Closing>,
    tombstones: Tombstones,
    /// VMs here that another node was seen to run since they last started here: if they moved away,
    /// they moved to that node.
    followed: BTreeMap<Uuid, NodeId>,
    /// VMs here that have moved away since they last ran here. libvirt forgets that when it is restarted.
    moved: BTreeSet<Uuid>,
    /// VMs here that were seen to be active since they were last seen off.
    ran: BTreeSet<Uuid>,
    /// Those of them, and of those that were not known before, that a migration has paused since. They may have left
    /// and be coming back, if libvirt's news of that came late: should they be off, nobody knows why.
    unexplained: BTreeSet<Uuid>,
    /// VMs here that were seen to end, which libvirt has not reported off since.
    ended: BTreeSet<Uuid>,
    transitions: BTreeMap<Uuid, Transitions>,
    /// Time at which all VMs are advertised again.
    resync_at: Option<Instant>,
}

impl LocalInventory {
    pub(super) fn new(uris: usize) -> LocalInventory {
        LocalInventory { unlisted: (0..uris).map(UriIndex).collect(), ..LocalInventory::default() }
    }

    pub(super) fn join(&mut self, now: Instant) {
        self.resync_at = Some(now + RESYNC_EVERY);
    }

    /// Ends the advertisements.
    pub(super) fn leave(&mut self) {
        self.resync_at = None;
    }

    /// Returns true once if all VMs are due to be advertised again.
    pub(super) fn is_resync_due(&mut self, now: Instant) -> bool {
        let is_due = self.resync_at.is_some_and(|at| now >= at);
        if is_due {
            self.resync_at = Some(now + RESYNC_EVERY);
        }
        is_due
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.resync_at
    }

    pub(super) fn advertise_all(&mut self) {
        self.pending = self.vms.keys().copied().collect();
        self.closing = Some(Closing::Complete);
    }

    /// Ends what is being advertised with the digest of all VMs.
    pub(super) fn advertise_digest(&mut self) {
        self.closing = Some(Closing::Digest);
    }

    /// Returns true if all VMs are being advertised, and no member has joined since that began.
    pub(super) fn is_telling_all(&self) -> bool {
        self.closing == Some(Closing::Complete)
    }

    /// Returns the digest of all VMs as they are advertised.
    fn digest(&self) -> TableDigest {
        let mut sum = TableSum::default();
        for &uuid in self.vms.keys() {
            if let (Some(name), Some(state)) = (self.name(uuid), self.state(uuid)) {
                sum.add(uuid, name, state, self.is_active(uuid));
            }
        }
        sum.finish()
    }

    /// Notes that a URI does not answer.
    pub(super) fn unlist(&mut self, uri: UriIndex) {
        self.unlisted.insert(uri);
    }

    /// Returns true if the VMs of all URIs are known.
    pub(super) fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Replaces the VMs of a URI; returns those that are no longer here.
    pub(super) fn list(
        &mut self,
        uri: UriIndex,
        vms: Vec<LocalVm>,
        seq: Sequence,
        now: Instant,
    ) -> Vec<RemovedVm> {
        self.unlisted.remove(&uri);
        let listed: BTreeSet<Uuid> = vms.iter().map(|vm| vm.uuid).collect();
        let was_here = |(uuid, uris): (&Uuid, &BTreeMap<UriIndex, LocalVm>)| {
            (uris.contains_key(&uri) && !listed.contains(uuid)).then_some(*uuid)
        };
        let removed: Vec<Uuid> = self.vms.iter().filter_map(was_here).collect();
        for vm in vms {
            self.update(uri, vm, seq);
        }
        removed.into_iter().filter_map(|uuid| self.remove(uri, uuid, seq, now)).collect()
    }

    /// Updates a VM of a URI; `seq` is the current position of the group.
    pub(super) fn update(&mut self, uri: UriIndex, vm: LocalVm, seq: Sequence) {
        let uuid = vm.uuid;
        let before = self.state(uuid);
        let was_active = self.is_active(uuid);
        let told = self.name(uuid).map(str::to_owned);
        let known = self.vms.get(&uuid).and_then(|uris| uris.get(&uri));
        let is_new = known.is_none();
        let is_renamed = known.is_none_or(|known| known.name != vm.name);
        if vm.may_run_elsewhere && vm.state == PowerState::Off {
            self.moved.insert(uuid);
        } else if vm.may_run_elsewhere && (is_new || self.ran.contains(&uuid)) && !self.ended.contains(&uuid)
        {
            self.unexplained.insert(uuid);
        }
        if is_renamed {
            self.unname(uuid);
        }
        self.vms.entry(uuid).or_default().insert(uri, vm);
        if is_renamed {
            self.rename(uuid);
        }
        self.tombstones.remove(uuid);
        if !self.runs(uuid) {
            self.ended.remove(&uuid);
            self.ran.remove(&uuid);
        }
        if self.is_active(uuid) {
            self.ran.insert(uuid);
        }
        if before.unwrap_or(PowerState::Off) != self.state(uuid).unwrap_or(PowerState::Off) {
            self.transitions.entry(uuid).or_default().last = seq;
        }
        if !was_active && self.is_active(uuid) {
            // Until then it was just coming in, and the other copy ran.
            self.followed.remove(&uuid);
            self.moved.remove(&uuid);
            self.unexplained.remove(&uuid);
            self.ended.remove(&uuid);
            self.transitions.entry(uuid).or_default().started = seq;
        }
        let is_told = self.name(uuid).map(str::to_owned) == told;
        if !is_told || (before, was_active) != (self.state(uuid), self.is_active(uuid)) {
            self.changed.insert(uuid);
        }
    }

    /// Removes a VM from a URI; returns it if no other URI has it.
    pub(super) fn remove(
        &mut self,
        uri: UriIndex,
        uuid: Uuid,
        seq: Sequence,
        now: Instant,
    ) -> Option<RemovedVm> {
        let before = self.state(uuid)?;
        let name = self.name(uuid)?.to_owned();
        if !self.vms.get(&uuid)?.contains_key(&uri) {
            return None;
        }
        self.unname(uuid);
        let uris = self.vms.get_mut(&uuid)?;
        uris.remove(&uri)?;
        if !uris.is_empty() {
            self.rename(uuid);
            if self.name(uuid) != Some(name.as_str()) {
                self.changed.insert(uuid);
            }
            if self.state(uuid) != Some(before) {
                self.changed.insert(uuid);
                self.transitions.entry(uuid).or_default().last = seq;
            }
            return None;
        }
        self.vms.remove(&uuid);
        self.pending.remove(&uuid);
        self.changed.remove(&uuid);
        self.followed.remove(&uuid);
        self.moved.remove(&uuid);
        self.unexplained.remove(&uuid);
        self.ran.remove(&uuid);
        let has_ended = self.ended.remove(&uuid);
        self.transitions.remove(&uuid);
        self.tombstones.insert(uuid, &name, now);
        Some(RemovedVm { domain: Domain { name, uuid }, has_ended })
    }

    fn rename(&mut self, uuid: Uuid) {
        for name in self.names_of(uuid) {
            self.names.entry(name).or_default().insert(uuid);
        }
    }

    fn unname(&mut self, uuid: Uuid) {
        for name in self.names_of(uuid) {
            if let Some(uuids) = self.names.get_mut(&name) {
                uuids.remove(&uuid);
                if uuids.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
    }

    /// Names that the URIs have for a VM, in lower case.
    fn names_of(&self, uuid: Uuid) -> Vec<String> {
        self.copies(uuid).map(|(_, vm)| vm.name.to_lowercase()).collect()
    }

    /// Returns the next message that advertises VMs.
    pub(super) fn next_message(&mut self, me: NodeId) -> Option<ClusterMessage> {
        while let Some(uuid) = self.changed.pop_first().or_else(|| self.pending.pop_first()) {
            if let Some(message) = self.advertisement(uuid, me) {
                return Some(message);
            }
        }
        if !self.is_listed() {
            return None;
        }
        // Whoever has heard all that was advertised knows what is here now.
        Some(match self.closing.take()? {
            Closing::Complete => ClusterMessage::Hello { is_complete: true },
            Closing::Digest => ClusterMessage::Table(self.digest()),
        })
    }

    /// Returns the advertisement of a VM, to be sent at once.
    pub(super) fn advertisement(&mut self, uuid: Uuid, me: NodeId) -> Option<ClusterMessage> {
        self.pending.remove(&uuid);
        self.changed.remove(&uuid);
        let name = self.name(uuid)?.to_owned();
        let state = self.state(uuid)?;
        let is_active = self.is_active(uuid);
        Some(ClusterMessage::Store(Advertisement {
            domain: Domain { name, uuid },
            owner: me,
            state,
            is_active,
        }))
    }

    /// Returns the state of a VM; none if it is not here.
    pub(super) fn state(&self, uuid: Uuid) -> Option<PowerState> {
        let uris = self.vms.get(&uuid)?;
        let runs = uris.values().any(|vm| vm.state == PowerState::Running);
        Some(if runs { PowerState::Running } else { PowerState::Off })
    }

    pub(super) fn runs(&self, uuid: Uuid) -> bool {
        self.state(uuid) == Some(PowerState::Running)
    }

    /// Returns true if a VM is neither off nor paused, nor in another state between.
    pub(super) fn is_active(&self, uuid: Uuid) -> bool {
        self.vms.get(&uuid).is_some_and(|uris| uris.values().any(|vm| vm.is_active))
    }

    pub(super) fn name(&self, uuid: Uuid) -> Option<&str> {
        self.vms.get(&uuid)?.values().next().map(|vm| vm.name.as_str())
    }

    /// Returns the copies of a VM, by URI.
    pub(super) fn copies(&self, uuid: Uuid) -> impl Iterator<Item = (UriIndex, &LocalVm)> {
        self.vms.get(&uuid).into_iter().flatten().map(|(&uri, vm)| (uri, vm))
    }

    pub(super) fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.vms.keys().copied()
    }

    /// Returns the VMs here that have a name, in whatever case, with the name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = (Uuid, &str)> {
        let uuids = self.names.get(&name.to_lowercase()).into_iter().flatten();
        uuids.filter_map(|&uuid| Some((uuid, self.name(uuid)?)))
    }

    /// Returns true if a name or UUID refers to a VM that was advertised and is no longer here, for
    /// [`GONE_LIMIT`](super::limits::GONE_LIMIT) at most.
    pub(super) fn is_removed(&mut self, text: &str, now: Instant) -> bool {
        self.tombstones.expire(now);
        self.tombstones.contains(text)
    }

    /// Notes that another node runs a VM, and answers for it.
    pub(super) fn runs_elsewhere(&mut self, uuid: Uuid, node: NodeId) {
        self.tombstones.remove(uuid);
        if self.vms.contains_key(&uuid) {
            self.followed.insert(uuid, node);
            self.unexplained.remove(&uuid);
        }
    }

    /// Notes that another node does not run a VM.
    pub(super) fn is_not_elsewhere(&mut self, uuid: Uuid) {
        if self.is_active(uuid) {
            // An earlier advertisement that it ran there was delivered after it came here.
            self.followed.remove(&uuid);
        }
    }

    pub(super) fn transitions(&self, uuid: Uuid) -> Transitions {
        self.transitions.get(&uuid).copied().unwrap_or_default()
    }

    /// Returns the node that a VM went to, should it have moved away.
    pub(super) fn followed(&self, uuid: Uuid) -> Option<NodeId> {
        self.followed.get(&uuid).copied()
    }

    /// Notes that libvirt said of a VM that it has moved away.
    pub(super) fn has_moved(&mut self, uuid: Uuid) {
        if self.vms.contains_key(&uuid) && !self.is_active(uuid) {
            self.moved.insert(uuid);
        }
    }

    /// Returns true if a VM has moved away since it last ran here.
    pub(super) fn is_moved(&self, uuid: Uuid) -> bool {
        self.moved.contains(&uuid)
    }

    /// Returns true if a VM that was found off is so for a reason that nobody knows: libvirt has not told of its end
    /// yet, or a migration had paused it.
    pub(super) fn is_unexplained(&self, uuid: Uuid) -> bool {
        self.unexplained.contains(&uuid) || self.is_seen_running(uuid)
    }

    /// Returns true if a VM runs here by the last news of libvirt, and was not destroyed since.
    pub(super) fn is_seen_running(&self, uuid: Uuid) -> bool {
        self.runs(uuid) && !self.ended.contains(&uuid)
    }

    /// Notes that a VM was found running, or was started. libvirt's news of an earlier end may come with that of the
    /// start, as no change.
    pub(super) fn has_started(&mut self, uuid: Uuid) {
        self.ended.remove(&uuid);
        self.unexplained.remove(&uuid);
    }

    /// Notes that a VM which ran here was destroyed and seen off.
    pub(super) fn has_ended(&mut self, uuid: Uuid) {
        self.unexplained.remove(&uuid);
        // One that is off may run again before it goes.
        if self.runs(uuid) {
            self.ended.insert(uuid);
        }
    }
}
