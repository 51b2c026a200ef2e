//! A libvirt connection, and the VMs on it, as the rest of the daemon holds them.
//!
//! The virt crate's Connect is not closed when dropped, and its Domain panics
//! if freeing it fails. Here each is closed, and a failure leaks some bytes
//! where the daemon would end.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::thread;
use std::time::Duration;

use log::error;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};

/// A call that failed. Nothing is known of the VM after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes libvirt usable in this process: starts its event loop, without which
/// there is neither keepalive nor event.
///
/// # Errors
///
/// If libvirt refuses, or there is no thread for it.
pub(crate) fn begin() -> Result<(), String> {
    super::silence::silence();
    virt::event::event_register_default_impl()
        .map_err(|error| format!("libvirt cannot be used: {}", error.message()))?;
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

/// Seconds between keepalive messages on a connection that is silent.
const KEEPALIVE_INTERVAL: i32 = 2;
/// Unanswered keepalive messages after which it is dead: 2 s × (3 + 1) after the last sign of life.
const KEEPALIVE_COUNT: u32 = 3;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    connect: Option<Connect>,
}

impl Connection {
    /// Opens it. That may take for ever if libvirtd is frozen.
    pub(crate) fn open(uri: &str) -> Result<Connection, Failed> {
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
    pub(crate) fn probe(&self) -> Result<(), Failed> {
        self.connect()?.get_lib_version().map(|_| ()).map_err(failed)
    }

    /// Whether it is still open, as far as this side knows; asks nobody.
    pub(crate) fn check(&self) -> Result<(), Failed> {
        match self.connect()?.is_alive() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failed("it was cut".to_owned())),
            Err(error) if error.code() == ErrorNumber::NoSupport => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// libvirt's own handle.
    pub(crate) fn connect(&self) -> Result<&Connect, Failed> {
        self.connect.as_ref().ok_or_else(|| Failed("the connection is closed".to_owned()))
    }

    /// The VM with this UUID, if there is one.
    pub(crate) fn by_uuid(&self, uuid: &str) -> Result<Option<Handle>, Failed> {
        optional(Domain::lookup_by_uuid_string(self.connect()?, uuid))
    }

    /// The VM with this UUID, which must be there.
    pub(crate) fn existing(&self, uuid: &str) -> Result<Handle, Failed> {
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

/// What libvirt says of an error.
pub(crate) fn failed(error: Error) -> Failed {
    Failed(error.message().to_owned())
}

/// A VM that was looked for.
pub(crate) fn optional(result: Result<Domain, Error>) -> Result<Option<Handle>, Failed> {
    match result {
        Ok(domain) => Ok(Some(Handle::new(domain))),
        Err(error) if error.code() == ErrorNumber::NoDomain => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// A domain that is freed without a panic.
pub(crate) struct Handle(ManuallyDrop<Domain>);

impl Handle {
    pub(crate) fn new(domain: Domain) -> Handle {
        Handle(ManuallyDrop::new(domain))
    }
}

impl Deref for Handle {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Its own drop would free it too, and panic if that fails.
        if let Err(error) = self.0.free() {
            log::debug!("freeing a libvirt domain failed: {}", error.message());
        }
    }
}
