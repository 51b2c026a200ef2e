//! A libvirt connection as a [`Host`].
//!
//! The virt crate's Connect is not closed when dropped, and its Domain panics
//! if freeing it fails. Here each is closed, and a failure leaks some bytes
//! where the daemon would end.

use std::ops::Deref;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::host::{Condition, Definition, Failed, Found, Host, Undestroyed};
use crate::fence::{PowerState, Target};

/// Seconds between keepalive messages on a connection that is silent.
const KEEPALIVE_INTERVAL: i32 = 2;
/// Unanswered keepalive messages after which it is dead: 2 s × (3 + 1) after the last sign of life.
const KEEPALIVE_COUNT: u32 = 3;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    connect: Option<Connect>,
}

impl Connection {
    /// Opens it. That may take for ever if libvirtd is frozen.
    pub(super) fn open(uri: &str) -> Result<Connection, Failed> {
        let connect = Connect::open(Some(uri)).map_err(failed)?;
        let connection = Connection { connect: Some(connect) };
        // Drivers without a connection (test) have none, and need none.
        match connection.connect()?.set_keep_alive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT) {
            Err(error) if error.code() != ErrorNumber::NoSupport => Err(failed(error)),
            _ => Ok(connection),
        }
    }

    /// Asks something that only a working libvirtd answers, and that does not
    /// wait for any VM: one that is being destroyed is locked for seconds.
    pub(super) fn probe(&self) -> Result<(), Failed> {
        self.connect()?.get_lib_version().map(|_| ()).map_err(failed)
    }

    /// Whether it is still open, as far as this side knows; asks nobody.
    pub(super) fn check(&self) -> Result<(), Failed> {
        match self.connect()?.is_alive() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failed("it was cut".to_owned())),
            Err(error) if error.code() == ErrorNumber::NoSupport => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn connect(&self) -> Result<&Connect, Failed> {
        self.connect.as_ref().ok_or_else(|| Failed("the connection is closed".to_owned()))
    }

    fn by_uuid(&self, uuid: &str) -> Result<Option<Handle>, Failed> {
        optional(Domain::lookup_by_uuid_string(self.connect()?, uuid))
    }

    fn existing(&self, uuid: &str) -> Result<Handle, Failed> {
        self.by_uuid(uuid)?.ok_or_else(|| Failed(format!("there is no VM {uuid} any more")))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(mut connect) = self.connect.take() {
            if let Err(error) = connect.close() {
                log::debug!("closing a libvirt connection failed: {}", error.message());
            }
        }
    }
}

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
        let domains = self.connect()?.list_all_domains(0).map_err(failed)?;
        let handles: Vec<Handle> = domains.into_iter().map(Handle::new).collect();
        let mut list = Vec::with_capacity(handles.len());
        for handle in &handles {
            list.extend(handle.found()?);
        }
        Ok(list)
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

fn failed(error: Error) -> Failed {
    Failed(error.message().to_owned())
}

fn optional(result: Result<Domain, Error>) -> Result<Option<Handle>, Failed> {
    match result {
        Ok(domain) => Ok(Some(Handle::new(domain))),
        Err(error) if error.code() == ErrorNumber::NoDomain => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// A domain that is freed without a panic.
struct Handle(Option<Domain>);

impl Handle {
    fn new(domain: Domain) -> Handle {
        Handle(Some(domain))
    }

    /// Its condition; none if it vanished meanwhile.
    fn condition(&self) -> Result<Option<Condition>, Failed> {
        match self.get_state() {
            Ok((sys::VIR_DOMAIN_SHUTOFF, _)) => Ok(Some(Condition { power: PowerState::Off, id: None })),
            Ok(_) => Ok(Some(Condition { power: PowerState::Running, id: self.get_id() })),
            Err(error) if error.code() == ErrorNumber::NoDomain => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn found(&self) -> Result<Option<Found>, Failed> {
        let Some(condition) = self.condition()? else { return Ok(None) };
        let name = self.get_name().map_err(failed)?;
        let uuid = self.get_uuid_string().map_err(failed)?;
        Ok(Some(Found { name, uuid, condition }))
    }
}

impl Deref for Handle {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        match &self.0 {
            Some(domain) => domain,
            None => unreachable!("a handle is empty only while it is dropped"),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(mut domain) = self.0.take() {
            if let Err(error) = domain.free() {
                log::debug!("freeing a libvirt domain failed: {}", error.message());
                std::mem::forget(domain);
            }
        }
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
