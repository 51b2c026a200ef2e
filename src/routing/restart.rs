//! Start of a VM that a reboot destroyed while it was migrating.
//!
//! The VM may run at the target of the migration. So its host does not start it again by itself: it is
//! asked to once all members have searched for the VM, and it is off.

use super::router::Router;
use super::task::{Phase, Task, TaskProgress};
use crate::fence::{Operation, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::NodeId;

impl Router {
    /// Asks a node to start the VM of a reboot, which was off on all hosts for this reason.
    pub(super) fn restart(
        &mut self,
        task: &mut Task,
        node: NodeId,
        vm: Uuid,
        was_off: String,
        now: Instant,
    ) -> TaskProgress {
        let request = self.request_to(task, node, Operation::On, vm, now);
        task.phase = Phase::Restarting { vm, node, request, was_off };
        let answer = task.limits.answer;
        self.await_restart(task, now).unwrap_or(TaskProgress::Wait(answer))
    }

    /// Returns the progress of a reboot whose VM is being started again; none for any other task. The VM
    /// was off, so the reboot succeeds, whatever becomes of the start.
    pub(super) fn await_restart(&self, task: &Task, now: Instant) -> Option<TaskProgress> {
        let Phase::Restarting { node, request, was_off, .. } = &task.phase else { return None };
        let start = match request.answer() {
            Some(answer) if answer.verdict == Verdict::Success => format!("node {node} has started it again"),
            Some(answer) => format!("node {node} has not started it again: {}", answer.reason),
            None if !self.view.members.is_member(*node) => {
                format!("node {node}, which was to start it again, has left the group")
            }
            None if now >= task.limits.answer => {
                format!("node {node} has not said whether it has started it again")
            }
            None => return Some(TaskProgress::Wait(task.limits.answer)),
        };
        Some(TaskProgress::Done(Verdict::Success, format!("{was_off}; {start}")))
    }
}
