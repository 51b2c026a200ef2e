//! The [`Host`] interface over a libvirt connection.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use virt::domain::Domain;
use virt::sys;

use super::connection::{Connection, DomainHandle};
use super::error::{LibvirtError, LibvirtResult, optional};
use super::host::{Definition, DomainState, FoundDomain, Host};
use fence_virt::fence::{PowerState, Target};

impl Host for Connection {
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>> {
        let name = target.as_str();
        let by_name = optional(Domain::lookup_by_name(self.connect()?, name).map(DomainHandle::new))?;
        let by_uuid = if is_uuid(name) { self.by_uuid(name)? } else { None };
        let mut found: Vec<FoundDomain> = Vec::new();
        for handle in by_name.into_iter().chain(by_uuid) {
            if let Some(state) = handle.state()? {
                found.push(handle.found(state)?);
            }
        }
        found.dedup_by(|a, b| a.uuid == b.uuid);
        Ok(found)
    }

    fn observe(&self, uuid: &str) -> LibvirtResult<Option<DomainState>> {
        self.by_uuid(uuid)?.map_or(Ok(None), |handle| handle.state())
    }

    fn definition(&self, uuid: &str) -> LibvirtResult<Definition> {
        let handle = self.existing(uuid)?;
        if handle.is_persistent()? {
            return Ok(Definition::Persistent);
        }
        // With its secrets: the restarted domain would lack them otherwise.
        Ok(Definition::Transient(handle.get_xml_desc(sys::VIR_DOMAIN_XML_SECURE)?))
    }

    fn destroy(&self, uuid: &str) -> LibvirtResult {
        let handle = self.existing(uuid).map_err(|error| LibvirtError::Other(error.to_string()))?;
        Ok(handle.destroy()?)
    }

    fn start(&self, uuid: &str, definition: &Definition) -> LibvirtResult {
        match definition {
            Definition::Persistent => {
                self.existing(uuid)?.create()?;
            }
            Definition::Transient(xml) => {
                let created = Domain::create_xml(self.connect()?, xml, sys::VIR_DOMAIN_NONE)?;
                drop(DomainHandle::new(created));
            }
        }
        Ok(())
    }

    fn list(&self) -> LibvirtResult<Vec<FoundDomain>> {
        // Two calls for any number of domains: all, then those that are off. One that
        // stops in between counts as off.
        let all = self.domains(0)?;
        let shut_off = self.domains(sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF)?;
        let shut_off = shut_off.iter().map(|handle| handle.get_uuid()).collect::<Result<HashSet<_>, _>>()?;
        all.iter()
            .map(|handle| {
                let state = match shut_off.contains(&handle.get_uuid()?) {
                    true => off(false),
                    false => running(handle.get_id(), false),
                };
                handle.found(state)
            })
            .collect()
    }
}

impl Connection {
    /// Returns the domain with this UUID; an error if it does not exist.
    fn existing(&self, uuid: &str) -> LibvirtResult<DomainHandle> {
        let missing = || LibvirtError::NotFound(format!("the VM {uuid} no longer exists"));
        self.by_uuid(uuid)?.ok_or_else(missing)
    }
}

fn is_uuid(text: &str) -> bool {
    let hex = text.bytes().filter(u8::is_ascii_hexdigit).count();
    hex == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn running(id: Option<u32>, is_active: bool) -> DomainState {
    DomainState { power: PowerState::Running, id, is_active, is_migrating: false }
}

fn off(is_migrating: bool) -> DomainState {
    DomainState { power: PowerState::Off, id: None, is_active: false, is_migrating }
}

impl DomainHandle {
    /// Returns the state, or none if the domain has vanished meanwhile.
    fn state(&self) -> LibvirtResult<Option<DomainState>> {
        let Some((state, reason)) = optional(self.get_state())? else { return Ok(None) };
        let reason = u32::try_from(reason).ok();
        if state == sys::VIR_DOMAIN_SHUTOFF {
            return Ok(Some(off(reason == Some(sys::VIR_DOMAIN_SHUTOFF_MIGRATED))));
        }
        let incoming = [sys::VIR_DOMAIN_PAUSED_MIGRATION, sys::VIR_DOMAIN_PAUSED_STARTING_UP];
        let is_incoming = reason.is_some_and(|reason| incoming.contains(&reason));
        let is_migrating = state == sys::VIR_DOMAIN_PAUSED && is_incoming;
        Ok(Some(DomainState { is_migrating, ..running(self.get_id(), state == sys::VIR_DOMAIN_RUNNING) }))
    }

    fn found(&self, state: DomainState) -> LibvirtResult<FoundDomain> {
        Ok(FoundDomain { name: self.get_name()?, uuid: self.get_uuid_string()?, state })
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn what_reads_as_a_uuid() {
        assert!(is_uuid("44179d3f-6c63-474f-a212-20c8b4b25b16"));
        assert!(is_uuid("44179D3F6C63474FA21220C8B4B25B16"));
        assert!(!is_uuid("node1"));
        assert!(!is_uuid("44179d3f-6c63-474f-a212-20c8b4b25b1"));
        assert!(!is_uuid("44179d3f_6c63_474f_a212_20c8b4b25b16"));
    }
}
