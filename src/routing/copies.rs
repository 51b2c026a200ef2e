//! Copies of a VM that a task asks.

use std::collections::BTreeSet;

use super::router::Router;
use super::task::{CopyRequest, CopyState, Task, TaskOrigin};
use super::view::CopyHolder;
use super::vocabulary::{OnBehalf, RouterAction};
use crate::fence::{Operation, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, ClusterMessage, NodeId};

impl Router {
    /// Returns true if a copy runs on a member, or did until it was destroyed for the task.
    pub(super) fn is_seen_to_run(&self, task: &Task, holders: &[CopyHolder]) -> bool {
        // An answer outweighs an earlier advertisement.
        let is_off = |node| task.copies.get(&node).is_some_and(CopyRequest::says_off);
        let mut others = holders.iter().filter(|holder| !is_off(holder.node));
        task.has_ended_it() || others.any(|holder| self.view.is_seen_running(holder))
    }

    /// Returns the members that a task asks. C daemons receive what a node asks of every node.
    pub(super) fn concerned(&self, task: &Task, uuid: Uuid) -> Vec<CopyHolder> {
        let mut holders = self.view.holders(uuid);
        if task.is_of_node() {
            holders.retain(|holder| !self.view.members.is_legacy(holder.node));
        }
        holders
    }

    /// Asks the holders that were not asked, and drops requests to nodes that are no longer holders.
    pub(super) fn ask_copies(&mut self, task: &mut Task, uuid: Uuid, holders: &[CopyHolder], now: Instant) {
        let stale = self.drop_departed(task, uuid, now);
        let is_first = task.vm.replace(uuid).is_none();
        if is_first && task.operation == Operation::Reboot && holders.len() > 1 {
            let running = holders.iter().filter(|holder| holder.runs());
            task.restart_node = running.max_by_key(|holder| holder.seq).map(|holder| holder.node);
        }
        let is_only = holders.len() == 1 && task.copies.is_empty();
        for holder in holders.iter().filter(|holder| !stale.contains(&holder.node)) {
            if !task.copies.contains_key(&holder.node) && task.restart_node != Some(holder.node) {
                let operation = match task.operation {
                    Operation::On | Operation::Reboot if is_only => task.operation,
                    Operation::Reboot if holder.runs() => Operation::Off,
                    Operation::On | Operation::Reboot => Operation::Status,
                    other => other,
                };
                self.ask_copy(task, holder.node, operation, uuid, now);
            }
        }
    }

    /// Drops requests to nodes that have left, or no longer have the VM; returns the latter.
    fn drop_departed(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> BTreeSet<NodeId> {
        let mut stale = BTreeSet::new();
        task.copies.retain(|&node, copy| {
            let CopyState::Sent(number) = copy.state else { return true };
            let is_stale = self.view.stale_at(node, uuid, copy.at).is_some_and(|at| now >= at);
            if is_stale {
                self.view.directory.withdraw(node, uuid, now);
                stale.insert(node);
            }
            let is_departed = is_stale || !self.view.members.is_member(node);
            if is_departed {
                self.tasks.forget_reply(number);
            }
            !is_departed
        });
        stale
    }

    pub(super) fn ask_copy(
        &mut self,
        task: &mut Task,
        node: NodeId,
        operation: Operation,
        uuid: Uuid,
        now: Instant,
    ) {
        let wire_name = self.view.wire_name(node, uuid);
        let name = wire_name.clone().unwrap_or_default();
        let seq = self.view.directory.seq();
        let is_seen_running = |holder: &CopyHolder| holder.node == node && self.view.is_seen_running(holder);
        let has_run = self.view.holders(uuid).iter().any(is_seen_running);
        let state = if self.view.members.is_me(node) {
            let job = self.outbox.next_job();
            self.tasks.expect_job(job, task.id);
            let on_behalf = match &task.origin {
                TaskOrigin::Client(client) => OnBehalf::Client(*client),
                TaskOrigin::Node(request) => OnBehalf::Node(request.peer.node),
            };
            let name = uuid.to_string();
            let permitted = task.permitted.clone();
            let expires = task.limits.carry_out;
            self.outbox.act(RouterAction::Begin { job, operation, name, on_behalf, permitted, expires });
            CopyState::Begun(job)
        } else if wire_name.is_none() {
            let reason =
                format!("node {node} was not asked: a C daemon could take the name for another VM's");
            CopyState::Answered { verdict: Verdict::Failure, reason, seq }
        } else if now >= task.limits.send {
            CopyState::not_asked(node, seq)
        } else {
            let number = self.outbox.next_number();
            self.tasks.expect_reply(number, task.id);
            let client_number = match operation {
                Operation::Off | Operation::On => task.client_number,
                _ => 0,
            };
            let call = ClusterCall { number, target: node, name: name.clone(), operation, client_number };
            self.outbox.send_until(ClusterMessage::Request(call), Some(task.limits.send));
            CopyState::Sent(number)
        };
        task.copies.insert(node, CopyRequest { operation, name, has_run, seq, at: now, state });
    }
}
