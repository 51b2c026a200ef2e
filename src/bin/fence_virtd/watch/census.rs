//! What a watcher asks of a libvirt connection.

use std::collections::HashSet;
use std::sync::Arc;

use virt::sys;

use crate::libvirt::DomainRun;
use crate::libvirt::{Condition, Found, Host};
use crate::libvirt::{Connection, Failed, Handle, failed};
use fence_virt::domain_xml::{Devices, XmlError};
use fence_virt::fence::{Domain, PowerState, Target, Uuid};
use fence_virt::routing::LocalVm;

/// A libvirt connection; a trait so that changes in the midst of things can be tested.
pub(super) trait Census {
    /// All VMs that run.
    fn running(&self) -> Result<Vec<DomainRun>, Failed>;

    /// The VM with this UUID, if it runs.
    fn find(&self, uuid: Uuid) -> Result<Option<DomainRun>, Failed>;

    /// Its devices, if it is still there.
    fn devices(&self, uuid: Uuid) -> Result<Option<Result<Devices, XmlError>>, Failed>;

    /// All VMs, whether they run or not.
    fn all(&self) -> Result<Vec<LocalVm>, Failed>;

    /// The VM with this UUID, if there is one.
    fn vm(&self, uuid: Uuid) -> Result<Option<LocalVm>, Failed>;

    /// Whether the connection is still there.
    fn check(&self) -> Result<(), Failed>;
}

impl Census for Connection {
    fn running(&self) -> Result<Vec<DomainRun>, Failed> {
        let domains =
            self.connect()?.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE).map_err(failed)?;
        let handles: Vec<Handle> = domains.into_iter().map(Handle::new).collect();
        handles.iter().filter_map(|handle| running(handle).transpose()).collect()
    }

    fn find(&self, uuid: Uuid) -> Result<Option<DomainRun>, Failed> {
        match self.by_uuid(&uuid.to_string())? {
            Some(handle) => running(&handle),
            None => Ok(None),
        }
    }

    fn devices(&self, uuid: Uuid) -> Result<Option<Result<Devices, XmlError>>, Failed> {
        match self.by_uuid(&uuid.to_string())? {
            Some(handle) => Ok(Some(Devices::parse(&handle.get_xml_desc(0).map_err(failed)?))),
            None => Ok(None),
        }
    }

    fn all(&self) -> Result<Vec<LocalVm>, Failed> {
        // A third call: which of those that are not off are not paused either.
        let active =
            self.connect()?.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_RUNNING).map_err(failed)?;
        let active: Vec<Handle> = active.into_iter().map(Handle::new).collect();
        let active = active
            .iter()
            .map(|handle| handle.get_uuid().map(|uuid| Uuid::from_bytes(*uuid.as_bytes())).map_err(failed))
            .collect::<Result<HashSet<_>, _>>()?;
        let found = Host::list(self)?.into_iter().map(local).collect::<Result<Vec<_>, _>>()?;
        let with_activity = |vm: LocalVm| {
            let is_active = vm.state == PowerState::Running && active.contains(&vm.uuid);
            LocalVm { is_active, ..vm }
        };
        Ok(found.into_iter().map(with_activity).collect())
    }

    fn vm(&self, uuid: Uuid) -> Result<Option<LocalVm>, Failed> {
        let target = Target::new(uuid.to_string().as_bytes()).map_err(|error| Failed(error.to_string()))?;
        let found = Host::find(self, &target)?;
        // A VM may have another's UUID for its name.
        let found = found.into_iter().map(local).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().find(|vm| vm.uuid == uuid))
    }

    fn check(&self) -> Result<(), Failed> {
        Connection::check(self)
    }
}

fn local(found: Found) -> Result<LocalVm, Failed> {
    let uuid = Uuid::parse(&found.uuid).ok_or_else(|| Failed(format!("{} is no UUID", found.uuid)))?;
    let Condition { power: state, is_active, .. } = found.condition;
    Ok(LocalVm { name: found.name, uuid, state, is_active })
}

/// Asks nobody: number, name and UUID came with the handle.
fn running(handle: &Handle) -> Result<Option<DomainRun>, Failed> {
    let Some(run) = handle.get_id() else { return Ok(None) };
    let name = handle.get_name().map_err(failed)?;
    let uuid = Uuid::from_bytes(*handle.get_uuid().map_err(failed)?.as_bytes());
    Ok(Some(DomainRun { domain: Arc::new(Domain { name, uuid }), id: run }))
}
