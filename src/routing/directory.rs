use super::ids::Sequence;
use crate::wire::cluster::NodeId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::members::{Member, Question, Quorum};
use super::{Names, Peer};
use crate::fence::{Domain, PowerState, Uuid};
use crate::wire::cluster::{Advertisement, cut};

/// How many VMs of one node are remembered.
const VMS_MAX: usize = 16_384;

/// How long after a C daemon last told a VM it has told all, if it does so at all.
const TOLD_ALL: Duration = Duration::from_secs(1);

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

/// How a copy that is off came to be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// A C daemon was heard to destroy it, then.
    Destroyed(Instant),
    /// It was not heard to run.
    NeverRan,
    /// It was first told off at this place in the order of the group.
    At(Sequence),
}

/// A VM as one node told it.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    name: String,
    pub(super) state: PowerState,
    pub(super) is_active: bool,
    /// The place of the last telling in the order of the group.
    pub(super) order: Sequence,
    /// The place of the last telling that it runs.
    pub(super) ran: Sequence,
    /// The place where it was first told to run, and not to be just coming in, or
    /// paused, since it last did not.
    pub(super) was_active: Sequence,
    /// All nodes that ever were seen were members when it was first told.
    pub(super) is_known_to_all: bool,
    /// How it came to be off.
    pub(super) end: End,
    /// A C daemon has said that it destroyed it.
    is_destroyed: bool,
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

/// Who is in the group, and which VM is where.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// This node, while it is in the group.
    pub(super) me: Option<Peer>,
    /// The number of this node, if it ever was in the group.
    pub(super) home: Option<NodeId>,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) quorum: Quorum,
    pub(super) vms: BTreeMap<Uuid, BTreeMap<NodeId, Copy>>,
    pub(super) counts: BTreeMap<NodeId, usize>,
    /// By name in lower case, as C daemons compare them; with how many copies have it.
    names: HashMap<String, BTreeMap<Uuid, usize>>,
    order: Sequence,
    /// The nodes that may have copies which are gone.
    has_gone: BTreeSet<NodeId>,
    /// The nodes that ever were members, or in the same part of the cluster.
    pub(super) seen: BTreeSet<NodeId>,
    /// The last question to all.
    pub(super) question: Option<Question>,
}

impl Table {
    /// The place in the order of the group that the last telling has.
    pub(super) fn order(&self) -> Sequence {
        self.order
    }

    /// A place of its own for something that this node did not hear of the group.
    pub(super) fn next_order(&mut self) -> Sequence {
        self.order = self.order.next();
        self.order
    }

    /// All that is known of the others is doubtful from now on.
    pub(super) fn leave(&mut self) {
        self.me = None;
        self.members.clear();
        self.quorum = Quorum::default();
        self.question = None;
        let copies = self.vms.values_mut().flat_map(BTreeMap::values_mut);
        for copy in copies.filter(|copy| copy.fate != Fate::Gone) {
            copy.fate = Fate::Left;
        }
    }

    /// A member told a VM. None if there is no room for it.
    pub(super) fn store(&mut self, node: NodeId, told: &Advertisement, now: Instant) -> Option<News> {
        let order = self.next_order();
        if let Some(member) = self.members.get_mut(&node) {
            member.last_told = Some(now);
        }
        let uuid = told.domain.uuid;
        let new = Copy {
            name: told.domain.name.clone(),
            state: told.state,
            is_active: told.is_active,
            order,
            ran: Sequence::START,
            was_active: Sequence::START,
            is_known_to_all: false,
            end: End::NeverRan,
            is_destroyed: false,
            told_at: now,
            fate: Fate::Here,
        };
        let before = self.vms.get(&uuid).and_then(|copies| copies.get(&node));
        let (ran, end) = match (told.state, before) {
            (PowerState::Running, _) => (order, End::NeverRan),
            (PowerState::Off, None) => (Sequence::START, End::NeverRan),
            (PowerState::Off, Some(copy)) if copy.is_destroyed => (copy.ran, End::Destroyed(now)),
            (PowerState::Off, Some(copy)) if copy.state == PowerState::Running => (copy.ran, End::At(order)),
            (PowerState::Off, Some(copy)) => (copy.ran, copy.end),
        };
        let had_started = |copy: &Copy| copy.is_active && copy.fate != Fate::Gone;
        let was_active = match before {
            Some(copy) if !told.is_active || had_started(copy) => copy.was_active,
            _ if told.is_active => order,
            _ => Sequence::START,
        };
        let is_known_to_all = before.map_or_else(|| self.has_all(), |copy| copy.is_known_to_all);
        let new = Copy { ran, was_active, end, is_known_to_all, ..new };
        // Not one that is still coming in from another node.
        let has_started = told.is_active && !before.is_some_and(had_started);
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
    fn is_full(&mut self, node: NodeId) -> bool {
        let is_full = |table: &Table| table.counts.get(&node).is_some_and(|&count| count >= VMS_MAX);
        if is_full(self) && self.has_gone.remove(&node) {
            for uuid in self.of_node(node, |copy| copy.fate == Fate::Gone) {
                self.remove(node, uuid);
            }
        }
        is_full(self)
    }

    /// It was started on a member, so it is not where it was seen before, and it is
    /// known where it went when it ended elsewhere.
    fn supersede(&mut self, uuid: Uuid) {
        self.has_run_elsewhere(self.order, uuid);
        let Some(copies) = self.vms.get(&uuid) else { return };
        let departed = copies.iter().filter(|(_, copy)| copy.fate != Fate::Here);
        for node in departed.map(|(&node, _)| node).collect::<Vec<_>>() {
            self.remove(node, uuid);
        }
    }

    /// It ran on a member at this place in the order of the group: where it had ended
    /// before, it had moved there.
    pub(super) fn has_run_elsewhere(&mut self, order: Sequence, uuid: Uuid) {
        for copy in self.vms.get_mut(&uuid).into_iter().flat_map(BTreeMap::values_mut) {
            if matches!(copy.end, End::At(at) if at <= order) {
                copy.end = End::NeverRan;
            }
        }
    }

    /// A member has it no more; whether that is news.
    pub(super) fn gone(&mut self, node: NodeId, uuid: Uuid) -> bool {
        self.order = self.order.next();
        let runs = |copy: &Copy| copy.state == PowerState::Running;
        let runs_elsewhere =
            self.copies(uuid).any(|(other, copy)| other != node && copy.fate == Fate::Here && runs(copy));
        match self.vms.get_mut(&uuid).and_then(|copies| copies.get_mut(&node)) {
            Some(copy) if runs(copy) && !runs_elsewhere => {
                copy.order = self.order;
                self.has_gone.insert(node);
                std::mem::replace(&mut copy.fate, Fate::Gone) != Fate::Gone
            }
            _ => self.remove(node, uuid),
        }
    }

    /// A C daemon has done an off. It told before that whether the VM runs.
    pub(super) fn destroyed(&mut self, node: NodeId, uuid: Uuid) {
        if let Some(copy) = self.vms.get_mut(&uuid).and_then(|copies| copies.get_mut(&node)) {
            copy.is_destroyed = copy.fate == Fate::Here && copy.is_active;
        }
    }

    /// Whether a node has told a VM since this place in the order of the group.
    pub(super) fn has_told_since(&self, node: NodeId, uuid: Uuid, order: Sequence) -> bool {
        let copy = self.vms.get(&uuid).and_then(|copies| copies.get(&node));
        copy.is_some_and(|copy| copy.fate == Fate::Here && copy.order > order)
    }

    /// A VM is gone from this node, which the group may never have heard to have had it.
    pub(super) fn gone_here(&mut self, domain: &Domain, now: Instant) {
        if let Some(owner) = self.home {
            let told =
                Advertisement { domain: domain.clone(), owner, state: PowerState::Running, is_active: false };
            if self.store(owner, &told, now).is_some() {
                self.gone(owner, domain.uuid);
            }
        }
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

    fn of_node(&self, node: NodeId, is_meant: impl Fn(&Copy) -> bool) -> Vec<Uuid> {
        let of_node = |(uuid, copies): (&Uuid, &BTreeMap<NodeId, Copy>)| {
            copies.get(&node).is_some_and(&is_meant).then_some(*uuid)
        };
        self.vms.iter().filter_map(of_node).collect()
    }

    /// A node is back, and has told all that it has: the rest is gone from there.
    pub(super) fn forget_departed(&mut self, node: NodeId) {
        for uuid in self.of_node(node, |copy| matches!(copy.fate, Fate::Left | Fate::Lost { .. })) {
            self.gone(node, uuid);
        }
    }

    /// When it is certain that a C daemon, which tells all its VMs whenever it
    /// is asked for one, has this one no more, having been asked at `asked_at`.
    pub(super) fn stale_at(&self, node: NodeId, uuid: Uuid, asked_at: Instant) -> Option<Instant> {
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
    pub(super) fn copies(&self, uuid: Uuid) -> impl Iterator<Item = (NodeId, &Copy)> {
        self.vms.get(&uuid).into_iter().flatten().map(|(&node, copy)| (node, copy))
    }

    /// Whether another member has this VM, and whether one has told since this
    /// place in the order of the group that it runs it, and does.
    pub(super) fn elsewhere(&self, uuid: Uuid, since: Sequence) -> (bool, bool) {
        let others =
            || self.copies(uuid).filter(|(node, copy)| !self.is_me(*node) && copy.fate == Fate::Here);
        let runs = |(_, copy): (NodeId, &Copy)| copy.state == PowerState::Running && copy.ran > since;
        (others().next().is_some(), others().any(runs))
    }

    /// All VMs with their copies.
    pub(super) fn vms(&self) -> impl Iterator<Item = (Uuid, &BTreeMap<NodeId, Copy>)> {
        self.vms.iter().map(|(&uuid, copies)| (uuid, copies))
    }

    /// The names under which a VM was told.
    pub(super) fn names_of(&self, uuid: Uuid) -> impl Iterator<Item = &str> {
        self.copies(uuid).map(|(_, copy)| copy.name.as_str())
    }
}

impl Copy {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}
