//! Acceptor of the multicast listener: receives requests and calls back their senders.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use log::{info, trace, warn};

use super::interfaces::{self, NetworkInterface};
use super::service::Acceptor;
use super::sessions::Sessions;
use crate::port_owner::{self, Protocol};
use crate::status::{Channel, Reception, Refusal};
use fence_virt::config::MulticastConfig;
use fence_virt::fence::{ListenerName, Source};
use fence_virt::sys::error_text;
use fence_virt::sys::multicast::MulticastSocket;
use fence_virt::sys::netlink::InterfaceMonitor;
use fence_virt::sys::poll::{Interest, PollSet, Slot};
use fence_virt::time::Instant;
use fence_virt::wire::PACKET_LEN;

/// Maximum datagrams received in one turn, so that a flood does not starve the sessions.
const BATCH: usize = 64;
/// Interval between attempts to join on an interface where joining failed. A change of an interface causes one too.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct MulticastAcceptor {
    name: ListenerName,
    socket: MulticastSocket,
    monitor: InterfaceMonitor,
    /// Name of the only interface to listen on; none for all.
    interface: Option<String>,
    joined: BTreeSet<NetworkInterface>,
    /// Interfaces where joining failed, which was logged.
    failed: BTreeSet<NetworkInterface>,
    retry: Option<Instant>,
    /// Time since which datagrams may wait to be received, until there are none left.
    waiting_since: Option<Instant>,
    reception: Reception,
    /// True if the only interface to listen on exists and is down.
    is_down: bool,
}

impl MulticastAcceptor {
    pub(super) fn bind(
        name: &ListenerName,
        config: &MulticastConfig,
        wait: bool,
        reception: &Reception,
    ) -> Result<MulticastAcceptor, String> {
        let failed = |error: io::Error| {
            let address = SocketAddr::new(config.address, config.port);
            let owner = port_owner::owner_of(&error, Protocol::Udp, address);
            let owner = owner.map_or(String::new(), |owner| format!(": {owner} has the port"));
            format!(
                "{name}: cannot listen on {} port {}: {}{owner}",
                config.address,
                config.port,
                error_text(&error)
            )
        };
        let socket = MulticastSocket::bind(config.address, config.port).map_err(failed)?;
        // Subscribe before the first join, so that no change is missed.
        let monitor = InterfaceMonitor::new().map_err(failed)?;
        let mut acceptor = MulticastAcceptor {
            name: name.clone(),
            socket,
            monitor,
            interface: config.interface.clone(),
            joined: BTreeSet::new(),
            failed: BTreeSet::new(),
            retry: None,
            waiting_since: None,
            reception: reception.clone(),
            is_down: false,
        };
        let problem = acceptor.join_all(Instant::now());
        match (problem, &acceptor.interface) {
            (None, _) => Ok(acceptor),
            (Some(problem), Some(_)) if !wait => {
                Err(format!("{name}: {problem}; correct `interface`, or start with -w to wait for it"))
            }
            (Some(problem), _) => {
                warn!("{name}: {problem}: waiting for it");
                Ok(acceptor)
            }
        }
    }

    /// Joins the group on each interface where it is not joined yet. Returns a
    /// problem if it is joined nowhere.
    fn join_all(&mut self, now: Instant) -> Option<String> {
        let present = match &self.interface {
            Some(name) => interfaces::named(name).into_iter().collect(),
            None => interfaces::all(),
        };
        for gone in self.joined.difference(&present) {
            warn!("{}: the interface {} is gone", self.name, gone.name);
            if let Err(error) = self.socket.leave(gone.index) {
                trace!("{}: cannot leave the group on {}: {}", self.name, gone.name, error_text(&error));
            }
        }
        self.joined.retain(|interface| present.contains(interface));
        self.failed.retain(|interface| present.contains(interface));
        self.retry = None;
        let mut problem = None;
        let mut channels = Vec::new();
        for interface in present.difference(&self.joined.clone()) {
            match self.socket.join(interface.index) {
                Ok(()) => {
                    info!("{}: listening on {}", self.name, interface.name);
                    if let Some(warning) = interfaces::snooping_warning(&interface.name) {
                        warn!("{}: {warning}", self.name);
                    }
                    self.failed.remove(interface);
                    self.joined.insert(interface.clone());
                }
                Err(error) => {
                    let reason = explain(&interface.name, &error);
                    if self.failed.insert(interface.clone()) {
                        warn!("{}: {reason}", self.name);
                    }
                    channels.push(Channel::closed(&interface.name, &reason));
                    problem = Some(reason);
                    self.retry = Some(now + RETRY);
                }
            }
        }
        channels.extend(self.joined.iter().map(|interface| self.channel(interface)));
        if channels.is_empty() {
            let (name, reason) = match &self.interface {
                Some(name) => (name.as_str(), format!("there is no interface {name}")),
                None => ("", "no multicast-capable interface is up".to_owned()),
            };
            channels.push(Channel::closed(name, &reason));
            problem = Some(reason);
        }
        self.report(channels);
        problem.filter(|_| self.joined.is_empty())
    }

    /// Returns the state of an interface on which the group is joined. The only interface of a listener stays
    /// joined while it is down.
    fn channel(&self, interface: &NetworkInterface) -> Channel {
        if self.interface.is_none() || interfaces::is_up(&interface.name) {
            return Channel::open(&interface.name);
        }
        Channel::closed(&interface.name, format!("the interface {} is down", interface.name))
    }

    /// Records where the listener hears, and logs it if its only interface went down or up again.
    fn report(&mut self, channels: Vec<Channel>) {
        let down = channels.iter().find(|channel| !self.joined.is_empty() && channel.fault.is_some());
        let down = down.filter(|_| self.interface.is_some()).and_then(|channel| channel.fault.clone());
        match (&down, self.joined.first()) {
            (Some(fault), _) if !self.is_down => warn!("{}: {fault}: no request arrives", self.name),
            (None, Some(interface)) if self.is_down => {
                info!("{}: the interface {} is up again", self.name, interface.name);
            }
            _ => {}
        }
        self.is_down = down.is_some();
        self.reception.set_channels(channels);
    }

    fn receive_batch(&mut self, sessions: &mut Sessions, now: Instant) {
        // One byte more than a request, to detect longer datagrams.
        let mut buffer = [0; PACKET_LEN + 1];
        for _ in 0..BATCH {
            let datagram = match self.socket.receive(&mut buffer) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting_since = None;
                    return;
                }
                Err(error) => {
                    let reason = format!("cannot receive a datagram: {}", error_text(&error));
                    return sessions.log().log_refusal(Refusal::Error, None, reason, now);
                }
            };
            let sender = datagram.sender.map(Source::ip);
            let is_exact = !datagram.truncated && datagram.length == PACKET_LEN;
            match (buffer.first_chunk().filter(|_| is_exact), self.waiting_since) {
                (Some(bytes), Some(since)) => sessions.drop_late_datagram(bytes, since, sender.as_ref(), now),
                (Some(bytes), None) => sessions.call_back(bytes, datagram.interface, sender, now),
                (None, _) => sessions.log().log_refusal(
                    Refusal::Malformed,
                    sender.as_ref(),
                    format_args!("a datagram of {} bytes is not a fence request", datagram.length),
                    now,
                ),
            }
        }
    }
}

impl Acceptor<Sessions> for MulticastAcceptor {
    fn register<'a>(&'a self, set: &mut PollSet<'a>) -> Vec<Slot> {
        [self.socket.as_fd(), self.monitor.as_fd()].map(|fd| set.add(fd, Interest::Read)).to_vec()
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry
    }

    fn accept(&mut self, ready: &[bool], sessions: &mut Sessions, now: Instant) {
        let &[has_datagrams, has_changes] = ready else { return };
        self.waiting_since = self.waiting_since.or(sessions.waiting_since()).filter(|_| has_datagrams);
        if has_datagrams {
            self.receive_batch(sessions, now);
        }
        if has_changes {
            self.monitor.drain();
        }
        if has_changes || self.retry.is_some_and(|at| now >= at) {
            if let Some(problem) = self.join_all(now) {
                trace!("{}: listening on no interface: {problem}", self.name);
            }
        }
    }
}

fn explain(interface: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => format!(
            "cannot listen on {interface}: {}: net.ipv4.igmp_max_memberships is reached; set `interface` in the configuration",
            error_text(error)
        ),
        _ => format!("cannot listen on {interface}: {}", error_text(error)),
    }
}
