//! The answers of the copies, and what they make of a request.

use super::ids::{JobId, Sequence, TaskId};
use crate::wire::cluster::NodeId;
use std::time::{Duration, Instant};

use super::client_requests::{LOOK_AGAIN, too_late};
use super::directory::{Copy, End, Fate};
use super::router::Router;
use super::task::{Ask, AskState, Progress, Task, verdict_of};
use super::{Names, Peer};
use crate::fence::{Operation, PowerState, Uuid, Verdict};
use crate::wire::cluster::ClusterCall;

/// How long a VM that a C daemon was heard to destroy is off there for that reason:
/// that it was started and moved on it would only tell when it is asked.
const DESTROYED_LIMIT: Duration = Duration::from_secs(300);

impl Router {
    /// What the answers so far make of the request.
    pub(super) fn judge(&mut self, task: &mut Task, id: TaskId, uuid: Uuid, now: Instant) -> Progress {
        if let Some(done) = task.early() {
            return done;
        }
        if !task.asks.values().all(Ask::is_shown) {
            let is_mute = |&node: &NodeId| !self.table.speaks(node) && !self.table.is_me(node);
            let look = task.asks.keys().any(is_mute).then_some(now + LOOK_AGAIN);
            return Progress::Wait(look.unwrap_or(task.limits.answer));
        }
        if let Some(progress) = self.unheard(task, uuid, now) {
            return progress;
        }
        // Of a reboot: a copy that was taken for off, and runs.
        let found_running: Vec<NodeId> = task.found_running().collect();
        if task.operation == Operation::Reboot && !found_running.is_empty() {
            for node in found_running {
                self.ask_copy(task, id, node, Operation::Off, uuid, now);
            }
            return self.judge(task, id, uuid, now);
        }
        if let Some(node) = self.started_since(task, uuid) {
            let reason = format!("it was off on node {node}, and was started there meanwhile");
            let runs = self.holders(uuid).iter().any(|holder| holder.state == PowerState::Running);
            return match task.operation {
                Operation::Status if runs => Progress::Done(Verdict::Success, reason),
                _ => Progress::Done(Verdict::Failure, reason),
            };
        }
        if let Some(runner) = task.runner.take().filter(|&node| self.table.is_member(node)) {
            self.ask_copy(task, id, runner, Operation::Reboot, uuid, now);
            return self.judge(task, id, uuid, now);
        }
        match task.operation {
            Operation::Status => {
                if let Some(progress) = self.doubt(task, uuid, now) {
                    return progress;
                }
                Progress::Done(Verdict::Off, task.reasons())
            }
            Operation::On => {
                if let [(&node, ask)] = task.asks.iter().collect::<Vec<_>>()[..] {
                    if ask.operation == Operation::Status {
                        // The others turned out to have it no more.
                        self.ask_copy(task, id, node, Operation::On, uuid, now);
                        return self.judge(task, id, uuid, now);
                    }
                }
                let nodes: Vec<String> = task.asks.keys().map(|node| format!("node {node}")).collect();
                let reason = format!("it is off, and could be started on any of {}", nodes.join(", "));
                Progress::Done(Verdict::Failure, reason)
            }
            _ => {
                self.forget_those_that_were_off(task, uuid);
                Progress::Done(Verdict::Success, task.reasons())
            }
        }
    }

    /// It was destroyed, so it ran where it was asked to end: a copy that was off on a
    /// node that has left since says nothing more.
    fn forget_those_that_were_off(&mut self, task: &Task, uuid: Uuid) {
        let ended = task.asks.values().filter(|ask| ask.has_ended_it()).map(|ask| ask.order);
        if let Some(order) = ended.max() {
            self.forget_off_before(order, uuid);
        }
    }

    /// It ran at this place in the order of the group, and was destroyed there. Where
    /// it went when it had ended elsewhere before is known; copies that were off on
    /// nodes that have left are forgotten.
    fn forget_off_before(&mut self, order: Sequence, uuid: Uuid) {
        self.table.has_run_elsewhere(order, uuid);
        let was_off = |(node, copy): &(NodeId, &Copy)| {
            let is_away = matches!(copy.fate, Fate::Left | Fate::Lost { .. }) && !self.table.is_me(*node);
            is_away && copy.state == PowerState::Off && copy.order <= order
        };
        for node in self.table.copies(uuid).filter(was_off).map(|(node, _)| node).collect::<Vec<_>>() {
            self.table.remove(node, uuid);
        }
    }

    /// A node has answered that it did an off or a reboot, which all hear.
    fn heard_to_destroy(&mut self, node: NodeId, name: &str) {
        for uuid in self.meaning_of(name, Names::Both) {
            if !self.table.speaks(node) {
                self.table.destroyed(node, uuid);
                continue;
            }
            let runs =
                |(at, copy): &(NodeId, &Copy)| *at == node && copy.fate == Fate::Here && copy.is_active;
            if self.table.copies(uuid).any(|copy| runs(&copy)) {
                self.forget_off_before(self.table.order(), uuid);
            }
        }
    }

    /// A node that said that it is off, and was heard to run it since, if only
    /// for a while: the answers are not of one time, it may have moved there.
    pub(super) fn started_since(&self, task: &Task, uuid: Uuid) -> Option<NodeId> {
        let is_after = |node: NodeId, ran: Sequence| {
            let Some(Ask { operation, state: AskState::Shown(_, _, order), .. }) = task.asks.get(&node)
            else {
                return false;
            };
            let is_started_by_us = matches!(operation, Operation::Reboot | Operation::On);
            !is_started_by_us && ran > *order
        };
        let runs_here = self.local.state(uuid) == Some(PowerState::Running);
        let own = self.table.me.filter(|me| runs_here && is_after(me.node, self.local.changed(uuid).last));
        let other = |(node, copy): (NodeId, &Copy)| is_after(node, copy.ran).then_some(node);
        own.map(|me| me.node).or_else(|| self.table.copies(uuid).find_map(other))
    }

    /// A C daemon that says that it is off does not say whether it moved away:
    /// that is known when all others have told their VMs since.
    pub(super) fn unheard(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> Option<Progress> {
        let of_c = |(node, copy): &(NodeId, &Copy)| {
            let is_c = !self.table.speaks(*node) && !self.table.is_me(*node);
            is_c && copy.state == PowerState::Off && task.asks.contains_key(node)
        };
        // It ran where it was destroyed for this request after it had ended there.
        let ran = task
            .asks
            .values()
            .filter(|ask| ask.has_ended_it())
            .map(|ask| ask.order)
            .max()
            .unwrap_or_default();
        let is_open = |(end, _): &(End, NodeId)| !matches!(*end, End::At(at) if at <= ran);
        let off = self.table.copies(uuid).filter(of_c).map(|(node, copy)| (copy.end, node)).filter(is_open);
        let (end, node) = off.max()?;
        let is_known_to_all = self.table.copies(uuid).filter(of_c).all(|(_, copy)| copy.is_known_to_all);
        let has_told = match end {
            End::Destroyed(at) if now < at + DESTROYED_LIMIT => return None,
            // It is off there, unless a member has it that has not told it yet, or
            // it went to a node that was away already.
            End::Destroyed(_) | End::NeverRan if is_known_to_all => {
                self.all_told_since(None, uuid, task, now)
            }
            End::Destroyed(_) | End::NeverRan => self.all_told_since(Some(Sequence::START), uuid, task, now),
            End::At(ended) => self.all_told_since(Some(ended), uuid, task, now),
        };
        match has_told {
            Ok(()) => None,
            Err(Some(at)) => Some(Progress::Wait(at)),
            Err(None) => {
                let reason =
                    format!("it is off on node {node}, but not all hosts say that they do not run it");
                Some(Progress::Done(Verdict::Failure, reason))
            }
        }
    }

    /// A job for a request has ended.
    pub(super) fn shown(&mut self, id: TaskId, job: JobId, verdict: Verdict, reason: String, now: Instant) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let own =
            task.asks.values_mut().find(|ask| matches!(ask.state, AskState::Job(number) if number == job));
        if let Some(ask) = own {
            ask.state = AskState::Shown(verdict, reason, self.table.order());
            self.review(id, now);
        }
    }

    /// Another node was not asked after all: corosync took nothing for too long.
    pub(super) fn not_asked(&mut self, call: &ClusterCall, now: Instant) {
        let Some(id) = self.numbers.remove(&call.number) else { return };
        let Some(ask) = self.tasks.get_mut(&id).and_then(|task| task.asks.get_mut(&call.target)) else {
            return;
        };
        ask.state = AskState::Shown(Verdict::Failure, too_late(call.target), self.table.order());
        self.review(id, now);
    }

    /// A reply has come.
    pub(super) fn replied(&mut self, from: Peer, call: &ClusterCall, response: u32, now: Instant) {
        self.serving.is_answered(call.target, call.number);
        // A reboot of a C daemon leaves it running.
        let is_meant = call.operation == Operation::Off
            || (call.operation == Operation::Reboot && self.table.speaks(from.node));
        if is_meant && response == 0 {
            self.heard_to_destroy(from.node, &call.name);
        }
        if !self.table.is_me(call.target) {
            return;
        }
        let Some(&id) = self.numbers.get(&call.number) else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(ask) = task.asks.get_mut(&from.node) else { return };
        let is_meant = matches!(ask.state, AskState::Reply(number) if number == call.number)
            && call.operation == ask.operation
            && call.name.to_lowercase() == ask.name.to_lowercase();
        if !is_meant {
            return;
        }
        let verdict = verdict_of(response, call.operation);
        self.numbers.remove(&call.number);
        // A C daemon tells what it has before it answers, and the highest one also
        // answers for what nobody has.
        let is_off = matches!((call.operation, verdict), (_, Verdict::Off))
            || (verdict == Verdict::Success && matches!(call.operation, Operation::Off | Operation::Reboot));
        let uuid = task.vm.filter(|_| is_off && !self.table.speaks(from.node));
        if let Some(uuid) = uuid.filter(|&uuid| !self.table.has_told_since(from.node, uuid, ask.order)) {
            task.asks.remove(&from.node);
            self.table.gone(from.node, uuid);
            return self.review(id, now);
        }
        let reason = format!("node {} says {verdict}", from.node);
        ask.state = AskState::Shown(verdict, reason, self.table.order());
        self.review(id, now);
    }
}
