//! Watchers: they follow the running VMs and their devices, for listeners that identify
//! clients by them and for the cpg backend.
//!
//! 1. One thread per URI opens a connection, subscribes to events and then lists the
//!    running VMs, so that nothing is missed in between: [`watcher`].
//! 2. An event only names the VM to query again. Late, repeated and reordered events
//!    are harmless, and many of them are one query: [`change_queue`].
//! 3. A [`change_handler`] queries libvirt: [`domain_tracker`] notifies an observer,
//!    [`domain_reporter`] the worker.
//! 4. An observer acts: [`connector`] connects to the sockets of serial ports and
//!    channels for the serial listener, another in [`watchers`] updates the table of CIDs.
//! 5. After a lost connection everything is queried again.
#![forbid(unsafe_code)]

mod change_handler;
mod change_queue;
mod connector;
mod domain_query;
mod domain_reporter;
mod domain_tracker;
mod heard_uri;
mod serial_scope;
mod socket_registry;
mod vm_socket;
mod watcher;
mod watchers;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod libvirt_tests;

pub(crate) use serial_scope::{LineCounts, has_socket, lines, local_uris, warn_of_remote};
pub(crate) use watchers::Watchers;
