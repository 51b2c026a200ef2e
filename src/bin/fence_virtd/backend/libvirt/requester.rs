//! Queries that identify requesters that are VMs.

use super::resolve::{Resolution, Uri, combine, find};
use super::vm_operation::VmOperations;
use crate::access::{Conflicts, DomainLookup, VmCopy};
use crate::libvirt::{DomainRun, Host, LibvirtError, LibvirtResult, Link};
use fence_virt::fence::{Domain, Target, UriIndex, Uuid};
use fence_virt::time::Instant;

/// Queries to the backend's URIs. They never wait for a VM that is being powered off or started.
pub(super) struct RequesterLookup<'a, L: Link> {
    pub(super) uris: &'a [Uri<L>],
    pub(super) vm_operations: &'a VmOperations,
    /// Conflicts with VMs of other hosts.
    pub(super) elsewhere: &'a Conflicts<'a>,
    pub(super) now: Instant,
}

impl<L: Link> RequesterLookup<'_, L> {
    fn check_free(&self, domain: &Domain) -> LibvirtResult {
        match self.vm_operations.get(&domain.uuid.to_string()) {
            Some(vm_operation) => Err(LibvirtError::Busy(format!("{domain} is {}", vm_operation.state()))),
            None => Ok(()),
        }
    }
}

impl<L: Link> DomainLookup for RequesterLookup<'_, L> {
    fn still_runs(&mut self, uri: UriIndex, vm: &DomainRun) -> LibvirtResult<bool> {
        self.check_free(&vm.domain)?;
        let state = self.uris[uri.0].host(self.now)?.observe(&vm.domain.uuid.to_string())?;
        Ok(state.is_some_and(|state| state.id == Some(vm.id)))
    }

    fn has_name(&mut self, domain: &Domain) -> LibvirtResult<bool> {
        let Ok(target) = Target::new(domain.name.as_bytes()) else { return Ok(false) };
        if let Some(vm_operation) = self.vm_operations.named_by(&target) {
            let uuid = &vm_operation.vm.uuid;
            let is_unique = !self.uris.iter().any(|uri| uri.has_other(&target, uuid));
            return Ok(is_unique && Uuid::parse(uuid) == Some(domain.uuid));
        }
        match combine(self.uris, &target, find(self.uris, &target, self.now)) {
            Resolution::Found(vm) => Ok(Uuid::parse(&vm.uuid) == Some(domain.uuid)),
            Resolution::Unknown => Ok(false),
            Resolution::Failed(reason) => Err(LibvirtError::Other(reason)),
        }
    }

    fn conflicts(&mut self, domain: &Domain) -> LibvirtResult<Vec<VmCopy>> {
        let elsewhere = (self.elsewhere)(domain);
        if self.uris.len() == 1 {
            return Ok(elsewhere);
        }
        let uuid = domain.uuid.to_string();
        let operation = self.vm_operations.get(&uuid).filter(|vm_operation| vm_operation.vm.has_all_copies);
        let mut copies = match (operation, Target::new(uuid.as_bytes())) {
            (Some(vm_operation), _) => vm_operation.vm.copies(self.uris),
            (None, Err(_)) => Vec::new(),
            (None, Ok(target)) => {
                self.check_free(domain)?;
                match combine(self.uris, &target, find(self.uris, &target, self.now)) {
                    Resolution::Found(vm) => vm.copies(self.uris),
                    Resolution::Unknown => Vec::new(),
                    Resolution::Failed(reason) => return Err(LibvirtError::Other(reason)),
                }
            }
        };
        copies.extend(self.uris.iter().filter_map(|uri| uri.seen_copy(&uuid)));
        copies.retain(|copy| copy.name != domain.name);
        copies.dedup();
        copies.extend(elsewhere);
        Ok(copies)
    }
}
