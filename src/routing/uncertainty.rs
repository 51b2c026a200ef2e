//! VMs that may run where nobody can be asked, and VMs that no member has.

use super::copy_record::{CopyRecord, Presence};
use super::ids::Sequence;
use super::limits::{PROBE_LIMIT, TOLD_LIMIT};
use super::router::Router;
use super::rules::Judgement;
use super::task::{Task, TaskProgress};
use crate::fence::{Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

impl Router {
    /// Checks for a task whether all have advertised their VMs since this position, or at all. The error
    /// is the time until which the task waits for that, which it does not for ever.
    pub(super) fn awaits_inventory(
        &mut self,
        seq: Option<Sequence>,
        uuid: Uuid,
        task: &mut Task,
        now: Instant,
    ) -> Result<(), Option<Instant>> {
        let end = *task.awaiting_inventory.get_or_insert(now) + TOLD_LIMIT;
        let checked = self.all_advertised_since(seq, &uuid.to_string(), now);
        checked.map_err(|until| until.filter(|_| now < end).map(|until| until.min(end)))
    }

    /// Checks whether a copy may run where nobody can be asked. A copy that was off there is no reason
    /// for doubt if another one is seen to run.
    pub(super) fn doubt(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> Option<TaskProgress> {
        let vanished =
            self.view.directory.copies(uuid).filter(|(_, copy)| copy.presence == Presence::Vanished);
        // If all have advertised since it vanished there, no member has it.
        let is_nowhere = match vanished.map(|(_, copy)| copy.seq).max() {
            None => true,
            last => match self.awaits_inventory(last, uuid, task, now) {
                Ok(()) => true,
                Err(Some(at)) => return Some(TaskProgress::Wait(at)),
                Err(None) => false,
            },
        };
        let has_run = self.is_seen_to_run(task, &self.view.holders(uuid));
        let departed = self.view.directory.copies(uuid).filter(|(node, copy)| match copy.presence {
            Presence::Vanished => !is_nowhere,
            _ => self.is_departed(*node, copy) && (copy.runs() || !has_run),
        });
        let doubts = departed.filter_map(|(node, copy)| match self.judge_departed(node, copy, now) {
            Judgement::Doubt(reason) => Some(reason),
            Judgement::Off(_) => None,
        });
        let reasons: Vec<String> = doubts.collect();
        if reasons.is_empty() {
            return None;
        }
        Some(match self.view.members.unsettled_until(now) {
            Some(until) => TaskProgress::Wait(until),
            None => TaskProgress::Done(Verdict::Failure, reasons.join("; ")),
        })
    }

    /// Asks the C daemons for the VM of a task; returns the time until which members may still advertise it.
    pub(super) fn await_all(&mut self, task: &mut Task, now: Instant) -> Option<Instant> {
        let has_legacy = self.view.members.has_legacy();
        if has_legacy && task.probed_at.is_none() {
            self.probe(&task.text);
            task.probed_at = Some(now);
        }
        let probed = task.probed_at.filter(|_| has_legacy).map(|at| at + PROBE_LIMIT);
        self.view.members.unsettled_until(now).or(probed.filter(|&until| now < until))
    }

    /// Decides a request for a VM that no member has.
    pub(super) fn decide_absent(
        &mut self,
        task: &mut Task,
        uuid: Option<Uuid>,
        now: Instant,
    ) -> TaskProgress {
        if let Some(until) = self.await_all(task, now) {
            return TaskProgress::Wait(until);
        }
        let copies = uuid.into_iter().flat_map(|uuid| self.view.directory.copies(uuid));
        let departed = copies
            .filter(|(node, copy)| copy.presence == Presence::Vanished || self.is_departed(*node, copy));
        let judgements = departed.map(|(node, copy)| self.judge_departed(node, copy, now));
        let judgement = judgements.reduce(|one, other| match one {
            Judgement::Doubt(_) => one,
            Judgement::Off(_) => other,
        });
        let judgement = judgement.unwrap_or_else(|| self.view.rules.never_seen());
        let (verdict, reason) = judgement.answer(task.operation);
        TaskProgress::Done(verdict, reason)
    }

    fn is_departed(&self, node: NodeId, copy: &CopyRecord) -> bool {
        copy.is_away() && !self.view.members.is_me(node)
    }

    fn judge_departed(&self, node: NodeId, copy: &CopyRecord, now: Instant) -> Judgement {
        let members = &self.view.members;
        let is_fenced = members.is_fenced(node);
        self.view.rules.departed(node, copy.presence, is_fenced, members.quorate_since(), now)
    }
}
