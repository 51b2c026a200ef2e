use std::collections::HashSet;
use std::sync::Arc;

use virt::sys;

use crate::libvirt::{Connection, DomainHandle, DomainRun, FoundDomain, Host, LibvirtError, LibvirtResult};
use fence_virt::domain_xml::{Devices, XmlError};
use fence_virt::fence::{Domain, PowerState, Target, Uuid};
use fence_virt::routing::LocalVm;

/// Queries to a libvirt connection; a trait, so that tests can change VMs between calls.
pub(super) trait DomainQuery {
    /// Returns the running VMs.
    fn running(&self) -> LibvirtResult<Vec<DomainRun>>;

    /// Returns the current run of a VM, or none if it does not run.
    fn find(&self, uuid: Uuid) -> LibvirtResult<Option<DomainRun>>;

    /// Returns the devices of a VM, or none if it does not exist.
    fn devices(&self, uuid: Uuid) -> LibvirtResult<Option<Result<Devices, XmlError>>>;

    /// Returns all VMs, running or not.
    fn all(&self) -> LibvirtResult<Vec<LocalVm>>;

    /// Returns a VM, running or not, or none if it does not exist.
    fn vm(&self, uuid: Uuid) -> LibvirtResult<Option<LocalVm>>;

    /// Checks that the connection is open, without a round trip.
    fn check(&self) -> LibvirtResult;
}

impl DomainQuery for Connection {
    fn running(&self) -> LibvirtResult<Vec<DomainRun>> {
        let handles = self.domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)?;
        handles.iter().filter_map(|handle| run(handle).transpose()).collect()
    }

    fn find(&self, uuid: Uuid) -> LibvirtResult<Option<DomainRun>> {
        self.by_uuid(&uuid.to_string())?.map_or(Ok(None), |handle| run(&handle))
    }

    fn devices(&self, uuid: Uuid) -> LibvirtResult<Option<Result<Devices, XmlError>>> {
        let Some(handle) = self.by_uuid(&uuid.to_string())? else { return Ok(None) };
        Ok(Some(Devices::parse(&handle.get_xml_desc(0)?)))
    }

    fn all(&self) -> LibvirtResult<Vec<LocalVm>> {
        // A third call besides those of `list`: the VMs that are not paused either.
        let active = self.domains(sys::VIR_CONNECT_LIST_DOMAINS_RUNNING)?;
        let active = active.iter().map(uuid).collect::<Result<HashSet<_>, _>>()?;
        let with_activity = |found| {
            let vm = local(found)?;
            let is_active = vm.state == PowerState::Running && active.contains(&vm.uuid);
            Ok(LocalVm { is_active, ..vm })
        };
        self.list()?.into_iter().map(with_activity).collect()
    }

    fn vm(&self, uuid: Uuid) -> LibvirtResult<Option<LocalVm>> {
        let target = Target::new(uuid.to_string().as_bytes())
            .map_err(|error| LibvirtError::Other(error.to_string()))?;
        let found = Host::find(self, &target)?.into_iter().map(local).collect::<Result<Vec<_>, _>>()?;
        // Another VM may have this UUID as its name.
        Ok(found.into_iter().find(|vm| vm.uuid == uuid))
    }

    fn check(&self) -> LibvirtResult {
        Connection::check(self)
    }
}

fn local(found: FoundDomain) -> LibvirtResult<LocalVm> {
    let uuid = Uuid::parse(&found.uuid)
        .ok_or_else(|| LibvirtError::Other(format!("{} is not a UUID", found.uuid)))?;
    Ok(LocalVm {
        name: found.name,
        uuid,
        state: found.state.power,
        is_active: found.state.is_active,
        may_run_elsewhere: found.state.is_migrating,
    })
}

/// Returns the current run without a round trip: ID, name and UUID came with the handle.
fn run(handle: &DomainHandle) -> LibvirtResult<Option<DomainRun>> {
    let Some(id) = handle.get_id() else { return Ok(None) };
    let domain = Domain { name: handle.get_name()?, uuid: uuid(handle)? };
    Ok(Some(DomainRun { domain: Arc::new(domain), id }))
}

fn uuid(handle: &DomainHandle) -> LibvirtResult<Uuid> {
    Ok(Uuid::from_bytes(*handle.get_uuid()?.as_bytes()))
}
