//! Knowledge of this node about the cluster.

use std::collections::BTreeSet;

use super::copy_record::CopyRecord;
use super::directory::{Directory, StoreEffect};
use super::ids::Sequence;
use super::inventory::LocalInventory;
use super::members::MemberTable;
use super::rules::Rules;
use super::vocabulary::{ClusterCopy, LocalVm, Membership, Peer};
use crate::fence::{Domain, HostEntry, PowerState, UriIndex, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, NodeId};

/// A member that has a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyHolder {
    pub(super) node: NodeId,
    pub(super) state: PowerState,
    /// True if the VM is neither just coming in, nor paused.
    pub(super) is_active: bool,
    /// Position of its last advertisement.
    pub(super) seq: Sequence,
}

/// Members, placements and local VMs.
#[derive(Debug, Clone)]
pub(super) struct ClusterView {
    pub(super) rules: Rules,
    pub(super) members: MemberTable,
    pub(super) directory: Directory,
    pub(super) inventory: LocalInventory,
    not_joined: Option<String>,
    /// The first attempt to join has not failed, or corosync has accepted a later one.
    is_joining: bool,
    has_undelivered: bool,
}

impl CopyHolder {
    pub(super) fn runs(&self) -> bool {
        self.state == PowerState::Running
    }
}

impl ClusterView {
    pub(super) fn new(rules: Rules, uris: usize) -> ClusterView {
        ClusterView {
            rules,
            members: MemberTable::default(),
            directory: Directory::default(),
            inventory: LocalInventory::new(uris),
            not_joined: Some("corosync has not been reached yet".to_owned()),
            is_joining: true,
            has_undelivered: false,
        }
    }

    pub(super) fn join(&mut self, me: Peer, now: Instant) {
        self.members.join(me);
        self.inventory.join(now);
        self.not_joined = Some("joining the group".to_owned());
        self.is_joining = true;
    }

    pub(super) fn leave(&mut self, reason: &str) {
        self.members.leave();
        self.directory.leave();
        self.inventory.leave();
        self.not_joined = Some(reason.to_owned());
        self.is_joining = false;
    }

    /// Returns the reason why this node is not in the group, if it is not.
    pub(super) fn not_joined(&self) -> Option<&str> {
        self.not_joined.as_deref()
    }

    /// Returns true if this node is about to be in the group.
    pub(super) fn is_joining(&self) -> bool {
        self.is_joining
    }

    /// Returns true if messages are undelivered, so that nothing must be decided.
    pub(super) fn has_undelivered(&self) -> bool {
        self.has_undelivered
    }

    /// Sets whether messages are undelivered; returns whether they were.
    pub(super) fn set_undelivered(&mut self, has_undelivered: bool) -> bool {
        std::mem::replace(&mut self.has_undelivered, has_undelivered)
    }

    pub(super) fn change(&mut self, change: &Membership, now: Instant) {
        for (node, presence) in self.members.change(change, now) {
            self.directory.depart(node, presence);
        }
        for peer in change.joined.iter().chain(&change.members) {
            self.directory.node_is_up(peer.node);
        }
        if self.members.me().is_some_and(|me| self.members.is_member(me.node)) {
            self.not_joined = None;
            self.is_joining = false;
        }
    }

    pub(super) fn votes(&mut self, is_quorate: bool, nodes: &[NodeId], now: Instant) {
        let voters: BTreeSet<NodeId> = nodes.iter().copied().collect();
        self.directory.confirm_losses(&voters);
        self.members.votes(is_quorate, voters, now);
    }

    /// Applies a hello; returns true if it is a change.
    pub(super) fn hello(&mut self, node: NodeId, is_complete: bool, now: Instant) -> bool {
        let had_all = self.members.has_advertised_all(node);
        let is_change = self.members.hello(node, is_complete, self.directory.seq());
        if self.members.has_advertised_all(node) && !had_all {
            self.directory.forget_departed(node, now);
        }
        is_change
    }

    /// Applies an advertisement; none if there is no room for it.
    pub(super) fn store(&mut self, node: NodeId, vm: &Advertisement, now: Instant) -> Option<StoreEffect> {
        self.members.has_advertised(node, now);
        let effect = self.directory.store(node, vm, self.members.has_all(), now)?;
        self.directory.pass_name(node, vm, effect.is_new_name, self.members.is_legacy(node));
        Some(effect)
    }

    /// Records that a VM which ran here vanished; the group may never have known that it was here.
    pub(super) fn store_vanished(&mut self, domain: &Domain, now: Instant) {
        let Some(owner) = self.members.home() else { return };
        let state = PowerState::Running;
        let vm = Advertisement { domain: domain.clone(), owner, state, is_active: false };
        if self.store(owner, &vm, now).is_some() {
            self.directory.withdraw(owner, domain.uuid, now);
        }
    }

    pub(super) fn turn(&mut self, now: Instant) {
        for node in self.members.turn(now) {
            self.directory.forget_departed(node, now);
        }
    }

    /// Ends the names of VMs that have been gone for long, and forgets those that no member has.
    pub(super) fn sweep(&mut self, now: Instant) {
        let ClusterView { directory, members, inventory, .. } = self;
        let is_nowhere = |uuid, since| {
            inventory.is_listed() && inventory.state(uuid).is_none() && members.have_told_since(since)
        };
        directory.sweep(is_nowhere, now);
    }

    /// Returns when it is certain that a C daemon, asked at `asked_at`, no longer has a VM: it
    /// advertises all its VMs whenever it is asked for one.
    pub(super) fn stale_at(&self, node: NodeId, uuid: Uuid, asked_at: Instant) -> Option<Instant> {
        let told_at = self.members.all_told_at(node, asked_at)?;
        let copy = self.directory.copy(node, uuid)?;
        (copy.advertised_at < asked_at).then_some(told_at)
    }

    /// Returns the members that have a VM: for this node by its inventory, for others by their
    /// advertisements.
    pub(super) fn holders(&self, uuid: Uuid) -> Vec<CopyHolder> {
        let mut holders = Vec::new();
        let mut own_seq = Sequence::START;
        for (node, copy) in self.directory.copies(uuid) {
            if self.members.is_me(node) {
                own_seq = copy.seq;
            } else if copy.is_here() {
                let state = copy.state;
                let is_active = copy.is_active;
                let seq = copy.seq;
                holders.push(CopyHolder { node, state, is_active, seq });
            }
        }
        if let (Some(state), Some(me)) = (self.inventory.state(uuid), self.members.me()) {
            let is_active = self.inventory.is_active(uuid);
            holders.push(CopyHolder { node: me.node, state, is_active, seq: own_seq });
        }
        holders
    }

    pub(super) fn has_holder(&self, uuid: Uuid) -> bool {
        !self.holders(uuid).is_empty()
    }

    /// Returns true if a copy certainly runs: one that is paused at a C daemon may just be coming from
    /// a node that does not answer.
    pub(super) fn is_seen_running(&self, holder: &CopyHolder) -> bool {
        holder.runs() && (holder.is_active || !self.members.is_legacy(holder.node))
    }

    /// Returns the copies of a VM that members have: here those of each URI, then those that others have
    /// advertised.
    pub(super) fn copies(&self, uuid: Uuid) -> Vec<ClusterCopy> {
        let mut copies = Vec::new();
        if let Some(me) = self.members.me() {
            let own = |(uri, vm): (UriIndex, &LocalVm)| ClusterCopy {
                node: me.node,
                uri: Some(uri),
                name: vm.name.clone(),
                uuid,
                state: vm.state,
            };
            copies.extend(self.inventory.copies(uuid).map(own));
        }
        copies.extend(self.advertised(uuid, |node, copy| copy.is_here() && !self.members.is_me(node)));
        copies
    }

    /// Returns the copies of a VM whose nodes are no members, or no longer have it.
    pub(super) fn copies_away(&self, uuid: Uuid) -> Vec<ClusterCopy> {
        self.advertised(uuid, |_, copy| !copy.is_here()).collect()
    }

    fn advertised(
        &self,
        uuid: Uuid,
        is_meant: impl Fn(NodeId, &CopyRecord) -> bool,
    ) -> impl Iterator<Item = ClusterCopy> {
        let copies = self.directory.copies(uuid).filter(move |(node, copy)| is_meant(*node, copy));
        copies.map(move |(node, copy)| {
            // A name that another VM has by now is no longer its own.
            let name = if copy.has_name { copy.name.clone() } else { String::new() };
            ClusterCopy { node, uri: None, name, uuid, state: copy.state }
        })
    }

    /// Returns all VMs that a member has, each once, with its copies.
    pub(super) fn list(&self) -> Vec<Vec<HostEntry>> {
        let uuids: BTreeSet<Uuid> = self.directory.uuids().chain(self.inventory.uuids()).collect();
        let entry = |ClusterCopy { name, uuid, state, .. }| HostEntry { name, uuid: uuid.to_string(), state };
        let entries = |uuid| self.copies(uuid).into_iter().map(entry).collect::<Vec<_>>();
        let mut vms: Vec<Vec<HostEntry>> = uuids.into_iter().map(entries).collect();
        vms.retain(|copies| !copies.is_empty());
        let key = |copies: &[HostEntry]| copies.first().map(|copy| (copy.name.clone(), copy.uuid.clone()));
        vms.sort_by_cached_key(|copies| key(copies));
        vms
    }
}
