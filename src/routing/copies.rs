//! Copies of a VM that a task asks.

use std::collections::BTreeSet;

use super::copy_request::{CopyRequest, CopyState};
use super::directory::Leaving;
use super::router::Router;
use super::task::{Phase, Task, TaskOrigin};
use super::view::CopyHolder;
use super::vocabulary::{OnBehalf, RouterAction};
use crate::fence::{Operation, Uuid};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, ClusterMessage, NodeId};

impl Router {
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
        let is_first = !matches!(task.phase, Phase::Asking { .. });
        if is_first {
            task.phase = Phase::asking(uuid);
        }
        let stale = self.drop_departed(task, uuid, now);
        let is_reboot = task.operation == Operation::Reboot;
        let Phase::Asking { copies, restart_node, .. } = &mut task.phase else { return };
        if is_first && is_reboot && holders.len() > 1 {
            // A copy that is just coming in is not the one that runs.
            let running = holders.iter().filter(|holder| holder.runs());
            let last = running.max_by_key(|holder| (holder.is_active, holder.seq));
            *restart_node = last.map(|holder| holder.node);
        }
        let is_only = holders.len() == 1 && copies.is_empty();
        let is_new = |holder: &&CopyHolder| {
            let node = holder.node;
            !stale.contains(&node) && copies.get(node).is_none() && *restart_node != Some(node)
        };
        let new: Vec<CopyHolder> = holders.iter().filter(is_new).copied().collect();
        for holder in new {
            let operation = match task.operation {
                Operation::On | Operation::Reboot if is_only => task.operation,
                Operation::Reboot if holder.runs() => Operation::Off,
                Operation::On | Operation::Reboot => Operation::Status,
                other => other,
            };
            self.ask_copy(task, holder.node, operation, uuid, now);
        }
    }

    /// Drops requests to nodes that have left, or no longer have the VM; returns the latter.
    fn drop_departed(&mut self, task: &mut Task, uuid: Uuid, now: Instant) -> BTreeSet<NodeId> {
        let mut stale = BTreeSet::new();
        let Phase::Asking { copies, .. } = &mut task.phase else { return stale };
        copies.retain(|node, copy| {
            let CopyState::Sent(number) = copy.state else { return true };
            let is_stale = self.view.stale_at(node, uuid, copy.at).is_some_and(|at| now >= at);
            if is_stale {
                self.view.directory.withdraw(node, uuid, Leaving::Inferred, now);
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

    /// Asks one copy.
    pub(super) fn ask_copy(
        &mut self,
        task: &mut Task,
        node: NodeId,
        operation: Operation,
        uuid: Uuid,
        now: Instant,
    ) {
        let request = self.request_to(task, node, operation, uuid, now);
        if let Phase::Asking { copies, .. } = &mut task.phase {
            copies.insert(node, request);
        }
    }

    /// Begins a request to one copy.
    pub(super) fn request_to(
        &mut self,
        task: &Task,
        node: NodeId,
        operation: Operation,
        uuid: Uuid,
        now: Instant,
    ) -> CopyRequest {
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
            CopyState::not_asked(node, "a C daemon could take the name for another VM's", seq)
        } else if now >= task.limits.send {
            CopyState::not_asked(node, TOO_LATE, seq)
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
        let is_of_c = self.view.members.is_legacy(node);
        CopyRequest { operation, name, is_of_c, has_run, seq, at: now, state }
    }
}

/// Reason for a node that was not asked in time.
pub(super) const TOO_LATE: &str = "the request had waited too long";
