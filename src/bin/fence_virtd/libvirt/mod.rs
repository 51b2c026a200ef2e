//! libvirt: connections, domains, events and errors.

#[allow(unsafe_code)]
mod callbacks;
mod connected_host;
mod connection;
mod domain_run;
mod error;
mod host;

pub(crate) use callbacks::{LibvirtEvent, Subscription};
pub(crate) use connection::{Connection, DomainHandle, begin};
pub(crate) use domain_run::DomainRun;
pub(crate) use error::LibvirtError;
pub(crate) use host::{Definition, DomainState, FoundDomain, Host, Link};
