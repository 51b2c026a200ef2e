//! Stale placements: copies that were advertised before the VM was seen to run elsewhere, on nodes that
//! do not report that they no longer have it: C daemons, and nodes that have left.

use super::copy_record::{CopyRecord, Presence};
use super::copy_request::{CopyAnswer, CopyRequest, CopyState};
use super::ids::Sequence;
use super::limits::RECHECK_EVERY;
use super::router::Router;
use super::task::{Phase, Task, TaskProgress};
use super::view::CopyHolder;
use crate::fence::{Operation, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

impl Router {
    /// Asks the member that was last seen to run the VM whether it does, if other copies may be stale;
    /// if it does, they are.
    ///
    /// A C daemon without any VM left advertises nothing, and does not answer for one that moved away;
    /// one that was stopped after its VMs had left would be assumed to run them.
    pub(super) fn confirm_running(
        &mut self,
        task: &mut Task,
        uuid: Uuid,
        holders: &[CopyHolder],
        now: Instant,
    ) -> Option<TaskProgress> {
        match &task.phase {
            Phase::Confirming { node, question, .. } => {
                if self.is_awaited(question, *node, uuid, now) {
                    return Some(TaskProgress::Wait(now + RECHECK_EVERY));
                }
                self.confirmed(task);
                return None;
            }
            Phase::Asking { .. } | Phase::Restarting { .. } => return None,
            Phase::Resolving => {}
        }
        if task.is_confirmed || task.operation == Operation::Status {
            return None;
        }
        let is_active = |node| holders.iter().any(|holder| holder.node == node && holder.is_active);
        let active =
            self.view.directory.copies(uuid).filter(|(node, copy)| copy.is_active && is_active(*node));
        let (node, since) = active.map(|(node, copy)| (node, copy.active_since)).max_by_key(|last| last.1)?;
        self.stale_copies(task, uuid, node, since).first()?;
        let question = self.request_to(task, node, Operation::Status, uuid, now);
        task.phase = Phase::Confirming { vm: uuid, node, question };
        Some(TaskProgress::Wait(now + RECHECK_EVERY))
    }

    fn is_awaited(&self, question: &CopyRequest, node: NodeId, uuid: Uuid, now: Instant) -> bool {
        if !self.view.members.is_member(node) {
            return false;
        }
        let is_stale = self.view.stale_at(node, uuid, question.at).is_some_and(|at| now >= at);
        let runs_now = |(other, record): (NodeId, &CopyRecord)| {
            other != node && record.is_here() && record.active_since > question.seq
        };
        !question.is_answered() && !is_stale && !self.view.directory.copies(uuid).any(runs_now)
    }

    /// Returns the nodes with a copy that was advertised before this position.
    fn stale_copies(&self, task: &Task, uuid: Uuid, confirming: NodeId, seq: Sequence) -> Vec<NodeId> {
        let is_stale = |(node, copy): &(NodeId, &CopyRecord)| {
            let cannot_say = match copy.presence {
                Presence::Here => !task.is_of_node() && !self.view.members.is_extended(*node),
                Presence::Away => copy.runs(),
                Presence::Vanished | Presence::Ended => false,
            };
            *node != confirming && !self.view.members.is_me(*node) && cannot_say && copy.seq < seq
        };
        self.view.directory.copies(uuid).filter(is_stale).map(|(node, _)| node).collect()
    }

    /// Ends the confirmation: the answer, if it is that the VM runs there, outweighs stale copies.
    fn confirmed(&mut self, task: &mut Task) {
        task.is_confirmed = true;
        let Phase::Confirming { vm, node, question } = std::mem::replace(&mut task.phase, Phase::Resolving)
        else {
            return;
        };
        match question.state {
            CopyState::Answered(CopyAnswer { verdict: Verdict::Success, seq, .. }) => {
                let copy = self.view.directory.copy(node, vm);
                let since = copy.map_or(Sequence::START, |copy| copy.active_since).min(seq.next());
                for other in self.stale_copies(task, vm, node, since) {
                    self.view.directory.remove(other, vm);
                }
            }
            CopyState::Sent(number) => drop(self.tasks.forget_reply(number)),
            CopyState::Answered(_) | CopyState::Begun(_) => {}
        }
    }
}
