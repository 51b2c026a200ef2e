//! Datagrams of a multicast request.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use super::agent_request::AgentRequest;
use crate::client::addresses::{self, LocalAddress};
use crate::fence::SignatureKind;
use crate::sys::error_text;
use crate::sys::multicast_sender::sender;
use crate::wire::{FAMILY_IPV4, FAMILY_IPV6, Packet};

/// Maximum number of addresses named in a message.
const NAMED_MAX: usize = 8;

/// Sends a request from all local addresses, in rounds.
pub(super) struct DatagramSender<'a> {
    group: SocketAddr,
    interface: Option<&'a str>,
    hops: u32,
    /// Source addresses of the last round.
    from: Vec<LocalAddress>,
    /// Errors of the last round.
    failures: Vec<String>,
    /// True once any datagram has been sent.
    pub(super) has_sent: bool,
}

impl<'a> DatagramSender<'a> {
    pub(super) fn new(group: SocketAddr, interface: Option<&'a str>, hops: u32) -> DatagramSender<'a> {
        DatagramSender { group, interface, hops, from: Vec::new(), failures: Vec::new(), has_sent: false }
    }

    /// Sends each packet from each address. The datagrams differ only in the
    /// address, so that a daemon that receives several treats them as one request.
    /// Returns only an error of the first round: later, interfaces may come and go.
    pub(super) fn send(&mut self, packets: &[Packet], request: &AgentRequest) -> Result<(), String> {
        let is_first = self.from.is_empty() && self.failures.is_empty();
        self.from.clear();
        self.failures.clear();
        let locals = match addresses::local(self.group.is_ipv4(), self.interface) {
            Ok(locals) => locals,
            Err(error) => {
                let reason = match self.interface {
                    Some(name) if error.kind() == ErrorKind::NotFound => format!("no such interface: {name}"),
                    _ => format!("cannot list the local addresses: {}", error_text(&error)),
                };
                if is_first {
                    return Err(reason);
                }
                request.log.debug(format_args!("{reason}"));
                self.failures.push(reason);
                return Ok(());
            }
        };
        let group = self.group;
        for local in locals {
            match self.send_from(&local, packets, request) {
                Ok(()) => {
                    request.log.debug(format_args!("sent {} to {group} from {local}", packets.len()));
                    self.from.push(local);
                    self.has_sent = true;
                }
                Err(error) => {
                    let reason = format!("{local}: {}", error_text(&error));
                    request.log.debug(format_args!("cannot send from {reason}"));
                    self.failures.push(reason);
                }
            }
        }
        Ok(())
    }

    fn send_from(&self, local: &LocalAddress, packets: &[Packet], request: &AgentRequest) -> io::Result<()> {
        let socket = sender(local.address, local.index, self.hops)?;
        for packet in packets {
            socket.send_to(&request.policy.sign(&from_address(packet, local.address)), self.group)?;
        }
        Ok(())
    }

    /// Explains why no host called back on TCP port `port`; `hash` signs the requests.
    pub(super) fn no_callback(&self, port: u16, hash: SignatureKind) -> String {
        let group = format!("{} port {}", self.group.ip(), self.group.port());
        if self.from.is_empty() {
            let on = self.interface.map_or(String::new(), |name| format!(" on {name}"));
            let why = match self.failures.is_empty() {
                true => format!("no local address of this family{on}"),
                false => self.failures.join(", "),
            };
            return format!("cannot send the request to {group}: {why}");
        }
        let from: Vec<String> = self.from.iter().take(NAMED_MAX).map(LocalAddress::to_string).collect();
        let more = if self.from.len() > NAMED_MAX { ", ..." } else { "" };
        let version_2 = match hash {
            SignatureKind::HmacSha256 => "; C daemons do not answer hmac-sha256",
            SignatureKind::Hash(_) => "",
        };
        format!(
            "no host called back. The request went to {group} from {}{more}. Check the multicast path (IGMP snooping, \
             route), the firewall on TCP port {port} here, and that fence_virtd runs with this key and hash{version_2}",
            from.join(", ")
        )
    }
}

/// Returns the packet as it is sent from an address, which the daemon is to call back.
pub(super) fn from_address(packet: &Packet, address: IpAddr) -> Packet {
    let is_ipv4 = address.is_ipv4();
    Packet {
        address_len: if is_ipv4 { 4 } else { 16 },
        address: left_aligned(address),
        family: if is_ipv4 { FAMILY_IPV4 } else { FAMILY_IPV6 },
        ..packet.clone()
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
