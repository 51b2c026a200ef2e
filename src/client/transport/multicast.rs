//! Multicast request and the daemon's call-back.
//!
//! 1. The agent opens a TCP socket for the call-back; its port is in the packet.
//! 2. It sends the request from each address of the family, repeatedly.
//! 3. Daemons call back. The first peer that proves to have the key gets our
//!    proof; all others are dropped before it is sent. Peers that cannot prove
//!    it are dropped, and the agent keeps waiting. Where the request is for one
//!    host only, so are all others.
//!
//! Our daemon identifies the request it calls back for; a C daemon does not, and a slow one may call back for
//! the request of an agent that had the port before us. If that is possible (`in_flight`), a C daemon must
//! first answer a probe ([`SyncProbe`]), after which it has no stale call-backs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use super::agent_request::{AgentRequest, HostReply, nobody, random};
use super::callbacks::{Callback, CallbackEvent, Callbacks};
use super::datagrams::{DatagramSender, from_address};
use super::driver::drive;
use crate::client::in_flight::InFlightMarker;
use crate::fence::{Answer, Operation, SignatureKind};
use crate::session::{AgentSession, ClientSession, SyncProbe};
use crate::sys::error_text;
use crate::sys::multicast_sender::call_back_listener;
use crate::time::Instant;
use crate::wire::Packet;

/// Timeout of a probe, in multiples of `retrans`; then another one is sent.
const PROBE_ROUNDS: u32 = 3;

pub(in crate::client) struct Multicast<'a> {
    pub(in crate::client) group: IpAddr,
    pub(in crate::client) port: u16,
    pub(in crate::client) interface: Option<&'a str>,
    /// Time between two rounds of datagrams.
    pub(in crate::client) retrans: Duration,
    /// TTL of the datagrams.
    pub(in crate::client) hops: u32,
}

/// Request in progress.
pub(super) struct Exchange<'a> {
    request: &'a AgentRequest,
    pub(super) calls: Callbacks,
    /// TCP port for call-backs.
    port: u16,
    pub(super) datagrams: DatagramSender<'a>,
    /// Hosts without stale call-backs; `None`: all.
    synced: Option<Vec<IpAddr>>,
    /// True if an older request may still be answered.
    is_stale: bool,
}

impl Exchange<'_> {
    /// Makes the packet of the request, which names the port for call-backs.
    pub(super) fn packet(&self) -> Result<Packet, String> {
        let request = self.request;
        Ok(Packet { port: self.port, ..request.packet(request.wire_request()?)? })
    }

    /// Accepts the connections of hosts that answer one of these packets.
    pub(super) fn accept(&mut self, packets: &[Packet]) -> Result<(), String> {
        let request = self.request;
        self.calls.accept(request, |called| call_session(request, request.operation, packets, called))
    }
}

impl Multicast<'_> {
    /// Sends the request and returns the answer of the host that called back.
    /// Errors: a message with the reason for the missing answer.
    pub(in crate::client) fn send(&self, request: &AgentRequest) -> Result<HostReply, String> {
        let (mut exchange, marker) = self.open(request)?;
        let is_stale = exchange.is_stale;
        let synced = if is_stale {
            request.log.debug(format_args!("stale call-backs are possible; probing for their end"));
            exchange.synced = Some(Vec::new());
            self.sync(&mut exchange, None)
        } else {
            Ok(())
        };
        let answer = synced.and_then(|()| self.request(&mut exchange));
        // Without a datagram there can be no call-back.
        let is_over = answer.is_ok() || !(is_stale || exchange.datagrams.has_sent);
        if let Some(marker) = marker.filter(|_| is_over) {
            marker.clear();
        }
        answer
    }

    /// Prepares an exchange and marks a request as in flight. The marker is kept, with its lock, until the end.
    pub(super) fn open<'a>(
        &'a self,
        request: &'a AgentRequest,
    ) -> Result<(Exchange<'a>, Option<InFlightMarker>), String> {
        let (listener, mut marker) = self.listen(request)?;
        let port = listener.local_addr().map_err(|error| error_text(&error))?.port();
        let calls = Callbacks::new(listener);
        let datagrams =
            DatagramSender::new(SocketAddr::new(self.group, self.port), self.interface, self.hops);
        let has_been = marker.as_mut().is_some_and(|marker| marker.set(&request.log));
        // Daemons that speak version 2 prove which request they call back for.
        let is_stale = has_been && request.policy.hash != SignatureKind::HmacSha256;
        Ok((Exchange { request, calls, port, datagrams, synced: None, is_stale }, marker))
    }

    /// Opens the socket for call-backs, on the port of the multicast or, if another
    /// agent has that, on a free one; and locks the marker of the former. After a
    /// call-back, an agent still holds the marker, but no longer the socket.
    fn listen(&self, request: &AgentRequest) -> Result<(TcpListener, Option<InFlightMarker>), String> {
        let is_ipv4 = self.group.is_ipv4();
        let port = self.port;
        let explain = |error| format!("cannot listen for the call-back of the host: {}", error_text(&error));
        let family = if is_ipv4 { "ipv4" } else { "ipv6" };
        match call_back_listener(is_ipv4, port) {
            Ok(listener) => {
                let name = format!("call-back-{family}-{port}");
                if let Some(marker) = InFlightMarker::lock(&name, Instant::now(), &request.log) {
                    return Ok((listener, Some(marker)));
                }
                request.log.debug(format_args!("another agent uses TCP port {port}; taking another"));
            }
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                request.log.debug(format_args!("TCP port {port}: {}; taking another", error_text(&error)));
            }
            Err(error) => return Err(explain(error)),
        }
        // A free port gets no stale call-backs.
        Ok((call_back_listener(is_ipv4, 0).map_err(explain)?, None))
    }

    /// Sends the request in rounds until a host has answered it.
    fn request(&self, exchange: &mut Exchange) -> Result<HostReply, String> {
        let request = exchange.request;
        let packet = exchange.packet()?;
        let packets = std::slice::from_ref(&packet);
        let mut next_round = Instant::now();
        loop {
            let now = Instant::now();
            if now >= request.deadline {
                return Err(timeout(exchange));
            }
            if now >= next_round {
                exchange.datagrams.send(packets, request)?;
                next_round = now + self.retrans;
            }
            exchange.calls.wait(request.deadline.min(next_round))?;
            exchange.accept(packets)?;
            let event = exchange.calls.next_event(request, |_| true);
            let Some(CallbackEvent::Committed(call)) = event else { continue };
            let host = call.peer.ip();
            if request.only.as_ref().is_some_and(|only| !only.contains(&host)) {
                // Without our proof it does nothing.
                request.log.debug(format_args!("{host} is not the host that is asked"));
                continue;
            }
            let is_synced = exchange.synced.as_ref().is_none_or(|synced| synced.contains(&host));
            if call.session.is_bound() || is_synced {
                return finish(call, exchange);
            }
            // Without our proof it has not started anything.
            request.log.debug(format_args!("{host} does not identify the request it calls back for"));
            drop(call);
            self.sync(exchange, Some(host))?;
            next_round = Instant::now();
        }
    }

    /// Sends probes until a host has completed one or is known to be ours; until `host` has, if given.
    fn sync(&self, exchange: &mut Exchange, host: Option<IpAddr>) -> Result<(), String> {
        let synced = self.probe(exchange, host);
        // Call-backs until now are answers to the probe, not to the request.
        exchange.calls.clear();
        synced
    }

    fn probe(&self, exchange: &mut Exchange, host: Option<IpAddr>) -> Result<(), String> {
        let request = exchange.request;
        loop {
            let probe = SyncProbe::new(u32::from_le_bytes(random()?));
            let queries = probe.requests(&nobody()?, u32::from_le_bytes(random()?));
            let port = exchange.port;
            let packets = queries.into_iter().map(|query| Ok(Packet { port, ..request.packet(query)? }));
            let packets: Vec<Packet> = packets.collect::<Result<_, String>>()?;
            exchange.datagrams.send(&packets, request)?;
            let again = Instant::now() + self.retrans * PROBE_ROUNDS;
            let mut probes: Vec<(IpAddr, SyncProbe)> = Vec::new();
            while Instant::now() < again {
                if request.time_left().is_zero() {
                    return Err(timeout(exchange));
                }
                exchange.calls.wait(request.deadline.min(again))?;
                // A query is answered by a verdict; any other answer is stale.
                exchange
                    .calls
                    .accept(request, |called| call_session(request, Operation::Status, &packets, called))?;
                while let Some(event) = exchange.calls.next_event(request, |_| false) {
                    let (call, answer) = match event {
                        CallbackEvent::Answered(call, Answer::Verdict(verdict)) => (call, verdict.to_wire()),
                        CallbackEvent::Answered(call, _)
                        | CallbackEvent::Broken(call)
                        | CallbackEvent::Committed(call) => (call, u8::MAX),
                    };
                    let peer = call.peer.ip();
                    if call.session.is_bound() && host.is_none() {
                        return Ok(());
                    }
                    let at = probes.iter().position(|(known, _)| *known == peer).unwrap_or_else(|| {
                        probes.push((peer, probe.clone()));
                        probes.len() - 1
                    });
                    if !probes[at].1.is_over_after(answer) {
                        continue;
                    }
                    exchange.synced.get_or_insert_default().push(peer);
                    if host.is_none_or(|host| host == peer) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Message for a timeout.
fn timeout(exchange: &Exchange) -> String {
    let timed_out = exchange.request.timed_out();
    if let Some(call) = exchange.calls.last() {
        let awaited = call.session.awaited();
        return format!("{timed_out}: {} called back, but did not send {awaited}", call.peer);
    }
    if let Some(failure) = &exchange.calls.last_failure {
        return format!("{timed_out}: {failure}");
    }
    format!("{timed_out}: {}", exchange.datagrams.no_callback(exchange.port, exchange.request.policy.hash))
}

/// Lets the selected host carry out the request, after dropping all others.
fn finish(call: Callback, exchange: &mut Exchange) -> Result<HostReply, String> {
    let Callback { mut stream, peer, mut session } = call;
    exchange.request.log.debug(format_args!("{peer} has the key; sending our proof"));
    exchange.calls.close();
    let answer = drive(&peer.to_string(), &mut stream, &mut session, exchange.request)?;
    Ok(HostReply { answer, host: Some(peer.ip()), is_bound: session.is_bound() })
}

fn call_session(
    request: &AgentRequest,
    operation: Operation,
    packets: &[Packet],
    called: IpAddr,
) -> Result<ClientSession, String> {
    let sent: Vec<Packet> = packets.iter().map(|packet| from_address(packet, called)).collect();
    Ok(ClientSession::called_back(request.policy.clone(), operation, &sent, random()?))
}
