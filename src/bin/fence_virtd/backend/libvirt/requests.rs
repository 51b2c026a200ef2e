//! Requests for one VM, until their power operation begins.

use super::backend::{CallInProgress, CallUser, LibvirtBackend};
use super::fence::Effect;
use super::lookup::Lookup;
use super::resolve::{Resolution, ResolvedVm, Uri, find, resolve, uuid_for};
use super::verdicts::{self, Migration};
use super::vm_operation::VmOperation;
use crate::access::VmCopy;
use crate::job::{Job, Requester};
use crate::libvirt::{Call, GONE, Link};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{Operation, UriIndex, Uuid, Verdict, WireVersion};
use fence_virt::time::Instant;

impl<L: Link> LibvirtBackend<L> {
    /// Begins the lookup of the VM that a request names.
    pub(super) fn look_up(&mut self, mut job: Job, admitted: Option<OperationId>, now: Instant) {
        self.widen(&mut job);
        let target = job.request.target.clone();
        let patience = self.uris.iter().map(|uri| uri.link.lookup_max()).max().unwrap_or_default();
        let id = self.lookups.begin(job, admitted, self.uris.len(), now + patience);
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

    /// Lets a request name the UUID of its VM if copies of that have other names.
    fn widen(&mut self, job: &mut Job) {
        self.uris.iter_mut().for_each(Uri::take_inventory);
        if let Some(uuid) = uuid_for(&self.uris, &job.request.target) {
            job.request.target = uuid;
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
                let outcome = verdicts::status(&self.uris, &vm, self.migration(&job, &vm));
                job.conclude(outcome);
            }
            (Operation::On, _) => self.on(job, vm, now),
            (_, Some(operation)) => self.power_off(job, vm, operation, now),
            (_, None) if self.is_joined(&job, &vm, now) => self.join(job, &vm.uuid, now),
            (_, None) => self.contest(job, vm, now),
        }
    }

    /// Facts that decide what a VM which has migrated away counts as.
    pub(super) fn migration(&self, job: &Job, vm: &ResolvedVm) -> Migration {
        Migration { is_sole_known_owner: job.is_sole_known_owner(), ran_last: self.last_runs.of(&vm.uuid) }
    }

    /// True if a request joins an operation in progress, or waits for it.
    fn is_joined(&self, job: &Job, vm: &ResolvedVm, now: Instant) -> bool {
        let is_joined = |vm_operation: &VmOperation| {
            // A start that lacks some of its copies is interrupted for all of them.
            vm_operation.vm.covers(&job.request.target) || !vm_operation.is_interruptible(now)
        };
        self.vm_operations.get(&vm.uuid).is_some_and(is_joined)
    }

    /// Checks that the groups permit each copy that a VM has, and that an operation in progress on it touches, and
    /// that no hold is on one of them.
    pub(super) fn permit_vm(
        &self,
        job: &Job,
        vm: &ResolvedVm,
        now: Instant,
    ) -> Result<(), (Verdict, String)> {
        let mut copies = vm.copies(&self.uris);
        if let Some(vm_operation) = self.vm_operations.get(&vm.uuid) {
            let touched = vm_operation.vm.copies(&self.uris);
            copies.extend(touched.into_iter().filter(|copy| !copies.contains(copy)).collect::<Vec<_>>());
        }
        self.permit(job, &copies, &|_| Vec::new(), now)?;
        self.check_held(job.request.operation, &copies)
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
                self.permit_vm(job, &vm, now)?;
                Ok(vm)
            }
            Resolution::Failed(reason) => Err((Verdict::Failure, reason)),
            Resolution::Unknown => {
                if matches!(job.requester, Requester::Cluster { .. }) {
                    // This host had the VM, or the cluster would not ask it.
                    return Err((Verdict::Failure, GONE.to_owned()));
                }
                let text = job.request.target.as_str().to_owned();
                let unknown = VmCopy { place: String::new(), name: text.clone(), uuid: text };
                self.permit(job, &[unknown], &|_| Vec::new(), now)?;
                // As the C daemon. In version 2, off means that this host has seen the VM off: an attacker may have led
                // the agent to a host that does not have the VM.
                let is_version_1 =
                    matches!(job.requester, Requester::Client { version: WireVersion::One, .. });
                // A list of an agent may leave out a VM that runs.
                let has_agents = self.uris.iter().any(|uri| uri.link.is_queried_on_lanes());
                let is_off = job.request.operation == Operation::Status && is_version_1 && !has_agents;
                let verdict = if is_off { Verdict::Off } else { Verdict::Failure };
                Err((verdict, "no such VM".to_owned()))
            }
        }
    }

    /// Begins a request for one VM.
    pub(super) fn begin_on_vm(&mut self, mut job: Job, now: Instant) {
        self.widen(&mut job);
        let target = &job.request.target;
        // A name that VMs of several URIs have is ambiguous.
        let is_unique = |vm: &ResolvedVm| !self.uris.iter().any(|uri| uri.has_other(target, &vm.uuid));
        let named = self.vm_operations.named_by(target);
        if let Some(vm_operation) = named.filter(|vm_operation| is_unique(&vm_operation.vm)) {
            let uuid = vm_operation.vm.uuid.clone();
            let state = vm_operation.state();
            if let Err((verdict, reason)) = self.permit_vm(&job, &vm_operation.vm, now) {
                return job.refuse(verdict, reason);
            }
            return match job.request.operation {
                Operation::Status => job.finish(Verdict::Success, state),
                _ => self.join(job, &uuid, now),
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
