//! Hosts of the cluster: which of them are in the cluster, which were lost or fenced, and which have told
//! their VMs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::host_fate::{HostFate, HostPresence};
use super::rules::Rules;
use crate::time::Instant;
use crate::wire::cluster::{AGE_UNKNOWN, HostNotice, HostStanding, NodeId};

/// Time after a daemon left the group within which its node leaves the cluster too, if its corosync was
/// stopped in order; measured: well below a second.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Maximum number of hosts that are taken from others.
const HOSTS_MAX: usize = 1024;

/// What this node knows of a host.
#[derive(Debug, Clone, Copy)]
struct HostRecord {
    standing: HostPresence,
    /// It was in the group, or in the same part of the cluster, since this daemon or one that told of it began.
    was_seen: bool,
    /// Time from which the cluster is known to have fenced it, since it was last up.
    fenced_at: Option<Instant>,
    /// Last time at which its daemon was in the group with this node; none if it never was, or this node has left
    /// the group since.
    heard_until: Option<Instant>,
    /// It has told all its VMs since this node joined the group, and since it was back itself.
    has_told: bool,
}

/// All hosts that corosync's configuration names, or that were ever seen.
#[derive(Debug, Clone, Default)]
pub(super) struct HostTable {
    hosts: BTreeMap<NodeId, HostRecord>,
    /// True if corosync's configuration names the nodes, so that none is missing above.
    is_complete: bool,
    /// Nodes that the quorum service sees; none without a quorum service.
    voters: Option<BTreeSet<NodeId>>,
    /// Start of the current quorum of this part of the cluster.
    quorate_since: Option<Instant>,
    /// The cluster's fencer on this host is asked which hosts it has fenced.
    awaits_fencing: bool,
}

impl HostRecord {
    fn new(standing: HostPresence) -> HostRecord {
        HostRecord { standing, was_seen: false, fenced_at: None, heard_until: None, has_told: false }
    }
}

impl HostTable {
    /// Notes that this node has left the group, and hears nothing of the others.
    pub(super) fn leave(&mut self) {
        self.voters = None;
        self.quorate_since = None;
        for host in self.hosts.values_mut() {
            (host.has_told, host.fenced_at, host.heard_until) = (false, None, None);
        }
    }

    /// Notes that this node joins the group again: hosts that were lost may have been back meanwhile.
    pub(super) fn join(&mut self, now: Instant) {
        for host in self.hosts.values_mut() {
            if let HostPresence::Lost { at, is_confirmed } = &mut host.standing {
                (*at, *is_confirmed) = (now, true);
            }
        }
    }

    /// Applies the nodes of corosync's configuration; none if it names none.
    pub(super) fn configure(&mut self, nodes: Option<Vec<NodeId>>, now: Instant) {
        self.is_complete = nodes.is_some();
        if let Some(nodes) = &nodes {
            // A host that was taken out of the configuration is no longer one of the cluster.
            let is_voter = |node: &NodeId| self.voters.as_ref().is_none_or(|voters| voters.contains(node));
            self.hosts.retain(|node, _| nodes.contains(node) || is_voter(node));
        }
        // One that was never seen counts as lost from now on.
        let lost = HostPresence::Lost { at: now, is_confirmed: self.voters.is_some() };
        for node in nodes.into_iter().flatten() {
            self.hosts.entry(node).or_insert(HostRecord::new(lost));
        }
    }

    /// Notes that a host is in the group; returns true if it was off since it was last up.
    pub(super) fn is_up(&mut self, node: NodeId, rules: &Rules, now: Instant) -> bool {
        let was_off = matches!(self.fate(node, rules, now), Some(HostFate::Off(_)));
        let host = self.hosts.entry(node).or_insert(HostRecord::new(HostPresence::Stopped { at: now }));
        // VMs may have come to it while it was away.
        host.has_told &= host.standing == HostPresence::Up { left_at: None };
        host.standing = HostPresence::Up { left_at: None };
        host.was_seen = true;
        host.fenced_at = None;
        was_off
    }

    /// Notes that the daemon of a host has left the group. If the quorum service has told that its node is gone, before
    /// this was heard, that may have been in order.
    pub(super) fn daemon_left(&mut self, node: NodeId, now: Instant) {
        let is_voter = self.voters.as_ref().is_none_or(|voters| voters.contains(&node));
        if let Some(host) = self.hosts.get_mut(&node) {
            host.standing = match is_voter {
                true => HostPresence::Up { left_at: Some(now) },
                false => HostPresence::Stopped { at: now },
            };
            host.heard_until = Some(now);
        }
    }

    /// Notes that the node of a host has left the cluster.
    pub(super) fn node_lost(&mut self, node: NodeId, now: Instant) {
        let is_confirmed = self.voters.as_ref().is_none_or(|voters| !voters.contains(&node));
        if let Some(host) = self.hosts.get_mut(&node) {
            host.standing = HostPresence::Lost { at: now, is_confirmed };
            host.heard_until = Some(now);
        }
    }

    /// Applies a report of the quorum service; returns the hosts that are back and were off meanwhile.
    pub(super) fn votes(
        &mut self,
        is_quorate: bool,
        voters: BTreeSet<NodeId>,
        is_member: impl Fn(NodeId) -> bool,
        rules: &Rules,
        now: Instant,
    ) -> Vec<NodeId> {
        let mut returned = Vec::new();
        for &node in &voters {
            let host = self.hosts.get(&node);
            let is_known = host.is_some_and(|host| match host.standing {
                HostPresence::Up { .. } => true,
                // This report precedes its loss.
                HostPresence::Lost { is_confirmed, .. } => host.was_seen && !is_confirmed,
                HostPresence::Stopped { .. } => false,
            });
            if !is_known && self.is_up(node, rules, now) {
                returned.push(node);
            }
        }
        for (&node, host) in self.hosts.iter_mut().filter(|(node, _)| !voters.contains(node)) {
            let lost = |at| HostPresence::Lost { at, is_confirmed: true };
            host.standing = match host.standing {
                HostPresence::Lost { at, .. } => lost(at),
                // The group has not reported its loss yet.
                standing @ HostPresence::Up { .. } if is_member(node) => standing,
                HostPresence::Up { left_at: Some(at) } if now < at + STOP_LIMIT => {
                    HostPresence::Stopped { at: now }
                }
                HostPresence::Up { .. } => lost(now),
                standing @ HostPresence::Stopped { .. } => standing,
            };
        }
        // A host may have been back, in another part of the cluster, while this one had no quorum.
        if self.voters.is_some() && is_quorate != self.quorate_since.is_some() {
            self.hosts.values_mut().for_each(|host| host.fenced_at = None);
        }
        self.quorate_since = is_quorate.then_some(self.quorate_since.unwrap_or(now));
        self.voters = Some(voters);
        returned
    }

    /// Notes that the cluster has fenced a host since it left the cluster; returns true if that is a change.
    /// Nothing is noted of a host that has not left, or was never seen.
    pub(super) fn fenced(&mut self, node: NodeId, now: Instant) -> bool {
        let is_gone =
            |host: &&mut HostRecord| host.was_seen && !matches!(host.standing, HostPresence::Up { .. });
        let host = self.hosts.get_mut(&node).filter(is_gone);
        host.is_some_and(|host| host.fenced_at.replace(host.fenced_at.unwrap_or(now)).is_none())
    }

    /// Returns the hosts that were fenced since they left the cluster, by what this part with quorum knows.
    pub(super) fn all_fenced(&self) -> impl Iterator<Item = NodeId> {
        let fenced = self.hosts.iter().filter(|(_, host)| host.fenced_at.is_some());
        fenced.filter(|_| self.quorate_since.is_some()).map(|(&node, _)| node)
    }

    /// Returns the age of what is known of a host's VMs, in milliseconds, for [`Self::is_newer`] at others.
    pub(super) fn age(&self, node: NodeId, now: Instant) -> u32 {
        age_of(self.hosts.get(&node).and_then(|host| host.heard_until), now)
    }

    /// Returns true if what another member knows of a host's VMs, at this age, is not older than what this node
    /// knows.
    pub(super) fn is_newer(&self, node: NodeId, age_ms: u32, now: Instant) -> bool {
        let own = self.hosts.get(&node).and_then(|host| host.heard_until);
        own.is_none() || time_of(age_ms, now) >= own
    }

    /// Returns true if a host was fenced since it left the cluster.
    pub(super) fn is_fenced(&self, node: NodeId) -> bool {
        self.hosts.get(&node).is_some_and(|host| host.fenced_at.is_some())
    }

    /// Sets whether the cluster's fencer on this host is asked which hosts it has fenced.
    pub(super) fn set_awaits_fencing(&mut self, awaits_fencing: bool) {
        self.awaits_fencing = awaits_fencing;
    }

    /// Notes that a host has told all its VMs.
    pub(super) fn has_told(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.has_told = true;
        }
    }

    /// Takes what another member knows of a host, if this node has never seen it.
    pub(super) fn learn(&mut self, notice: HostNotice, now: Instant) {
        let HostNotice { node, standing, age_ms } = notice;
        let is_voter = self.voters.as_ref().is_some_and(|voters| voters.contains(&node));
        // corosync's configuration names all hosts, if it names any.
        if self.hosts.len() >= HOSTS_MAX || self.is_complete && !self.hosts.contains_key(&node) {
            return;
        }
        let host = self.hosts.entry(node).or_insert(HostRecord::new(HostPresence::Stopped { at: now }));
        if is_voter || host.was_seen {
            return;
        }
        let since = time_of(age_ms, now);
        let at = since.unwrap_or(now);
        host.was_seen = true;
        host.fenced_at = Some(at).filter(|_| standing == HostStanding::Fenced);
        host.standing = match standing {
            HostStanding::Up | HostStanding::HasVms => HostPresence::Up { left_at: since },
            HostStanding::Stopped => HostPresence::Stopped { at },
            HostStanding::Lost | HostStanding::Fenced => {
                HostPresence::Lost { at, is_confirmed: self.voters.is_some() }
            }
        };
    }

    /// Returns what this node knows of the hosts that are not in the group.
    pub(super) fn notices(&self, is_member: impl Fn(NodeId) -> bool, now: Instant) -> Vec<HostNotice> {
        let absent = self.hosts.iter().filter(|(node, host)| host.was_seen && !is_member(**node));
        let notice = |(&node, host): (&NodeId, &HostRecord)| {
            let (standing, at) = match host.standing {
                HostPresence::Up { left_at } => (HostStanding::Up, left_at),
                HostPresence::Stopped { at } => (HostStanding::Stopped, Some(at)),
                HostPresence::Lost { at, .. } if host.fenced_at.is_some() => (HostStanding::Fenced, Some(at)),
                HostPresence::Lost { at, .. } => (HostStanding::Lost, Some(at)),
            };
            HostNotice { node, standing, age_ms: age_of(at, now) }
        };
        absent.map(notice).collect()
    }

    /// Returns what it means for a VM that it was last seen on this host, which is not in the group; none if
    /// nothing is known of the host.
    pub(super) fn fate(&self, node: NodeId, rules: &Rules, now: Instant) -> Option<HostFate> {
        let host = self.hosts.get(&node)?;
        let is_fenced = host.fenced_at.is_some();
        Some(host.standing.fate(node, is_fenced, self.awaits_fencing, self.quorate_since, rules, now))
    }

    /// Returns the time from which a host counts as off, if it does. Until then a VM may have gone there.
    pub(super) fn off_since(&self, node: NodeId, rules: &Rules, now: Instant) -> Option<Instant> {
        let host = self.hosts.get(&node)?;
        let HostFate::Off(_) = self.fate(node, rules, now)? else { return None };
        let delayed = match (host.standing, rules.host_fence_delay) {
            (HostPresence::Lost { at, .. }, Some(delay)) => Some(at.max(self.quorate_since?) + delay),
            _ => None,
        };
        host.fenced_at.into_iter().chain(delayed).min()
    }

    /// Returns the hosts that are not in the group, with true for those that have told all their VMs.
    pub(super) fn absent(&self, is_member: impl Fn(NodeId) -> bool) -> impl Iterator<Item = (NodeId, bool)> {
        let absent = self.hosts.iter().filter(move |(node, _)| !is_member(**node));
        absent.map(|(&node, host)| (node, host.has_told))
    }

    /// Returns true if a node is in the cluster.
    pub(super) fn is_in_cluster(&self, node: NodeId) -> bool {
        self.hosts.get(&node).is_some_and(|host| matches!(host.standing, HostPresence::Up { .. }))
    }

    /// Returns true if no host can be missing here.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns true if votes are counted, and this part of the cluster has too few.
    pub(super) fn lacks_quorum(&self) -> bool {
        self.voters.is_some() && self.quorate_since.is_none()
    }
}

/// Returns the age of a time in milliseconds, as notices have it.
fn age_of(at: Option<Instant>, now: Instant) -> u32 {
    let age = at.map(|at| now.saturating_duration_since(at).as_millis());
    age.and_then(|age| u32::try_from(age).ok()).unwrap_or(AGE_UNKNOWN)
}

/// Returns the time of an age; none if it is unknown.
fn time_of(age_ms: u32, now: Instant) -> Option<Instant> {
    let age = Some(age_ms).filter(|age| *age != AGE_UNKNOWN)?;
    now.checked_sub(Duration::from_millis(u64::from(age)))
}
