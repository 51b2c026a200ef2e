//! The multicast request and the daemon's call-back.
//!
//! 1. A TCP socket is opened for the call-back; its port stands in the packet.
//! 2. The request leaves from each address of the family, again and again.
//! 3. Daemons call back. Whoever connects first is not believed for that: the
//!    first that proves to have the key gets our proof, and before it is sent
//!    all others are dropped. One that cannot is dropped, and others are awaited.
//!
//! A daemon of ours says for which request it calls back; a C daemon does not,
//! and one that was slow may call for the request of an agent that had our port
//! before us. Where that can be (`pending`), a C daemon first has to answer a
//! row of questions ([`SyncProbe`]), behind which it has nothing older to say.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::callbacks::{Callback, CallbackEvent, Callbacks};
use super::driver::converse;
use super::{AgentRequest, nobody, random};
use crate::client::addresses::{self, LocalAddress};
use crate::client::in_flight::InFlightMarker;
use crate::fence::{Answer, Operation};
use crate::session::{ClientSession, SyncProbe};
use crate::sys::multicast_sender::{call_back_listener, sender};
use crate::wire::{FAMILY_IPV4, FAMILY_IPV6, Packet};

/// Routers that a multicast may cross, and one: what the C agent sets.
const HOPS: u32 = 2;

/// So many addresses are named in a message.
const NAMED_MAX: usize = 8;

/// A row whose questions got lost is asked anew after so many times `retrans`.
const ROW_ROUNDS: u32 = 3;

pub(super) struct Multicast<'a> {
    pub(super) group: IpAddr,
    pub(super) port: u16,
    pub(super) interface: Option<&'a str>,
    pub(super) retrans: Duration,
}

/// The last round of datagrams.
#[derive(Default)]
struct Sent {
    /// The addresses from which they went.
    from: Vec<LocalAddress>,
    /// Why they could not be sent from others.
    failures: Vec<String>,
}

/// A request under way.
struct Exchange<'a> {
    request: &'a AgentRequest,
    calls: Callbacks,
    /// The TCP port for call-backs.
    port: u16,
    sent: Sent,
    /// Whether anything has ever been sent.
    has_sent: bool,
    /// The hosts that have nothing older to say; all if none.
    settled: Option<Vec<IpAddr>>,
}

impl Multicast<'_> {
    pub(super) fn ask(&self, request: &AgentRequest) -> Result<Answer, String> {
        let (listener, mut pending) = self.listen(request)?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let calls = Callbacks::new(listener);
        let mut exchange =
            Exchange { request, calls, port, sent: Sent::default(), has_sent: false, settled: None };
        let is_left_over = pending.as_mut().is_some_and(|pending| pending.begin(&request.log));
        let settled = match is_left_over {
            true => {
                request
                    .log
                    .debug(format_args!("a host may still call back for an older request; asking around it"));
                exchange.settled = Some(Vec::new());
                self.settle(&mut exchange, None)
            }
            false => Ok(()),
        };
        let answer = settled.and_then(|()| self.request(&mut exchange));
        // Nobody can call back for what was never sent.
        let is_over = answer.is_ok() || !(is_left_over || exchange.has_sent);
        if let Some(pending) = pending.filter(|_| is_over) {
            pending.end();
        }
        answer
    }

    /// The socket for call-backs, on the port of the multicast or, if another
    /// agent has that, on one that is free; and the note on the former. An
    /// agent whose host has called back has the note and no socket any more.
    fn listen(&self, request: &AgentRequest) -> Result<(TcpListener, Option<InFlightMarker>), String> {
        let is_ipv4 = self.group.is_ipv4();
        let explain = |error| format!("cannot listen for the call-back of the host: {error}");
        let family = if is_ipv4 { "ipv4" } else { "ipv6" };
        match call_back_listener(is_ipv4, self.port) {
            Ok(listener) => {
                let name = format!("call-back-{family}-{}", self.port);
                if let Some(pending) = InFlightMarker::of(&name, Instant::now(), &request.log) {
                    return Ok((listener, Some(pending)));
                }
                request.log.debug(format_args!(
                    "another agent is about to use TCP port {}; taking another",
                    self.port
                ));
            }
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                request.log.debug(format_args!("TCP port {}: {error}; taking another", self.port));
            }
            Err(error) => return Err(explain(error)),
        }
        // Nobody calls a port that was free for the request of an agent before us.
        Ok((call_back_listener(is_ipv4, 0).map_err(explain)?, None))
    }

    /// Sends the request, round after round, until a host has answered it.
    fn request(&self, exchange: &mut Exchange) -> Result<Answer, String> {
        let request = exchange.request;
        let packet = Packet { port: exchange.port, ..request.packet(request.wire_request()?)? };
        let mut next_round = Instant::now();
        loop {
            let now = Instant::now();
            if now >= request.deadline {
                return Err(self.silence(exchange));
            }
            if now >= next_round {
                self.send(exchange, std::slice::from_ref(&packet))?;
                next_round = now + self.retrans;
            }
            exchange.calls.wait(request.deadline.min(next_round))?;
            exchange.calls.accept(request, || {
                call_session(request, request.operation, std::slice::from_ref(&packet))
            })?;
            let Some(CallbackEvent::Committed(call)) = exchange.calls.attend(request, true) else { continue };
            let host = call.peer.ip();
            let is_settled = exchange.settled.as_ref().is_none_or(|settled| settled.contains(&host));
            if call.session.is_bound() || is_settled {
                return finish(call, exchange);
            }
            // It gets no proof, so it has not begun anything.
            request.log.debug(format_args!("{host} does not say which request it calls back for"));
            drop(call);
            self.settle(exchange, Some(host))?;
            next_round = Instant::now();
        }
    }

    /// Asks rows of questions until a host has answered one, or says that it
    /// is one of ours; until `host` has, if one is given.
    fn settle(&self, exchange: &mut Exchange, host: Option<IpAddr>) -> Result<(), String> {
        let settled = self.ask_around(exchange, host);
        // Who has called back until now, has for a question and not for the request.
        exchange.calls.clear();
        settled
    }

    fn ask_around(&self, exchange: &mut Exchange, host: Option<IpAddr>) -> Result<(), String> {
        let request = exchange.request;
        loop {
            let row = SyncProbe::new(u32::from_le_bytes(random()?));
            let questions = row.requests(&nobody()?, u32::from_le_bytes(random()?));
            let packets = questions.into_iter().map(|question| request.packet(question));
            let packets: Vec<Packet> = packets.collect::<Result<_, _>>()?;
            let packets: Vec<Packet> =
                packets.into_iter().map(|packet| Packet { port: exchange.port, ..packet }).collect();
            self.send(exchange, &packets)?;
            let again = Instant::now() + self.retrans * ROW_ROUNDS;
            let mut rows: Vec<(IpAddr, SyncProbe)> = Vec::new();
            while Instant::now() < again {
                if request.time_left().is_zero() {
                    return Err(self.silence(exchange));
                }
                exchange.calls.wait(request.deadline.min(again))?;
                // Any verdict is an answer to a question; others are of older requests.
                exchange.calls.accept(request, || call_session(request, Operation::Status, &packets))?;
                while let Some(event) = exchange.calls.attend(request, false) {
                    let (call, symbol) = match event {
                        CallbackEvent::Answered(call, Answer::Verdict(verdict)) => (call, verdict.to_wire()),
                        CallbackEvent::Answered(call, _)
                        | CallbackEvent::Broken(call)
                        | CallbackEvent::Committed(call) => (call, u8::MAX),
                    };
                    let peer = call.peer.ip();
                    if call.session.is_bound() && host.is_none() {
                        return Ok(());
                    }
                    let at = rows.iter().position(|(known, _)| *known == peer).unwrap_or_else(|| {
                        rows.push((peer, row.clone()));
                        rows.len() - 1
                    });
                    if !rows[at].1.is_over_after(symbol) {
                        continue;
                    }
                    exchange.settled.get_or_insert_default().push(peer);
                    if host.is_none_or(|host| host == peer) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A round of datagrams, one for each packet from each address. They differ
    /// in the address alone, so that a daemon which hears several takes them
    /// for one request. What goes wrong ends the first round only: interfaces
    /// come and go while an answer is awaited.
    fn send(&self, exchange: &mut Exchange, packets: &[Packet]) -> Result<(), String> {
        let is_first = exchange.sent.from.is_empty() && exchange.sent.failures.is_empty();
        let is_ipv4 = self.group.is_ipv4();
        let locals = match addresses::local(is_ipv4, self.interface) {
            Ok(locals) => locals,
            Err(error) => {
                let reason = match self.interface {
                    Some(name) if error.kind() == ErrorKind::NotFound => {
                        format!("there is no interface {name} here")
                    }
                    _ => format!("cannot list the addresses of this machine: {error}"),
                };
                if is_first {
                    return Err(reason);
                }
                exchange.request.log.debug(format_args!("{reason}"));
                exchange.sent = Sent { from: Vec::new(), failures: vec![reason] };
                return Ok(());
            }
        };
        exchange.sent = Sent::default();
        for local in locals {
            match self.send_from(&local, exchange.request, packets) {
                Ok(()) => {
                    let group = SocketAddr::new(self.group, self.port);
                    exchange
                        .request
                        .log
                        .debug(format_args!("sent {} to {group} from {local}", packets.len()));
                    exchange.sent.from.push(local);
                    exchange.has_sent = true;
                }
                Err(error) => {
                    exchange.request.log.debug(format_args!("cannot send from {local}: {error}"));
                    exchange.sent.failures.push(format!("{local}: {error}"));
                }
            }
        }
        Ok(())
    }

    fn send_from(
        &self,
        local: &LocalAddress,
        request: &AgentRequest,
        packets: &[Packet],
    ) -> std::io::Result<()> {
        let socket = sender(local.address, local.index, HOPS)?;
        let is_ipv4 = self.group.is_ipv4();
        for packet in packets {
            let packet = Packet {
                address_len: if is_ipv4 { 4 } else { 16 },
                address: left_aligned(local.address),
                family: if is_ipv4 { FAMILY_IPV4 } else { FAMILY_IPV6 },
                ..packet.clone()
            };
            socket.send_to(
                &packet.encode_signed(&request.policy.key),
                SocketAddr::new(self.group, self.port),
            )?;
        }
        Ok(())
    }

    /// What there is to say when the time is up.
    fn silence(&self, exchange: &Exchange) -> String {
        let timed_out = exchange.request.timed_out();
        if let Some(call) = exchange.calls.last() {
            let awaited = call.session.awaited();
            return format!("{timed_out}: {} called back, but did not give {awaited}", call.peer);
        }
        if let Some(note) = &exchange.calls.note {
            return format!("{timed_out}: {note}");
        }
        let group = format!("{} port {}", self.group, self.port);
        let Sent { from, failures } = &exchange.sent;
        if from.is_empty() {
            let on = self.interface.map_or(String::new(), |name| format!(" on {name}"));
            let why = match failures.is_empty() {
                true => format!("this machine has no address of its family{on}"),
                false => failures.join(", "),
            };
            return format!("{timed_out}: the request could not be sent to {group}: {why}");
        }
        let from: Vec<String> = from.iter().take(NAMED_MAX).map(LocalAddress::to_string).collect();
        let more = if exchange.sent.from.len() > NAMED_MAX { ", ..." } else { "" };
        format!(
            "{timed_out}: no host called back. The request went to {group} from {}{more}. Look at the way of the multicast \
             (IGMP snooping, route), at a firewall on TCP port {} here, and whether fence_virtd runs with this key and hash",
            from.join(", "),
            exchange.port
        )
    }
}

/// Lets the one host that is believed carry out the request; the others are dropped first.
fn finish(call: Callback, exchange: &mut Exchange) -> Result<Answer, String> {
    let Callback { mut stream, peer, mut session } = call;
    exchange.request.log.debug(format_args!("{peer} has the key, and gets our proof"));
    exchange.calls.close();
    converse(&peer.to_string(), &mut stream, &mut session, exchange.request)
}

fn call_session(
    request: &AgentRequest,
    operation: Operation,
    packets: &[Packet],
) -> Result<ClientSession, String> {
    let bindings = packets.iter().map(Packet::binding).collect();
    Ok(ClientSession::called_back(request.policy.clone(), operation, bindings, random()?))
}

fn left_aligned(address: IpAddr) -> [u8; 28] {
    let mut out = [0; 28];
    match address {
        IpAddr::V4(v4) => out[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out[..16].copy_from_slice(&v6.octets()),
    }
    out
}
