//! Knowledge of this node about the cluster.

use std::collections::BTreeSet;

use super::copy_record::{CopyRecord, Presence};
use super::directory::{Directory, Leaving, StoreEffect};
use super::host_fate::{HostFate, Passes};
use super::hosts::HostTable;
use super::ids::Sequence;
use super::inventory::LocalInventory;
use super::locates::Locates;
use super::members::{Left, MemberTable};
use super::rules::Rules;
use super::tables::Tables;
use super::vocabulary::{ClusterCopy, Departure, LocalVm, Membership, Peer};
use crate::fence::{Domain, HostEntry, PowerState, UriIndex, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{Advertisement, ClusterMessage, CopyFate, HostNotice, HostStanding, NodeId};

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
    pub(super) hosts: HostTable,
    pub(super) directory: Directory,
    pub(super) inventory: LocalInventory,
    pub(super) locates: Locates,
    pub(super) tables: Tables,
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
            hosts: HostTable::default(),
            directory: Directory::default(),
            inventory: LocalInventory::new(uris),
            locates: Locates::default(),
            tables: Tables::default(),
            not_joined: Some("corosync has not been reached yet".to_owned()),
            is_joining: true,
            has_undelivered: false,
        }
    }

    pub(super) fn join(&mut self, me: Peer, now: Instant) {
        self.members.join(me);
        self.hosts.join(now);
        self.inventory.join(now);
        self.not_joined = Some("joining the group".to_owned());
        self.is_joining = true;
    }

    pub(super) fn leave(&mut self, reason: &str) {
        self.members.leave();
        self.hosts.leave();
        self.directory.leave();
        self.inventory.leave();
        self.locates.clear();
        self.tables.clear();
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
        let seq = self.directory.next_seq();
        for left in self.members.change(change, seq, now) {
            match left {
                Left::Node(node, how) => {
                    self.directory.depart(node, None);
                    match how {
                        Departure::Process => self.hosts.daemon_left(node, now),
                        Departure::Node => self.hosts.node_lost(node, now),
                    }
                }
                Left::Process(node, joined_at) => {
                    self.directory.depart(node, Some(joined_at));
                    if self.members.has_advertised(node) {
                        self.directory.forget_departed(node, now);
                    }
                }
            }
        }
        for peer in change.joined.iter().chain(&change.members) {
            if self.hosts.is_up(peer.node, &self.rules, now) {
                self.directory.node_was_off(peer.node, now);
            }
        }
        if self.members.me().is_some_and(|me| self.members.is_member(me.node)) {
            self.not_joined = None;
            self.is_joining = false;
        }
    }

    pub(super) fn votes(&mut self, is_quorate: bool, nodes: &[NodeId], now: Instant) {
        let voters: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let is_member = |node| self.members.is_member(node);
        for node in self.hosts.votes(is_quorate, voters, is_member, &self.rules, now) {
            self.directory.node_was_off(node, now);
        }
    }

    /// Applies a hello; returns true if it is a change.
    pub(super) fn hello(&mut self, peer: Peer, is_complete: bool, now: Instant) -> bool {
        let had_all = self.members.has_advertised_all(peer.node);
        let is_change = self.members.hello(peer, is_complete, self.directory.seq());
        if self.members.has_advertised_all(peer.node) && !had_all {
            self.has_told(peer.node, true, now);
        }
        is_change
    }

    /// Notes that a member has told all its VMs, if it has any.
    fn has_told(&mut self, node: NodeId, has_any: bool, now: Instant) {
        self.hosts.has_told(node);
        if has_any {
            self.directory.forget_departed(node, now);
        }
    }

    /// Applies an advertisement; none if there is no room for it.
    pub(super) fn store(&mut self, peer: Peer, vm: &Advertisement, now: Instant) -> Option<StoreEffect> {
        self.members.advertises(peer, now);
        self.store_copy(peer.node, vm, now)
    }

    fn store_copy(&mut self, node: NodeId, vm: &Advertisement, now: Instant) -> Option<StoreEffect> {
        let has_all = self.hosts.absent(|node| self.members.is_member(node)).next().is_none();
        let effect = self.directory.store(node, vm, has_all, now)?;
        self.directory.pass_name(node, vm, effect.is_new_name, self.members.is_legacy(node));
        Some(effect)
    }

    /// Takes what another member knows of a host.
    pub(super) fn learn_host(&mut self, notice: HostNotice, now: Instant) {
        match notice.standing {
            HostStanding::HasVms => self.members.expect_vms(notice.node),
            _ => self.hosts.learn(notice, now),
        }
    }

    /// Takes what another member knows, at this age, of a copy that its node does not tell.
    pub(super) fn learn(&mut self, vm: &Advertisement, fate: CopyFate, age_ms: u32, now: Instant) {
        let presence = match fate {
            CopyFate::Away => Presence::Away,
            CopyFate::Vanished => Presence::Vanished,
            CopyFate::Ended => Presence::Ended,
        };
        // A member tells itself what it has.
        if presence != Presence::Away || !self.members.is_member(vm.owner) {
            let is_newer = self.hosts.is_newer(vm.owner, age_ms, now);
            self.directory.learn(vm, presence, is_newer, now);
        }
    }

    /// Records that a member saw a VM run on another node after it had moved away from there.
    pub(super) fn learn_run(&mut self, node: NodeId, from: NodeId, uuid: Uuid, now: Instant) {
        let Some(name) = self.directory.copy(from, uuid).map(|copy| copy.name.clone()) else { return };
        let state = PowerState::Running;
        let vm = Advertisement { domain: Domain { name, uuid }, owner: node, state, is_active: true };
        let is_member = self.members.is_member(node);
        let presence = if is_member { Presence::Vanished } else { Presence::Away };
        self.directory.learn(&vm, presence, false, now);
        self.directory.has_run_after(node, from, uuid);
    }

    /// Returns notices about what no member tells: hosts that are not in the group, their copies, and which members
    /// have VMs.
    pub(super) fn notices(&self, now: Instant) -> Vec<ClusterMessage> {
        let hosts = self.hosts.notices(|node| self.members.is_member(node), now);
        // Who hangs tells nothing, and a C daemon without VMs neither.
        let has_vms = |node: &NodeId| !self.members.is_me(*node) && self.directory.has_copies(*node);
        let members = self.members.nodes().filter(has_vms).map(HostNotice::has_vms);
        // A member tells itself what it has.
        let is_untold = |(owner, _, copy): &(NodeId, Uuid, &CopyRecord)| {
            !copy.is_away() || !self.members.is_member(*owner)
        };
        let copies = self.directory.untold().filter(is_untold).map(|(owner, uuid, copy)| {
            let fate = match copy.presence {
                Presence::Here | Presence::Away => CopyFate::Away,
                Presence::Vanished => CopyFate::Vanished,
                Presence::Ended => CopyFate::Ended,
            };
            let domain = Domain { name: copy.name.clone(), uuid };
            let CopyRecord { state, is_active, .. } = *copy;
            let vm = Advertisement { domain, owner, state, is_active };
            ClusterMessage::Copy { vm, fate, age_ms: self.hosts.age(owner, now) }
        });
        hosts.into_iter().chain(members).map(ClusterMessage::Host).chain(copies).collect()
    }

    /// Records that a VM which the group never knew to be here vanished.
    /// `has_ended` tells that it was seen to end here.
    pub(super) fn store_vanished(&mut self, domain: &Domain, has_ended: bool, now: Instant) {
        let Some(owner) = self.members.home() else { return };
        let state = PowerState::Running;
        let vm = Advertisement { domain: domain.clone(), owner, state, is_active: false };
        if self.store_copy(owner, &vm, now).is_some() {
            let leaving = if has_ended { Leaving::Ended } else { Leaving::Told };
            self.directory.withdraw(owner, domain.uuid, leaving, now);
        }
    }

    /// Returns true if a host that may run VMs is not in the group.
    pub(super) fn has_absent(&self, now: Instant) -> bool {
        let mut absent = self.hosts.absent(|node| self.members.is_member(node));
        absent.any(|(node, _)| !matches!(self.fate(node, now), HostFate::Off(_)))
    }

    pub(super) fn turn(&mut self, now: Instant) {
        self.locates.turn(now);
        for (node, has_any) in self.members.turn(now) {
            self.has_told(node, has_any, now);
        }
    }

    /// Ends the names of VMs that have been gone for long, and forgets those that no member has.
    pub(super) fn sweep(&mut self, now: Instant) {
        let ClusterView { directory, members, inventory, hosts, .. } = self;
        let has_all = hosts.absent(|node| members.is_member(node)).next().is_none();
        let is_nowhere = |uuid, since| {
            has_all
                && inventory.is_listed()
                && inventory.state(uuid).is_none()
                && members.have_told_since(since)
        };
        directory.sweep(is_nowhere, now);
    }

    /// Returns what it means for a VM that it was last seen on a host that is not in the group.
    pub(super) fn fate(&self, node: NodeId, now: Instant) -> HostFate {
        let unknown = || HostFate::MayRun(format!("node {node}, of which nothing is known"), Passes::Never);
        self.hosts.fate(node, &self.rules, now).unwrap_or_else(unknown)
    }

    /// Returns true if a C daemon that was asked at this time has told what it has. One that has told no VM
    /// so far says nothing.
    pub(super) fn has_told_after(&self, node: NodeId, at: Instant) -> bool {
        let may_be_silent = !self.directory.has_copies(node) && !self.members.owes_vms(node);
        self.members.was_member_at(node, at) && (may_be_silent || self.members.has_advertised_after(node, at))
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

    /// Returns the copies of a VM that members have. If there are none, those whose nodes are no members,
    /// or no longer have it.
    pub(super) fn copies_or_away(&self, uuid: Uuid) -> Vec<ClusterCopy> {
        match self.copies(uuid) {
            copies if copies.is_empty() => self.advertised(uuid, |_, copy| !copy.is_here()).collect(),
            copies => copies,
        }
    }

    /// Returns the time until which the first list of the VMs here is awaited, right after the start.
    pub(super) fn unlisted_until(&self, now: Instant) -> Option<Instant> {
        self.members.own_unsettled_until(now).filter(|_| !self.inventory.is_listed())
    }

    /// Returns the UUID of a VM and its places, for messages.
    pub(super) fn describe(&self, uuid: Uuid) -> String {
        let places: Vec<String> = self.copies_or_away(uuid).iter().map(ClusterCopy::place).collect();
        if places.is_empty() { uuid.to_string() } else { format!("{uuid} on {}", places.join(", ")) }
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
