//! A libvirt connection as a [`Host`].

use std::collections::HashSet;

use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::connection::{Connection, Failed, Handle, failed, optional};
use super::host::{Condition, Definition, Found, Host, Undestroyed};
use fence_virt::fence::{PowerState, Target};

impl Host for Connection {
    fn find(&self, target: &Target) -> Result<Vec<Found>, Failed> {
        let name = target.as_str();
        let by_name = optional(Domain::lookup_by_name(self.connect()?, name))?;
        let by_uuid = if is_uuid(name) { self.by_uuid(name)? } else { None };
        let mut found: Vec<Found> = Vec::new();
        for handle in by_name.into_iter().chain(by_uuid) {
            found.extend(handle.found()?);
        }
        found.dedup_by(|a, b| a.uuid == b.uuid);
        Ok(found)
    }

    fn observe(&self, uuid: &str) -> Result<Option<Condition>, Failed> {
        match self.by_uuid(uuid)? {
            Some(handle) => handle.condition(),
            None => Ok(None),
        }
    }

    fn definition(&self, uuid: &str) -> Result<Definition, Failed> {
        let handle = self.existing(uuid)?;
        if handle.is_persistent().map_err(failed)? {
            return Ok(Definition::Persistent);
        }
        // With its secrets, or the restarted VM would lack them.
        let xml = handle.get_xml_desc(sys::VIR_DOMAIN_XML_SECURE).map_err(failed)?;
        Ok(Definition::Transient(xml))
    }

    fn destroy(&self, uuid: &str) -> Result<(), Undestroyed> {
        let handle = self.existing(uuid).map_err(|Failed(reason)| Undestroyed::Refused(reason))?;
        handle.destroy().map_err(|error| {
            let reason = error.message().to_owned();
            match error.code() {
                ErrorNumber::SystemError if is_dying(&reason) => Undestroyed::Dying(reason),
                ErrorNumber::SystemError | ErrorNumber::ResourceBusy | ErrorNumber::OperationTimeout => {
                    Undestroyed::Busy(reason)
                }
                _ => Undestroyed::Refused(reason),
            }
        })
    }

    fn start(&self, uuid: &str, definition: &Definition) -> Result<(), Failed> {
        match definition {
            Definition::Persistent => self.existing(uuid)?.create().map(|_| ()).map_err(failed),
            Definition::Transient(xml) => {
                let created = Domain::create_xml(self.connect()?, xml, sys::VIR_DOMAIN_NONE);
                created.map(|domain| drop(Handle::new(domain))).map_err(failed)
            }
        }
    }

    fn list(&self) -> Result<Vec<Found>, Failed> {
        // Two calls, however many VMs: all, and then those that are off. One that stops in between is off.
        let all = self.handles(0)?;
        let shut_off = self.handles(sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF)?;
        let shut_off = shut_off
            .iter()
            .map(|handle| handle.get_uuid().map_err(failed))
            .collect::<Result<HashSet<_>, _>>()?;
        all.iter()
            .map(|handle| {
                let condition = match shut_off.contains(&handle.get_uuid().map_err(failed)?) {
                    true => off(false),
                    false => running(handle.get_id(), false),
                };
                handle.named(condition)
            })
            .collect()
    }
}

impl Connection {
    fn handles(&self, flags: sys::virConnectListAllDomainsFlags) -> Result<Vec<Handle>, Failed> {
        let domains = self.connect()?.list_all_domains(flags).map_err(failed)?;
        Ok(domains.into_iter().map(Handle::new).collect())
    }
}

/// What libvirt says, in its own words or those of EBUSY, when QEMU outlives
/// its SIGKILL; a system error may as well be a lost connection.
fn is_dying(reason: &str) -> bool {
    reason.contains("Failed to terminate process") || reason.contains("Device or resource busy")
}

fn is_uuid(text: &str) -> bool {
    let hex = text.bytes().filter(u8::is_ascii_hexdigit).count();
    hex == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn running(id: Option<u32>, is_active: bool) -> Condition {
    Condition { power: PowerState::Running, id, is_active, moves: false }
}

fn off(moves: bool) -> Condition {
    Condition { power: PowerState::Off, id: None, is_active: false, moves }
}

impl Handle {
    /// What it does; none if it vanished meanwhile.
    fn condition(&self) -> Result<Option<Condition>, Failed> {
        match self.get_state() {
            Ok((sys::VIR_DOMAIN_SHUTOFF, reason)) => {
                let moves = u32::try_from(reason) == Ok(sys::VIR_DOMAIN_SHUTOFF_MIGRATED);
                Ok(Some(off(moves)))
            }
            Ok((state, reason)) => {
                let moving = [sys::VIR_DOMAIN_PAUSED_MIGRATION, sys::VIR_DOMAIN_PAUSED_STARTING_UP];
                let moves = state == sys::VIR_DOMAIN_PAUSED
                    && u32::try_from(reason).is_ok_and(|reason| moving.contains(&reason));
                Ok(Some(Condition { moves, ..running(self.get_id(), state == sys::VIR_DOMAIN_RUNNING) }))
            }
            Err(error) if error.code() == ErrorNumber::NoDomain => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn found(&self) -> Result<Option<Found>, Failed> {
        self.condition()?.map(|condition| self.named(condition)).transpose()
    }

    fn named(&self, condition: Condition) -> Result<Found, Failed> {
        let name = self.get_name().map_err(failed)?;
        let uuid = self.get_uuid_string().map_err(failed)?;
        Ok(Found { name, uuid, condition })
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn only_a_process_that_does_not_end_is_dying() {
        assert!(is_dying("Failed to terminate process 71 with SIGKILL: Device or resource busy"));
        assert!(!is_dying("Cannot recv data: Connection reset by peer"));
        assert!(!is_dying("Unable to kill process 71: Operation not permitted"));
    }

    #[test]
    fn what_reads_as_a_uuid() {
        assert!(is_uuid("44179d3f-6c63-474f-a212-20c8b4b25b16"));
        assert!(is_uuid("44179D3F6C63474FA21220C8B4B25B16"));
        assert!(!is_uuid("node1"));
        assert!(!is_uuid("44179d3f-6c63-474f-a212-20c8b4b25b1"));
        assert!(!is_uuid("44179d3f_6c63_474f_a212_20c8b4b25b16"));
    }
}
