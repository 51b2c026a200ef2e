//! The libvirt backend: VMs of one or several libvirt URIs.
//!
//! | module | content |
//! | --- | --- |
//! | [`mod@start`] | start of the threads, and the wait for first connections |
//! | [`connection_manager`] | one thread per URI: opens, probes and closes its connections |
//! | [`link`] | state of a URI, shared by the worker and its connection manager |
//! | [`resolve`] | the VM that a request names, and its placements |
//! | [`power`] | off, on and reboot, verified |
//! | [`listing`], [`devstatus`] | lists of all URIs, probes of all URIs |
//! | [`backend`] | requests, permissions and retries |

mod backend;
mod connection_manager;
mod devstatus;
mod link;
mod listing;
mod power;
mod resolve;
mod start;

#[cfg(test)]
#[allow(clippy::arc_with_non_send_sync)] // The trait has an Arc; the tests have one thread.
pub(crate) mod fake;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod requester_tests;
#[cfg(test)]
mod tests;

pub(crate) use backend::LibvirtBackend;
pub(crate) use connection_manager::ConnectionManagers;
pub(crate) use link::UriLink;
pub(crate) use start::start;
