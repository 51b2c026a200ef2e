//! Meaning of a text: the VMs that it names, by what this node knows.

use std::collections::{BTreeMap, BTreeSet};

use super::copy_record::{CopyRecord, Presence};
use super::directory::Leaving;
use super::host_fate::HostFate;
use super::ids::Sequence;
use super::rules::Unknown;
use super::view::ClusterView;
use super::vocabulary::Names;
use crate::fence::Uuid;
use crate::time::Instant;
use crate::wire::cluster::{NodeId, cut};

/// Match of a name, the best one first: only VMs of the best rank are meant. What reads as a UUID is none,
/// since a VM that is called so could be fenced in place of one that nobody here knows yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Exact,
    /// The name differs in case; C daemons compare names so.
    OtherCase,
}

/// State of a VM, or copy, that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClaimState {
    /// A member has it.
    Held,
    /// A node that is not a member had it, and may run it.
    Doubtful,
    /// The same, and by the administrator's rules it is off.
    Off,
    /// It is gone from its node.
    Gone(Sequence),
}

/// VMs that a text means.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    /// Several are ambiguous.
    pub(super) vms: BTreeSet<Uuid>,
    /// Namesakes that are gone, while a member has another VM of the name, with the position at which
    /// they went: they may have moved to another member.
    pub(super) gone: BTreeMap<Uuid, Sequence>,
    /// A VM that is not known yet may be a better match.
    is_second_rate: bool,
}

impl Meaning {
    /// Returns the VM, if it is only one.
    pub(super) fn only(&self) -> Option<Uuid> {
        self.vms.first().copied().filter(|_| self.vms.len() == 1)
    }

    /// Returns true if all matches differ from the text in case.
    pub(super) fn is_second_rate(&self) -> bool {
        self.is_second_rate
    }

    /// Returns true if it may change when all members have advertised their VMs.
    pub(super) fn is_uncertain(&self) -> bool {
        self.is_second_rate || self.vms.len() > 1
    }
}

impl ClusterView {
    /// Returns the VMs that a requested name or UUID means.
    pub(super) fn meaning(&self, text: &str, names: Names, now: Instant) -> Meaning {
        if let Some(uuid) = as_uuid(text, names) {
            let known = Some(uuid).filter(|&uuid| self.knows(uuid));
            return Meaning { vms: known.into_iter().collect(), ..Meaning::default() };
        }
        let state = |(rank, uuid, node): (Rank, Uuid, Option<NodeId>)| {
            let state = node.map_or(ClaimState::Held, |node| self.claim_state(node, uuid, now));
            (rank, uuid, state)
        };
        let mut claims: Vec<_> = self.named(text, names).map(state).collect();
        let Some(best) = claims.iter().map(|(rank, ..)| *rank).min() else { return Meaning::default() };
        claims.retain(|(rank, ..)| *rank == best);
        let mut states = BTreeMap::new();
        for (_, uuid, state) in claims {
            let of_vm = states.entry(uuid).or_insert(state);
            *of_vm = state.min(*of_vm);
        }
        let has_holder = states.values().any(|state| *state == ClaimState::Held);
        // What is off for sure is no other meaning of a name, as long as one is left.
        let is_open = states.values().any(|state| *state != ClaimState::Off);
        let mut meaning = Meaning { is_second_rate: best == Rank::OtherCase, ..Meaning::default() };
        for (uuid, state) in states {
            match state {
                ClaimState::Gone(since) if has_holder => drop(meaning.gone.insert(uuid, since)),
                ClaimState::Off if is_open || !meaning.vms.is_empty() => {}
                _ => drop(meaning.vms.insert(uuid)),
            }
        }
        meaning
    }

    /// Returns true if a text is a name, by this node's rules.
    pub(super) fn is_name(&self, text: &str) -> bool {
        as_uuid(text, self.rules.names).is_none()
    }

    /// Returns the VMs of members that a text means. All members of this suite know the same of them.
    pub(super) fn meant_of_members(&self, text: &str) -> BTreeSet<Uuid> {
        let names = self.rules.names;
        if let Some(uuid) = as_uuid(text, names) {
            return Some(uuid).filter(|&uuid| self.has_holder(uuid)).into_iter().collect();
        }
        best(self.named(text, names).filter(|&(_, uuid, node)| self.is_held(node, uuid)))
    }

    /// Returns the VMs of this node that a text means.
    pub(super) fn meant_here(&self, text: &str, names: Names) -> BTreeSet<Uuid> {
        if let Some(uuid) = as_uuid(text, names) {
            return Some(uuid).filter(|uuid| self.inventory.state(*uuid).is_some()).into_iter().collect();
        }
        best(self.named(text, names).filter(|(.., node)| node.is_none()))
    }

    /// Returns the VMs that the text of a job means, which is a UUID if it is from a member of this suite.
    pub(super) fn meant_by_job(&self, text: &str) -> BTreeSet<Uuid> {
        if let Some(uuid) = as_uuid(text, Names::Both) {
            return Some(uuid).filter(|&uuid| self.knows(uuid)).into_iter().collect();
        }
        best(self.named(text, Names::Both))
    }

    /// Returns the VM of a member that carried out a request by a text; none if that may be one of several.
    pub(super) fn meant_at(&self, node: NodeId, text: &str) -> Option<Uuid> {
        let of_node = |uuid| self.directory.copy(node, uuid).is_some_and(|copy| copy.is_here());
        let by_uuid = as_uuid(text, Names::Both).filter(|&uuid| of_node(uuid));
        if by_uuid.is_some() && self.members.is_extended(node) {
            return by_uuid;
        }
        let named = self.directory.named(text).filter(|(_, other, copy)| *other == node && copy.is_here());
        let meant: BTreeSet<Uuid> = named.map(|(uuid, ..)| uuid).chain(by_uuid).collect();
        meant.first().copied().filter(|_| meant.len() == 1)
    }

    /// Returns the name or UUID by which to ask a node for a VM. C daemons accept one of them, by their
    /// `name_mode`, which is taken for ours, or for their default, the name: for what they do not accept, the
    /// one with the highest node ID answers that the VM is off. Returns none if they could take the name for
    /// another VM's, since each that has the other acts on it.
    pub(super) fn wire_name(&self, node: NodeId, uuid: Uuid) -> Option<String> {
        let by_uuid = uuid.to_string();
        let copy = self.directory.copy(node, uuid).filter(|_| !self.members.is_extended(node));
        let Some(copy) = copy.filter(|_| self.rules.names != Names::Uuid) else { return Some(by_uuid) };
        Some(copy.name.clone()).filter(|name| copy.has_name && self.is_plain(name, uuid))
    }

    /// Returns true if a text means this VM and no other one of a member, in any case and by any rank.
    fn is_plain(&self, text: &str, uuid: Uuid) -> bool {
        let named = self.named(text, Names::Name).filter(|&(_, uuid, node)| self.is_held(node, uuid));
        let by_uuid = as_uuid(text, Names::Both).filter(|&uuid| self.has_holder(uuid));
        named.map(|(_, uuid, _)| uuid).chain(by_uuid).all(|other| other == uuid)
    }

    /// Withdraws a VM from C daemons that have advertised all their VMs since they were asked, without it.
    pub(super) fn withdraw_stale(&mut self, uuid: Uuid, asked_at: Instant, now: Instant) {
        let is_stale =
            |node: &NodeId| self.stale_at(*node, uuid, asked_at).is_some_and(|told_at| now >= told_at);
        let here = self.directory.copies(uuid).filter(|(_, copy)| copy.is_here());
        let stale: Vec<NodeId> = here.map(|(node, _)| node).filter(is_stale).collect();
        for node in stale {
            self.directory.withdraw(node, uuid, Leaving::Inferred, now);
        }
    }

    fn knows(&self, uuid: Uuid) -> bool {
        self.directory.knows(uuid) || self.inventory.state(uuid).is_some()
    }

    /// Returns the VMs of a name with the nodes whose copies have it; none is this node, with what it has.
    fn named(&self, text: &str, names: Names) -> impl Iterator<Item = (Rank, Uuid, Option<NodeId>)> {
        let is_by_name = names != Names::Uuid;
        let rank = |is_exact| if is_exact { Rank::Exact } else { Rank::OtherCase };
        // Of this node's own VMs, the inventory tells more than what it has advertised.
        let is_leaving = |uuid, copy: &CopyRecord| copy.is_here() && self.inventory.state(uuid).is_none();
        let is_other = move |uuid, node, copy: &CopyRecord| {
            copy.is_gone() || !self.members.is_me(node) || is_leaving(uuid, copy)
        };
        let told = self.directory.named(text).filter(move |(uuid, node, copy)| is_other(*uuid, *node, copy));
        let told = told.map(move |(uuid, node, copy)| (rank(copy.name == cut(text)), uuid, Some(node)));
        let own = self.inventory.named(text).map(move |(uuid, name)| (rank(name == text), uuid, None));
        own.chain(told).filter(move |_| is_by_name)
    }

    fn is_held(&self, node: Option<NodeId>, uuid: Uuid) -> bool {
        let is_here = |node| self.directory.copy(node, uuid).is_some_and(CopyRecord::is_here);
        node.is_none_or(|node| is_here(node) && !self.members.is_me(node))
    }

    /// Returns the state of a copy of another node, or of one that is gone from this node.
    fn claim_state(&self, node: NodeId, uuid: Uuid, now: Instant) -> ClaimState {
        let Some(copy) = self.directory.copy(node, uuid) else { return ClaimState::Off };
        match copy.presence {
            Presence::Here if self.members.is_me(node) => ClaimState::Gone(copy.seq),
            Presence::Here => ClaimState::Held,
            Presence::Vanished | Presence::Ended => ClaimState::Gone(copy.seq),
            Presence::Away => match self.fate(node, now) {
                HostFate::Off(_) => ClaimState::Off,
                HostFate::MayRun(..) => ClaimState::Doubtful,
                HostFate::NoQuorum(_) if self.rules.unknown == Unknown::Off => ClaimState::Off,
                HostFate::NoQuorum(_) => ClaimState::Doubtful,
            },
        }
    }
}

fn as_uuid(text: &str, names: Names) -> Option<Uuid> {
    Uuid::parse(text).filter(|_| names != Names::Name)
}

/// Returns the VMs of the best rank.
fn best(claims: impl Iterator<Item = (Rank, Uuid, Option<NodeId>)>) -> BTreeSet<Uuid> {
    let claims: Vec<_> = claims.collect();
    let best = claims.iter().map(|(rank, ..)| *rank).min();
    claims.into_iter().filter(|(rank, ..)| Some(*rank) == best).map(|(_, uuid, _)| uuid).collect()
}
