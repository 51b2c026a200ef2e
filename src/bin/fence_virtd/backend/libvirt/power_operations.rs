//! Power operations: their calls, rounds and answers.

use std::time::Duration;

use log::debug;

use super::backend::{CallUser, LibvirtBackend};
use super::fence::{Effect, Fence, FenceCall, Restart, Step};
use super::resolve::ResolvedVm;
use super::starting::{InterruptedStart, Starting};
use super::vm_operation::{PoweringOff, Stage, VmOperation};
use crate::job::{CancelToken, Job, RequestLabel};
use crate::libvirt::{Call, LibvirtResult, Link, PowerOff, PowerOffResult};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{Operation, UriIndex};
use fence_virt::routing::JobOutcome;
use fence_virt::time::Instant;

/// Interval between attempts to power a VM off.
pub(super) const RETRY: Duration = Duration::from_millis(250);

impl<L: Link> LibvirtBackend<L> {
    /// Powers a VM off, for a request that the arbiter has admitted.
    pub(super) fn power_off(&mut self, job: Job, vm: ResolvedVm, operation: OperationId, now: Instant) {
        self.lists.forget();
        // An operation that began since the request was checked may touch further copies.
        if let Err((verdict, reason)) = self.permit_vm(&job, &vm, now) {
            self.contests.end(operation, Effect::None, now);
            return job.refuse(verdict, reason);
        }
        let in_progress = self.vm_operations.get_mut(&vm.uuid);
        let is_interrupting = in_progress.as_ref().is_some_and(|it| it.is_interruptible(now));
        if let Some(vm_operation) = in_progress.filter(|_| !is_interrupting) {
            self.contests.end(operation, Effect::None, now);
            return vm_operation.add(job);
        }
        // One that joins another was not counted.
        if let Err((verdict, reason)) = self.count_power_off(&job, &vm.copies(&self.uris), now) {
            self.contests.end(operation, Effect::None, now);
            return job.refuse(verdict, reason);
        }
        if is_interrupting {
            return self.interrupt(job, operation, vm, now);
        }
        if let Some(caller) = &job.caller {
            debug!("{}: begun for {}", RequestLabel(&job.request), caller.source);
        }
        let uuid = vm.uuid.clone();
        let guard = self.guard(&vm);
        let stage = Stage::PoweringOff(PoweringOff::new(Fence::new(&vm), job, operation, guard));
        self.vm_operations.insert(VmOperation { vm, stage, later: Vec::new(), calls: 0 });
        self.begin_round(&uuid, now);
    }

    /// Makes the calls of the next round.
    pub(super) fn begin_round(&mut self, uuid: &str, now: Instant) {
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        let VmOperation { vm, stage, calls, .. } = vm_operation;
        let name = vm.name.clone();
        // Its state there decides with that of the others.
        let has_placement = |at: &UriIndex| vm.placements.iter().any(|placement| placement.uri == *at);
        let ran_last = self.last_runs.of(uuid).filter(has_placement);
        let Stage::PoweringOff(power_off) = stage else { return };
        power_off.retry_at = None;
        let (waiter, guard) = (power_off.waiter.clone(), power_off.guard.clone());
        let is_reboot = power_off.jobs.iter().all(|job| job.request.operation == Operation::Reboot);
        let is_sole_known_owner = power_off.is_sole_known_owner;
        let starting_on = power_off.interrupted.uri();
        let round = power_off.fence.round();
        *calls += round.len();
        if round.is_empty() {
            return self.end_round(uuid, now);
        }
        for FenceCall { placement, uri, progress, signs, lacks_definition, is_destroyed_elsewhere } in round {
            let given_up = CancelToken::default();
            let user = CallUser::PowerOff { uuid: uuid.to_owned(), placement, given_up: given_up.clone() };
            let call = Call::PowerOff(PowerOff {
                uuid: uuid.to_owned(),
                progress,
                signs,
                requested: now,
                is_sole_known_owner: is_sole_known_owner && !is_destroyed_elsewhere,
                ran_last_elsewhere: ran_last.is_some_and(|at| at != uri),
                is_own_start: starting_on == Some(uri),
                wants_definition: is_reboot && lacks_definition,
                waiter: waiter.clone(),
                guard: guard.clone(),
                given_up,
            });
            self.submit(uri, call, &name, user, now);
        }
    }

    /// Handles the result of a call of a round, or its loss.
    pub(super) fn powered_off(
        &mut self,
        uuid: &str,
        placement: usize,
        result: LibvirtResult<PowerOffResult>,
        now: Instant,
    ) {
        self.lists.forget();
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        vm_operation.calls -= 1;
        if let Stage::PoweringOff(power_off) = &mut vm_operation.stage {
            match result {
                Ok(result) => power_off.fence.record(placement, result),
                Err(error) => power_off.fence.lose(placement, &error),
            }
        }
        if vm_operation.calls == 0 {
            self.end_round(uuid, now);
        }
    }

    fn end_round(&mut self, uuid: &str, now: Instant) {
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        let Stage::PoweringOff(PoweringOff { fence, operation, interrupted, .. }) = &mut vm_operation.stage
        else {
            return;
        };
        let ran_last = self.last_runs.of(uuid);
        match (fence.conclude(&vm_operation.vm, &self.uris, ran_last), &*interrupted) {
            (Step::Stale(_), _) => {
                vm_operation.drop_stale(Instant::now().max(now));
                self.end_power_off(uuid, None, now);
            }
            // The VM may run after the end of its start.
            (_, InterruptedStart::InProgress(_)) => {
                fence.reopen(now);
                self.retry(uuid, now);
            }
            (_, InterruptedStart::EndedDuringRound) => {
                fence.reopen(now);
                *interrupted = InterruptedStart::None;
                self.begin_round(uuid, now);
            }
            (Step::Done(outcome), _) => self.end_power_off(uuid, Some(outcome), now),
            (Step::Retry(reason), _) => {
                debug!("{:?} is not off yet: {reason}: retrying", vm_operation.vm.name);
                if fence.effect() == Effect::PoweredOff {
                    // It harms nobody any more, though its process may survive for long.
                    self.contests.end(*operation, Effect::PoweredOff, now);
                }
                self.retry(uuid, now);
                self.rule(now);
            }
        }
    }

    /// Sets the time of the next round, if anybody waits for it.
    fn retry(&mut self, uuid: &str, now: Instant) {
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        let Stage::PoweringOff(PoweringOff { jobs, retry_at, .. }) = &mut vm_operation.stage else { return };
        if jobs.is_empty() {
            self.end_power_off(uuid, None, now);
        } else {
            *retry_at = Some(now + RETRY);
        }
    }

    /// Answers the requests, and starts the VM again if it was a reboot. Without an answer the
    /// requests that have joined are begun on their own, and a start that is in progress goes on.
    fn end_power_off(&mut self, uuid: &str, answer: Option<JobOutcome>, now: Instant) {
        let Some(VmOperation { vm, stage, mut later, .. }) = self.vm_operations.remove(uuid) else { return };
        let Stage::PoweringOff(power_off) = stage else { return };
        self.contests.end(power_off.operation, power_off.fence.effect(), now);
        if let InterruptedStart::InProgress(starting) = power_off.interrupted {
            later.splice(..0, power_off.jobs);
            let stage = Stage::Starting(starting);
            self.vm_operations.insert(VmOperation { vm, stage, later, calls: 1 });
            return self.rule(now);
        }
        let may_restart = answer.as_ref().is_some_and(|outcome| power_off.may_restart(outcome));
        let restart = if may_restart { power_off.fence.restart() } else { None };
        match answer {
            Some(mut outcome) => {
                outcome.reason.push_str(if restart.is_some() { ", starting it again" } else { "" });
                power_off.jobs.into_iter().for_each(|job| job.conclude(outcome.clone()));
            }
            None => drop(later.splice(..0, power_off.jobs)),
        }
        match restart {
            Some(Restart { uri, definition }) => {
                let starting = Starting::new(uri, None, definition, now);
                self.start(vm, starting, later, now);
            }
            None => self.begin_all(later, now),
        }
        self.rule(now);
    }

    /// Adds a power operation to the one in progress on the same VM.
    pub(super) fn join(&mut self, job: Job, uuid: &str, now: Instant) {
        let vm_operation = self.vm_operations.get(uuid);
        let is_starting = vm_operation.is_some_and(|it| matches!(it.stage, Stage::Starting(_)));
        if is_starting && job.request.operation == Operation::Off && self.withdraw_start(uuid, now) {
            return self.look_up(job, None, now);
        }
        if let Some(vm_operation) = self.vm_operations.get_mut(uuid) {
            vm_operation.add(job);
        }
    }

    /// Begins requests that have waited for the end of an operation.
    pub(super) fn begin_all(&mut self, jobs: Vec<Job>, now: Instant) {
        for job in jobs {
            match job.stale(now) {
                Some(stale) => job.refuse_stale(stale),
                None => self.look_up(job, None, now),
            }
        }
    }

    /// Does the work that is due on all VMs.
    pub(super) fn turn_vm_operations(&mut self, now: Instant) {
        let mut due = Vec::new();
        let mut due_starts = Vec::new();
        let mut over = Vec::new();
        let mut interrupting = Vec::new();
        for vm_operation in self.vm_operations.iter_mut() {
            vm_operation.expire(now);
            vm_operation.give_up_start(now);
            let jobs = vm_operation.take_interrupting(now).into_iter();
            interrupting.extend(jobs.map(|job| (job, vm_operation.vm.clone())));
            if let Stage::PoweringOff(PoweringOff { retry_at: Some(at), .. }) = &vm_operation.stage {
                if vm_operation.jobs().is_empty() {
                    over.push(vm_operation.vm.uuid.clone());
                } else if now >= *at {
                    due.push(vm_operation.vm.uuid.clone());
                }
            }
            if vm_operation
                .start_in_progress()
                .and_then(|starting| starting.retry_at)
                .is_some_and(|at| now >= at)
            {
                due_starts.push(vm_operation.vm.uuid.clone());
            }
        }
        over.iter().for_each(|uuid| self.end_power_off(uuid, None, now));
        due.iter().for_each(|uuid| self.begin_round(uuid, now));
        due_starts.iter().for_each(|uuid| self.attempt_start(uuid, now));
        for (job, vm) in interrupting {
            match vm.covers(&job.request.target) {
                true => self.contest(job, vm, now),
                false => self.look_up(job, None, now),
            }
        }
    }
}
