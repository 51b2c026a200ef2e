//! libvirt: connections, domains, events and errors.

#[allow(unsafe_code)]
mod callbacks;
mod connection;
mod error;
mod host;

pub(crate) use callbacks::{LibvirtEvent, Subscription};
pub(crate) use connection::{Connection, DomainHandle, begin};
pub(crate) use error::{LibvirtError, LibvirtResult};
pub(crate) use host::{Definition, DomainRun, DomainState, FoundDomain, Host, Link};
