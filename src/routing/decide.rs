//! Progress of a task, by the answers of the copies.

use std::time::Duration;

use super::copy_record::{CopyRecord, OffCause};
use super::ids::Sequence;
use super::limits::RECHECK_EVERY;
use super::router::Router;
use super::task::{Confirmation, CopyRequest, CopyState, Task, TaskOrigin, TaskProgress};
use super::view::CopyHolder;
use crate::fence::{Operation, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// Time in which a VM that a C daemon was seen to destroy is off there for that reason. That it was
/// started again and moved, the C daemon would only advertise when asked.
const DESTROYED_LIMIT: Duration = Duration::from_secs(300);

impl Router {
    /// Takes a task as far as it goes now.
    pub(super) fn advance(&mut self, task: &mut Task, now: Instant) -> TaskProgress {
        if now >= task.limits.answer {
            return TaskProgress::Done(Verdict::Failure, task.timeout_reason());
        }
        if self.view.has_undelivered() {
            return TaskProgress::Wait(now + RECHECK_EVERY);
        }
        if let TaskOrigin::Node(request) = &task.origin {
            // Another node has answered it.
            if task.vm.is_none() && !self.remote.is_unanswered(request) {
                return TaskProgress::Dropped;
            }
        }
        let uuid = match task.vm {
            Some(uuid) => uuid,
            None => match self.resolve(task, now) {
                Ok(uuid) => uuid,
                Err(progress) => return progress,
            },
        };
        let mut holders = self.concerned(task, uuid);
        if holders.is_empty() && task.vm.is_none() {
            return TaskProgress::Dropped;
        }
        if let Some(progress) = self.deny(task, uuid, &holders) {
            return progress;
        }
        let was_awaited = matches!(task.confirmation, Confirmation::Awaited(_));
        if let Some(progress) = self.confirm_running(task, uuid, &holders, now) {
            return progress;
        }
        if was_awaited {
            // The confirmation may have removed some.
            holders = self.concerned(task, uuid);
        }
        if let Some(progress) = self.refuse(task, uuid, &holders, now) {
            return progress;
        }
        self.ask_copies(task, uuid, &holders, now);
        let has_restart =
            task.restart_node.is_some_and(|node| holders.iter().any(|holder| holder.node == node));
        if task.copies.is_empty() && !has_restart {
            return self.decide_absent(task, Some(uuid), now);
        }
        self.judge(task, uuid, now)
    }

    /// Finds the VM of a task.
    fn resolve(&mut self, task: &mut Task, now: Instant) -> Result<Uuid, TaskProgress> {
        let mut meaning = self.view.meaning(&task.text, self.view.rules.names, now);
        if meaning.is_uncertain() {
            // A better match may be a VM that was not advertised yet; and C daemons do not report that they
            // no longer have one.
            if let Some(until) = self.await_all(task, now) {
                return Err(TaskProgress::Wait(until));
            }
            if let Some(asked_at) = task.probed_at {
                meaning.vms.iter().for_each(|&uuid| self.view.withdraw_stale(uuid, asked_at, now));
                meaning = self.view.meaning(&task.text, self.view.rules.names, now);
            }
        }
        if let Some((&uuid, &since)) = meaning.gone.iter().max_by_key(|(_, since)| **since) {
            // It may have moved, and have the name still.
            match self.awaits_inventory(Some(since), uuid, task, now) {
                Ok(()) => {}
                Err(Some(at)) => return Err(TaskProgress::Wait(at)),
                Err(None) => meaning.vms.extend(meaning.gone.keys()),
            }
        }
        match meaning.only() {
            Some(uuid) if self.view.has_holder(uuid) => Ok(uuid),
            only if only.is_some() || meaning.vms.is_empty() => Err(self.decide_absent(task, only, now)),
            _ => {
                let vms: Vec<String> = meaning.vms.iter().map(|&uuid| self.view.describe(uuid)).collect();
                let vms = vms.join(" and ");
                let text = &task.text;
                let reason =
                    format!("{text:?} matches several VMs ({vms}): request one by UUID, or rename them");
                Err(TaskProgress::Done(Verdict::Failure, reason))
            }
        }
    }

    /// Returns a reason not to ask the copies, or not yet.
    fn refuse(
        &mut self,
        task: &mut Task,
        uuid: Uuid,
        holders: &[CopyHolder],
        now: Instant,
    ) -> Option<TaskProgress> {
        if !(task.has_ended_it() || holders.iter().any(|holder| holder.is_active)) {
            // It may run on a member that has not advertised it yet.
            if let Some(until) = self.view.members.unsettled_until(now) {
                return Some(TaskProgress::Wait(until));
            }
        }
        if !self.is_seen_to_run(task, holders) {
            if let Some(reason) = self.view.rules.unseen(self.view.members.lacks_quorum()) {
                return Some(TaskProgress::Done(Verdict::Failure, reason));
            }
        }
        if task.operation != Operation::Status {
            if let Some(progress) = self.doubt(task, uuid, now) {
                return Some(progress);
            }
        }
        let is_rebooted = task.copies.values().any(|copy| copy.operation == Operation::Reboot);
        let is_new = |holder: &&CopyHolder| holder.runs() && !task.copies.contains_key(&holder.node);
        let new = holders.iter().find(is_new).filter(|_| is_rebooted)?;
        // To destroy it might be to reboot it twice.
        let reason = format!("the VM came to node {} while it was being rebooted", new.node);
        Some(TaskProgress::Done(Verdict::Failure, reason))
    }

    /// Judges the answers of the copies.
    fn judge(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> TaskProgress {
        if let Some(done) = task.early() {
            return done;
        }
        if !task.copies.values().all(CopyRequest::is_answered) {
            let has_legacy = task.copies.keys().any(|&node| self.view.members.is_legacy(node));
            return TaskProgress::Wait(if has_legacy { now + RECHECK_EVERY } else { task.limits.answer });
        }
        if let Some(progress) = self.unexplained_stop(task, uuid, now) {
            return progress;
        }
        // In a reboot: a copy that was taken for off, and runs.
        let found_running = task.found_running();
        if task.operation == Operation::Reboot && !found_running.is_empty() {
            for node in found_running {
                self.ask_copy(task, node, Operation::Off, uuid, now);
            }
            return self.judge(task, uuid, now);
        }
        if let Some(node) = self.started_since(task, uuid) {
            let reason = format!("the VM was off on node {node}, and has been started there since");
            let runs = self.view.holders(uuid).iter().any(CopyHolder::runs);
            let is_on = task.operation == Operation::Status && runs;
            return TaskProgress::Done(if is_on { Verdict::Success } else { Verdict::Failure }, reason);
        }
        if let Some(node) = task.restart_node.take().filter(|&node| self.view.members.is_member(node)) {
            self.ask_copy(task, node, Operation::Reboot, uuid, now);
            return self.judge(task, uuid, now);
        }
        match task.operation {
            Operation::Status => match self.doubt(task, uuid, now) {
                Some(progress) => progress,
                None => TaskProgress::Done(Verdict::Off, task.reasons()),
            },
            Operation::On => {
                if let [(&node, copy)] = task.copies.iter().collect::<Vec<_>>()[..] {
                    if copy.operation == Operation::Status {
                        // The other copies turned out to be gone.
                        self.ask_copy(task, node, Operation::On, uuid, now);
                        return self.judge(task, uuid, now);
                    }
                }
                let nodes: Vec<String> = task.copies.keys().map(|node| format!("node {node}")).collect();
                let reason = format!("the VM is off, and could be started on any of {}", nodes.join(", "));
                TaskProgress::Done(Verdict::Failure, reason)
            }
            _ => {
                if let Some(seq) = task.ended_at() {
                    self.forget_off_before(seq, uuid);
                }
                TaskProgress::Done(Verdict::Success, task.reasons())
            }
        }
    }

    /// Records that the VM ran, and was destroyed, on a member at this position. That explains earlier
    /// stops elsewhere, and copies that were off on nodes that have left say nothing more.
    fn forget_off_before(&mut self, seq: Sequence, uuid: Uuid) {
        self.view.directory.has_run_elsewhere(seq, uuid);
        let was_off = |(node, copy): &(NodeId, &CopyRecord)| {
            copy.is_away() && !self.view.members.is_me(*node) && !copy.runs() && copy.seq <= seq
        };
        let nodes = self.view.directory.copies(uuid).filter(was_off).map(|(node, _)| node);
        for node in nodes.collect::<Vec<_>>() {
            self.view.directory.remove(node, uuid);
        }
    }

    /// Records a node's reply that it did an off or a reboot, which all members receive.
    pub(super) fn seen_to_destroy(&mut self, node: NodeId, name: &str) {
        if let Some(uuid) = self.view.meant_at(node, name) {
            if !self.view.members.is_extended(node) {
                self.view.directory.mark_destroyed(node, uuid);
            } else if self
                .view
                .directory
                .copy(node, uuid)
                .is_some_and(|copy| copy.is_here() && copy.is_active)
            {
                self.forget_off_before(self.view.directory.seq(), uuid);
            }
        }
    }

    /// Returns a node that answered that the VM is off, and was seen to run it since, if only for a while:
    /// the answers are not of one time, and it may have moved there.
    fn started_since(&self, task: &Task, uuid: Uuid) -> Option<NodeId> {
        let is_after = |node: NodeId, ran_at: Sequence| match task.copies.get(&node) {
            Some(CopyRequest { operation, state: CopyState::Answered { seq, .. }, .. }) => {
                let is_started_by_us = matches!(operation, Operation::Reboot | Operation::On);
                !is_started_by_us && ran_at > *seq
            }
            _ => false,
        };
        let me = self.view.members.me().filter(|_| self.view.inventory.runs(uuid));
        let own = me.filter(|me| is_after(me.node, self.view.inventory.transitions(uuid).last));
        let mut copies = self.view.directory.copies(uuid);
        let other = || copies.find(|(node, copy)| is_after(*node, copy.ran_at)).map(|(node, _)| node);
        own.map(|me| me.node).or_else(other)
    }

    /// Waits, or fails, if a C daemon answered that the VM is off, which does not exclude that it moved
    /// away: that is known once all others have advertised their VMs since.
    fn unexplained_stop(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> Option<TaskProgress> {
        let of_c = |(node, copy): &(NodeId, &CopyRecord)| {
            self.view.members.is_legacy(*node) && !copy.runs() && task.copies.contains_key(node)
        };
        let copies = || self.view.directory.copies(uuid).filter(of_c);
        // The VM ran where it was destroyed for this task after it had stopped there.
        let ran_at = task.ended_at().unwrap_or_default();
        let is_open =
            |(cause, _): &(OffCause, NodeId)| !matches!(*cause, OffCause::Stopped(at) if at <= ran_at);
        let (cause, node) = copies().map(|(node, copy)| (copy.off_cause, node)).filter(is_open).max()?;
        let is_known_to_all = copies().all(|(_, copy)| copy.is_known_to_all);
        let since = match cause {
            OffCause::Destroyed(at) if now < at + DESTROYED_LIMIT => return None,
            // It is off there, unless a member has it that has not advertised it yet, or it went to a
            // node that was away already.
            OffCause::Destroyed(_) | OffCause::NeverRan if is_known_to_all => None,
            OffCause::Destroyed(_) | OffCause::NeverRan => Some(Sequence::START),
            OffCause::Stopped(at) => Some(at),
        };
        match self.awaits_inventory(since, uuid, task, now) {
            Ok(()) => None,
            Err(Some(at)) => Some(TaskProgress::Wait(at)),
            Err(None) => {
                let reason = format!(
                    "the VM is off on node {node}, but not all hosts have confirmed that they do not run it"
                );
                Some(TaskProgress::Done(Verdict::Failure, reason))
            }
        }
    }
}
