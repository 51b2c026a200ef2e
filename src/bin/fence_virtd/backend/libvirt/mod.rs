//! The libvirt backend: the VMs of one or several libvirt URIs.
//!
//! | part | does |
//! | --- | --- |
//! | [`host`] | what is asked of one URI, and its answers: a trait, so that faults can be tested |
//! | [`connection`] | the trait over a libvirt connection |
//! | [`link`] | what the worker and a keeper share of a URI |
//! | [`keeper`] | a thread for each URI: opens, probes, closes |
//! | [`resolve`] | which VM is meant, and where its copies are |
//! | [`power`] | off, on and reboot, verified |
//! | [`backend`] | the requests, the retries and the probes under way |

mod backend;
mod connection_manager;
mod link;
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
