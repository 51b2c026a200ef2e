//! Finding on a VM from the evidence about its copies and hosts. docs/CLUSTER-RULES.md numbers the rules.

use std::time::Duration;

use super::host_fate::{HostFate, Passes};
use super::ids::Sequence;
use super::rules::Unknown;
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// Time within which the group has the news that a VM is off, or has left.
const NEWS_LIMIT: Duration = Duration::from_secs(5);

/// All that is known about one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VmEvidence {
    pub(super) copies: Vec<CopyEvidence>,
    /// Hosts that are not in the group.
    pub(super) absent: Vec<AbsentHost>,
    /// Members that have not told their VMs in the time that they have for it.
    pub(super) silent: Vec<NodeId>,
    /// Time until which members may still be telling their VMs.
    pub(super) telling_until: Option<Instant>,
    /// True if corosync's configuration names all hosts.
    pub(super) has_all_hosts: bool,
    /// True if this part of the cluster has too few votes.
    pub(super) lacks_quorum: bool,
    pub(super) search: Search,
    pub(super) unknown: Unknown,
}

/// A host that is not in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AbsentHost {
    pub(super) node: NodeId,
    /// It has told all its VMs since this node joined the group, and since it was back itself.
    pub(super) has_told: bool,
    /// Its node is in the cluster: what moves there now is told by nobody.
    pub(super) is_in_cluster: bool,
    pub(super) fate: HostFate,
    /// Time from which it counts as off, if it does.
    pub(super) off_since: Option<Instant>,
}

/// Progress of the search for the VM on all members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Search {
    /// Position since which all members have looked for it.
    pub(super) complete_since: Option<Sequence>,
    /// True if a later search was not completed in time.
    pub(super) has_failed: bool,
}

/// What is known about one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyEvidence {
    pub(super) node: NodeId,
    /// Position of its last advertisement, or withdrawal.
    pub(super) seq: Sequence,
    /// Position since which it was last seen to be active.
    pub(super) active_since: Sequence,
    /// Time since which it is no longer seen to run; none if it was never seen to.
    pub(super) off_since: Option<Instant>,
    pub(super) state: CopyKnowledge,
}

/// State of a copy, by what its node has told or answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CopyKnowledge {
    /// On a member that was not asked, or has not answered, or whose answer says nothing of it.
    Told { is_seen_running: bool, is_active: bool },
    /// It runs, says its node.
    Runs,
    /// It ran when its node was asked, at this position, and was destroyed and seen off. `migrating_at` is
    /// the position of that answer if it was migrating: it may run at the target.
    Ended { asked_at: Sequence, migrating_at: Option<Sequence> },
    /// It is off, says its node; `unexplained_since` is the position since which it may have moved away.
    Off { unexplained_since: Option<Sequence> },
    /// It is off since it has moved away, said its node at this position.
    Moved { answered_at: Sequence },
    /// Off for a reason that nobody knows, as its node said at this position: it may have moved away.
    Unexplained { answered_at: Sequence },
    /// On a host that left the group since it told it; `is_active` if it ran there, and was not just coming in.
    /// `stopped_at` is the position at which it was off, if nobody has said why: it may have moved away.
    Away { ran: bool, is_active: bool, stopped_at: Option<Sequence>, fate: HostFate },
    /// No longer on its node, where it ran.
    Gone { has_ended: bool },
}

/// Finding on a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VmFinding {
    /// A member runs it, by what it has told.
    Runs,
    /// No host runs it, for this reason.
    Off(String),
    /// It may run where nobody can be asked, for this reason.
    Doubt(String, Passes),
    /// That no host runs it is known once all members have looked for it since this position.
    NeedSearchSince(Sequence),
}

/// Reasons for and against a VM being off.
#[derive(Default)]
struct Reasons {
    /// It may run.
    doubts: Vec<(String, Passes)>,
    /// Nothing is known: the administrator's rule for unknown VMs decides.
    unknown: Vec<String>,
    off: Vec<String>,
    /// Position since which all members must have looked for it.
    search_since: Option<Sequence>,
    /// Reason for a doubt if they have not, which the rule for unknown VMs does not remove.
    unsearched: Option<String>,
}

impl Reasons {
    fn add_host(&mut self, fate: &HostFate, seen: &str) {
        match fate {
            HostFate::Off(reason) => self.off.push(format!("{seen} {reason}")),
            HostFate::MayRun(reason, passes) => self.doubts.push((format!("{seen} {reason}"), *passes)),
            HostFate::NoQuorum(reason) => self.unknown.push(format!("{seen} {reason}")),
        }
    }

    fn need_search(&mut self, since: Sequence) {
        self.search_since = self.search_since.max(Some(since));
    }

    /// Needs a search that must succeed whatever the rule for unknown VMs.
    fn must_search(&mut self, since: Sequence, node: NodeId) {
        self.need_search(since);
        self.unsearched.get_or_insert_with(|| {
            format!("the VM is off on node {node}, but not all hosts have confirmed that they do not run it")
        });
    }
}

impl CopyEvidence {
    fn is_on_member(&self) -> bool {
        !matches!(self.state, CopyKnowledge::Away { .. } | CopyKnowledge::Gone { .. })
    }

    fn is_seen_running(&self) -> bool {
        matches!(self.state, CopyKnowledge::Runs | CopyKnowledge::Told { is_seen_running: true, .. })
    }
}

impl VmEvidence {
    /// Returns the finding.
    pub(super) fn find(&self) -> VmFinding {
        let mut reasons = Reasons::default();
        let is_seen = self.ended_at().is_some() || self.copies.iter().any(CopyEvidence::is_seen_running);
        for copy in &self.copies {
            self.weigh(copy, is_seen, &mut reasons);
        }
        if self.copies.is_empty() {
            reasons.need_search(Sequence::START);
            reasons.unknown.push("no host of the cluster knows the VM".to_owned());
        }
        if !is_seen {
            self.weigh_unseen(&mut reasons);
        }
        self.weigh_search(&mut reasons);
        self.conclude(reasons)
    }

    /// Returns the position at which a copy ran that was destroyed for this request; no other one ran then.
    fn ended_at(&self) -> Option<Sequence> {
        let ended = self.copies.iter().filter_map(|copy| match copy.state {
            CopyKnowledge::Ended { asked_at, .. } => Some(asked_at),
            _ => None,
        });
        ended.max()
    }

    fn weigh(&self, copy: &CopyEvidence, is_seen: bool, reasons: &mut Reasons) {
        let node = copy.node;
        let ended_at = self.ended_at();
        // The answer of a copy that is seen to run may explain why others are off, or gone.
        let is_pending = self.copies.iter().any(CopyEvidence::is_seen_running);
        let is_open = |since: &&Sequence| !is_pending && ended_at.is_none_or(|at| at < **since);
        match &copy.state {
            CopyKnowledge::Told { .. } | CopyKnowledge::Runs => {}
            // Rule 6.
            CopyKnowledge::Ended { migrating_at, .. } => {
                migrating_at.iter().for_each(|at| reasons.must_search(*at, node));
            }
            CopyKnowledge::Off { unexplained_since } => {
                // Rule 5; by rule 1, it came from there to where it was destroyed.
                unexplained_since.iter().filter(is_open).for_each(|since| reasons.must_search(*since, node));
            }
            // Rule 4.
            CopyKnowledge::Moved { answered_at } => {
                if ended_at.is_none() && !is_pending {
                    match self.has_run_since(copy) {
                        true => reasons.need_search(*answered_at),
                        false => reasons.must_search(*answered_at, node),
                    }
                    if !self.is_explained(copy) && self.was_off_since(copy).is_none() {
                        let reason = format!(
                            "the VM has moved away from node {node}, and no host says that it has it"
                        );
                        reasons.unknown.push(reason);
                    }
                }
            }
            // Rule 5.
            CopyKnowledge::Unexplained { answered_at } => {
                if ended_at.is_none() && !is_pending {
                    reasons.must_search(*answered_at, node);
                }
            }
            // Rules 2 and 3.
            CopyKnowledge::Away { ran, is_active, stopped_at, fate } => {
                if *ran && !is_active && matches!(fate, HostFate::Off(_)) {
                    reasons.need_search(copy.seq);
                }
                if *ran || !is_seen {
                    reasons.add_host(fate, "the VM was last seen on");
                }
                if *ran && !is_seen && matches!(fate, HostFate::Off(_)) {
                    self.weigh_targets(node, reasons);
                }
                // Rule 5.
                stopped_at.iter().filter(is_open).for_each(|since| reasons.must_search(*since, node));
            }
            // Rule 1.
            CopyKnowledge::Gone { .. } if is_pending || ended_at.is_some_and(|at| at >= copy.seq) => {}
            // Rules 7 to 9.
            CopyKnowledge::Gone { has_ended } => {
                reasons.need_search(copy.seq);
                if *has_ended {
                    reasons.off.push(format!("the VM was seen to end on node {node}"));
                } else if let Some(host) = self.was_off_since(copy) {
                    let reason =
                        format!("the VM left node {node}, no host has it, and node {host} was off since");
                    reasons.off.push(reason);
                } else if !self.is_explained(copy) {
                    let reason =
                        format!("the VM was on node {node} and is no longer there, perhaps on another host");
                    reasons.unknown.push(reason);
                }
            }
        }
    }

    /// Weighs the hosts to which a VM may have moved before its host was off, without anybody noticing: rule 3.
    fn weigh_targets(&self, node: NodeId, reasons: &mut Reasons) {
        for host in self.absent.iter().filter(|host| host.is_in_cluster && host.has_told) {
            if let HostFate::MayRun(reason, _) = &host.fate {
                reasons.unknown.push(format!("the VM may have moved from node {node} to {reason}"));
            }
        }
    }

    /// Returns true if it is known where the VM went from this copy, or if another member has a copy.
    fn is_explained(&self, copy: &CopyEvidence) -> bool {
        let is_other = |other: &CopyEvidence| other.node != copy.node && other.is_on_member();
        self.has_run_since(copy) || self.copies.iter().any(is_other)
    }

    /// Returns true if the VM was seen to run elsewhere after it began to run as this copy.
    fn has_run_since(&self, copy: &CopyEvidence) -> bool {
        self.copies.iter().any(|other| other.active_since > copy.active_since)
    }

    /// Returns a host that was off at some time since a copy left its node: the VM may have gone there (rule 9).
    fn was_off_since(&self, copy: &CopyEvidence) -> Option<NodeId> {
        let off_since = copy.off_since?;
        let was_off = |host: &&AbsentHost| {
            // The news may be late.
            host.off_since.is_some_and(|at| at + NEWS_LIMIT >= off_since)
        };
        self.absent.iter().find(was_off).map(|host| host.node)
    }

    /// Weighs what is not known about a VM that no member is seen to run: rules 17 to 20.
    fn weigh_unseen(&self, reasons: &mut Reasons) {
        let is_active =
            |copy: &CopyEvidence| matches!(copy.state, CopyKnowledge::Told { is_active: true, .. });
        if let Some(until) = self.telling_until.filter(|_| !self.copies.iter().any(is_active)) {
            let reason = "not all members have told their VMs yet".to_owned();
            reasons.doubts.push((reason, Passes::At(until)));
        }
        for node in &self.silent {
            reasons.unknown.push(format!("node {node} has not told its VMs: the VM may run there"));
        }
        for host in self.absent.iter().filter(|host| !host.has_told) {
            match &host.fate {
                HostFate::Off(_) => {}
                HostFate::MayRun(reason, Passes::Never) => {
                    reasons.unknown.push(format!("the VM may be on {reason}"));
                }
                fate => reasons.add_host(fate, "the VM may be on"),
            }
        }
        if !self.has_all_hosts {
            reasons.unknown.push("the hosts of the cluster are not known: one may run the VM".to_owned());
        }
        if self.lacks_quorum {
            let reason = "the VM is off here, but there is no quorum: it may run in another partition";
            reasons.unknown.push(reason.to_owned());
        }
    }

    /// Weighs a search that is not possible: rules 23 and 24.
    fn weigh_search(&self, reasons: &mut Reasons) {
        let Some(since) = reasons.search_since else { return };
        let mut obstacles: Vec<(String, Passes)> = Vec::new();
        for host in &self.absent {
            match &host.fate {
                HostFate::Off(_) => {}
                HostFate::MayRun(reason, passes) => obstacles.push((reason.clone(), *passes)),
                HostFate::NoQuorum(reason) => obstacles.push((reason.clone(), Passes::Never)),
            }
        }
        if self.search.has_failed && self.search.complete_since < Some(since) {
            obstacles.push(("a member did not answer".to_owned(), Passes::Never));
        }
        // A VM that nobody ever saw is on no host that has told all its VMs.
        if self.copies.is_empty() {
            return;
        }
        for (reason, passes) in obstacles {
            match (&reasons.unsearched, passes) {
                (Some(unsearched), _) => reasons.doubts.push((format!("{unsearched} ({reason})"), passes)),
                (None, Passes::Never) => {
                    reasons
                        .unknown
                        .push(format!("not all hosts have confirmed that they do not run it ({reason})"));
                }
                (None, _) => reasons.doubts.push((format!("the VM may be on {reason}"), passes)),
            }
        }
    }

    fn conclude(&self, reasons: Reasons) -> VmFinding {
        let Reasons { doubts, unknown, off, search_since, .. } = reasons;
        let text = |reasons: &[(String, Passes)]| {
            let texts: Vec<&str> = reasons.iter().map(|(reason, _)| reason.as_str()).collect();
            texts.join("; ")
        };
        if let Some(passes) = doubts.iter().map(|(_, passes)| *passes).min() {
            // What members still tell may remove any doubt.
            let passes = match (passes, self.telling_until) {
                (Passes::Never, Some(until)) => Passes::At(until),
                _ => passes,
            };
            return VmFinding::Doubt(text(&doubts), passes);
        }
        let is_hopeless =
            self.search.has_failed || self.absent.iter().any(|host| !matches!(host.fate, HostFate::Off(_)));
        let needed = search_since.filter(|since| self.search.complete_since < Some(*since));
        if let Some(since) = needed.filter(|_| self.copies.is_empty() || !is_hopeless) {
            if !self.search.has_failed {
                return VmFinding::NeedSearchSince(since);
            }
        }
        let reason = unknown.join("; ");
        if !unknown.is_empty() && self.unknown == Unknown::Fail {
            return VmFinding::Doubt(reason, Passes::Never);
        }
        if self.copies.iter().any(CopyEvidence::is_seen_running) {
            return VmFinding::Runs;
        }
        if !unknown.is_empty() {
            return VmFinding::Off(format!("{reason}: it counts as off (unknown_vm)"));
        }
        VmFinding::Off(off.join("; "))
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
