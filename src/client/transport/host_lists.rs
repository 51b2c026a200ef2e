//! Lists of all hosts that hear a multicast group.
//!
//! One host's answer does not say that it knows the VM (a C daemon answers failure in either case), and another
//! host may have it. A list shows that, and changes nothing, so every host that calls back gets our proof.
//!
//! A C daemon does not say which request it calls back for. If it was slow, that may be the one before, which it
//! carries out with our proof; its answer is then no list, and it must not be asked again.

use std::net::IpAddr;

use super::agent_request::AgentRequest;
use super::callbacks::CallbackEvent;
use super::listing::{self, HostListing, VmListing};
use super::multicast::Multicast;
use crate::fence::{Answer, PowerState};
use crate::session::AgentSession;
use crate::time::Instant;

impl Multicast<'_> {
    /// Collects the lists of the hosts in the group, in search of the request's VM. Waits until `window` for
    /// hosts that have not been heard yet, and until the request's deadline for those in `others`, which have.
    /// Ends as soon as `host`, whose answer is in question, and another one that may run the VM are known.
    pub(super) fn lists(
        &self,
        request: &AgentRequest,
        host: IpAddr,
        others: &[IpAddr],
        window: Instant,
    ) -> Result<Vec<HostListing>, String> {
        let (mut exchange, marker) = self.open(request)?;
        let packets = [exchange.packet()?];
        let mut listings: Vec<HostListing> = Vec::new();
        let mut next_round = Instant::now();
        loop {
            let now = Instant::now();
            let is_missing = |other: &IpAddr| {
                !listings.iter().any(|listing| listing.host == Some(*other))
                    && !exchange.calls.failed.contains(other)
            };
            let has_all = !others.iter().any(is_missing);
            let end = if has_all { window.min(request.deadline) } else { request.deadline };
            if now >= end || is_settled(&listings, host, has_all) {
                break;
            }
            if now >= next_round {
                exchange.datagrams.send(&packets, request)?;
                next_round = now + self.retrans;
            }
            exchange.calls.wait(end.min(next_round))?;
            exchange.accept(&packets)?;
            while let Some(event) = exchange.calls.next_event(request, false) {
                let (from, vm) = read(event, request);
                if !listings.iter().any(|known| known.host == Some(from)) {
                    request.log.debug(format_args!("{from}: {vm}"));
                    listings.push(HostListing { host: Some(from), vm });
                }
            }
        }
        if let Some(marker) = marker.filter(|_| listings.iter().any(|listing| listing.host == Some(host))) {
            marker.clear();
        }
        Ok(listings)
    }
}

fn read(event: CallbackEvent, request: &AgentRequest) -> (IpAddr, VmListing) {
    let (call, vm) = match event {
        CallbackEvent::Answered(call, answer) => {
            let vm = listing::read(&answer, &request.target, call.session.is_bound());
            let is_list = matches!(answer, Answer::HostList(_));
            let vm = if is_list || call.session.is_bound() { vm } else { VmListing::Stale };
            (call, vm)
        }
        CallbackEvent::Broken(call) | CallbackEvent::Committed(call) => {
            let is_stale = call.session.is_committed() && !call.session.is_bound();
            (call, if is_stale { VmListing::Stale } else { VmListing::Unknown })
        }
    };
    (call.peer.ip(), vm)
}

/// True if no further list can change what follows; `has_all`: the hosts that have been heard have sent theirs.
fn is_settled(listings: &[HostListing], host: IpAddr, has_all: bool) -> bool {
    let Some(own) = listings.iter().find(|listing| listing.host == Some(host)) else { return false };
    let runs = |listing: &HostListing| listing.vm == VmListing::Listed(PowerState::Running);
    listings.iter().any(runs) || (has_all && matches!(own.vm, VmListing::Listed(_)))
}
