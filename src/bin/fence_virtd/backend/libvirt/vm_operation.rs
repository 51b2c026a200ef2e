//! Power operations on the VMs that are being powered off or started: one at a time for each VM.

use std::collections::BTreeMap;

use super::fence::Fence;
use super::resolve::ResolvedVm;
use super::starting::{InterruptedStart, Starting};
use crate::job::{Job, Stale, Waiter};
use crate::restraints::HoldGuard;
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{Operation, Target, UriIndex, Uuid, Verdict};
use fence_virt::routing::{Evidence, JobOutcome};
use fence_virt::time::Instant;

/// All VMs that are being powered off or started, by UUID.
#[derive(Default)]
pub(super) struct VmOperations(BTreeMap<String, VmOperation>);

/// A VM that is being powered off or started.
pub(super) struct VmOperation {
    pub(super) vm: ResolvedVm,
    pub(super) stage: Stage,
    /// Requests that are begun after this operation.
    pub(super) later: Vec<Job>,
    /// Number of calls in progress, without that of a start which is interrupted.
    pub(super) calls: usize,
}

/// Operation in progress.
pub(super) enum Stage {
    PoweringOff(PoweringOff),
    Starting(Starting),
}

/// Off and reboot requests that are answered by the same power-off.
pub(super) struct PoweringOff {
    pub(super) fence: Fence,
    /// In the order of their arrival. Empty if nobody waits any more, but calls are in progress.
    pub(super) jobs: Vec<Job>,
    pub(super) operation: OperationId,
    /// The wait of the request that the arbiter has admitted. Nothing is destroyed for the others:
    /// their callers may have been powered off meanwhile.
    pub(super) waiter: Waiter,
    /// Holds that may begin until the destroy.
    pub(super) guard: HoldGuard,
    /// True if that request takes a VM that has migrated away for one that may run.
    pub(super) is_sole_known_owner: bool,
    /// Time of the next round, between two rounds.
    pub(super) retry_at: Option<Instant>,
    pub(super) interrupted: InterruptedStart,
}

impl VmOperations {
    pub(super) fn get(&self, uuid: &str) -> Option<&VmOperation> {
        self.0.get(uuid)
    }

    pub(super) fn get_mut(&mut self, uuid: &str) -> Option<&mut VmOperation> {
        self.0.get_mut(uuid)
    }

    pub(super) fn insert(&mut self, vm_operation: VmOperation) {
        self.0.insert(vm_operation.vm.uuid.clone(), vm_operation);
    }

    pub(super) fn remove(&mut self, uuid: &str) -> Option<VmOperation> {
        self.0.remove(uuid)
    }

    /// VM that a target names. A UUID names no VM by its name here: another VM may have it.
    pub(super) fn named_by(&self, target: &Target) -> Option<&VmOperation> {
        match Uuid::parse(target.as_str()) {
            Some(uuid) => self.get(&uuid.to_string()),
            None => self.0.values().find(|vm_operation| vm_operation.vm.is_named(target.as_str())),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &VmOperation> {
        self.0.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut VmOperation> {
        self.0.values_mut()
    }

    /// Number of requests that wait for an answer.
    pub(super) fn job_count(&self) -> usize {
        self.0.values().map(|vm_operation| vm_operation.all_jobs().count()).sum()
    }
}

impl VmOperation {
    /// Requests that the operation in progress answers.
    pub(super) fn jobs(&self) -> &[Job] {
        match &self.stage {
            Stage::PoweringOff(PoweringOff { jobs, .. }) | Stage::Starting(Starting { jobs, .. }) => jobs,
        }
    }

    /// True while somebody waits for the calls in progress, or a VM that was rebooted is started again.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        let is_restart = matches!(&self.stage, Stage::Starting(starting) if starting.is_restart);
        is_restart || (self.calls > 0 && self.jobs().iter().any(|job| job.stale(now).is_none()))
    }

    /// True if a call of this operation may hold VMs of a URI.
    pub(super) fn holds(&self, uri: UriIndex) -> bool {
        let is_starting = self.start_in_progress().is_some_and(|starting| starting.retry_at.is_none());
        let has_call = self.calls > 0 || is_starting;
        has_call && self.vm.placements.iter().any(|placement| placement.uri == uri)
    }

    /// Start in progress, also one that is interrupted.
    pub(super) fn start_in_progress(&self) -> Option<&Starting> {
        match &self.stage {
            Stage::PoweringOff(PoweringOff {
                interrupted: InterruptedStart::InProgress(starting), ..
            })
            | Stage::Starting(starting) => Some(starting),
            Stage::PoweringOff(_) => None,
        }
    }

    /// True if a power-off does not wait for the end of the start.
    pub(super) fn is_interruptible(&self, now: Instant) -> bool {
        matches!(&self.stage, Stage::Starting(starting) if now >= starting.interruptible_at())
    }

    /// All requests that wait.
    fn all_jobs(&self) -> impl Iterator<Item = &Job> {
        let interrupted = match &self.stage {
            Stage::PoweringOff(PoweringOff {
                interrupted: InterruptedStart::InProgress(starting), ..
            }) => &starting.jobs[..],
            _ => &[],
        };
        self.jobs().iter().chain(interrupted).chain(&self.later)
    }

    fn jobs_mut(&mut self) -> &mut Vec<Job> {
        match &mut self.stage {
            Stage::PoweringOff(PoweringOff { jobs, .. }) | Stage::Starting(Starting { jobs, .. }) => jobs,
        }
    }

    /// State of the VM, for a status request.
    pub(super) fn state(&self) -> &'static str {
        match self.stage {
            Stage::PoweringOff(_) => "on: it is being powered off",
            Stage::Starting(_) => "on: it is being started",
        }
    }

    /// Adds a power operation: it joins the operation in progress, or waits for its end. One that
    /// concerns copies which that does not touch is not answered by it.
    pub(super) fn add(&mut self, job: Job) {
        let is_on = job.request.operation == Operation::On;
        if !self.vm.covers(&job.request.target) {
            return self.later.push(job);
        }
        match &mut self.stage {
            Stage::PoweringOff(power_off) if !is_on && power_off.answers(&job) => power_off.jobs.push(job),
            Stage::Starting(starting) if is_on && !starting.given_up.is_cancelled() => {
                starting.jobs.push(job)
            }
            _ => self.later.push(job),
        }
    }

    /// Answers the requests that have expired, also those whose clients have hung up before.
    pub(super) fn expire(&mut self, now: Instant) {
        self.end_stale(now, |job| now >= job.expires);
    }

    /// Gives up a start that nobody waits for: if it still waits for a lane, it is not made.
    pub(super) fn give_up_start(&self, now: Instant) {
        let Stage::Starting(Starting { jobs, is_restart: false, given_up, .. }) = &self.stage else { return };
        if jobs.iter().all(|job| job.stale(now).is_some()) {
            given_up.cancel();
        }
    }

    /// Takes the requests that do not wait any longer for the end of a start.
    pub(super) fn take_interrupting(&mut self, now: Instant) -> Vec<Job> {
        if !self.is_interruptible(now) {
            return Vec::new();
        }
        let is_power_off = |job: &Job| job.request.operation != Operation::On;
        let (interrupting, later) = std::mem::take(&mut self.later).into_iter().partition(is_power_off);
        self.later = later;
        interrupting
    }

    /// Answers the requests that are stale.
    pub(super) fn drop_stale(&mut self, now: Instant) {
        self.end_stale(now, |_| true);
    }

    fn end_stale(&mut self, now: Instant, is_over: impl Fn(&Job) -> bool) {
        let mut stale_jobs = extract_stale(self.jobs_mut(), now, &is_over);
        if let Stage::PoweringOff(PoweringOff {
            interrupted: InterruptedStart::InProgress(starting), ..
        }) = &mut self.stage
        {
            stale_jobs.extend(extract_stale(&mut starting.jobs, now, &is_over));
        }
        for (job, stale) in stale_jobs {
            job.give_up(stale);
        }
        for (job, stale) in extract_stale(&mut self.later, now, |_| true) {
            job.refuse_stale(stale);
        }
    }

    /// Next time at which a request expires or a round is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expires = self.all_jobs().map(|job| job.expires).min();
        let (retry_at, interruptible_at) = match &self.stage {
            Stage::PoweringOff(PoweringOff { retry_at, .. }) => (*retry_at, None),
            Stage::Starting(starting) => {
                let is_power_off = |job: &Job| job.request.operation != Operation::On;
                let interrupts = self.later.iter().any(is_power_off);
                (starting.retry_at, interrupts.then(|| starting.interruptible_at()))
            }
        };
        expires.into_iter().chain(retry_at).chain(interruptible_at).min()
    }
}

impl PoweringOff {
    /// Power-off for the request that the arbiter has admitted.
    pub(super) fn new(fence: Fence, job: Job, operation: OperationId, guard: HoldGuard) -> PoweringOff {
        PoweringOff {
            fence,
            guard,
            waiter: job.waiter(),
            is_sole_known_owner: job.is_sole_known_owner(),
            jobs: vec![job],
            operation,
            retry_at: None,
            interrupted: InterruptedStart::None,
        }
    }

    /// Ends the start that is interrupted.
    pub(super) fn end_interrupted(&mut self, is_in_round: bool) -> Option<Starting> {
        let ended = if is_in_round { InterruptedStart::EndedDuringRound } else { InterruptedStart::None };
        match std::mem::replace(&mut self.interrupted, ended) {
            InterruptedStart::InProgress(starting) => Some(starting),
            other => {
                self.interrupted = other;
                None
            }
        }
    }

    /// True if the result is also the answer to this request, which may be stricter about migration.
    fn answers(&self, job: &Job) -> bool {
        self.is_sole_known_owner || !job.is_sole_known_owner()
    }

    /// True if the VM is to be started again: it is off, the last word is a reboot, and nobody wants it off.
    ///
    /// A VM that was migrating may run at the target. The cluster asks for its start once no host runs it.
    pub(super) fn may_restart(&self, outcome: &JobOutcome) -> bool {
        let is_off = outcome.verdict == Verdict::Success;
        let is_for_cluster =
            outcome.evidence == Evidence::EndedWhileMigrating && self.jobs.iter().any(Job::is_for_cluster);
        let mut jobs = self.jobs.iter();
        is_off
            && !is_for_cluster
            && !self.jobs.is_empty()
            && jobs.all(|job| job.request.operation == Operation::Reboot)
    }
}

/// Removes the jobs that are stale in a way that counts.
fn extract_stale(jobs: &mut Vec<Job>, now: Instant, counts: impl Fn(&Job) -> bool) -> Vec<(Job, Stale)> {
    let mut stale_jobs = Vec::new();
    for job in std::mem::take(jobs) {
        match job.stale(now).filter(|_| counts(&job)) {
            Some(stale) => stale_jobs.push((job, stale)),
            None => jobs.push(job),
        }
    }
    stale_jobs
}
