//! The libvirt backend: VMs of one or several libvirt URIs.
//!
//! | module | content |
//! | --- | --- |
//! | [`mod@start`] | start of the threads, and the wait for first connections |
//! | [`connection_manager`] | one thread per URI: opens, probes and closes its connections |
//! | [`link`], [`shared_link`] | access to a URI; its state, shared by the worker, its lanes and its connection manager |
//! | [`lane`], [`lanes`] | threads of a URI for calls that may take long |
//! | [`mod@backend`], [`requests`] | requests and permissions |
//! | [`calls`] | calls on lanes, and their outcomes |
//! | [`lookup`], [`resolve`] | the VM that a request names, and its placements |
//! | [`contests`], [`race_guard`], [`proofs`] | requests whose callers may have been powered off: the arbiter |
//! | [`vm_operation`], [`power_operations`], [`starting`], [`starts`] | VMs that are being powered off or started |
//! | [`fence`], [`verdicts`] | power-off of all placements; answers to status and on |
//! | [`requester`] | VMs that send requests |
//! | [`restraining`] | holds and caps |
//! | [`listing`], [`devstatus`] | lists of all URIs, probes of all URIs |

mod backend;
mod calls;
mod connection_manager;
mod contests;
mod devstatus;
mod fence;
mod lane;
mod lanes;
mod last_runs;
mod link;
mod listing;
mod lookup;
mod power_operations;
mod proofs;
mod race_guard;
mod requester;
mod requests;
mod resolve;
mod restraining;
mod shared_link;
mod start;
mod starting;
mod starts;
mod verdicts;
mod vm_operation;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
#[allow(clippy::arc_with_non_send_sync)] // The trait has an Arc; the tests have one thread.
pub(crate) mod fake;
#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod permission_tests;
#[cfg(test)]
mod race_guard_tests;
#[cfg(test)]
mod requester_tests;
#[cfg(test)]
mod resolve_tests;
#[cfg(test)]
mod restraint_tests;
#[cfg(test)]
mod start_tests;
#[cfg(test)]
mod tests;

pub(crate) use backend::LibvirtBackend;
pub(crate) use connection_manager::ConnectionManagers;
#[cfg(feature = "agent-backend")]
pub(crate) use lane::LaneThread;
pub(crate) use lane::has_private_state;
pub(crate) use link::UriLink;
pub(crate) use start::start;
#[cfg(feature = "agent-backend")]
pub(crate) use start::{Connected, backend, connect};
