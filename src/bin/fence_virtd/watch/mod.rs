//! Follows which VMs run and what devices they have, for listeners that know
//! their clients by them.
//!
//! 1. A thread for each URI opens a connection, asks for libvirt's events, and
//!    then lists the VMs that run: [`watcher`].
//! 2. An event only says which VM to look at again; what is, libvirt is asked.
//!    So events may come late, twice, in any order, and many at once: [`change_queue`].
//! 3. A [`watchers::DomainObserver`] is told: [`connector`] connects to the sockets of serial ports
//!    and channels and hands them to the serial listener, [`cid_observer`] keeps
//!    the table of vsock CIDs.
//! 4. A connection that is lost is opened again, and everything looked at anew.

mod change_queue;
mod cid_observer;
mod connector;
mod domain_query;
mod domain_reporter;
mod socket_registry;
mod survey;
mod watcher;
mod watchers;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod libvirt_tests;

pub(crate) use survey::{LineCounts, lines};
pub(crate) use watchers::{Watchers, local_uris, warn_of_remote};
