//! The multicast request and the daemon's call-back.
//!
//! 1. A TCP socket is opened for the call-back; its port stands in the packet.
//! 2. The request leaves from each address of the family, again and again.
//! 3. Daemons call back. Whoever connects first is not believed for that: the
//!    first that proves to have the key gets our proof, and from then on it
//!    is the only one. One that cannot is dropped, and others are awaited.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Ask;
use super::converse::{converse, turn};
use crate::client::addresses::{self, LocalAddress};
use crate::fence::Answer;
use crate::session::ClientSession;
use crate::sys::multicast_sender::{call_back_listener, sender};
use crate::sys::poll::{Interest, PollSet};
use crate::wire::{FAMILY_IPV4, FAMILY_IPV6, Packet};

/// Call-backs at the same time; one more ends the oldest.
const CALLS_MAX: usize = 16;

/// Routers that a multicast may cross, and one: what the C agent sets.
const HOPS: u32 = 2;

pub(super) struct Multicast<'a> {
    pub(super) group: IpAddr,
    pub(super) port: u16,
    pub(super) interface: Option<&'a str>,
    pub(super) retrans: Duration,
}

/// A daemon that called back, or somebody else.
struct Call {
    stream: TcpStream,
    peer: SocketAddr,
    session: ClientSession,
}

/// What is to be said if nothing comes of it.
#[derive(Default)]
struct Notes {
    /// The addresses from which the request was sent, in the last round.
    sent_from: Vec<LocalAddress>,
    /// Why it could not be sent from others.
    unsent: Vec<String>,
    /// What the last call-back came to.
    call: Option<String>,
}

impl Multicast<'_> {
    pub(super) fn ask(&self, ask: &Ask) -> Result<Answer, String> {
        let listener = self.listen(ask)?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let packet = Packet { port, ..ask.packet(ask.request()?)? };
        let mut calls: Vec<Call> = Vec::new();
        let mut notes = Notes::default();
        let mut next_round = Instant::now();
        loop {
            let now = Instant::now();
            if now >= ask.deadline {
                return Err(self.silence(ask, port, &calls, &notes));
            }
            if now >= next_round {
                self.send(ask, &packet, &mut notes)?;
                next_round = now + self.retrans;
            }
            wait(&listener, &calls, ask.deadline.min(next_round).saturating_duration_since(now))?;
            accept(&listener, &mut calls, ask)?;
            if let Some(answer) = attend(&mut calls, &mut notes, ask)? {
                return Ok(answer);
            }
            if let Some(at) = calls.iter().position(|call| call.session.is_committed()) {
                let Call { mut stream, peer, mut session } = calls.swap_remove(at);
                ask.trace.step(format_args!("{peer} has the key, and the request"));
                drop((listener, calls));
                return converse(&peer.to_string(), &mut stream, &mut session, ask);
            }
        }
    }

    /// The socket for the call-back, on the port of the multicast or, if
    /// another agent has that, on one that is free.
    fn listen(&self, ask: &Ask) -> Result<TcpListener, String> {
        let is_ipv4 = self.group.is_ipv4();
        let listener = call_back_listener(is_ipv4, self.port).or_else(|error| {
            ask.trace.step(format_args!("TCP port {}: {error}; taking another", self.port));
            match error.kind() {
                ErrorKind::AddrInUse | ErrorKind::PermissionDenied => call_back_listener(is_ipv4, 0),
                _ => Err(error),
            }
        });
        listener.map_err(|error| format!("cannot listen for the call-back of the host: {error}"))
    }

    /// One datagram from each address. They differ in the address alone, so
    /// that a daemon which hears several takes them for one request.
    fn send(&self, ask: &Ask, packet: &Packet, notes: &mut Notes) -> Result<(), String> {
        let is_ipv4 = self.group.is_ipv4();
        let locals = addresses::local(is_ipv4, self.interface).map_err(|error| match self.interface {
            Some(name) if error.kind() == ErrorKind::NotFound => format!("there is no interface {name} here"),
            _ => format!("cannot list the addresses of this machine: {error}"),
        })?;
        notes.sent_from.clear();
        notes.unsent.clear();
        for local in locals {
            let packet = Packet {
                address_len: if is_ipv4 { 4 } else { 16 },
                address: left_aligned(local.address),
                family: if is_ipv4 { FAMILY_IPV4 } else { FAMILY_IPV6 },
                ..packet.clone()
            };
            let bytes = packet.encode_signed(&ask.policy.key);
            let sent = sender(local.address, local.index, HOPS)
                .and_then(|socket| socket.send_to(&bytes, SocketAddr::new(self.group, self.port)));
            match sent {
                Ok(_) => {
                    ask.trace.step(format_args!("sent to {} port {} from {local}", self.group, self.port));
                    notes.sent_from.push(local);
                }
                Err(error) => {
                    ask.trace.step(format_args!("cannot send from {local}: {error}"));
                    notes.unsent.push(format!("{local}: {error}"));
                }
            }
        }
        Ok(())
    }

    /// What there is to say when the time is up.
    fn silence(&self, ask: &Ask, port: u16, calls: &[Call], notes: &Notes) -> String {
        let timed_out = ask.timed_out();
        if let Some(call) = calls.last() {
            let awaited = call.session.awaited();
            return format!("{timed_out}: {} called back, but did not give {awaited}", call.peer);
        }
        if let Some(call) = &notes.call {
            return format!("{timed_out}: {call}");
        }
        let group = format!("{} port {}", self.group, self.port);
        if notes.sent_from.is_empty() {
            let on = self.interface.map_or(String::new(), |name| format!(" on {name}"));
            let why = match notes.unsent.is_empty() {
                true => format!("this machine has no address of its family{on}"),
                false => notes.unsent.join(", "),
            };
            return format!("{timed_out}: the request could not be sent to {group}: {why}");
        }
        let from: Vec<String> = notes.sent_from.iter().map(LocalAddress::to_string).collect();
        format!(
            "{timed_out}: no host called back. The request went to {group} from {}. Look at the way of the multicast \
             (IGMP snooping, route), at a firewall on TCP port {port} here, and whether fence_virtd runs with this key and hash",
            from.join(", ")
        )
    }
}

fn left_aligned(address: IpAddr) -> [u8; 28] {
    let mut out = [0; 28];
    match address {
        IpAddr::V4(v4) => out[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out[..16].copy_from_slice(&v6.octets()),
    }
    out
}

fn wait(listener: &TcpListener, calls: &[Call], left: Duration) -> Result<(), String> {
    let mut set = PollSet::new();
    set.add(listener.as_fd(), Interest::Read);
    for call in calls {
        let is_silent = call.session.output().is_empty();
        set.add(call.stream.as_fd(), if is_silent { Interest::Read } else { Interest::Both });
    }
    set.wait(Some(left)).map_err(|error| error.to_string())
}

/// Takes who has connected. In a crowd the oldest makes room.
fn accept(listener: &TcpListener, calls: &mut Vec<Call>, ask: &Ask) -> Result<(), String> {
    for _ in 0..CALLS_MAX {
        let Ok((stream, peer)) = listener.accept() else { return Ok(()) };
        if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_err() {
            continue;
        }
        ask.trace.step(format_args!("{peer} called back"));
        if calls.len() == CALLS_MAX {
            calls.remove(0);
        }
        calls.push(Call { stream, peer, session: ask.session(&[])? });
    }
    Ok(())
}

/// Lets each call say and hear what it can. What an unproven one does wrong
/// ends that call alone.
fn attend(calls: &mut Vec<Call>, notes: &mut Notes, ask: &Ask) -> Result<Option<Answer>, String> {
    let mut at = 0;
    while let Some(Call { stream, peer, session }) = calls.get_mut(at) {
        match turn(peer, stream, session, ask) {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => at += 1,
            Err(reason) if session.is_committed() => return Err(format!("{peer}: {reason}")),
            Err(reason) => {
                ask.trace.step(format_args!("{peer}: {reason}"));
                notes.call = Some(format!("{peer} called back, but {reason}"));
                calls.remove(at);
            }
        }
    }
    Ok(None)
}
