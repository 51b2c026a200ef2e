//! libvirt: connections, domains, events and errors.

#[allow(unsafe_code)]
mod callbacks;
mod connected_host;
mod connection;
mod domain_run;
mod host;
#[allow(unsafe_code)]
mod silence;

pub(crate) use callbacks::{Notice, Subscription};
pub(crate) use connection::{Connection, Failed, Handle, begin, failed};
pub(crate) use domain_run::DomainRun;
pub(crate) use host::{Condition, Definition, Found, Host, Link, Undestroyed};
