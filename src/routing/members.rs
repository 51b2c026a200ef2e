use super::ids::Sequence;
use crate::wire::cluster::{NodeId, RequestNumber};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::directory::{Fate, Table};
use super::{Departure, MembershipChange, PROBE_LIMIT, TELL_LIMIT, TOLD_LIMIT};

/// How long a member of this suite may take to say that it is.
const HELLO_LIMIT: Duration = Duration::from_millis(500);
/// How soon all may be asked again to tell all their VMs.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A node with a process in the group.
#[derive(Debug)]
pub(super) struct Member {
    pids: BTreeSet<u32>,
    since: Instant,
    /// Whether it is of this suite: says hello, tells changes, looks at targets.
    pub(super) speaks: bool,
    /// Whether it has begun to tell all its VMs since it joined: what it says
    /// of those of before was not heard by all.
    has_begun: bool,
    /// Whether it has told all since.
    has_told_all: bool,
    /// The last question of this node, to tell all VMs, that it has answered.
    answered: Option<RequestNumber>,
    /// Until when it may still be telling its VMs; none if it has told all.
    telling_until: Option<Instant>,
    /// When it last told a VM since it joined.
    pub(super) last_told: Option<Instant>,
}

impl Member {
    /// Whether it has told all its VMs since it joined. C daemons do not say so.
    fn has_told(&self) -> bool {
        match self.speaks {
            true => self.has_told_all,
            false => self.telling_until.is_none() && self.last_told.is_some(),
        }
    }
}

/// A question of this node to all, to tell all their VMs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    number: RequestNumber,
    /// Its place in the order of the group: behind that much of what was told.
    order: Sequence,
    at: Instant,
}

/// Whether all members have told all their VMs since some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HasTold {
    /// They have, and nobody else can have it.
    All,
    /// They are to be asked.
    Ask,
    /// They were asked, or will be; it is worth looking again then.
    Until(Instant),
}

/// The votes.
#[derive(Debug, Default)]
pub(super) struct Quorum {
    /// Since when this part of the cluster has quorum without a break.
    pub(super) quorate_since: Option<Instant>,
    /// Whether anybody counts votes at all.
    is_counted: bool,
    nodes: BTreeSet<NodeId>,
}

impl Table {
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    pub(super) fn speaks(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.speaks)
    }

    pub(super) fn is_me(&self, node: NodeId) -> bool {
        self.me.is_some_and(|me| me.node == node)
    }

    /// Whether this node answers for VMs that nobody knows.
    pub(super) fn is_highest(&self) -> bool {
        self.members.last_key_value().is_some_and(|(&node, _)| self.is_me(node))
    }

    /// How many nodes of this suite have a higher number.
    pub(super) fn speakers_above(&self) -> u32 {
        let own = self.me.map_or(NodeId(0), |me| me.node);
        let above = self.members.iter().filter(|&(&node, member)| member.speaks && node > own);
        u32::try_from(above.count()).unwrap_or(u32::MAX)
    }

    /// Members that only tell their VMs when they are asked.
    pub(super) fn mutes(&self) -> impl Iterator<Item = NodeId> {
        self.members
            .iter()
            .filter(|&(&node, member)| !member.speaks && !self.is_me(node))
            .map(|(&node, _)| node)
    }

    /// Until when some member of this suite, this node included, may still be
    /// telling its VMs. One that joined just now may turn out to be of this suite.
    pub(super) fn speakers_unsettled_until(&self, now: Instant) -> Option<Instant> {
        let until =
            self.members.iter().filter_map(|(&node, member)| match member.speaks || self.is_me(node) {
                true if member.has_told_all => None,
                true => Some(member.since + TELL_LIMIT),
                false => Some(member.since + HELLO_LIMIT),
            });
        until.filter(|&until| until > now).max()
    }

    /// Until when some member may still be telling its VMs.
    pub(super) fn unsettled_until(&self, now: Instant) -> Option<Instant> {
        let until = self.members.iter().filter(|&(&node, _)| !self.is_me(node));
        until.filter_map(|(_, member)| member.telling_until).filter(|&until| until > now).max()
    }

    pub(super) fn change(&mut self, change: &MembershipChange, now: Instant) {
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
                since: now,
                speaks: false,
                has_begun: false,
                has_told_all: false,
                answered: None,
                telling_until: Some(now + TELL_LIMIT),
                last_told: None,
            });
            member.pids.insert(peer.pid);
            self.seen.insert(peer.node);
            self.is_back(peer.node);
        }
    }

    fn depart(&mut self, node: NodeId, how: Departure, now: Instant) {
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
    fn is_back(&mut self, node: NodeId) {
        if self.counts.get(&node).is_none_or(|&count| count == 0) {
            return;
        }
        for copy in self.vms.values_mut().filter_map(|copies| copies.get_mut(&node)) {
            if matches!(copy.fate, Fate::Lost { .. }) {
                copy.fate = Fate::Left;
            }
        }
    }

    pub(super) fn votes(&mut self, is_quorate: bool, nodes: &[NodeId], now: Instant) {
        self.quorum.is_counted = true;
        self.quorum.nodes = nodes.iter().copied().collect();
        // Those without a daemon may run VMs as well.
        self.seen.extend(nodes);
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

    /// A member says that it is of this suite, and perhaps that it has told all its VMs.
    /// Whether that is news.
    pub(super) fn hello(&mut self, node: NodeId, is_complete: bool) -> bool {
        let Some(member) = self.members.get_mut(&node) else { return false };
        let was_heard = std::mem::replace(&mut member.speaks, true);
        if !is_complete {
            member.has_begun = true;
        } else if member.has_begun && !member.has_told_all {
            member.has_told_all = true;
            member.telling_until = None;
            // What it had before and does not have now it would have told.
            self.forget_departed(node);
            return true;
        }
        !was_heard
    }

    /// A member says that it has told all its VMs since it heard a question of
    /// this node. Whether that is news.
    pub(super) fn answered(&mut self, node: NodeId, number: RequestNumber) -> bool {
        let is_last = self.question.is_some_and(|question| question.number == number);
        let member = self.members.get_mut(&node).filter(|member| is_last && member.answered != Some(number));
        member.map(|member| member.answered = Some(number)).is_some()
    }

    /// All are being asked to tell all their VMs.
    pub(super) fn asked(&mut self, number: RequestNumber, now: Instant) {
        self.question = Some(Question { number, order: self.order(), at: now });
    }

    /// Whether all nodes that ever were seen are members, and can be asked.
    pub(super) fn has_all(&self) -> bool {
        self.seen.iter().all(|node| self.members.contains_key(node))
    }

    /// Whether all members have told all their VMs since what was told at this
    /// place in the order of the group; 0 is before all of it.
    pub(super) fn told_since(&self, order: Sequence, now: Instant) -> HasTold {
        if order == Sequence::START && self.all_members(Member::has_told) {
            return HasTold::All;
        }
        let Some(question) = self.question else { return HasTold::Ask };
        let is_over = now >= question.at + PROBE_LIMIT;
        // C daemons are asked by a request, and say nothing when they have told all.
        let has_answered = |member: &Member| match member.speaks {
            true => member.answered == Some(question.number),
            false => is_over && member.since <= question.at,
        };
        if question.order >= order && self.all_members(has_answered) {
            return HasTold::All;
        }
        if now < question.at + ASK_AGAIN {
            return HasTold::Until(question.at + ASK_AGAIN);
        }
        // To ask again spoils the answers that are on their way.
        let end = question.at + TOLD_LIMIT;
        match (question.order >= order && now < end, is_over) {
            (true, true) => HasTold::Until(end),
            (true, false) => HasTold::Until(question.at + PROBE_LIMIT),
            (false, _) => HasTold::Ask,
        }
    }

    fn all_members(&self, is_so: impl Fn(&Member) -> bool) -> bool {
        self.members.iter().all(|(&node, member)| self.is_me(node) || is_so(member))
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
                self.forget_departed(node);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.telling_until).min()
    }
}
