//! Members of the group, and which of them have advertised all their VMs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ids::Sequence;
use super::limits::{PROBE_LIMIT, TELL_LIMIT};
use super::process::{ALL_TOLD_AFTER, Process};
use super::vocabulary::{Departure, Membership, Peer};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// Time in which an extended peer says hello.
const HELLO_LIMIT: Duration = Duration::from_millis(500);

/// A node that has left the group, or a daemon of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The node's last daemon.
    Node(NodeId, Departure),
    /// A daemon that another one has replaced, which joined at this position.
    Process(NodeId, Sequence),
}

/// Members of the group, with this node's own membership.
#[derive(Debug, Clone, Default)]
pub(super) struct MemberTable {
    /// This node, while it is in the group.
    me: Option<Peer>,
    /// The id of this node, once it was in the group.
    home: Option<NodeId>,
    /// The daemons of each node, by process id; at least one.
    members: BTreeMap<NodeId, BTreeMap<u32, Process>>,
    /// Time at which the legacy peers were last asked for a VM that no task is for.
    probed_at: Option<Instant>,
}

impl MemberTable {
    pub(super) fn join(&mut self, me: Peer) {
        self.me = Some(me);
        self.home = Some(me.node);
    }

    pub(super) fn leave(&mut self) {
        self.me = None;
        self.members.clear();
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

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied()
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// Returns true if a process is in the group.
    pub(super) fn has(&self, peer: Peer) -> bool {
        self.members.get(&peer.node).is_some_and(|processes| processes.contains_key(&peer.pid))
    }

    pub(super) fn is_me(&self, node: NodeId) -> bool {
        self.me.is_some_and(|me| me.node == node)
    }

    pub(super) fn is_extended(&self, node: NodeId) -> bool {
        self.all(node, |process| process.is_extended)
    }

    /// Returns true for another node that is not known to be of this suite.
    pub(super) fn is_legacy(&self, node: NodeId) -> bool {
        !self.is_extended(node) && !self.is_me(node)
    }

    /// Returns true if there are members that advertise their VMs only when asked.
    pub(super) fn has_legacy(&self) -> bool {
        self.members.keys().any(|&node| self.is_legacy(node))
    }

    /// Returns true if another member is taken for a C daemon, and has not said hello since.
    pub(super) fn has_known_legacy(&self) -> bool {
        self.others().any(|(_, process)| process.is_known_legacy())
    }

    /// Assumes that members which have not said hello in time are C daemons; returns true if there are new ones.
    pub(super) fn take_new_legacy(&mut self, now: Instant) -> bool {
        let me = self.me.map(|me| me.node);
        let others = self.members.iter_mut().filter(|(node, _)| Some(**node) != me);
        let mut has_new = false;
        for process in others.flat_map(|(_, processes)| processes.values_mut()) {
            has_new |= process.take_as_legacy(now);
        }
        has_new
    }

    /// Returns the time at which another member is taken for a C daemon unless it says hello.
    pub(super) fn legacy_deadline(&self) -> Option<Instant> {
        self.others().filter_map(|(_, process)| process.legacy_at()).min()
    }

    /// Returns true if this node answers for VMs that nobody knows.
    pub(super) fn is_highest(&self) -> bool {
        self.members.last_key_value().is_some_and(|(&node, _)| self.is_me(node))
    }

    /// Returns the number of extended peers with a higher node id.
    pub(super) fn extended_above(&self) -> u32 {
        let own = self.me.map_or(NodeId(0), |me| me.node);
        let above = self.members.keys().filter(|&&node| node > own && self.is_extended(node));
        u32::try_from(above.count()).unwrap_or(u32::MAX)
    }

    /// Returns the extended peers that have told all their VMs.
    pub(super) fn settled(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied().filter(|&node| self.has_advertised_all(node))
    }

    /// Returns the other extended peers that have not said hello since this position: they may hang.
    pub(super) fn silent_since(&self, seq: Sequence) -> BTreeSet<NodeId> {
        let is_silent = |process: &Process| process.is_extended && process.hello_at < seq;
        self.others().filter(|(_, process)| is_silent(process)).map(|(node, _)| node).collect()
    }

    /// Returns the time until which some extended peer or this node may still be advertising its VMs.
    /// A node that has just joined may turn out to be an extended peer.
    pub(super) fn extended_unsettled_until(&self, now: Instant) -> Option<Instant> {
        let own = self.processes().filter(|(node, _)| self.is_me(*node));
        let own = own.filter(|(_, process)| !process.has_advertised_all);
        let own = own.map(|(_, process)| process.since + TELL_LIMIT).filter(|&until| until > now).max();
        own.max(self.other_extended_unsettled_until(now))
    }

    /// Returns the same for the others alone.
    pub(super) fn other_extended_unsettled_until(&self, now: Instant) -> Option<Instant> {
        let until = self.others().filter_map(|(_, process)| match process.is_extended {
            true if process.has_advertised_all => None,
            true => Some(process.since + TELL_LIMIT),
            false => Some(process.since + HELLO_LIMIT),
        });
        until.filter(|&until| until > now).max()
    }

    /// Returns the time until which some other member may still be advertising its VMs.
    pub(super) fn unsettled_until(&self, now: Instant) -> Option<Instant> {
        self.others().filter_map(|(_, process)| process.advertising_until).filter(|&until| until > now).max()
    }

    /// Returns the time until which this node may still be advertising its VMs after it has joined.
    pub(super) fn own_unsettled_until(&self, now: Instant) -> Option<Instant> {
        let own = self.processes().filter(|(node, _)| self.is_me(*node));
        own.filter_map(|(_, process)| process.advertising_until).filter(|&until| until > now).max()
    }

    /// Applies a change of the group at this position; returns what has left.
    pub(super) fn change(&mut self, change: &Membership, seq: Sequence, now: Instant) -> Vec<Left> {
        for peer in change.joined.iter().chain(&change.members) {
            let processes = self.members.entry(peer.node).or_default();
            processes.entry(peer.pid).or_insert_with(|| Process::new(seq, now));
        }
        let mut left = Vec::new();
        for (peer, how) in &change.left {
            let Some(processes) = self.members.get_mut(&peer.node) else { continue };
            processes.remove(&peer.pid);
            match processes.values().map(|process| process.joined_at).min() {
                Some(joined_at) => left.push(Left::Process(peer.node, joined_at)),
                None => {
                    self.members.remove(&peer.node);
                    left.push(Left::Node(peer.node, *how));
                }
            }
        }
        left
    }

    /// Applies the hello of a daemon; returns true if that is a change.
    pub(super) fn hello(&mut self, peer: Peer, is_complete: bool, seq: Sequence) -> bool {
        self.process_mut(peer).is_some_and(|process| process.hello(is_complete, seq))
    }

    /// Returns true if a daemon has begun to tell its VMs, or to greet.
    pub(super) fn is_telling(&self, peer: Peer) -> bool {
        let process = self.members.get(&peer.node).and_then(|processes| processes.get(&peer.pid));
        process.is_some_and(Process::is_telling)
    }

    /// Ends what a daemon tells without all having been told.
    pub(super) fn end_round(&mut self, peer: Peer) {
        if let Some(process) = self.process_mut(peer) {
            process.end_round();
        }
    }

    /// Returns true if an extended peer has advertised all its VMs since it joined.
    pub(super) fn has_advertised_all(&self, node: NodeId) -> bool {
        self.all(node, |process| process.has_advertised_all)
    }

    /// Returns true if a member has advertised all its VMs since it joined, which C daemons do not report.
    pub(super) fn has_advertised(&self, node: NodeId) -> bool {
        self.is_me(node) || self.all(node, Process::has_advertised)
    }

    /// Notes that a member says of a C daemon that it has VMs. If it tells none, it hangs.
    pub(super) fn expect_vms(&mut self, node: NodeId) {
        self.members.get_mut(&node).into_iter().flatten().for_each(|(_, process)| process.must_tell = true);
    }

    /// Returns true if a C daemon, which has VMs by what a member says, has told none since it or this node joined.
    pub(super) fn owes_vms(&self, node: NodeId) -> bool {
        self.members.get(&node).into_iter().flatten().any(|(_, process)| process.owes_vms())
    }

    /// Notes that a member has advertised a VM.
    pub(super) fn advertises(&mut self, peer: Peer, now: Instant) {
        if let Some(process) = self.process_mut(peer) {
            process.advertised_at = Some(now);
        }
    }

    /// Returns true if a member advertised a VM after this time.
    pub(super) fn has_advertised_after(&self, node: NodeId, at: Instant) -> bool {
        self.all(node, |process| process.advertised_at.is_some_and(|told_at| told_at > at))
    }

    /// Returns true if a daemon of a member has joined since this position.
    pub(super) fn has_joined_since(&self, node: NodeId, seq: Sequence) -> bool {
        self.members.get(&node).into_iter().flatten().any(|(_, process)| process.joined_at > seq)
    }

    /// Returns the first position at which one of these daemons of this suite, which leave, began to tell all its
    /// VMs for the last time; none if every member that stays has heard that.
    pub(super) fn told_before_leaving(&self, left: &[(Peer, Departure)]) -> Option<Sequence> {
        let told = |(peer, _): &(Peer, Departure)| {
            let process = self.members.get(&peer.node)?.get(&peer.pid)?;
            process.has_advertised_all.then_some(process.told_since)
        };
        let told = left.iter().filter_map(told).min()?;
        let stays = |node: &NodeId| !left.iter().any(|(peer, _)| peer.node == *node);
        self.nodes().filter(stays).any(|node| self.has_joined_since(node, told)).then_some(told)
    }

    /// Returns true if all daemons of a member were in the group at this time.
    pub(super) fn was_member_at(&self, node: NodeId, at: Instant) -> bool {
        self.all(node, |process| process.since <= at)
    }

    /// Returns when a legacy peer, asked at `asked_at`, has advertised all its VMs.
    pub(super) fn all_told_at(&self, node: NodeId, asked_at: Instant) -> Option<Instant> {
        let processes = self.members.get(&node).filter(|_| !self.is_extended(node))?;
        let told_at = processes.values().filter_map(|process| process.advertised_at).max()?;
        (told_at > asked_at).then(|| told_at + ALL_TOLD_AFTER)
    }

    /// Begins to ask the legacy peers for a VM unless they are being asked; returns true if so, with the
    /// time until which they may answer.
    pub(super) fn begin_probe(&mut self, now: Instant) -> (bool, Instant) {
        let before = self.probed_at.filter(|&at| now < at + PROBE_LIMIT);
        let at = *self.probed_at.insert(before.unwrap_or(now));
        (before.is_none(), at + PROBE_LIMIT)
    }

    /// Returns true if all other members have advertised all their VMs since this position, without having
    /// been asked to. C daemons never do.
    pub(super) fn have_told_since(&self, seq: Sequence) -> bool {
        self.processes().all(|(node, process)| self.is_me(node) || process.told_since >= seq)
    }

    /// Ends the time for advertisements of members; returns the C daemons that have used it, with true for
    /// those whose advertisements are complete: they have advertised anything.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(NodeId, bool)> {
        let mut complete = Vec::new();
        for (&node, processes) in &mut self.members {
            for process in processes.values_mut() {
                let is_over = process.advertising_until.take_if(|until| now >= *until).is_some();
                let is_complete = process.take_as_complete(now);
                if is_complete || (is_over && !process.is_extended) {
                    complete.push((node, is_complete));
                }
            }
        }
        complete
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = self.processes().filter_map(|(_, process)| process.advertising_until);
        ends.chain(self.processes().filter_map(|(_, process)| process.complete_at())).min()
    }

    fn all(&self, node: NodeId, is_so: impl Fn(&Process) -> bool) -> bool {
        self.members.get(&node).is_some_and(|processes| processes.values().all(is_so))
    }

    fn processes(&self) -> impl Iterator<Item = (NodeId, &Process)> {
        self.members
            .iter()
            .flat_map(|(&node, processes)| processes.values().map(move |process| (node, process)))
    }

    fn others(&self) -> impl Iterator<Item = (NodeId, &Process)> {
        self.processes().filter(|(node, _)| !self.is_me(*node))
    }

    fn process_mut(&mut self, peer: Peer) -> Option<&mut Process> {
        self.members.get_mut(&peer.node)?.get_mut(&peer.pid)
    }
}
