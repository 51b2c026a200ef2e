//! Lists of all hosts that hear a multicast group.
//!
//! One host's answer does not say that it knows the VM (a C daemon answers failure in either case), and another
//! host may have it. A list shows that, and changes nothing, so every host that calls back gets our proof.
//!
//! A C daemon does not say which request it calls back for. If it was slow, that may be the one before, which it
//! carries out with our proof; its answer is then no list. A reboot must not be asked of it again. So before the lists
//! of a reboot the port stays closed for a moment: a call-back that finds it closed is given up.

use std::net::IpAddr;
use std::time::Duration;

use super::agent_request::AgentRequest;
use super::callbacks::CallbackEvent;
use super::listing::{self, HostListing, VmListing};
use super::multicast::Multicast;
use crate::fence::{Answer, Operation, PowerState};
use crate::session::AgentSession;
use crate::sys::poll::PollSet;
use crate::time::Instant;

/// Time for which late call-backs find no listener.
const CLOSED: Duration = Duration::from_millis(300);

impl Multicast<'_> {
    /// Collects the lists of the hosts in the group, in search of the request's VM. Waits until `window` for
    /// hosts that have not been heard yet, and until the request's deadline for those in `others`, which have,
    /// unless `host`, whose answer to the operation `asked` is in question, lists the VM. Ends as soon as no list can
    /// change what follows.
    pub(super) fn lists(
        &self,
        request: &AgentRequest,
        asked: Operation,
        host: IpAddr,
        others: &[IpAddr],
        window: Instant,
    ) -> Result<Vec<HostListing>, String> {
        if asked == Operation::Reboot {
            let _ = PollSet::new().wait(Some(CLOSED.min(request.time_left())));
        }
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
            let own = listings.iter().find(|listing| listing.host == Some(host)).map(|listing| listing.vm);
            let is_listed = matches!(own, Some(VmListing::Listed(_)));
            let end = if has_all || is_listed { window.min(request.deadline) } else { request.deadline };
            let runs = |listing: &HostListing| listing.vm == VmListing::Listed(PowerState::Running);
            let is_settled = own.is_some() && listings.iter().any(runs) || is_listed && has_all;
            if now >= end || is_settled {
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
                if vm == VmListing::Stale && asked != Operation::Reboot {
                    // The same request again does no harm; the list is still to come.
                    request.log.debug(format_args!("{from}: {vm}"));
                    continue;
                }
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
