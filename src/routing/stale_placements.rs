//! Copies that were told before the VM was heard to run elsewhere, on nodes that
//! do not say when they have it no more: C daemons, and nodes that have left.

use super::client_requests::LOOK_AGAIN;
use super::directory::{Copy, Fate};
use super::ids::{Sequence, TaskId};
use super::router::{Holder, Router};
use super::task::{Ask, AskState, Asker, Progress, Task};
use crate::wire::cluster::NodeId;
use std::time::Instant;

use crate::fence::{Operation, PowerState, Uuid, Verdict};

impl Router {
    /// Asks the member that was heard last to run it whether it does, if that
    /// overtakes other copies; if so, these are of before it came there.
    ///
    /// A C daemon without any VM left tells nothing, and does not answer for one
    /// that moved away; one whose daemon was stopped after its VMs had left
    /// would be said to run them.
    pub(super) fn overtake(
        &mut self,
        task: &mut Task,
        id: TaskId,
        uuid: Uuid,
        holders: &[Holder],
        now: Instant,
    ) -> Option<Progress> {
        if let Some(node) = task.witness {
            let is_awaited = self.table.is_member(node)
                && task.asks.get(&node).is_some_and(|ask| {
                    let is_stale = self.table.stale_at(node, uuid, ask.at).is_some_and(|at| now >= at);
                    let runs_now = |(other, copy): (NodeId, &Copy)| {
                        other != node && copy.fate == Fate::Here && copy.was_active > ask.order
                    };
                    !ask.is_shown() && !is_stale && !self.table.copies(uuid).any(runs_now)
                });
            if is_awaited {
                return Some(Progress::Wait(now + LOOK_AGAIN));
            }
            self.hear_witness(task, node, uuid);
            return None;
        }
        let is_new = task.vm.is_none() && !task.has_witness;
        if !is_new || task.operation == Operation::Status {
            return None;
        }
        let runs = |(node, copy): &(NodeId, &Copy)| {
            copy.is_active && holders.iter().any(|holder| holder.node == *node && holder.is_active)
        };
        let (witness, active) = self
            .table
            .copies(uuid)
            .filter(runs)
            .map(|(node, copy)| (node, copy.was_active))
            .max_by_key(|of| of.1)?;
        self.overtaken(task, uuid, witness, active).first()?;
        task.vm = Some(uuid);
        (task.witness, task.has_witness) = (Some(witness), true);
        self.ask_copy(task, id, witness, Operation::Status, uuid, now);
        Some(Progress::Wait(now + LOOK_AGAIN))
    }

    /// The nodes with a copy that was told before this place in the order of the group.
    fn overtaken(&self, task: &Task, uuid: Uuid, witness: NodeId, order: Sequence) -> Vec<NodeId> {
        let is_asked_by_us = matches!(task.asker, Asker::Client(_));
        let is_meant = |(node, copy): &(NodeId, &Copy)| {
            let cannot_say = match copy.fate {
                Fate::Here => is_asked_by_us && !self.table.speaks(*node),
                Fate::Left | Fate::Lost { .. } => copy.state == PowerState::Running,
                Fate::Gone => false,
            };
            *node != witness && !self.table.is_me(*node) && cannot_say && copy.order < order
        };
        self.table.copies(uuid).filter(is_meant).map(|(node, _)| node).collect()
    }

    fn hear_witness(&mut self, task: &mut Task, witness: NodeId, uuid: Uuid) {
        (task.witness, task.vm) = (None, None);
        match task.asks.remove(&witness) {
            Some(Ask { state: AskState::Shown(Verdict::Success, ..), order, .. }) => {
                let active = self.table.copies(uuid).find(|(node, _)| *node == witness);
                let active = active.map_or(Sequence::START, |(_, copy)| copy.was_active).min(order.next());
                for node in self.overtaken(task, uuid, witness, active) {
                    self.table.remove(node, uuid);
                }
            }
            Some(Ask { state: AskState::Reply(number), .. }) => drop(self.numbers.remove(&number)),
            _ => {}
        }
    }
}
