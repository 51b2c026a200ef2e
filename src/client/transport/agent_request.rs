use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::client::stderr_log::StderrLog;
use crate::fence::{Answer, Operation, Request, SignatureKind, Target};
use crate::session::{self, ClientSession, Policy};
use crate::time::Instant;
use crate::wire::{Packet, Signature};

/// Answer of a host.
#[derive(Debug)]
pub(in crate::client) struct HostReply {
    pub(in crate::client) answer: Answer,
    /// Address from which the host called back; `None` where there is only one host to ask.
    pub(in crate::client) host: Option<IpAddr>,
    /// True if the host has proven which request it calls back for: a daemon of ours.
    pub(in crate::client) is_bound: bool,
}

/// Request of this agent, with its credentials and deadline.
#[derive(Clone)]
pub(in crate::client) struct AgentRequest {
    pub(in crate::client) operation: Operation,
    pub(in crate::client) target: Target,
    pub(in crate::client) is_uuid: bool,
    pub(in crate::client) policy: Arc<Policy>,
    pub(in crate::client) begin: Instant,
    pub(in crate::client) deadline: Instant,
    /// Addresses of the host that alone may carry it out, from one of which it calls back; others get no proof.
    pub(in crate::client) only: Option<Vec<IpAddr>>,
    pub(in crate::client) log: StderrLog,
}

impl AgentRequest {
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Beginning of a timeout message, in the words that pacemaker recognises.
    pub(super) fn timed_out(&self) -> String {
        let whole = self.deadline.saturating_duration_since(self.begin);
        // Rounded up: `begin` is some microseconds after the deadline was set.
        let seconds = whole.as_secs() + u64::from(whole.subsec_nanos() > 0);
        format!("timed out after {seconds} s")
    }

    /// Makes the request of the wire with a random sequence number, so that
    /// simultaneous requests are not taken for duplicates.
    pub(super) fn wire_request(&self) -> Result<Request, String> {
        let seqno = u32::from_le_bytes(random()?);
        Ok(Request { operation: self.operation, target: self.target.clone(), seqno })
    }

    pub(super) fn flags(&self) -> u8 {
        u8::from(self.is_uuid)
    }

    /// Makes a packet with fresh salt, and in version 2 a fresh nonce. Its address and port are those of tcp and vsock: none.
    pub(super) fn packet(&self, request: Request) -> Result<Packet, String> {
        Ok(Packet {
            request,
            signature: match self.policy.hash {
                SignatureKind::Hash(hash) => Signature::unsigned(hash),
                SignatureKind::HmacSha256 => Signature::without_mac(self.policy.key.id(), random()?),
            },
            address_len: 0,
            flags: self.flags(),
            address: [0; 28],
            port: 0,
            random: random()?,
            family: 0,
        })
    }

    /// Makes a session that starts with the request, for tcp and vsock.
    pub(super) fn session(&self) -> Result<ClientSession, String> {
        let packet = self.packet(self.wire_request()?)?;
        Ok(ClientSession::opening(self.policy.clone(), &packet, random()?))
    }
}

/// Makes a name that no VM has.
pub(in crate::client) fn nobody() -> Result<Target, String> {
    let name = session::nobody(u32::from_le_bytes(random()?));
    Target::new(name.as_bytes()).map_err(|error| error.to_string())
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("cannot get random numbers: {error}"))?;
    Ok(bytes)
}
