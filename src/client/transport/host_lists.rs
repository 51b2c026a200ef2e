//! Lists of all hosts that hear a multicast group.
//!
//! One host's answer does not say that it knows the VM, and another host may have it. A list shows that, and changes
//! nothing.
//!
//! A C daemon does not say which request it calls back for. If it was slow, that may be one before, of this agent or of
//! an earlier one, which it would carry out with our proof. So only daemons of ours get the proof, which say under the
//! key that they call back for this list; that a C daemon called back is noted.

use std::net::IpAddr;

use super::agent_request::AgentRequest;
use super::callbacks::CallbackEvent;
use super::listing::{self, HostListing, VmListing};
use super::multicast::Multicast;
use crate::time::Instant;

impl Multicast<'_> {
    /// Collects the lists of the hosts in the group, in search of the request's VM, until the request's deadline, or
    /// until the list of `host`, whose answer is in question, has the VM.
    pub(super) fn lists(&self, request: &AgentRequest, host: IpAddr) -> Result<Vec<HostListing>, String> {
        let (mut exchange, marker) = self.open(request)?;
        let packets = [exchange.packet()?];
        let mut listings: Vec<HostListing> = Vec::new();
        let mut next_round = Instant::now();
        let of_host = |listing: &&HostListing| listing.host == Some(host);
        while !listings.iter().filter(of_host).any(|own| matches!(own.vm, VmListing::Listed(_))) {
            let now = Instant::now();
            if now >= request.deadline {
                break;
            }
            if now >= next_round {
                exchange.datagrams.send(&packets, request)?;
                next_round = now + self.retrans;
            }
            exchange.calls.wait(request.deadline.min(next_round))?;
            exchange.accept(&packets)?;
            while let Some(event) = exchange.calls.next_event(request, |session| !session.is_bound()) {
                let (call, vm) = match event {
                    CallbackEvent::Answered(call, answer) => {
                        let vm = listing::read(&answer, &request.target, call.session.is_bound());
                        (call, vm)
                    }
                    CallbackEvent::Broken(call) | CallbackEvent::Committed(call) => {
                        (call, VmListing::Unknown)
                    }
                };
                request.log.debug(format_args!("{} {vm}", call.peer));
                note(&mut listings, call.peer.ip(), vm);
            }
        }
        for silent in exchange.calls.committed() {
            note(&mut listings, silent, VmListing::Unknown);
        }
        if let Some(marker) = marker.filter(|_| listings.iter().any(|listing| of_host(&listing))) {
            marker.clear();
        }
        Ok(listings)
    }
}

/// Notes what a host says. The first list of an address counts, and more than none: a host that hears the request from
/// two addresses calls back twice, and one call-back ends as a duplicate.
fn note(listings: &mut Vec<HostListing>, from: IpAddr, vm: VmListing) {
    match listings.iter_mut().find(|known| known.host == Some(from)) {
        None => listings.push(HostListing { host: Some(from), vm }),
        Some(known) if known.vm == VmListing::Unknown => known.vm = vm,
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::PowerState;

    #[test]
    fn a_list_counts_more_than_none_and_the_first_one_stays() {
        let host: IpAddr = [192, 0, 2, 1].into();
        let running = VmListing::Listed(PowerState::Running);
        for order in [
            [VmListing::Unknown, running, VmListing::Absent],
            [running, VmListing::Unknown, VmListing::Absent],
        ] {
            let mut listings = Vec::new();
            for vm in order {
                note(&mut listings, host, vm);
            }
            assert_eq!(listings, [HostListing { host: Some(host), vm: running }]);
        }
    }
}
