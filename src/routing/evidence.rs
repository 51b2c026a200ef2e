//! Evidence about a VM: what this node knows of its copies and hosts, with the answers to a task.

use std::collections::BTreeSet;
use std::time::Duration;

use super::copy_record::{CopyRecord, OffCause, Presence};
use super::copy_request::{CopyAnswer, CopyRequest};
use super::host_fate::{HostFate, Passes};
use super::ids::Sequence;
use super::judgement::{AbsentHost, CopyEvidence, CopyKnowledge, Search, VmEvidence};
use super::router::Router;
use super::rules::Unknown;
use super::task::{Phase, Task};
use super::view::{ClusterView, CopyHolder};
use super::vocabulary::Evidence;
use crate::fence::{Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// Time in which a VM that a C daemon was seen to destroy is off there for that reason. That it was
/// started again and moved, the C daemon would only advertise when asked.
const DESTROYED_LIMIT: Duration = Duration::from_secs(300);

impl Router {
    /// Returns the evidence about a VM, or about one that nobody has told.
    pub(super) fn evidence(&self, task: &Task, uuid: Option<Uuid>, now: Instant) -> VmEvidence {
        let request = |node| match &task.phase {
            Phase::Asking { copies, .. } => copies.get(node),
            Phase::Resolving | Phase::Confirming { .. } | Phase::Restarting { .. } => None,
        };
        self.view.evidence(uuid, request, task.search.result, now)
    }
}

impl ClusterView {
    /// Returns the evidence about a VM, with the request to each copy that was asked.
    fn evidence<'a>(
        &self,
        uuid: Option<Uuid>,
        request: impl Fn(NodeId) -> Option<&'a CopyRequest>,
        search: Search,
        now: Instant,
    ) -> VmEvidence {
        let copies = uuid.into_iter().flat_map(|uuid| self.copies_known(uuid, &request, now));
        let absent = self.hosts.absent(|node| self.members.is_member(node));
        let absent = absent.map(|(node, has_told)| AbsentHost {
            node,
            has_told,
            is_in_cluster: self.hosts.is_in_cluster(node),
            fate: self.fate(node, now),
            off_since: self.hosts.off_since(node, &self.rules, now),
        });
        VmEvidence {
            copies: copies.collect(),
            absent: absent.collect(),
            silent: self.silent(),
            telling_until: self.members.unsettled_until(now),
            has_all_hosts: self.hosts.is_complete(),
            lacks_quorum: self.hosts.lacks_quorum(),
            search,
            unknown: self.rules.unknown,
        }
    }

    /// Returns true if a host may have VMs that were never told here.
    pub(super) fn has_unseen(&self, now: Instant) -> bool {
        let mut absent = self.hosts.absent(|node| self.members.is_member(node));
        let may_have =
            |(node, has_told): (NodeId, bool)| !has_told && !matches!(self.fate(node, now), HostFate::Off(_));
        !self.hosts.is_complete() || !self.silent().is_empty() || absent.any(may_have)
    }

    /// Returns the members whose VMs are not all known.
    fn silent(&self) -> Vec<NodeId> {
        let has_told = |node: &NodeId| match self.members.is_me(*node) {
            true => self.inventory.is_listed(),
            false => self.members.has_advertised(*node),
        };
        self.members.nodes().filter(|node| !has_told(node)).collect()
    }

    /// Returns true if another member is seen to run a VM.
    pub(super) fn is_seen_running_elsewhere(&self, uuid: Uuid) -> bool {
        let others = self.holders(uuid).into_iter().filter(|holder| !self.members.is_me(holder.node));
        let runs = |holder: CopyHolder| {
            matches!(self.told(&holder, uuid, None), CopyKnowledge::Told { is_seen_running: true, .. })
        };
        others.into_iter().any(runs)
    }

    /// Returns true if a VM may run on a host that is not a member, and was seen to run it, unless it was seen to be
    /// active here after that: a C daemon does not say that a VM has moved away.
    pub(super) fn may_run_away(&self, uuid: Uuid, now: Instant) -> bool {
        let copies = self.copies_known(uuid, |_| None, now);
        let own = copies.iter().find(|copy| self.members.is_me(copy.node));
        let own = own.map(|copy| copy.active_since).unwrap_or_default();
        copies.into_iter().any(|copy| match copy.state {
            CopyKnowledge::Away { is_active: true, .. } if copy.active_since < own => false,
            CopyKnowledge::Away { ran: true, fate, .. } => match fate {
                HostFate::Off(_) => false,
                HostFate::MayRun(..) => true,
                HostFate::NoQuorum(_) => self.rules.unknown == Unknown::Fail,
            },
            _ => false,
        })
    }

    /// Returns what is known of each copy of a VM, with the request to each that was asked.
    fn copies_known<'a>(
        &self,
        uuid: Uuid,
        request: impl Fn(NodeId) -> Option<&'a CopyRequest>,
        now: Instant,
    ) -> Vec<CopyEvidence> {
        let holders = self.holders(uuid);
        let records = self.directory.copies(uuid);
        let nodes: BTreeSet<NodeId> =
            records.map(|(node, _)| node).chain(holders.iter().map(|holder| holder.node)).collect();
        let known = |node| {
            let record = self.directory.copy(node, uuid);
            let told = match holders.iter().find(|holder| holder.node == node) {
                Some(holder) => Some(self.told(holder, uuid, request(node))),
                None => record.and_then(|copy| self.not_held(node, copy, now)),
            };
            let answered = request(node).and_then(|request| self.answered(node, record, request, now));
            let state = answered.or(told)?;
            let (seq, active_since) =
                record.map_or_else(Default::default, |copy| (copy.seq, copy.active_since));
            let off_since = record.and_then(|copy| copy.off_since);
            Some(CopyEvidence { node, seq, active_since, off_since, state })
        };
        nodes.into_iter().filter_map(known).collect()
    }

    /// Returns what is known of a copy that no member says it has.
    fn not_held(&self, node: NodeId, copy: &CopyRecord, now: Instant) -> Option<CopyKnowledge> {
        match copy.presence {
            // This node's own inventory tells more: the group has not heard yet that it has gone.
            Presence::Here if self.members.is_me(node) => Some(CopyKnowledge::Gone { has_ended: false }),
            Presence::Away if self.members.is_me(node) => None,
            Presence::Away | Presence::Here => {
                let is_active = copy.is_active;
                let (ran, stopped_at) = (copy.runs(), copy.stopped_at());
                Some(CopyKnowledge::Away { ran, is_active, stopped_at, fate: self.away(node, now) })
            }
            Presence::Vanished => Some(CopyKnowledge::Gone { has_ended: false }),
            Presence::Ended => Some(CopyKnowledge::Gone { has_ended: true }),
        }
    }

    fn told(&self, holder: &CopyHolder, uuid: Uuid, request: Option<&CopyRequest>) -> CopyKnowledge {
        // The news that it is off may come before the answer.
        if request.is_some_and(|request| request.has_run && !request.is_answered()) {
            return CopyKnowledge::Told { is_seen_running: true, is_active: true };
        }
        // A C daemon does not say that it no longer has a VM.
        let is_stale =
            self.members.is_legacy(holder.node) && self.directory.ran_since(holder.node, uuid, holder.seq);
        let is_seen_running = self.is_seen_running(holder) && !is_stale;
        CopyKnowledge::Told { is_seen_running, is_active: holder.is_active && !is_stale }
    }

    /// Returns what an answer says of a copy; none if it says nothing.
    fn answered(
        &self,
        node: NodeId,
        record: Option<&CopyRecord>,
        request: &CopyRequest,
        now: Instant,
    ) -> Option<CopyKnowledge> {
        let CopyAnswer { verdict, evidence, seq, .. } = request.answer()?;
        let asked_at = request.seq;
        let is_off = match verdict {
            Verdict::Success => request.is_power(),
            Verdict::Off => true,
            Verdict::Failure | Verdict::Denied => *evidence == Evidence::Moved,
        };
        let is_legacy = self.members.is_legacy(node);
        Some(match (is_off, evidence) {
            (false, _) if *verdict == Verdict::Success => CopyKnowledge::Runs,
            (false, _) => return None,
            (true, Evidence::Moved) => CopyKnowledge::Moved { answered_at: *seq },
            (true, Evidence::Ended) => CopyKnowledge::Ended { asked_at, migrating_at: None },
            (true, Evidence::EndedWhileMigrating) => {
                CopyKnowledge::Ended { asked_at, migrating_at: Some(*seq) }
            }
            (true, Evidence::Unexplained) => CopyKnowledge::Unexplained { answered_at: *seq },
            (true, Evidence::None) => {
                let unexplained_since = record.and_then(|copy| match is_legacy {
                    true => unexplained_stop(copy, now),
                    // A daemon that has started since knows nothing of a move.
                    false => copy.stopped_at().filter(|&at| self.members.has_joined_since(node, at)),
                });
                CopyKnowledge::Off { unexplained_since }
            }
        })
    }

    fn away(&self, node: NodeId, now: Instant) -> HostFate {
        if !self.members.is_member(node) {
            return self.fate(node, now);
        }
        // Its daemon is back.
        let reason = format!("node {node}, which has not told it again: it may run there");
        HostFate::MayRun(reason, Passes::Never)
    }
}

/// Returns the position since which a copy that is off at a C daemon may have moved away.
fn unexplained_stop(copy: &CopyRecord, now: Instant) -> Option<Sequence> {
    if copy.runs() {
        return None;
    }
    match copy.off_cause {
        OffCause::Destroyed(at) if now < at + DESTROYED_LIMIT => None,
        // It is off there, unless it went to a node that was away already.
        OffCause::Destroyed(_) | OffCause::Known if copy.is_known_to_all => None,
        OffCause::Destroyed(_) | OffCause::Known => Some(Sequence::START),
        OffCause::Stopped(at) => Some(at),
    }
}
