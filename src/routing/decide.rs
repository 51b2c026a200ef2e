//! Progress of a task, by the finding on its VM and the answers of the copies.

use super::copy_record::CopyRecord;
use super::copy_request::EarlyAnswer;
use super::host_fate::Passes;
use super::ids::Sequence;
use super::judgement::VmFinding;
use super::limits::{RECHECK_EVERY, TOLD_LIMIT};
use super::meaning::Meaning;
use super::router::Router;
use super::task::{Phase, Task, TaskOrigin, TaskProgress};
use super::view::CopyHolder;
use crate::fence::{Operation, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

impl Router {
    /// Takes a task as far as it goes now.
    pub(super) fn advance(&mut self, task: &mut Task, now: Instant) -> TaskProgress {
        if let Some(progress) = self.await_restart(task, now) {
            return progress;
        }
        if now >= task.limits.answer {
            return TaskProgress::Done(Verdict::Failure, task.timeout_reason());
        }
        if self.view.has_undelivered() {
            return TaskProgress::Wait(now + RECHECK_EVERY);
        }
        if let TaskOrigin::Node(request) = &task.origin {
            // Another node has answered it.
            if task.vm().is_none() && !self.remote.is_unanswered(request) {
                return TaskProgress::Dropped;
            }
        }
        task.held = None;
        let uuid = match task.vm() {
            Some(uuid) => uuid,
            None => match self.resolve(task, now) {
                Ok(uuid) => uuid,
                Err(progress) => return progress,
            },
        };
        let holders = self.concerned(task, uuid);
        if holders.is_empty() && task.vm().is_none() {
            return TaskProgress::Dropped;
        }
        if let Some(progress) = self.deny(task, uuid, &holders) {
            return progress;
        }
        if let Some(progress) = self.confirm_running(task, uuid, &holders, now) {
            return progress;
        }
        // The confirmation may have removed some.
        let holders = self.concerned(task, uuid);
        self.pursue(task, uuid, &holders, now)
    }

    /// Asks the copies of a VM if nothing speaks against that, and judges their answers.
    fn pursue(&mut self, task: &mut Task, uuid: Uuid, holders: &[CopyHolder], now: Instant) -> TaskProgress {
        if task.operation != Operation::Status || holders.is_empty() {
            match self.find_out(task, Some(uuid), now) {
                Err(progress) => return progress,
                Ok(VmFinding::Off(reason)) if holders.is_empty() && task.requests().is_empty() => {
                    return absent(task, reason);
                }
                // A C daemon that has heard the request too runs it, and answers.
                Ok(VmFinding::Runs)
                    if task.is_of_node()
                        && task.requests().is_empty()
                        && !holders.iter().any(CopyHolder::runs) =>
                {
                    return TaskProgress::Dropped;
                }
                Ok(_) => {}
            }
        }
        if let Some(reason) = came_while_rebooted(task, holders) {
            return TaskProgress::Done(Verdict::Failure, reason);
        }
        self.ask_copies(task, uuid, holders, now);
        self.judge(task, uuid, now)
    }

    /// Returns the finding on the VM of a task, unless the task has to wait or fails for what is not known.
    fn find_out(
        &mut self,
        task: &mut Task,
        uuid: Option<Uuid>,
        now: Instant,
    ) -> Result<VmFinding, TaskProgress> {
        loop {
            match self.evidence(task, uuid, now).find() {
                VmFinding::Doubt(reason, passes) => return Err(hold(task, reason, passes, now)),
                VmFinding::NeedSearchSince(since) => {
                    let text = uuid.map_or_else(|| task.text.clone(), |uuid| uuid.to_string());
                    if let Some(until) = self.search(task, &text, since, now) {
                        return Err(TaskProgress::Wait(until));
                    }
                }
                finding => return Ok(finding),
            }
        }
    }

    /// Searches all members for the VM of a task; returns the time until which to wait for that, none if it is
    /// over.
    pub(super) fn search(
        &mut self,
        task: &mut Task,
        text: &str,
        since: Sequence,
        now: Instant,
    ) -> Option<Instant> {
        let since = since.max(task.seq);
        if task.search.result.complete_since >= Some(since) {
            return None;
        }
        let (needed, began) = *task.search.awaited.get_or_insert((since, now));
        let began = if since > needed { now } else { began };
        task.search.awaited = Some((since, began));
        match self.located_since(since, text, now) {
            Ok(at) => {
                task.search.result.complete_since = Some(at);
                task.search.result.has_failed = false;
                None
            }
            Err(until) if now < began + TOLD_LIMIT => Some(until.min(began + TOLD_LIMIT)),
            Err(_) => {
                task.search.result.has_failed = true;
                None
            }
        }
    }

    /// Finds the VM of a task.
    fn resolve(&mut self, task: &mut Task, now: Instant) -> Result<Uuid, TaskProgress> {
        let text = task.text.clone();
        if self.view.is_name(&text) {
            // A member that is still telling its VMs may have another one of the name.
            let others = self.view.members.other_extended_unsettled_until(now);
            if let Some(until) = others.max(self.view.unlisted_until(now)) {
                return Err(TaskProgress::Wait(until));
            }
        }
        let mut meaning = self.view.meaning(&text, self.view.rules.names, now);
        if meaning.is_uncertain() {
            // A better match may be a VM that was not advertised yet; and C daemons do not report that they
            // no longer have one.
            if let Some(until) = self.view.members.unsettled_until(now) {
                return Err(TaskProgress::Wait(until));
            }
            if let Some(until) = self.search(task, &text, task.seq, now) {
                return Err(TaskProgress::Wait(until));
            }
            if let Some(asked_at) = self.view.locates.asked_at(&text) {
                meaning.vms.iter().for_each(|&uuid| self.view.withdraw_stale(uuid, asked_at, now));
                meaning = self.view.meaning(&text, self.view.rules.names, now);
            }
        }
        let may_be_unseen =
            task.search.result.has_failed || self.view.has_unseen(now) || self.view.has_absent(now);
        if meaning.is_second_rate() && may_be_unseen {
            let reason = format!(
                "no VM that is known is called exactly {text:?}, and a host that may have one has not told its VMs"
            );
            return Err(TaskProgress::Done(Verdict::Failure, reason));
        }
        if let Some(since) = meaning.gone.values().max() {
            // It may have moved, and have the name still.
            if let Some(until) = self.search(task, &text, *since, now) {
                return Err(TaskProgress::Wait(until));
            }
            if task.search.result.has_failed || self.view.has_absent(now) {
                meaning.vms.extend(meaning.gone.keys());
            }
        }
        if meaning.vms.is_empty() {
            // Members may tell it while they look for it.
            let _under_way = self.search(task, &text, task.seq, now);
        }
        match meaning.only() {
            Some(uuid) if self.view.has_holder(uuid) => Ok(uuid),
            only if only.is_some() || meaning.vms.is_empty() => Err(match self.find_out(task, only, now) {
                Err(progress) => progress,
                Ok(VmFinding::Off(reason)) => absent(task, reason),
                // A member has told it meanwhile.
                Ok(_) => TaskProgress::Wait(now + RECHECK_EVERY),
            }),
            _ if meaning.vms.iter().all(|&uuid| !self.view.has_holder(uuid)) => {
                Err(self.find_out_all(task, &meaning, now))
            }
            _ => Err(self.refuse_ambiguous(task, &meaning)),
        }
    }

    /// Judges a request whose text means several VMs, none of which a member has: all of them have to be off.
    fn find_out_all(&mut self, task: &mut Task, meaning: &Meaning, now: Instant) -> TaskProgress {
        let mut last = String::new();
        for &uuid in &meaning.vms {
            match self.find_out(task, Some(uuid), now) {
                Ok(VmFinding::Off(reason)) => last = reason,
                Err(TaskProgress::Wait(until)) => return TaskProgress::Wait(until),
                Ok(_) | Err(_) => return self.refuse_ambiguous(task, meaning),
            }
        }
        match self.are_permitted(task, meaning) {
            true => absent(task, last),
            false => self.refuse_ambiguous(task, meaning),
        }
    }

    /// Returns true if the requester may fence each of these VMs.
    fn are_permitted(&self, task: &Task, meaning: &Meaning) -> bool {
        let mut copies = meaning.vms.iter().flat_map(|&uuid| self.view.copies_or_away(uuid));
        copies.all(|copy| task.permitted.permit(&copy.name, &copy.uuid.to_string()))
    }

    /// Refuses a request whose text means several VMs. Some of them may have been told after the groups were asked.
    fn refuse_ambiguous(&self, task: &Task, meaning: &Meaning) -> TaskProgress {
        let vms: Vec<String> = meaning.vms.iter().map(|&uuid| self.view.describe(uuid)).collect();
        let vms = vms.join(" and ");
        let text = &task.text;
        if !self.are_permitted(task, meaning) {
            let reason = format!("{text:?} matches several VMs, and no permission was given for all: {vms}");
            return TaskProgress::Done(Verdict::Denied, reason);
        }
        let reason = format!("{text:?} matches several VMs ({vms}): request one by UUID, or rename them");
        TaskProgress::Done(Verdict::Failure, reason)
    }

    /// Judges the answers of the copies.
    fn judge(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> TaskProgress {
        let operation = task.operation;
        let Phase::Asking { copies, .. } = &task.phase else {
            return TaskProgress::Wait(now + RECHECK_EVERY);
        };
        match copies.early(operation) {
            Some(EarlyAnswer::Success(reason)) => return TaskProgress::Done(Verdict::Success, reason),
            Some(EarlyAnswer::Failure(reason)) => return TaskProgress::Done(Verdict::Failure, reason),
            None => {}
        }
        if !copies.are_answered() {
            let has_legacy = copies.iter().any(|(node, _)| self.view.members.is_legacy(node));
            return TaskProgress::Wait(if has_legacy { now + RECHECK_EVERY } else { task.limits.answer });
        }
        // In a reboot: a copy that was taken for off, and runs.
        let found_running = copies.found_running();
        if operation == Operation::Reboot && !found_running.is_empty() {
            for node in found_running {
                self.ask_copy(task, node, Operation::Off, uuid, now);
            }
            return self.judge(task, uuid, now);
        }
        if let Some(node) = self.started_since(task, uuid) {
            let reason = format!("the VM was off on node {node}, and has been started there since");
            let runs = self.view.holders(uuid).iter().any(CopyHolder::runs);
            let is_on = operation == Operation::Status && runs;
            return TaskProgress::Done(if is_on { Verdict::Success } else { Verdict::Failure }, reason);
        }
        if let Some(node) = task.take_restart_node().filter(|&node| self.view.members.is_member(node)) {
            self.ask_copy(task, node, Operation::Reboot, uuid, now);
            return self.judge(task, uuid, now);
        }
        match self.find_out(task, Some(uuid), now) {
            Err(progress) => progress,
            // A C daemon that has heard the request too runs it, and answers.
            Ok(VmFinding::Runs) if task.is_of_node() => TaskProgress::Dropped,
            Ok(VmFinding::Runs) => {
                let reason = "the VM runs on a member, by what that has told".to_owned();
                TaskProgress::Done(Verdict::Failure, reason)
            }
            Ok(_) => self.conclude(task, uuid, now),
        }
    }

    /// Concludes a task whose VM is off, on this and all other hosts.
    fn conclude(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> TaskProgress {
        let Phase::Asking { copies, .. } = &task.phase else {
            return TaskProgress::Wait(now + RECHECK_EVERY);
        };
        match task.operation {
            Operation::Status => TaskProgress::Done(Verdict::Off, copies.reasons()),
            Operation::On => {
                if let Some((node, _)) = copies.only().filter(|(_, copy)| copy.operation == Operation::Status)
                {
                    // The other copies turned out to be gone.
                    self.ask_copy(task, node, Operation::On, uuid, now);
                    return self.judge(task, uuid, now);
                }
                let nodes = copies.nodes();
                let reason = format!("the VM is off, and could be started on any of {nodes}");
                TaskProgress::Done(Verdict::Failure, reason)
            }
            _ => {
                let reasons = copies.reasons();
                let left_off = copies.left_off();
                if let Some(seq) = copies.ended_at() {
                    self.forget_off_before(seq, uuid);
                }
                match left_off {
                    Some(node) => self.restart(task, node, uuid, reasons, now),
                    None => TaskProgress::Done(Verdict::Success, reasons),
                }
            }
        }
    }

    /// Records that the VM ran, and was destroyed, on a member at this position. That explains earlier
    /// stops elsewhere, and copies that were off on nodes that have left say nothing more.
    pub(super) fn forget_off_before(&mut self, seq: Sequence, uuid: Uuid) {
        self.view.directory.has_run_elsewhere(seq, uuid);
        let was_off = |(node, copy): &(NodeId, &CopyRecord)| {
            copy.is_away() && !self.view.members.is_me(*node) && !copy.runs() && copy.seq <= seq
        };
        let nodes = self.view.directory.copies(uuid).filter(was_off).map(|(node, _)| node);
        for node in nodes.collect::<Vec<_>>() {
            self.view.directory.remove(node, uuid);
        }
    }

    /// Records that a member destroyed a copy that ran, and saw it off.
    pub(super) fn seen_to_end(&mut self, node: NodeId, uuid: Uuid) {
        self.view.directory.has_ended(node, uuid);
        self.forget_off_before(self.view.directory.seq(), uuid);
    }

    /// Records a C daemon's reply that it did an off.
    pub(super) fn seen_to_destroy(&mut self, node: NodeId, name: &str) {
        if let Some(uuid) = self.view.meant_at(node, name) {
            self.view.directory.mark_destroyed(node, uuid);
        }
    }

    /// Returns a node that answered that the VM is off, and was seen to run it since, if only for a while:
    /// the answers are not of one time, and it may have moved there.
    fn started_since(&self, task: &Task, uuid: Uuid) -> Option<NodeId> {
        let requests = task.requests();
        let is_after = |node: NodeId, ran_at: Sequence| {
            let Some(request) = requests.get(&node) else { return false };
            let is_started_by_us = matches!(request.operation, Operation::Reboot | Operation::On);
            request.answer().is_some_and(|answer| !is_started_by_us && ran_at > answer.seq)
        };
        let me = self.view.members.me().filter(|_| self.view.inventory.runs(uuid));
        let own = me.filter(|me| is_after(me.node, self.view.inventory.transitions(uuid).last));
        let mut copies = self.view.directory.copies(uuid);
        let other = || copies.find(|(node, copy)| is_after(*node, copy.ran_at)).map(|(node, _)| node);
        own.map(|me| me.node).or_else(other)
    }
}

/// Holds a task whose VM may run, while that may change; else it fails.
fn hold(task: &mut Task, reason: String, passes: Passes, now: Instant) -> TaskProgress {
    let until = match passes {
        Passes::Never => return TaskProgress::Done(Verdict::Failure, reason),
        Passes::Soon => task.limits.answer,
        Passes::At(at) => at,
    };
    task.held = Some(reason);
    TaskProgress::Wait(until.max(now))
}

/// Answers a request for a VM that is off and that no member has.
fn absent(task: &Task, reason: String) -> TaskProgress {
    match task.operation {
        Operation::Off | Operation::Reboot => TaskProgress::Done(Verdict::Success, reason),
        Operation::Status => TaskProgress::Done(Verdict::Off, reason),
        _ => TaskProgress::Done(Verdict::Failure, format!("{reason}, and no host has it")),
    }
}

/// Returns the reason to fail if a copy came while the VM was being rebooted: to destroy it might be to
/// reboot it twice.
fn came_while_rebooted(task: &Task, holders: &[CopyHolder]) -> Option<String> {
    let Phase::Asking { copies, .. } = &task.phase else { return None };
    if !copies.iter().any(|(_, copy)| copy.operation == Operation::Reboot && !copy.is_left_off()) {
        return None;
    }
    let new = holders.iter().find(|holder| holder.runs() && copies.get(holder.node).is_none())?;
    Some(format!("the VM came to node {} while it was being rebooted", new.node))
}
