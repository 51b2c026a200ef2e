//! `fence_virtd --doctor`: looks at this host with the configuration at hand,
//! and says what it found and what helps. It changes nothing.
//!
//! 1. What needs no other program is read and judged at once: the file
//!    ([`settings`]), who runs ([`process`]), and each listener's part of the
//!    host ([`multicast`], [`tcp`], [`vsock`], [`serial`]; [`network`] and
//!    [`sockets`] read).
//! 2. libvirt and corosync are asked, all at the same time and with a bound ([`ask`]).
//! 3. What they said is judged: [`libvirt`], [`cluster`], [`serial`], [`groups`].
//!
//! Reading and judging are apart, so that what is judged can be tested without such a host.

mod ask;
mod cluster;
mod finding;
mod firewall;
mod groups;
mod libvirt;
mod multicast;
mod network;
mod process;
mod run;
mod serial;
mod settings;
mod sockets;
mod tcp;
mod vsock;

pub(crate) use run::run;
