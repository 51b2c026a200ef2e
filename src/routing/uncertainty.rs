//! Whether a VM may run where nobody can be asked, and one that nobody has.

use super::ids::Sequence;
use std::time::Instant;

use super::directory::Fate;
use super::router::Router;
use super::rules::Judgement;
use super::task::{Progress, Task};
use super::{PROBE_LIMIT, TOLD_LIMIT};
use crate::fence::{Operation, PowerState, Uuid, Verdict};
use crate::wire::cluster::{ClusterCall, ClusterMessage, EVERY_NODE};

impl Router {
    /// Whether all have told their VMs since something was told of this one, or at
    /// all. If not, until when a request waits for that, which it does not for ever.
    pub(super) fn all_told_since(
        &mut self,
        order: Option<Sequence>,
        uuid: Uuid,
        task: &mut Task,
        now: Instant,
    ) -> Result<(), Option<Instant>> {
        let end = *task.in_doubt.get_or_insert(now) + TOLD_LIMIT;
        match self.has_told_since(order, &uuid.to_string(), now) {
            Ok(()) => Ok(()),
            Err(until) => Err(until.filter(|_| now < end).map(|until| until.min(end))),
        }
    }

    /// Whether a copy may run where nobody can be asked. A copy that was off
    /// there is no reason for doubt if another is seen to run.
    pub(super) fn doubt(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> Option<Progress> {
        let gone = self.table.copies(uuid).filter(|(_, copy)| copy.fate == Fate::Gone);
        // If all have told since it was gone there, it is with none of them.
        let has_told = match gone.map(|(_, copy)| copy.order).max() {
            None => true,
            last => match self.all_told_since(last, uuid, task, now) {
                Ok(()) => true,
                Err(Some(at)) => return Some(Progress::Wait(at)),
                Err(None) => false,
            },
        };
        let has_run = self.is_seen_to_run(task, &self.holders(uuid));

        let departed = self.table.copies(uuid).filter(|(node, copy)| match copy.fate {
            Fate::Here => false,
            Fate::Gone => !has_told,
            Fate::Left | Fate::Lost { .. } => {
                !self.table.is_me(*node) && (copy.state == PowerState::Running || !has_run)
            }
        });
        let doubts = departed.filter_map(|(node, copy)| {
            match self.rules.departed(node, copy.fate, &self.table.quorum, now) {
                Judgement::Doubt(reason) => Some(reason),
                Judgement::Off(_) => None,
            }
        });
        let reasons: Vec<String> = doubts.collect();
        if reasons.is_empty() {
            return None;
        }
        Some(match self.table.unsettled_until(now) {
            Some(until) => Progress::Wait(until),
            None => Progress::Done(Verdict::Failure, reasons.join("; ")),
        })
    }

    /// No member has it.
    pub(super) fn nobody(&mut self, task: &mut Task, uuid: Option<Uuid>, now: Instant) -> Progress {
        let has_mutes = self.table.mutes().next().is_some();
        if has_mutes && task.probed.is_none() {
            self.probe(&task.text);
            task.probed = Some(now);
        }
        if let Some(until) = self.table.unsettled_until(now) {
            return Progress::Wait(until);
        }
        if let Some(since) = task.probed.filter(|_| has_mutes) {
            if now < since + PROBE_LIMIT {
                return Progress::Wait(since + PROBE_LIMIT);
            }
        }
        let departed = uuid.into_iter().flat_map(|uuid| self.table.copies(uuid));
        let judgements = departed
            .filter(|(node, copy)| match copy.fate {
                Fate::Here => false,
                Fate::Gone => true,
                Fate::Left | Fate::Lost { .. } => !self.table.is_me(*node),
            })
            .map(|(node, copy)| self.rules.departed(node, copy.fate, &self.table.quorum, now));
        let judgement = judgements.reduce(|one, other| match one {
            Judgement::Doubt(_) => one,
            Judgement::Off(_) => other,
        });
        let (verdict, reason) = judgement.unwrap_or_else(|| self.rules.never_seen()).answer(task.operation);
        Progress::Done(verdict, reason)
    }

    /// Asks the C daemons, which tell all their VMs whenever they are asked for one.
    pub(super) fn probe(&mut self, text: &str) {
        let call = ClusterCall {
            number: self.next_number(),
            target: EVERY_NODE,
            name: text.to_owned(),
            operation: Operation::Status,
            client_number: 0,
        };
        self.push(ClusterMessage::Request(call));
    }
}
