//! libvirt: connections, domains, events and errors.

mod advice;
mod call;
#[allow(unsafe_code)]
mod callbacks;
mod connection;
mod error;
mod held_vms;
mod host;
mod link;
mod outgoing_migration;
mod power_off;

pub(crate) use advice::connect_advice;
pub(crate) use call::{Call, CallId, CallOutcome};
pub(crate) use callbacks::{LibvirtEvent, LifecycleChange, Subscription};
pub(crate) use connection::{Connection, DomainHandle, begin};
pub(crate) use error::{LibvirtError, LibvirtResult};
pub(crate) use held_vms::HeldVms;
pub(crate) use host::{Definition, DomainRun, DomainState, FoundDomain, Host};
pub(crate) use link::{Lane, Link, URI_SILENCE_MAX};
#[cfg(test)]
pub(crate) use power_off::STARTING_UP;
pub(crate) use power_off::{
    DYING, GONE, MOVED, MigrationSigns, NotOff, PowerOff, PowerOffProgress, PowerOffResult,
};
