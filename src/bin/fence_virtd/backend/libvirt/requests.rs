//! Requests for one VM, until their power operation begins.

use super::backend::{CallInProgress, CallUser, LibvirtBackend};
use super::fence::Effect;
use super::lookup::Lookup;
use super::resolve::{Resolution, ResolvedVm, Uri, find, resolve};
use super::verdicts::{self, Migration};
use crate::job::{Job, Requester};
use crate::libvirt::{Call, GONE, Link};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{Operation, UriIndex, Uuid, Verdict};
use fence_virt::groups::listed_names;
use fence_virt::time::Instant;

impl<L: Link> LibvirtBackend<L> {
    /// Begins the lookup of the VM that a request names.
    pub(super) fn look_up(&mut self, job: Job, admitted: Option<OperationId>, now: Instant) {
        let target = job.request.target.clone();
        let id = self.lookups.begin(job, admitted, self.uris.len(), now);
        for at in (0..self.uris.len()).map(UriIndex) {
            // With several URIs, one that does not answer holds up no VM of the others.
            match self.uris[at.0].check_late(now) {
                Err(error) if self.uris.len() > 1 => self.lookups.record(id, at, Err(error)),
                _ => drop(self.submit(
                    at,
                    Call::Find(target.clone()),
                    target.as_str(),
                    CallUser::Lookup(id),
                    now,
                )),
            }
        }
    }

    /// Gives up the calls of a lookup that have not ended: those that wait for a lane are not made.
    pub(super) fn abandon(&mut self, lookup: &Lookup) {
        if lookup.is_over() {
            return;
        }
        let is_its = |call: &CallInProgress| matches!(call.user, CallUser::Lookup(id) if id == lookup.id);
        let calls = self.calls.iter().filter(|(_, call)| is_its(call)).map(|(&id, call)| (id, call.uri));
        for (id, uri) in calls.collect::<Vec<_>>() {
            self.calls.remove(&id);
            let Uri { link, lanes, .. } = &mut self.uris[uri.0];
            lanes.withdraw(link, id);
        }
    }

    /// Goes on with a request whose VM was looked up.
    pub(super) fn looked_up(
        &mut self,
        job: Job,
        admitted: Option<OperationId>,
        resolution: Resolution,
        now: Instant,
    ) {
        let vm = match self.check(&job, resolution, now) {
            Ok(vm) => vm,
            Err((verdict, reason)) => {
                admitted.into_iter().for_each(|operation| self.contests.end(operation, Effect::None, now));
                job.refuse(verdict, reason);
                return self.rule(now);
            }
        };
        for placement in vm.placements.iter().filter(|placement| placement.state.is_active) {
            Uuid::parse(&vm.uuid).into_iter().for_each(|uuid| self.last_runs.saw_run(uuid, placement.uri));
        }
        match (job.request.operation, admitted) {
            (Operation::Status, _) => {
                let (verdict, reason) = verdicts::status(&self.uris, &vm, self.migration(&job, &vm));
                job.finish(verdict, reason);
            }
            (Operation::On, _) => self.on(job, vm, now),
            (_, Some(operation)) => self.power_off(job, vm, operation, now),
            (_, None) if self.vm_operations.get(&vm.uuid).is_some() => self.join(job, &vm.uuid, now),
            (_, None) => self.contest(job, vm, now),
        }
    }

    /// Facts that decide what a VM which has migrated away counts as.
    pub(super) fn migration(&self, job: &Job, vm: &ResolvedVm) -> Migration {
        Migration { is_sole_known_owner: job.is_sole_known_owner(), ran_last: self.last_runs.of(&vm.uuid) }
    }

    /// Checks that somebody waits for a request, that the groups permit it, and that its VM is known.
    fn check(
        &mut self,
        job: &Job,
        resolution: Resolution,
        now: Instant,
    ) -> Result<ResolvedVm, (Verdict, String)> {
        if let Some(stale) = job.stale(now) {
            return Err((Verdict::Failure, format!("not begun: {stale}")));
        }
        match resolution {
            Resolution::Found(vm) => {
                self.permit(job, &listed_names(&vm.name, &vm.uuid), now)?;
                Ok(vm)
            }
            Resolution::Failed(reason) => Err((Verdict::Failure, reason)),
            Resolution::Unknown => {
                self.permit(job, &[job.request.target.as_str()], now)?;
                if matches!(job.requester, Requester::Cluster { .. }) {
                    // This host had the VM, or the cluster would not ask it.
                    return Err((Verdict::Failure, GONE.to_owned()));
                }
                let is_status = job.request.operation == Operation::Status;
                let verdict = if is_status { Verdict::Off } else { Verdict::Failure };
                Err((verdict, "no such VM".to_owned()))
            }
        }
    }

    /// Begins a request for one VM.
    pub(super) fn begin_on_vm(&mut self, job: Job, now: Instant) {
        let target = &job.request.target;
        self.uris.iter_mut().for_each(Uri::take_inventory);
        // A name that VMs of several URIs have is ambiguous.
        let is_unique = |vm: &ResolvedVm| !self.uris.iter().any(|uri| uri.has_other(target, &vm.uuid));
        let named = self.vm_operations.named_by(target);
        if let Some(vm_operation) = named.filter(|vm_operation| is_unique(&vm_operation.vm)) {
            let names = [vm_operation.vm.name.clone(), vm_operation.vm.uuid.clone()];
            let state = vm_operation.state();
            if let Err((verdict, reason)) = self.permit(&job, &listed_names(&names[0], &names[1]), now) {
                return job.refuse(verdict, reason);
            }
            return match job.request.operation {
                Operation::Status => job.finish(Verdict::Success, state),
                _ => self.join(job, &names[1], now),
            };
        }
        let is_status = job.request.operation == Operation::Status;
        if !is_status || self.lookups.has(target) || self.uris.iter().any(|uri| uri.is_slow(now)) {
            return self.look_up(job, None, now);
        }
        let found = find(&self.uris, target, now);
        let resolution = resolve(&mut self.uris, target, found);
        self.looked_up(job, None, resolution, now);
    }
}
