//! Holds and caps, where requests meet them.

use super::backend::LibvirtBackend;
use super::resolve::ResolvedVm;
use crate::access::VmCopy;
use crate::job::Job;
use crate::libvirt::Link;
use crate::restraints::{HoldGuard, SharedRestraints};
use fence_virt::fence::{Operation, Verdict};
use fence_virt::restraints::NamedVm;
use fence_virt::time::Instant;

impl<L: Link> LibvirtBackend<L> {
    /// Lets these holds and caps restrain the power operations.
    pub(crate) fn restrained_by(mut self, restraints: SharedRestraints) -> LibvirtBackend<L> {
        self.restraints = restraints;
        self
    }

    /// Checks that no hold is on a VM with these copies, if the operation is a power operation.
    pub(crate) fn check_held(
        &self,
        operation: Operation,
        copies: &[VmCopy],
    ) -> Result<(), (Verdict, String)> {
        if !operation.is_power() {
            return Ok(());
        }
        let refusal = self.restraints.refusal_by_hold(&named_vms(copies));
        refusal.map_or(Ok(()), |reason| Err((Verdict::Failure, reason)))
    }

    /// True if a group with a cap lists a VM with these copies.
    pub(crate) fn is_capped(&self, copies: &[VmCopy]) -> bool {
        self.restraints.is_capped(&named_vms(copies))
    }

    /// Counts a power-off that begins, for a client of this daemon: the caps are its own, as other daemons have
    /// theirs. Errors: a cap is reached.
    pub(crate) fn count_power_off(
        &self,
        job: &Job,
        copies: &[VmCopy],
        now: Instant,
    ) -> Result<(), (Verdict, String)> {
        let is_power_off = matches!(job.request.operation, Operation::Off | Operation::Reboot);
        if !is_power_off || job.is_for_cluster() {
            return Ok(());
        }
        let counted = self.restraints.begin_power_off(&named_vms(copies), now);
        counted.map_err(|reason| (Verdict::Failure, reason))
    }

    /// Guard against holds that begin during an operation on a VM.
    pub(super) fn guard(&self, vm: &ResolvedVm) -> HoldGuard {
        let copies = vm.copies(&self.uris).into_iter().map(|copy| (copy.name, copy.uuid));
        self.restraints.guard(copies.collect())
    }
}

fn named_vms(copies: &[VmCopy]) -> Vec<NamedVm<'_>> {
    copies.iter().map(|copy| NamedVm { name: &copy.name, uuid: &copy.uuid }).collect()
}
