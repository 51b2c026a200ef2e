//! Prefixes of this host's links, by which the listeners count addresses. A thread follows them, since
//! the kernel lists interfaces only while nobody changes them, which may hold up its caller.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{info, trace, warn};

use super::bind::Listener;
use super::handle::ListenerHandle;
use super::interfaces::HostAddresses;
use crate::status::ListeningPlace;
use fence_virt::origins::Prefix;
use fence_virt::sys::error_text;
use fence_virt::sys::netlink::InterfaceMonitor;
use fence_virt::sys::poll::{Interest, PollSet};

/// Minimum time between two lists: starting a VM changes its interface several times.
const PAUSE: Duration = Duration::from_secs(1);

/// Time between two lists where the kernel does not notify of changes.
const INTERVAL: Duration = Duration::from_secs(30);

/// Sends the prefixes of this host's links to the listeners, and records whether this host has the addresses on
/// which they listen, now and whenever either changes, from a thread that runs until these end.
/// Errors: if the system has no thread left.
pub(crate) fn follow_prefixes(listeners: &[Listener]) -> Result<(), String> {
    let handles: Vec<ListenerHandle> = listeners.iter().map(Listener::handle).collect();
    let addresses: Vec<ListenedAddress> = listeners.iter().filter_map(ListenedAddress::of).collect();
    // Before the first list, so that no change is missed.
    let monitor = InterfaceMonitor::new();
    if let Err(error) = &monitor {
        warn!(
            "cannot follow changes of the network: {error}: looking for them every {} s",
            INTERVAL.as_secs(),
            error = error_text(error)
        );
    }
    let mut known = None;
    if !send(&handles, &addresses, &mut known) {
        return Ok(());
    }
    let body = move || {
        loop {
            await_change(monitor.as_ref().ok());
            if !send(&handles, &addresses, &mut known) {
                return;
            }
            // Changes from now on are in the next list.
            thread::park_timeout(PAUSE);
        }
    };
    let thread = thread::Builder::new().name("prefixes".into()).spawn(body);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {}", error_text(&error)))
}

/// Address of a tcp listener. Its socket stays bound while this host does not have the address, and hears
/// again once it has.
#[derive(Debug)]
struct ListenedAddress {
    address: IpAddr,
    handle: ListenerHandle,
}

impl ListenedAddress {
    fn of(listener: &Listener) -> Option<ListenedAddress> {
        let handle = listener.handle();
        match listener.source().place {
            ListeningPlace::Network { address, .. } if handle.name().kind() == "tcp" => {
                Some(ListenedAddress { address, handle })
            }
            _ => None,
        }
    }

    /// Records and logs whether anything can arrive at the address.
    fn look(&self, host: &HostAddresses) {
        let (name, obstacle) = (self.handle.name(), host.obstacle(self.address));
        let shown = obstacle.clone();
        if self.handle.reception().set_obstacle(obstacle) {
            match shown {
                Some(obstacle) => warn!("{name}: {obstacle}: no request arrives"),
                None => info!("{name}: this host has the address {} again", self.address),
            }
        }
    }
}

fn await_change(monitor: Option<&InterfaceMonitor>) {
    let mut set = PollSet::new();
    let Some(monitor) = monitor else { return thread::park_timeout(INTERVAL) };
    set.add(monitor.as_fd(), Interest::Read);
    if let Err(error) = set.wait(None) {
        trace!("cannot wait for changes of the network: {}", error_text(&error));
        thread::park_timeout(INTERVAL);
    }
    monitor.drain();
}

/// Lists the addresses, and sends their prefixes if they are not those that are known. Returns false if no
/// listener takes them.
fn send(
    handles: &[ListenerHandle],
    addresses: &[ListenedAddress],
    known: &mut Option<BTreeSet<Prefix>>,
) -> bool {
    let host = HostAddresses::list().inspect_err(|error: &io::Error| {
        warn!("cannot list the addresses of this host: {}", error_text(error));
    });
    let Ok(host) = host else { return true };
    addresses.iter().for_each(|address| address.look(&host));
    let prefixes = host.prefixes();
    if known.as_ref() == Some(&prefixes) {
        return true;
    }
    let names: Vec<String> = prefixes.iter().map(Prefix::to_string).collect();
    trace!("networks of this host: {}", names.join(", "));
    let sent: Arc<[Prefix]> = prefixes.iter().copied().collect();
    *known = Some(prefixes);
    handles.iter().filter(|handle| handle.set_prefixes(&sent)).count() > 0
}
