use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::{Departure, Membership, Names, Peer, TELL_LIMIT};
use crate::fence::{PowerState, Uuid};
use crate::wire::cluster::{Told, cut};

/// How many VMs of one node are remembered.
const VMS_MAX: usize = 16_384;

/// How long after a C daemon last told a VM it has told all, if it does so at all.
const TOLD_ALL: Duration = Duration::from_secs(1);

/// A node with a process in the group.
#[derive(Debug)]
pub(super) struct Member {
    pids: BTreeSet<u32>,
    /// Whether it is of this suite: says hello, tells changes, looks at targets.
    pub(super) speaks: bool,
    /// Until when it may still be telling its VMs; none if it has told all.
    telling_until: Option<Instant>,
    /// When it last told a VM since it joined.
    last_told: Option<Instant>,
}

/// Where a copy of a VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// On a member.
    Here,
    /// On a node that has left the group but may be up.
    Left,
    /// It ran on a node that has it no more, and no other was seen to run it since.
    Gone,
    /// On a node that left the cluster.
    Lost {
        at: Instant,
        /// The quorum service has lost it too.
        is_confirmed: bool,
    },
}

/// A VM as one node told it.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    name: String,
    pub(super) state: PowerState,
    pub(super) is_active: bool,
    /// The place of the last telling in the order of the group.
    pub(super) order: u64,
    /// The place of the last telling that it runs.
    pub(super) ran: u64,
    pub(super) told_at: Instant,
    pub(super) fate: Fate,
}

/// What a telling was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    /// It was not known so.
    pub(super) is_news: bool,
    /// The VM was started there, or has come there.
    pub(super) has_started: bool,
}

/// The votes.
#[derive(Debug, Default)]
pub(super) struct Quorum {
    /// Since when this part of the cluster has quorum without a break.
    pub(super) quorate_since: Option<Instant>,
    /// Whether anybody counts votes at all.
    is_counted: bool,
    nodes: BTreeSet<u32>,
}

/// Who is in the group, and which VM is where.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// This node, while it is in the group.
    pub(super) me: Option<Peer>,
    pub(super) members: BTreeMap<u32, Member>,
    pub(super) quorum: Quorum,
    vms: BTreeMap<Uuid, BTreeMap<u32, Copy>>,
    counts: BTreeMap<u32, usize>,
    /// By name in lower case, as C daemons compare them; with how many copies have it.
    names: HashMap<String, BTreeMap<Uuid, usize>>,
    order: u64,
    /// The nodes that ever were members.
    seen: BTreeSet<u32>,
}

impl Table {
    pub(super) fn is_member(&self, node: u32) -> bool {
        self.members.contains_key(&node)
    }

    pub(super) fn speaks(&self, node: u32) -> bool {
        self.members.get(&node).is_some_and(|member| member.speaks)
    }

    pub(super) fn is_me(&self, node: u32) -> bool {
        self.me.is_some_and(|me| me.node == node)
    }

    /// Whether this node answers for VMs that nobody knows.
    pub(super) fn is_highest(&self) -> bool {
        self.members.last_key_value().is_some_and(|(&node, _)| self.is_me(node))
    }

    /// How many nodes of this suite have a higher number.
    pub(super) fn speakers_above(&self) -> u32 {
        let own = self.me.map_or(0, |me| me.node);
        let above = self.members.iter().filter(|&(&node, member)| member.speaks && node > own);
        u32::try_from(above.count()).unwrap_or(u32::MAX)
    }

    /// The place in the order of the group that the last telling has.
    pub(super) fn order(&self) -> u64 {
        self.order
    }

    /// Members that only tell their VMs when they are asked.
    pub(super) fn mutes(&self) -> impl Iterator<Item = u32> {
        self.members
            .iter()
            .filter(|&(&node, member)| !member.speaks && !self.is_me(node))
            .map(|(&node, _)| node)
    }

    /// Until when some member may still be telling its VMs.
    pub(super) fn unsettled_until(&self, now: Instant) -> Option<Instant> {
        let until = self.members.iter().filter(|&(&node, _)| !self.is_me(node));
        until.filter_map(|(_, member)| member.telling_until).filter(|&until| until > now).max()
    }

    /// All that is known of the others is doubtful from now on.
    pub(super) fn leave(&mut self) {
        self.me = None;
        self.members.clear();
        self.quorum = Quorum::default();
        let copies = self.vms.values_mut().flat_map(BTreeMap::values_mut);
        for copy in copies.filter(|copy| copy.fate != Fate::Gone) {
            copy.fate = Fate::Left;
        }
    }

    pub(super) fn change(&mut self, change: &Membership, now: Instant) {
        for (peer, how) in &change.left {
            let Some(member) = self.members.get_mut(&peer.node) else { continue };
            member.pids.remove(&peer.pid);
            if member.pids.is_empty() {
                self.members.remove(&peer.node);
                self.depart(peer.node, *how, now);
            }
        }
        for peer in change.joined.iter().chain(&change.members) {
            let member = self.members.entry(peer.node).or_insert_with(|| Member {
                pids: BTreeSet::new(),
                speaks: false,
                telling_until: Some(now + TELL_LIMIT),
                last_told: None,
            });
            member.pids.insert(peer.pid);
            self.seen.insert(peer.node);
            self.is_back(peer.node);
        }
    }

    fn depart(&mut self, node: u32, how: Departure, now: Instant) {
        let fate = match how {
            Departure::Process => Fate::Left,
            Departure::Node => Fate::Lost { at: now, is_confirmed: !self.quorum.nodes.contains(&node) },
        };
        let copies = self.vms.values_mut().filter_map(|copies| copies.get_mut(&node));
        for copy in copies.filter(|copy| copy.fate == Fate::Here) {
            copy.fate = fate;
        }
    }

    /// A node that was lost is up again, and may run what it ran.
    fn is_back(&mut self, node: u32) {
        if self.counts.get(&node).is_none_or(|&count| count == 0) {
            return;
        }
        for copy in self.vms.values_mut().filter_map(|copies| copies.get_mut(&node)) {
            if matches!(copy.fate, Fate::Lost { .. }) {
                copy.fate = Fate::Left;
            }
        }
    }

    pub(super) fn votes(&mut self, is_quorate: bool, nodes: &[u32], now: Instant) {
        self.quorum.is_counted = true;
        self.quorum.nodes = nodes.iter().copied().collect();
        self.quorum.quorate_since = match self.quorum.quorate_since {
            Some(since) if is_quorate => Some(since),
            _ => is_quorate.then_some(now),
        };
        for copies in self.vms.values_mut() {
            for (node, copy) in copies {
                let Fate::Lost { is_confirmed, .. } = &mut copy.fate else { continue };
                match (self.quorum.nodes.contains(node), *is_confirmed) {
                    (false, _) => *is_confirmed = true,
                    // It had gone and came back; else this is from before it went.
                    (true, true) => copy.fate = Fate::Left,
                    (true, false) => {}
                }
            }
        }
    }

    /// Whether votes are counted, and this part of the cluster has too few.
    pub(super) fn lacks_quorum(&self) -> bool {
        self.quorum.is_counted && self.quorum.quorate_since.is_none()
    }

    /// A member told a VM. None if there is no room for it.
    pub(super) fn store(&mut self, node: u32, told: &Told, now: Instant) -> Option<News> {
        self.order += 1;
        let order = self.order;
        if let Some(member) = self.members.get_mut(&node) {
            member.last_told = Some(now);
        }
        let uuid = told.domain.uuid;
        let new = Copy {
            name: told.domain.name.clone(),
            state: told.state,
            is_active: told.is_active,
            order,
            ran: 0,
            told_at: now,
            fate: Fate::Here,
        };
        let before = self.vms.get(&uuid).and_then(|copies| copies.get(&node));
        let ran = before.map_or(0, |copy| copy.ran);
        let new = Copy { ran: if told.state == PowerState::Running { order } else { ran }, ..new };
        let was_active = |copy: &Copy| copy.is_active && copy.fate != Fate::Gone;
        // Not one that is still coming in from another node.
        let has_started = told.is_active && !before.is_some_and(was_active);
        if before.is_none() && self.is_full(node) {
            return None;
        }
        let before = self.vms.get(&uuid).and_then(|copies| copies.get(&node));
        let is_news = before.is_none_or(|copy| {
            (copy.state, copy.is_active, copy.fate) != (new.state, new.is_active, new.fate)
        });
        match before {
            Some(copy) if copy.name == new.name => {
                self.vms.entry(uuid).or_default().insert(node, new);
            }
            _ => {
                self.remove(node, uuid);
                *self.counts.entry(node).or_default() += 1;
                *self.names.entry(new.name.to_lowercase()).or_default().entry(uuid).or_default() += 1;
                self.vms.entry(uuid).or_default().insert(node, new);
            }
        }
        if has_started {
            self.supersede(uuid);
        }
        Some(News { is_news, has_started })
    }

    /// Whether no other VM of a node can be remembered; those that are gone make room.
    fn is_full(&mut self, node: u32) -> bool {
        let is_full = |table: &Table| table.counts.get(&node).is_some_and(|&count| count >= VMS_MAX);
        if is_full(self) {
            self.purge(node, |copy| copy.fate == Fate::Gone);
        }
        is_full(self)
    }

    /// It was started on a member, so it is not where it was seen before.
    fn supersede(&mut self, uuid: Uuid) {
        let Some(copies) = self.vms.get(&uuid) else { return };
        let departed = copies.iter().filter(|(_, copy)| copy.fate != Fate::Here);
        for node in departed.map(|(&node, _)| node).collect::<Vec<_>>() {
            self.remove(node, uuid);
        }
    }

    /// A member has it no more; whether that is news.
    pub(super) fn gone(&mut self, node: u32, uuid: Uuid) -> bool {
        self.order += 1;
        let runs = |copy: &Copy| copy.state == PowerState::Running;
        let runs_elsewhere =
            self.copies(uuid).any(|(other, copy)| other != node && copy.fate == Fate::Here && runs(copy));
        match self.vms.get_mut(&uuid).and_then(|copies| copies.get_mut(&node)) {
            Some(copy) if runs(copy) && !runs_elsewhere => {
                std::mem::replace(&mut copy.fate, Fate::Gone) != Fate::Gone
            }
            _ => self.remove(node, uuid),
        }
    }

    fn remove(&mut self, node: u32, uuid: Uuid) -> bool {
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

    fn purge(&mut self, node: u32, is_over: impl Fn(&Copy) -> bool) {
        let of_node = |(uuid, copies): (&Uuid, &BTreeMap<u32, Copy>)| {
            copies.get(&node).is_some_and(&is_over).then_some(*uuid)
        };
        for uuid in self.vms.iter().filter_map(of_node).collect::<Vec<_>>() {
            self.remove(node, uuid);
        }
    }

    /// A member says that it is of this suite, and perhaps that it has told all its VMs.
    pub(super) fn hello(&mut self, node: u32, is_complete: bool) {
        let Some(member) = self.members.get_mut(&node) else { return };
        member.speaks = true;
        if is_complete {
            member.telling_until = None;
            // What it had before and does not have now it would have told.
            self.purge(node, is_departed);
        }
    }

    /// Takes notice of the time. Of a C daemon that has told VMs for as long as
    /// that takes, it is known that it has no others.
    pub(super) fn turn(&mut self, now: Instant) {
        let over = |member: &Member| member.telling_until.is_some_and(|until| now >= until);
        for node in
            self.members.iter().filter(|(_, member)| over(member)).map(|(&node, _)| node).collect::<Vec<_>>()
        {
            let Some(member) = self.members.get_mut(&node) else { continue };
            member.telling_until = None;
            if !member.speaks && member.last_told.is_some() {
                self.purge(node, is_departed);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.telling_until).min()
    }

    /// When it is certain that a C daemon, which tells all its VMs whenever it
    /// is asked for one, has this one no more, having been asked at `asked_at`.
    pub(super) fn stale_at(&self, node: u32, uuid: Uuid, asked_at: Instant) -> Option<Instant> {
        let member = self.members.get(&node).filter(|member| !member.speaks)?;
        let copy = self.vms.get(&uuid)?.get(&node)?;
        let last_told = member.last_told.filter(|&told| told > asked_at)?;
        (copy.told_at < asked_at).then_some(last_told + TOLD_ALL)
    }

    /// What a text means, of the VMs that were told by others or by this node.
    pub(super) fn meaning(&self, text: &str, names: Names) -> BTreeSet<Uuid> {
        let mut found = BTreeSet::new();
        if names != Names::Name {
            found.extend(Uuid::parse(text).filter(|uuid| self.vms.contains_key(uuid)));
        }
        if names != Names::Uuid {
            found
                .extend(self.names.get(&cut(text).to_lowercase()).into_iter().flat_map(|uuids| uuids.keys()));
        }
        found
    }

    /// The copies of a VM, by node.
    pub(super) fn copies(&self, uuid: Uuid) -> impl Iterator<Item = (u32, &Copy)> {
        self.vms.get(&uuid).into_iter().flatten().map(|(&node, copy)| (node, copy))
    }

    /// Whether another member runs this VM, or has it and none is missing that might run it.
    pub(super) fn is_elsewhere_for_sure(&self, uuid: Uuid) -> bool {
        let is_whole = self.is_whole();
        let has = |(node, copy): (u32, &Copy)| {
            !self.is_me(node) && copy.fate == Fate::Here && (is_whole || copy.state == PowerState::Running)
        };
        self.copies(uuid).any(has)
    }

    /// Whether every node is a member that ever was.
    pub(super) fn is_whole(&self) -> bool {
        self.seen.iter().all(|node| self.members.contains_key(node))
    }

    /// All VMs with their copies.
    pub(super) fn vms(&self) -> impl Iterator<Item = (Uuid, &BTreeMap<u32, Copy>)> {
        self.vms.iter().map(|(&uuid, copies)| (uuid, copies))
    }

    /// The names under which a VM was told.
    pub(super) fn names_of(&self, uuid: Uuid) -> impl Iterator<Item = &str> {
        self.copies(uuid).map(|(_, copy)| copy.name.as_str())
    }
}

fn is_departed(copy: &Copy) -> bool {
    matches!(copy.fate, Fate::Left | Fate::Lost { .. })
}

impl Copy {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}
