//! Connections to libvirt and handles of domains.
//!
//! The virt crate never closes a `Connect` on drop, and its `Domain` panics if freeing
//! fails. Here both are released; a failure leaks some bytes instead.
#![forbid(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::thread;
use std::time::Duration;

use log::{debug, error};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::callbacks::silence_errors;
use super::error::{LibvirtError, LibvirtResult, optional};

/// Starts libvirt's event loop in a thread of its own; keepalive and events need it.
/// Errors: if libvirt refuses, or the system has no thread left.
pub(crate) fn begin() -> Result<(), String> {
    silence_errors();
    virt::event::event_register_default_impl()
        .map_err(|error| format!("cannot initialize libvirt's event loop: {}", error.message()))?;
    let spawned = thread::Builder::new().name("libvirt-events".into()).spawn(run_events);
    spawned.map(|_| ()).map_err(|error| format!("cannot start a thread: {error}"))
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

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    connect: Option<Connect>,
}

impl Connection {
    /// Opens a connection. May block forever if libvirtd is frozen.
    pub(crate) fn open(uri: &str) -> LibvirtResult<Connection> {
        let connection = Connection { connect: Some(Connect::open(Some(uri))?) };
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

    /// Returns libvirt's own handle.
    pub(crate) fn connect(&self) -> LibvirtResult<&Connect> {
        self.connect
            .as_ref()
            .ok_or_else(|| LibvirtError::ConnectionLost("the connection is closed".to_owned()))
    }

    /// Returns the domain with this UUID, if it exists.
    pub(crate) fn by_uuid(&self, uuid: &str) -> LibvirtResult<Option<DomainHandle>> {
        optional(Domain::lookup_by_uuid_string(self.connect()?, uuid).map(DomainHandle::new))
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

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(mut connect) = self.connect.take() {
            if let Err(error) = connect.close() {
                debug!("cannot close a libvirt connection: {}", error.message());
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
            debug!("cannot free a libvirt domain: {}", error.message());
        }
    }
}
