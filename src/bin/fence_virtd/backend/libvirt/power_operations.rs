//! Power operations: their calls, rounds and answers.

use std::time::{Duration, Instant};

use log::{debug, error, info};

use super::backend::{CallInProgress, CallUser, LibvirtBackend};
use super::fence::{Effect, Fence, FenceCall, Restart, Step};
use super::resolve::ResolvedVm;
use super::verdicts;
use super::vm_operation::{PoweringOff, Stage, Starting, VmOperation};
use crate::job::{CancelToken, Job};
use crate::libvirt::{
    Call, Definition, DomainState, LibvirtError, LibvirtResult, Link, PowerOff, PowerOffResult,
};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{Operation, Verdict};

/// Interval between attempts to power a VM off.
pub(super) const RETRY: Duration = Duration::from_millis(250);

impl<L: Link> LibvirtBackend<L> {
    /// Powers a VM off that nobody is powering off or starting.
    pub(super) fn power_off(&mut self, job: Job, vm: ResolvedVm, operation: OperationId, now: Instant) {
        self.lists.forget();
        if let Some(vm_operation) = self.vm_operations.get_mut(&vm.uuid) {
            self.contests.end(operation, Effect::None, now);
            return vm_operation.add(job);
        }
        let uuid = vm.uuid.clone();
        let stage = Stage::PoweringOff(PoweringOff {
            fence: Fence::new(&vm),
            waiter: job.waiter(),
            is_sole_known_owner: job.is_sole_known_owner(),
            jobs: vec![job],
            operation,
            retry_at: None,
        });
        self.vm_operations.insert(VmOperation { vm, stage, later: Vec::new(), calls: 0 });
        self.begin_round(&uuid, now);
    }

    /// Makes the calls of the next round.
    fn begin_round(&mut self, uuid: &str, now: Instant) {
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        let name = vm_operation.vm.name.clone();
        let Stage::PoweringOff(power_off) = &mut vm_operation.stage else { return };
        power_off.retry_at = None;
        let waiter = power_off.waiter.clone();
        let is_reboot = power_off.jobs.iter().all(|job| job.request.operation == Operation::Reboot);
        let is_sole_known_owner = power_off.is_sole_known_owner;
        let round = power_off.fence.round();
        vm_operation.calls += round.len();
        if round.is_empty() {
            return self.end_round(uuid, now);
        }
        for FenceCall { placement, uri, progress, lacks_definition } in round {
            let given_up = CancelToken::default();
            let user = CallUser::PowerOff { uuid: uuid.to_owned(), placement, given_up: given_up.clone() };
            let call = Call::PowerOff(PowerOff {
                uuid: uuid.to_owned(),
                progress,
                requested: now,
                is_sole_known_owner,
                wants_definition: is_reboot && lacks_definition,
                waiter: waiter.clone(),
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
        let Stage::PoweringOff(PoweringOff { fence, operation, .. }) = &vm_operation.stage else { return };
        match fence.conclude(&vm_operation.vm, &self.uris) {
            Step::Done(verdict, reason) => self.end_power_off(uuid, Some((verdict, reason)), now),
            Step::Stale(_) => {
                vm_operation.drop_stale(Instant::now().max(now));
                self.end_power_off(uuid, None, now);
            }
            Step::Retry(reason) => {
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
    /// requests that have joined are begun on their own.
    fn end_power_off(&mut self, uuid: &str, answer: Option<(Verdict, String)>, now: Instant) {
        let Some(VmOperation { vm, stage, mut later, .. }) = self.vm_operations.remove(uuid) else { return };
        let Stage::PoweringOff(power_off) = stage else { return };
        self.contests.end(power_off.operation, power_off.fence.effect(), now);
        let is_off = matches!(answer, Some((Verdict::Success, _)));
        let wants_restart = is_off && power_off.wants_restart();
        let restart = if wants_restart { power_off.fence.restart() } else { None };
        match answer {
            Some((verdict, reason)) => {
                let addition = if restart.is_some() { ", starting it again" } else { "" };
                for job in power_off.jobs {
                    job.finish(verdict, format_args!("{reason}{addition}"));
                }
            }
            None => drop(later.splice(..0, power_off.jobs)),
        }
        match restart {
            Some(Restart { uri, definition }) => {
                let starting = Starting::new(uri, None);
                self.start(vm, starting, later, definition, now);
            }
            None => self.begin_all(later, now),
        }
        self.rule(now);
    }

    /// Starts a VM that is off; `later` are the requests that have waited for this.
    fn start(
        &mut self,
        vm: ResolvedVm,
        starting: Starting,
        later: Vec<Job>,
        definition: Definition,
        now: Instant,
    ) {
        let Starting { uri, .. } = starting;
        let given_up = starting.given_up.clone();
        let call = Call::Start { uuid: vm.uuid.clone(), definition, given_up: given_up.clone() };
        let user = CallUser::Start { uuid: vm.uuid.clone(), given_up };
        let name = vm.name.clone();
        let mut vm_operation =
            VmOperation { vm, stage: Stage::Starting(starting), later: Vec::new(), calls: 1 };
        later.into_iter().for_each(|job| vm_operation.add(job));
        self.vm_operations.insert(vm_operation);
        self.submit(uri, call, &name, user, now);
    }

    /// Starts the VM of a request, unless it runs.
    pub(super) fn on(&mut self, job: Job, vm: ResolvedVm, now: Instant) {
        self.lists.forget();
        if let Some(vm_operation) = self.vm_operations.get_mut(&vm.uuid) {
            return vm_operation.add(job);
        }
        match verdicts::start_on(&self.uris, &vm, &job) {
            Ok(uri) => {
                let starting = Starting::new(uri, Some(job));
                self.start(vm, starting, Vec::new(), Definition::Persistent, now);
            }
            Err((verdict, reason)) => job.finish(verdict, reason),
        }
    }

    /// Adds a power operation to the one in progress on the same VM.
    pub(super) fn join(&mut self, job: Job, uuid: &str, now: Instant) {
        if job.request.operation == Operation::Off && self.withdraw_start(uuid, now) {
            return self.look_up(job, None, now);
        }
        if let Some(vm_operation) = self.vm_operations.get_mut(uuid) {
            vm_operation.add(job);
        }
    }

    /// Withdraws the start of a VM that is to be off, if it waits for a lane: other VMs whose
    /// starts hang do not hold up the off. False if the start has begun, or there is none.
    fn withdraw_start(&mut self, uuid: &str, now: Instant) -> bool {
        let Some(VmOperation { stage: Stage::Starting(Starting { uri, .. }), .. }) =
            self.vm_operations.get(uuid)
        else {
            return false;
        };
        let uri = &mut self.uris[uri.0];
        let is_it =
            |call: &CallInProgress| matches!(&call.user, CallUser::Start { uuid: of, .. } if of == uuid);
        let Some(id) = self.calls.iter().find(|(_, call)| is_it(call)).map(|(&id, _)| id) else {
            return false;
        };
        if !uri.lanes.withdraw(&uri.link, id) {
            return false;
        }
        self.calls.remove(&id);
        self.started(uuid, Err(LibvirtError::Other("not begun: the VM is to be off".to_owned())), now);
        true
    }

    /// Handles the end of a start.
    pub(super) fn started(&mut self, uuid: &str, outcome: LibvirtResult<Option<DomainState>>, now: Instant) {
        self.lists.forget();
        let Some(VmOperation { vm, stage, later, .. }) = self.vm_operations.remove(uuid) else { return };
        let Stage::Starting(Starting { uri, jobs, is_restart, .. }) = stage else { return };
        let (verdict, reason) = verdicts::started(&self.uris[uri.0], outcome);
        match (is_restart, verdict) {
            (true, Verdict::Success) => info!("{:?} was fenced by a reboot, and {reason}", vm.name),
            // The VM was off, which is all that fencing needs.
            (true, _) => {
                error!("{:?} was fenced, but cannot be restarted: {reason}", vm.name);
            }
            (false, _) => {}
        }
        for job in jobs {
            job.finish(verdict, &reason);
        }
        self.begin_all(later, now);
    }

    /// Begins requests that have waited for the end of an operation.
    fn begin_all(&mut self, jobs: Vec<Job>, now: Instant) {
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
        let mut over = Vec::new();
        for vm_operation in self.vm_operations.iter_mut() {
            vm_operation.expire(now);
            vm_operation.give_up_start(now);
            if let Stage::PoweringOff(PoweringOff { retry_at: Some(at), .. }) = &vm_operation.stage {
                if vm_operation.jobs().is_empty() {
                    over.push(vm_operation.vm.uuid.clone());
                } else if now >= *at {
                    due.push(vm_operation.vm.uuid.clone());
                }
            }
        }
        over.iter().for_each(|uuid| self.end_power_off(uuid, None, now));
        due.iter().for_each(|uuid| self.begin_round(uuid, now));
    }
}
