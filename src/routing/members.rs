//! Members of the group, votes, and which members have advertised all their VMs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::copy_record::Presence;
use super::ids::Sequence;
use super::limits::{PROBE_LIMIT, TELL_LIMIT, TOLD_LIMIT};
use super::vocabulary::{Departure, Membership, Peer};
use crate::time::Instant;
use crate::wire::cluster::{NodeId, RequestNumber};

/// Time in which an extended peer says hello.
const HELLO_LIMIT: Duration = Duration::from_millis(500);
/// Interval after which all members may be asked again to advertise all their VMs.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Time after its last advertisement in which a C daemon has advertised all its VMs, if it does at all.
const ALL_TOLD_AFTER: Duration = Duration::from_secs(1);

/// A node with a process in the group.
#[derive(Debug, Clone)]
struct MemberState {
    pids: BTreeSet<u32>,
    since: Instant,
    /// Extended peer, of this suite: says hello, advertises changes, looks at targets. Others are legacy
    /// peers: C daemons.
    is_extended: bool,
    /// Has begun to advertise all its VMs since it joined; not all members received earlier advertisements.
    has_begun: bool,
    has_advertised_all: bool,
    /// Position at which it began to advertise all its VMs, while it does.
    round_began: Option<Sequence>,
    /// Position at which it began the last time that it advertised all its VMs; the start before that.
    told_since: Sequence,
    /// The last query of this node that it has answered.
    answered: Option<RequestNumber>,
    /// Time until which it may still be advertising its VMs; none if it has advertised all.
    advertising_until: Option<Instant>,
    /// Time of its last advertisement since it joined.
    advertised_at: Option<Instant>,
}

/// A query of this node: all members are to advertise all their VMs.
#[derive(Debug, Clone, Copy)]
struct InventoryQuery {
    number: RequestNumber,
    /// Position in the group's order.
    seq: Sequence,
    at: Instant,
}

/// Progress of the members' advertisements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InventoryProgress {
    /// Complete: no other member can have the VM.
    Complete,
    /// A query has to be sent.
    AskNow,
    /// A query was sent, or will be; check again at this time.
    WaitUntil(Instant),
}

/// Members of the group, with this node's own membership.
#[derive(Debug, Default, Clone)]
pub(super) struct MemberTable {
    /// This node, while it is in the group.
    me: Option<Peer>,
    /// The id of this node, once it was in the group.
    home: Option<NodeId>,
    members: BTreeMap<NodeId, MemberState>,
    /// Start of the current quorum of this part of the cluster.
    quorate_since: Option<Instant>,
    /// Nodes that the quorum service sees; none without a quorum service.
    voters: Option<BTreeSet<NodeId>>,
    /// Nodes that ever were members, or in the same part of the cluster.
    seen: BTreeSet<NodeId>,
    query: Option<InventoryQuery>,
    /// Time at which the legacy peers were last asked for a VM that no task is for.
    probed_at: Option<Instant>,
}

impl MemberState {
    /// Returns true if it has advertised all its VMs since it joined, which C daemons do not report.
    fn has_advertised(&self) -> bool {
        match self.is_extended {
            true => self.has_advertised_all,
            false => self.advertising_until.is_none() && self.advertised_at.is_some(),
        }
    }
}

impl MemberTable {
    pub(super) fn join(&mut self, me: Peer) {
        self.me = Some(me);
        self.home = Some(me.node);
    }

    pub(super) fn leave(&mut self) {
        self.me = None;
        self.members.clear();
        self.quorate_since = None;
        self.voters = None;
        self.query = None;
    }

    pub(super) fn me(&self) -> Option<Peer> {
        self.me
    }

    pub(super) fn home(&self) -> Option<NodeId> {
        self.home
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    pub(super) fn is_me(&self, node: NodeId) -> bool {
        self.me.is_some_and(|me| me.node == node)
    }

    pub(super) fn is_extended(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.is_extended)
    }

    /// Returns true for another node that is not known to be of this suite.
    pub(super) fn is_legacy(&self, node: NodeId) -> bool {
        !self.is_extended(node) && !self.is_me(node)
    }

    /// Returns true if there are members that advertise their VMs only when asked.
    pub(super) fn has_legacy(&self) -> bool {
        self.members.keys().any(|&node| self.is_legacy(node))
    }

    /// Returns true if this node answers for VMs that nobody knows.
    pub(super) fn is_highest(&self) -> bool {
        self.members.last_key_value().is_some_and(|(&node, _)| self.is_me(node))
    }

    /// Returns the number of extended peers with a higher node id.
    pub(super) fn extended_above(&self) -> u32 {
        let own = self.me.map_or(NodeId(0), |me| me.node);
        let above = self.members.iter().filter(|&(&node, member)| member.is_extended && node > own);
        u32::try_from(above.count()).unwrap_or(u32::MAX)
    }

    /// Returns the time until which some extended peer or this node may still be advertising its VMs.
    /// A node that has just joined may turn out to be an extended peer.
    pub(super) fn extended_unsettled_until(&self, now: Instant) -> Option<Instant> {
        let until = self.members.iter().filter_map(|(&node, member)| match self.is_legacy(node) {
            false if member.has_advertised_all => None,
            false => Some(member.since + TELL_LIMIT),
            true => Some(member.since + HELLO_LIMIT),
        });
        until.filter(|&until| until > now).max()
    }

    /// Returns the time until which some other member may still be advertising its VMs.
    pub(super) fn unsettled_until(&self, now: Instant) -> Option<Instant> {
        let others = self.members.iter().filter(|&(&node, _)| !self.is_me(node));
        others.filter_map(|(_, member)| member.advertising_until).filter(|&until| until > now).max()
    }

    /// Applies a change of the group; returns the nodes that left it, each with what that says about its VMs.
    pub(super) fn change(&mut self, change: &Membership, now: Instant) -> Vec<(NodeId, Presence)> {
        let mut departed = Vec::new();
        for (peer, how) in &change.left {
            let Some(member) = self.members.get_mut(&peer.node) else { continue };
            member.pids.remove(&peer.pid);
            if member.pids.is_empty() {
                self.members.remove(&peer.node);
                let is_confirmed = self.voters.as_ref().is_none_or(|voters| !voters.contains(&peer.node));
                let presence = match how {
                    Departure::Process => Presence::Left,
                    Departure::Node => Presence::Lost { at: now, is_confirmed },
                };
                departed.push((peer.node, presence));
            }
        }
        for peer in change.joined.iter().chain(&change.members) {
            let member = self.members.entry(peer.node).or_insert_with(|| MemberState {
                pids: BTreeSet::new(),
                since: now,
                is_extended: false,
                has_begun: false,
                has_advertised_all: false,
                round_began: None,
                told_since: Sequence::START,
                answered: None,
                advertising_until: Some(now + TELL_LIMIT),
                advertised_at: None,
            });
            member.pids.insert(peer.pid);
            self.seen.insert(peer.node);
        }
        departed
    }

    /// Applies a report of the quorum service.
    pub(super) fn votes(&mut self, is_quorate: bool, voters: BTreeSet<NodeId>, now: Instant) {
        // Nodes without a daemon may run VMs as well.
        self.seen.extend(&voters);
        self.quorate_since = is_quorate.then_some(self.quorate_since.unwrap_or(now));
        self.voters = Some(voters);
    }

    /// Returns the start of the current quorum; none without quorum.
    pub(super) fn quorate_since(&self) -> Option<Instant> {
        self.quorate_since
    }

    /// Returns true if votes are counted, and this part of the cluster has too few.
    pub(super) fn lacks_quorum(&self) -> bool {
        self.voters.is_some() && self.quorate_since.is_none()
    }

    /// Applies the hello of an extended peer, which may report that it has advertised all its VMs;
    /// returns true if that is a change. `seq` is the current position.
    pub(super) fn hello(&mut self, node: NodeId, is_complete: bool, seq: Sequence) -> bool {
        let Some(member) = self.members.get_mut(&node) else { return false };
        if !is_complete {
            member.round_began = Some(seq);
        } else if let Some(began) = member.round_began.take() {
            member.told_since = began;
        }
        let was_extended = std::mem::replace(&mut member.is_extended, true);
        if !is_complete {
            member.has_begun = true;
        } else if member.has_begun && !member.has_advertised_all {
            member.has_advertised_all = true;
            member.advertising_until = None;
            return true;
        }
        !was_extended
    }

    /// Returns true if an extended peer has advertised all its VMs since it joined.
    pub(super) fn has_advertised_all(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.has_advertised_all)
    }

    /// Notes that a member has advertised a VM.
    pub(super) fn has_advertised(&mut self, node: NodeId, now: Instant) {
        if let Some(member) = self.members.get_mut(&node) {
            member.advertised_at = Some(now);
        }
    }

    /// Returns when a legacy peer, asked at `asked_at`, has advertised all its VMs.
    pub(super) fn all_told_at(&self, node: NodeId, asked_at: Instant) -> Option<Instant> {
        let member = self.members.get(&node).filter(|member| !member.is_extended)?;
        member.advertised_at.filter(|&at| at > asked_at).map(|at| at + ALL_TOLD_AFTER)
    }

    /// Notes that a member has answered a query of this node; returns true if that is a change.
    pub(super) fn answered(&mut self, node: NodeId, number: RequestNumber) -> bool {
        let is_last = self.query.is_some_and(|query| query.number == number);
        let member = self.members.get_mut(&node).filter(|member| is_last && member.answered != Some(number));
        member.map(|member| member.answered = Some(number)).is_some()
    }

    /// Notes a query of this node.
    pub(super) fn asked(&mut self, number: RequestNumber, seq: Sequence, now: Instant) {
        self.query = Some(InventoryQuery { number, seq, at: now });
    }

    /// Begins to ask the legacy peers for a VM unless they are being asked; returns true if so, with the
    /// time until which they may answer.
    pub(super) fn begin_probe(&mut self, now: Instant) -> (bool, Instant) {
        let before = self.probed_at.filter(|&at| now < at + PROBE_LIMIT);
        let at = *self.probed_at.insert(before.unwrap_or(now));
        (before.is_none(), at + PROBE_LIMIT)
    }

    /// Returns true if all nodes ever seen are members, and can be asked.
    pub(super) fn has_all(&self) -> bool {
        self.seen.iter().all(|node| self.members.contains_key(node))
    }

    /// Tells whether all members have advertised all their VMs since this position; the start precedes all.
    pub(super) fn progress_since(&self, seq: Sequence, now: Instant) -> InventoryProgress {
        if seq == Sequence::START && self.all_others(MemberState::has_advertised) {
            return InventoryProgress::Complete;
        }
        let Some(query) = self.query else { return InventoryProgress::AskNow };
        let is_over = now >= query.at + PROBE_LIMIT;
        // C daemons are asked by a request, and do not report that they have advertised all.
        let has_answered = |member: &MemberState| match member.is_extended {
            true => member.answered == Some(query.number),
            false => is_over && member.since <= query.at,
        };
        if query.seq >= seq && self.all_others(has_answered) {
            return InventoryProgress::Complete;
        }
        if now < query.at + ASK_AGAIN {
            return InventoryProgress::WaitUntil(query.at + ASK_AGAIN);
        }
        // Another query would void the answers that are in flight.
        let end = query.at + TOLD_LIMIT;
        match (query.seq >= seq && now < end, is_over) {
            (true, true) => InventoryProgress::WaitUntil(end),
            (true, false) => InventoryProgress::WaitUntil(query.at + PROBE_LIMIT),
            (false, _) => InventoryProgress::AskNow,
        }
    }

    /// Returns true if all nodes ever seen are members, and all other members have advertised all their VMs
    /// since this position, without having been asked to. C daemons never do.
    pub(super) fn have_told_since(&self, seq: Sequence) -> bool {
        self.has_all() && self.all_others(|member| member.told_since >= seq)
    }

    fn all_others(&self, is_so: impl Fn(&MemberState) -> bool) -> bool {
        self.members.iter().all(|(&node, member)| self.is_me(node) || is_so(member))
    }

    /// Ends the time for advertisements of members; returns the C daemons that have used it, whose VMs
    /// are now all known.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<NodeId> {
        let mut complete = Vec::new();
        for (&node, member) in &mut self.members {
            if member.advertising_until.take_if(|until| now >= *until).is_some()
                && !member.is_extended
                && member.advertised_at.is_some()
            {
                complete.push(node);
            }
        }
        complete
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.advertising_until).min()
    }
}
