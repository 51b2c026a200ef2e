//! The multicast front: hears requests and calls their senders back.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::Front;
use super::interfaces::{self, Interface};
use super::sessions::Sessions;
use crate::status::Refusal;
use fence_virt::config::MulticastConfig;
use fence_virt::fence::ListenerName;
use fence_virt::sys::multicast::MulticastSocket;
use fence_virt::sys::netlink::InterfaceMonitor;
use fence_virt::sys::poll::{Interest, PollSet, Readiness, Slot};
use fence_virt::wire::PACKET_LEN;

/// Datagrams read in one turn, so that a flood does not starve the sessions.
const BATCH: usize = 64;
/// How often joining is tried again where it failed, beside each change of an interface.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct MulticastFront {
    name: ListenerName,
    socket: MulticastSocket,
    bell: InterfaceMonitor,
    /// The one interface to hear on; none for all.
    wanted: Option<String>,
    joined: BTreeSet<Interface>,
    /// Where joining failed, which was warned of.
    unheard: BTreeSet<Interface>,
    retry: Option<Instant>,
}

impl MulticastFront {
    pub(super) fn bind(
        name: &ListenerName,
        config: &MulticastConfig,
        wait: bool,
    ) -> Result<MulticastFront, String> {
        let failed = |error: io::Error| {
            format!("{name}: cannot listen on {} port {}: {error}", config.address, config.port)
        };
        let socket = MulticastSocket::bind(config.address, config.port).map_err(failed)?;
        // The bell first, so that no change after the first look is missed.
        let bell = InterfaceMonitor::new().map_err(failed)?;
        let wanted = config.interface.clone();
        let mut front = MulticastFront {
            name: name.clone(),
            socket,
            bell,
            wanted,
            joined: BTreeSet::new(),
            unheard: BTreeSet::new(),
            retry: None,
        };
        let problem = front.join_all(Instant::now());
        match (problem, &front.wanted) {
            (None, _) => Ok(front),
            (Some(problem), Some(_)) if !wait => {
                Err(format!("{name}: {problem} (wait_for_init waits for it)"))
            }
            (Some(problem), _) => {
                warn!("{name}: {problem}: waiting for it");
                Ok(front)
            }
        }
    }

    /// Joins wherever the group is to be heard and is not yet; gives what keeps it from being heard at all.
    fn join_all(&mut self, now: Instant) -> Option<String> {
        let present = match &self.wanted {
            Some(name) => interfaces::named(name).into_iter().collect(),
            None => interfaces::all(),
        };
        for gone in self.joined.difference(&present) {
            warn!("{}: the interface {} is gone", self.name, gone.name);
            if let Err(error) = self.socket.leave(gone.index) {
                debug!("{}: leaving {}: {error}", self.name, gone.name);
            }
        }
        self.joined.retain(|interface| present.contains(interface));
        self.unheard.retain(|interface| present.contains(interface));
        self.retry = None;
        let mut problem = None;
        for interface in present.difference(&self.joined.clone()) {
            match self.socket.join(interface.index) {
                Ok(()) => {
                    info!("{}: listening on {}", self.name, interface.name);
                    if let Some(warning) = interfaces::snooping_warning(&interface.name) {
                        warn!("{}: {warning}", self.name);
                    }
                    self.unheard.remove(interface);
                    self.joined.insert(interface.clone());
                }
                Err(error) => {
                    let reason = explain(&interface.name, &error);
                    if self.unheard.insert(interface.clone()) {
                        warn!("{}: {reason}", self.name);
                    }
                    problem = Some(reason);
                    self.retry = Some(now + RETRY);
                }
            }
        }
        match (&self.wanted, self.joined.is_empty()) {
            (_, false) => None,
            (_, true) if problem.is_some() => problem,
            (Some(name), true) => Some(format!("there is no interface {name}")),
            (None, true) => Some("no interface is up that can multicast".to_owned()),
        }
    }

    fn hear(&mut self, sessions: &mut Sessions, now: Instant) {
        // One byte more than a request, to tell what is too long.
        let mut buffer = [0; PACKET_LEN + 1];
        for _ in 0..BATCH {
            match self.socket.receive(&mut buffer) {
                Ok(datagram) => {
                    let exact = (!datagram.truncated && datagram.length == PACKET_LEN)
                        .then(|| buffer.first_chunk::<PACKET_LEN>())
                        .flatten();
                    match exact {
                        Some(bytes) => sessions.call_back(bytes, datagram.interface, now),
                        None => sessions.complain(
                            Refusal::Malformed,
                            None,
                            now,
                            format_args!("a datagram of {} bytes is no fence request", datagram.length),
                        ),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    sessions.complain(
                        Refusal::Error,
                        None,
                        now,
                        format_args!("a datagram was lost: {error}"),
                    );
                    return;
                }
            }
        }
    }
}

impl Front for MulticastFront {
    fn register<'a>(&'a self, set: &mut PollSet<'a>, slots: &mut Vec<Slot>) {
        slots.push(set.add(self.socket.as_fd(), Interest::Read));
        slots.push(set.add(self.bell.as_fd(), Interest::Read));
    }

    fn attend(&mut self, ready: &[Readiness], sessions: &mut Sessions, now: Instant) {
        let rang = |at: usize| ready.get(at).is_some_and(|ready| ready.any());
        if rang(0) {
            self.hear(sessions, now);
        }
        let due = self.retry.is_some_and(|at| now >= at);
        if rang(1) {
            self.bell.drain();
        }
        if rang(1) || due {
            if let Some(problem) = self.join_all(now) {
                debug!("{}: hearing nothing: {problem}", self.name);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry
    }
}

fn explain(interface: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => format!(
            "cannot listen on {interface} too: {error}: the limit net.ipv4.igmp_max_memberships is reached; name one `interface` in the configuration"
        ),
        _ => format!("cannot listen on {interface}: {error}"),
    }
}
