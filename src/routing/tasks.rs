//! Tasks under way, with what they wait for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::copy_request::CopyState;
use super::ids::{JobId, TaskId};
use super::task::Task;
use crate::fence::{Operation, Uuid};
use crate::time::Instant;
use crate::wire::cluster::RequestNumber;

/// Maximum number of tasks of clients, and of other nodes.
const TASKS_MAX: usize = 8192;

/// Changes since the tasks were last reviewed.
#[derive(Debug, Clone, Default)]
struct PendingReview {
    /// Time of the last change; none without one.
    at: Option<Instant>,
    /// True if the changes may concern every task.
    all: bool,
    /// VMs that have changed.
    vms: BTreeSet<Uuid>,
}

/// Tasks under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    /// Number of tasks of other nodes.
    of_nodes: usize,
    wakes: BTreeSet<(Instant, TaskId)>,
    numbers: HashMap<RequestNumber, TaskId>,
    jobs: HashMap<JobId, TaskId>,
    review: PendingReview,
    last_id: u64,
}

impl Tasks {
    pub(super) fn next_id(&mut self) -> TaskId {
        self.last_id += 1;
        TaskId(self.last_id)
    }

    /// Returns the number of tasks, and of their jobs on this node.
    pub(super) fn under_way(&self) -> usize {
        self.tasks.len() + self.jobs.len()
    }

    pub(super) fn is_full_for_clients(&self) -> bool {
        self.tasks.len() - self.of_nodes >= TASKS_MAX
    }

    pub(super) fn is_full_for_nodes(&self) -> bool {
        self.of_nodes >= TASKS_MAX
    }

    /// Stores a task until its wake time, or a change.
    pub(super) fn put(&mut self, task: Task) {
        self.of_nodes += usize::from(task.is_of_node());
        self.wakes.insert((task.wake, task.id));
        self.tasks.insert(task.id, task);
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    pub(super) fn take(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.of_nodes -= usize::from(task.is_of_node());
        self.wakes.remove(&(task.wake, id));
        Some(task)
    }

    /// Returns the ids of tasks.
    pub(super) fn ids(&self, is_meant: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.tasks.values().filter(|task| is_meant(task)).map(|task| task.id).collect()
    }

    /// Takes the next task whose wake time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Task> {
        let &(_, id) = self.wakes.first().filter(|(at, _)| now >= *at)?;
        self.take(id)
    }

    pub(super) fn expect_reply(&mut self, number: RequestNumber, task: TaskId) {
        self.numbers.insert(number, task);
    }

    pub(super) fn awaiting_reply(&self, number: RequestNumber) -> Option<TaskId> {
        self.numbers.get(&number).copied()
    }

    pub(super) fn forget_reply(&mut self, number: RequestNumber) -> Option<TaskId> {
        self.numbers.remove(&number)
    }

    pub(super) fn expect_job(&mut self, job: JobId, task: TaskId) {
        self.jobs.insert(job, task);
    }

    pub(super) fn forget_job(&mut self, job: JobId) -> Option<TaskId> {
        self.jobs.remove(&job)
    }

    /// Returns the VM of a task's job and its operation.
    pub(super) fn asked_of(&self, job: JobId) -> Option<(Uuid, Operation)> {
        let task = self.tasks.get(self.jobs.get(&job)?)?;
        let requests = task.requests();
        let is_meant = |state: &CopyState| matches!(state, CopyState::Begun(begun) if *begun == job);
        let request = requests.values().find(|request| is_meant(&request.state))?;
        Some((task.vm()?, request.operation))
    }

    /// Marks all tasks for review.
    pub(super) fn review_all(&mut self, now: Instant) {
        self.review = PendingReview { at: Some(now), all: true, vms: BTreeSet::new() };
    }

    /// Marks tasks for review: those for a VM, and those that have not found theirs.
    pub(super) fn review_vm(&mut self, uuid: Uuid, now: Instant) {
        self.review.at = Some(now);
        if !self.review.all {
            self.review.vms.insert(uuid);
        }
    }

    /// Takes the tasks that changes concern, with the time of the last change.
    pub(super) fn take_review(&mut self) -> Option<(Instant, Vec<TaskId>)> {
        let PendingReview { at, all, vms } = std::mem::take(&mut self.review);
        Some((at?, self.ids(|task| all || task.vm().is_none_or(|vm| vms.contains(&vm)))))
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.review.at.is_some() {
            return Some(now);
        }
        self.wakes.first().map(|(at, _)| *at)
    }
}
