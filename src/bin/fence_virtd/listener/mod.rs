//! The listeners: each one thread, one poll loop, many sessions.
//!
//! | step | where |
//! | --- | --- |
//! | wait for sockets, mailbox and deadlines | `turn` |
//! | accept, or read a datagram and call back | `accepting` with `tcp` and `vsock`, `multicast` |
//! | gather bytes, run the session machines | `sessions` |
//! | duplicates, the job for the worker, the answer | `posting` |
//! | the line in the log | `journal` |
//!
//! The serial listener has no front: a watcher brings the lines of the VMs,
//! and `lines` serves them.

mod accepting;
mod interfaces;
mod journal;
mod lines;
mod mail;
mod multicast;
mod posting;
mod sessions;
mod stream;
mod tcp;
mod turn;
mod vsock;

use std::sync::Arc;
use std::time::Instant;

use fence_virt::config::{ListenerConfig, NamedListener};
use fence_virt::session::Policy;
use fence_virt::sys::poll::{PollSet, Readiness, Slot};

pub(crate) use interfaces::snooping_warning;
pub(crate) use mail::ListenerHandle;
pub(crate) use turn::{Listener, Outlet};

use accepting::Accepting;
use sessions::Sessions;

/// The sockets that bring new sessions in.
trait Front: Send {
    /// Adds its descriptors to the poll set of a turn.
    fn register<'a>(&'a self, set: &mut PollSet<'a>, slots: &mut Vec<Slot>);

    /// Attends to its descriptors, in the order in which it registered them.
    fn attend(&mut self, ready: &[Readiness], sessions: &mut Sessions, now: Instant);

    /// When it wants a turn even if nothing happens.
    fn deadline(&self) -> Option<Instant>;
}

/// Binds the sockets of a listener. With `wait`, what may yet appear on this
/// host (an address, an interface) is awaited by the listener's thread.
///
/// # Errors
///
/// A sentence that names the listener, what it wants, and why it cannot have it.
pub(crate) fn bind(
    listener: &NamedListener,
    policy: Option<Arc<Policy>>,
    wait: bool,
) -> Result<Listener, String> {
    let NamedListener { name, config } = listener;
    let front: Box<dyn Front> = match config {
        ListenerConfig::Tcp(tcp) => Box::new(Accepting::new(tcp::TcpDoor::bind(name, tcp, wait)?)),
        ListenerConfig::Vsock(vsock) => Box::new(Accepting::new(vsock::VsockDoor::bind(name, vsock)?)),
        ListenerConfig::Multicast(group) => Box::new(multicast::MulticastFront::bind(name, group, wait)?),
        // Its sockets are the VMs'; a watcher brings them.
        ListenerConfig::Serial(_) => return Listener::of_lines(name.clone()),
    };
    let policy = policy.ok_or_else(|| format!("{name}: without authentication"))?;
    Listener::of_sessions(name.clone(), front, policy)
}
