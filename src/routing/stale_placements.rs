//! Stale placements: copies that were advertised before the VM was seen to run elsewhere, on nodes that
//! do not report that they no longer have it: C daemons, and nodes that have left.

use super::copy_record::{CopyRecord, Presence};
use super::ids::Sequence;
use super::limits::RECHECK_EVERY;
use super::router::Router;
use super::task::{Confirmation, CopyRequest, CopyState, Task, TaskProgress};
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
        if let Confirmation::Awaited(node) = task.confirmation {
            if self.is_awaited(task, node, uuid, now) {
                return Some(TaskProgress::Wait(now + RECHECK_EVERY));
            }
            self.confirmed(task, node, uuid);
            return None;
        }
        let is_new = task.vm.is_none() && task.confirmation == Confirmation::NotTried;
        if !is_new || task.operation == Operation::Status {
            return None;
        }
        let is_active = |node| holders.iter().any(|holder| holder.node == node && holder.is_active);
        let active =
            self.view.directory.copies(uuid).filter(|(node, copy)| copy.is_active && is_active(*node));
        let (node, since) = active.map(|(node, copy)| (node, copy.active_since)).max_by_key(|last| last.1)?;
        self.stale_copies(task, uuid, node, since).first()?;
        task.vm = Some(uuid);
        task.confirmation = Confirmation::Awaited(node);
        self.ask_copy(task, node, Operation::Status, uuid, now);
        Some(TaskProgress::Wait(now + RECHECK_EVERY))
    }

    fn is_awaited(&self, task: &Task, node: NodeId, uuid: Uuid, now: Instant) -> bool {
        let Some(copy) = task.copies.get(&node).filter(|_| self.view.members.is_member(node)) else {
            return false;
        };
        let is_stale = self.view.stale_at(node, uuid, copy.at).is_some_and(|at| now >= at);
        let runs_now = |(other, record): (NodeId, &CopyRecord)| {
            other != node && record.is_here() && record.active_since > copy.seq
        };
        !copy.is_answered() && !is_stale && !self.view.directory.copies(uuid).any(runs_now)
    }

    /// Returns the nodes with a copy that was advertised before this position.
    fn stale_copies(&self, task: &Task, uuid: Uuid, confirming: NodeId, seq: Sequence) -> Vec<NodeId> {
        let is_stale = |(node, copy): &(NodeId, &CopyRecord)| {
            let cannot_say = match copy.presence {
                Presence::Here => !task.is_of_node() && !self.view.members.is_extended(*node),
                Presence::Left | Presence::Lost { .. } => copy.runs(),
                Presence::Vanished => false,
            };
            *node != confirming && !self.view.members.is_me(*node) && cannot_say && copy.seq < seq
        };
        self.view.directory.copies(uuid).filter(is_stale).map(|(node, _)| node).collect()
    }

    fn confirmed(&mut self, task: &mut Task, confirming: NodeId, uuid: Uuid) {
        task.confirmation = Confirmation::Done;
        task.vm = None;
        match task.copies.remove(&confirming) {
            Some(CopyRequest {
                state: CopyState::Answered { verdict: Verdict::Success, .. }, seq, ..
            }) => {
                let copy = self.view.directory.copy(confirming, uuid);
                let since = copy.map_or(Sequence::START, |copy| copy.active_since).min(seq.next());
                for node in self.stale_copies(task, uuid, confirming, since) {
                    self.view.directory.remove(node, uuid);
                }
            }
            Some(CopyRequest { state: CopyState::Sent(number), .. }) => {
                self.tasks.forget_reply(number);
            }
            _ => {}
        }
    }
}
