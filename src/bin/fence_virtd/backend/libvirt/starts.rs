//! Starts of VMs: for `on` requests and after reboots.

use std::time::Duration;

use log::{error, info, warn};

use super::backend::{CallInProgress, CallUser, LibvirtBackend};
use super::fence::Fence;
use super::resolve::ResolvedVm;
use super::starting::{InterruptedStart, Starting};
use super::verdicts;
use super::vm_operation::{PoweringOff, Stage, VmOperation};
use crate::job::Job;
use crate::libvirt::{Call, Definition, DomainState, LibvirtError, LibvirtResult, Link};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{UriIndex, Verdict};
use fence_virt::time::Instant;

/// Interval between attempts to start a VM after a reboot.
pub(super) const RESTART_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum of attempts to start a VM after a reboot.
pub(super) const RESTARTS_MAX: usize = 3;

impl<L: Link> LibvirtBackend<L> {
    /// Starts the VM of a request, unless it runs.
    pub(super) fn on(&mut self, job: Job, vm: ResolvedVm, now: Instant) {
        self.lists.forget();
        if let Some(vm_operation) = self.vm_operations.get_mut(&vm.uuid) {
            return vm_operation.add(job);
        }
        match verdicts::start_on(&self.uris, &vm, self.migration(&job, &vm)) {
            Ok(uri) => {
                let guard = self.guard(&vm);
                let starting = Starting::new(uri, Some((job, guard)), Definition::Persistent, now);
                self.start(vm, starting, Vec::new(), now);
            }
            Err(outcome) => job.conclude(outcome),
        }
    }

    /// Starts a VM that is off; `later` are the requests that have waited for this.
    pub(super) fn start(&mut self, vm: ResolvedVm, starting: Starting, later: Vec<Job>, now: Instant) {
        let uuid = vm.uuid.clone();
        let mut vm_operation =
            VmOperation { vm, stage: Stage::Starting(starting), later: Vec::new(), calls: 0 };
        later.into_iter().for_each(|job| vm_operation.add(job));
        self.vm_operations.insert(vm_operation);
        self.attempt_start(&uuid, now);
    }

    /// Makes the call of a start.
    pub(super) fn attempt_start(&mut self, uuid: &str, now: Instant) {
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        let Stage::Starting(starting) = &mut vm_operation.stage else { return };
        starting.attempts += 1;
        starting.retry_at = None;
        vm_operation.calls = 1;
        let name = vm_operation.vm.name.clone();
        let Starting { uri, given_up, definition, is_sole_known_owner, guard, .. } = starting;
        let guard = guard.clone();
        let (uuid, uri, definition) = (uuid.to_owned(), *uri, definition.clone());
        let user = CallUser::Start { uuid: uuid.clone(), given_up: given_up.clone() };
        let may_have_moved = !*is_sole_known_owner;
        let call = Call::Start { uuid, definition, may_have_moved, guard, given_up: given_up.clone() };
        self.submit(uri, call, &name, user, now);
    }

    /// Handles the end of the call of a start.
    pub(super) fn started(&mut self, uuid: &str, outcome: LibvirtResult<Option<DomainState>>, now: Instant) {
        self.lists.forget();
        let Some(vm_operation) = self.vm_operations.get_mut(uuid) else { return };
        match &mut vm_operation.stage {
            Stage::PoweringOff(power_off) => {
                let Some(starting) = power_off.end_interrupted(vm_operation.calls > 0) else { return };
                let (verdict, reason) = verdicts::started(&self.uris[starting.uri.0], outcome);
                starting.finish(verdict, &format!("{reason}, while it was being powered off"));
                if vm_operation.calls == 0 {
                    self.begin_round(uuid, now);
                }
            }
            Stage::Starting(starting) => {
                let (verdict, reason) = verdicts::started(&self.uris[starting.uri.0], outcome);
                let name = &vm_operation.vm.name;
                let is_last = starting.attempts >= RESTARTS_MAX || starting.given_up.is_cancelled();
                if verdict != Verdict::Success && starting.is_restart && !is_last {
                    warn!("{name:?} was fenced, but cannot be restarted yet: {reason}: trying again");
                    starting.retry_at = Some(now + RESTART_INTERVAL);
                    vm_operation.calls = 0;
                    return;
                }
                self.end_start(uuid, verdict, &reason, now);
            }
        }
    }

    fn end_start(&mut self, uuid: &str, verdict: Verdict, reason: &str, now: Instant) {
        let Some(VmOperation { vm, stage, later, .. }) = self.vm_operations.remove(uuid) else { return };
        let Stage::Starting(starting) = stage else { return };
        match (starting.is_restart, verdict) {
            (true, Verdict::Success) => info!("{:?} was fenced by a reboot, and {reason}", vm.name),
            // The VM was off, which is all that fencing needs.
            (true, _) => error!("{:?} was fenced, but cannot be restarted: {reason}", vm.name),
            (false, _) => {}
        }
        starting.finish(verdict, reason);
        self.begin_all(later, now);
    }

    /// Powers a VM off whose start takes long, for a request that the arbiter has admitted.
    pub(super) fn interrupt(&mut self, job: Job, operation: OperationId, vm: ResolvedVm, now: Instant) {
        let uuid = &vm.uuid.clone();
        let Some(VmOperation { vm: started, stage, later, .. }) = self.vm_operations.remove(uuid) else {
            return;
        };
        // The VM that is being started may be one copy of several.
        let is_same = started.covers(&job.request.target);
        let vm = if is_same { started } else { vm.merged_with(started) };
        let Stage::Starting(starting) = stage else { return };
        info!("{:?}: its start takes long, and is interrupted by a power-off", vm.name);
        starting.given_up.cancel();
        let guard = self.guard(&vm);
        let fence = Fence::of_start(&vm, starting.uri, &starting.definition);
        let interrupted = InterruptedStart::InProgress(starting);
        let stage =
            Stage::PoweringOff(PoweringOff { interrupted, ..PoweringOff::new(fence, job, operation, guard) });
        let mut vm_operation = VmOperation { vm, stage, later: Vec::new(), calls: 0 };
        match is_same {
            true => later.into_iter().for_each(|job| vm_operation.add(job)),
            // They were not checked for the other copies.
            false => vm_operation.later = later,
        }
        self.vm_operations.insert(vm_operation);
        if !self.withdraw_start(uuid, now) {
            self.begin_round(uuid, now);
        }
    }

    /// Withdraws the start of a VM that is to be off, if no call is in progress: it waits for a lane,
    /// or for the next attempt. Other VMs whose starts hang do not hold up the off. False if the start
    /// has begun, or there is none.
    pub(super) fn withdraw_start(&mut self, uuid: &str, now: Instant) -> bool {
        let Some(starting) = self.vm_operations.get(uuid).and_then(VmOperation::start_in_progress) else {
            return false;
        };
        let (at, given_up, is_between) =
            (starting.uri, starting.given_up.clone(), starting.retry_at.is_some());
        if !is_between && !self.withdraw_call(uuid, at) {
            return false;
        }
        given_up.cancel();
        self.started(uuid, Err(LibvirtError::Other("not begun: the VM is to be off".to_owned())), now);
        true
    }

    /// Removes the call of a start; false if it has begun.
    fn withdraw_call(&mut self, uuid: &str, at: UriIndex) -> bool {
        let is_it =
            |call: &CallInProgress| matches!(&call.user, CallUser::Start { uuid: of, .. } if of == uuid);
        let Some(id) = self.calls.iter().find(|(_, call)| is_it(call)).map(|(&id, _)| id) else {
            return false;
        };
        let uri = &mut self.uris[at.0];
        let is_withdrawn = uri.lanes.withdraw(&uri.link, id);
        if is_withdrawn {
            self.release(id);
            self.calls.remove(&id);
        }
        is_withdrawn
    }
}
