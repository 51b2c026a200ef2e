//! Connections to libvirt and handles of domains.
//!
//! The virt crate never closes a `Connect` on drop, and its `Domain` panics if freeing
//! fails. Here both are released; a failure leaks some bytes instead.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use log::{error, trace};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::callbacks::silence_errors;
use super::error::{LibvirtError, LibvirtResult, optional};
use super::host::{Definition, DomainState, FoundDomain, Host};
use fence_virt::fence::{PowerState, Target, Uuid};
use fence_virt::sys::error_text;

/// Starts libvirt's event loop in a thread of its own; keepalive and events need it.
/// Errors: if libvirt refuses, or the system has no thread left.
pub(crate) fn begin() -> Result<(), String> {
    silence_errors();
    virt::event::event_register_default_impl()
        .map_err(|error| format!("cannot initialize libvirt's event loop: {}", error.message()))?;
    let spawned = thread::Builder::new().name("libvirt-events".into()).spawn(run_events);
    spawned.map(|_| ()).map_err(|error| format!("cannot start a thread: {}", error_text(&error)))
}

fn run_events() {
    loop {
        if let Err(error) = virt::event::event_run_default_impl() {
            error!("libvirt's event loop failed: {}", error.message());
            // Nobody unparks it: this only keeps a lasting error from spinning.
            thread::park_timeout(Duration::from_secs(1));
        }
    }
}

/// Seconds between keepalive messages on an idle connection.
const KEEPALIVE_INTERVAL: i32 = 2;
/// Unanswered keepalive messages that end it: 2 s × (3 + 1) after the last sign of life.
const KEEPALIVE_COUNT: u32 = 3;

/// Reasons for a pause that a migration causes (virDomainPausedReason): MIGRATION on the source during
/// the hand-over, and on the destination from the start of its process on; the others on the source,
/// after a post-copy migration has handed over.
const MIGRATION_PAUSES: [sys::virDomainPausedReason; 3] = [
    sys::VIR_DOMAIN_PAUSED_MIGRATION,
    sys::VIR_DOMAIN_PAUSED_POSTCOPY,
    sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
];

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    connect: Option<Connect>,
    uri: String,
    /// Connection for the queries that may be left behind, if it is idle.
    pub(super) spare: SpareConnection,
}

/// Connection that one query at a time takes.
pub(super) type SpareConnection = Arc<Mutex<Option<Box<Connection>>>>;

impl Connection {
    /// Opens a connection. May block forever if libvirtd is frozen.
    pub(crate) fn open(uri: &str) -> LibvirtResult<Connection> {
        let connect = Some(Connect::open(Some(uri))?);
        let connection = Connection { connect, uri: uri.to_owned(), spare: SpareConnection::default() };
        match connection.connect()?.set_keep_alive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT) {
            // Drivers without a remote end (test) neither have nor need it.
            Err(error) if error.code() != ErrorNumber::NoSupport => Err(error.into()),
            _ => Ok(connection),
        }
    }

    /// Makes a round trip that takes no domain's lock: a domain that is being destroyed
    /// is locked for seconds.
    pub(crate) fn probe(&self) -> LibvirtResult {
        self.connect()?.get_lib_version()?;
        Ok(())
    }

    /// Checks that the connection is open as far as this side knows, without a round trip.
    pub(crate) fn check(&self) -> LibvirtResult {
        match self.connect()?.is_alive() {
            Ok(true) => Ok(()),
            Ok(false) => Err(LibvirtError::ConnectionLost("the connection was closed".to_owned())),
            Err(error) if error.code() == ErrorNumber::NoSupport => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns libvirt's own handle.
    pub(crate) fn connect(&self) -> LibvirtResult<&Connect> {
        let closed = || LibvirtError::ConnectionLost("the connection is closed".to_owned());
        self.connect.as_ref().ok_or_else(closed)
    }

    /// Returns the domain with this UUID, if it exists.
    pub(crate) fn by_uuid(&self, uuid: &str) -> LibvirtResult<Option<DomainHandle>> {
        optional(Domain::lookup_by_uuid_string(self.connect()?, uuid).map(DomainHandle::new))
    }

    /// Returns the domain with this UUID; an error if it does not exist.
    fn existing(&self, uuid: &str) -> LibvirtResult<DomainHandle> {
        let missing = || LibvirtError::NotFound(format!("the VM {uuid} no longer exists"));
        self.by_uuid(uuid)?.ok_or_else(missing)
    }

    /// Lists the domains that match the flags.
    pub(crate) fn domains(
        &self,
        flags: sys::virConnectListAllDomainsFlags,
    ) -> LibvirtResult<Vec<DomainHandle>> {
        let domains = self.connect()?.list_all_domains(flags)?;
        Ok(domains.into_iter().map(DomainHandle::new).collect())
    }
}

impl Host for Connection {
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>> {
        let name = target.as_str();
        // A UUID names no VM by its name: whoever defines VMs could give one the UUID of another as its name.
        let handle = match Uuid::parse(name) {
            Some(uuid) => self.by_uuid(&uuid.to_string())?,
            None => optional(Domain::lookup_by_name(self.connect()?, name).map(DomainHandle::new))?,
        };
        let Some(handle) = handle else { return Ok(Vec::new()) };
        let state = handle.state()?;
        state.map(|state| handle.found(state)).into_iter().collect()
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

    fn is_leaving(&self, uuid: &str) -> LibvirtResult<bool> {
        self.has_outgoing_migration(uuid)
    }

    fn destroy(&self, uuid: &str) -> LibvirtResult {
        let handle = self.existing(uuid).map_err(|error| LibvirtError::Other(error.to_string()))?;
        Ok(handle.destroy()?)
    }

    fn start(&self, uuid: &str, definition: &Definition) -> LibvirtResult {
        match definition {
            Definition::Persistent => drop(self.existing(uuid)?.create()?),
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
                let is_off = shut_off.contains(&handle.get_uuid()?);
                handle.found(if is_off { off(false) } else { running(handle.get_id(), false) })
            })
            .collect()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(mut connect) = self.connect.take() {
            if let Err(error) = connect.close() {
                trace!("cannot close a libvirt connection: {}", error.message());
            }
        }
    }
}

/// A domain, freed without a panic.
pub(crate) struct DomainHandle(ManuallyDrop<Domain>);

impl DomainHandle {
    pub(crate) fn new(domain: Domain) -> DomainHandle {
        DomainHandle(ManuallyDrop::new(domain))
    }

    /// Returns the state, or none if the domain has vanished meanwhile.
    fn state(&self) -> LibvirtResult<Option<DomainState>> {
        let Some((state, reason)) = optional(self.get_state())? else { return Ok(None) };
        let reason = u32::try_from(reason).ok();
        if state == sys::VIR_DOMAIN_SHUTOFF {
            return Ok(Some(off(reason == Some(sys::VIR_DOMAIN_SHUTOFF_MIGRATED))));
        }
        let pause = reason.filter(|_| state == sys::VIR_DOMAIN_PAUSED);
        Ok(Some(DomainState {
            is_migrating: pause.is_some_and(|reason| MIGRATION_PAUSES.contains(&reason)),
            is_starting: pause == Some(sys::VIR_DOMAIN_PAUSED_STARTING_UP),
            ..running(self.get_id(), state == sys::VIR_DOMAIN_RUNNING)
        }))
    }

    fn found(&self, state: DomainState) -> LibvirtResult<FoundDomain> {
        Ok(FoundDomain { name: self.get_name()?, uuid: self.get_uuid_string()?, state })
    }
}

impl Deref for DomainHandle {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.0
    }
}

impl Drop for DomainHandle {
    fn drop(&mut self) {
        // The virt crate's drop would free it too, and panic if that fails.
        if let Err(error) = self.0.free() {
            trace!("cannot free a libvirt domain: {}", error.message());
        }
    }
}

fn running(id: Option<u32>, is_active: bool) -> DomainState {
    DomainState { power: PowerState::Running, id, is_active, is_migrating: false, is_starting: false }
}

fn off(is_migrating: bool) -> DomainState {
    DomainState { power: PowerState::Off, id: None, is_active: false, is_migrating, is_starting: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_finds_no_vm_by_its_name() {
        let connection = Connection::open("test:///default").unwrap();
        let connect = connection.connect().unwrap();
        let names = |target: &str| {
            let found = connection.find(&Target::new(target.as_bytes()).unwrap()).unwrap();
            found.into_iter().map(|domain| domain.name).collect::<Vec<_>>()
        };
        // The VM that the test driver always has.
        let present = DomainHandle::new(Domain::lookup_by_name(connect, "test").unwrap());
        let present = present.get_uuid_string().unwrap();
        let absent = "99999999-9999-4999-8999-999999999998";
        for (name, uuid) in [
            (present.as_str(), "99999999-9999-4999-8999-999999999990"),
            (absent, "99999999-9999-4999-8999-999999999991"),
        ] {
            let xml = format!(
                "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory>\
                 <os><type>hvm</type></os></domain>"
            );
            let impostor = DomainHandle::new(Domain::define_xml(connect, &xml).unwrap());
            assert_eq!(names(uuid), [name]);
            assert_eq!(names(&present), ["test"], "beside one of that name");
            assert_eq!(names(absent), [""; 0]);
            impostor.undefine().unwrap();
        }
        assert_eq!((names("test"), names("nobody")), (vec!["test".to_owned()], vec![]));
    }
}
