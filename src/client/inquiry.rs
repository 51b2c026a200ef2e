//! Inquiry after an answer that leaves open if the host knows the VM at all.
//!
//! The wire has no answer "no such VM": off, on and reboot then fail, and status says off. Where several hosts hear
//! the multicasts, each answers for itself, and the VM may be on another one. So the agent asks for lists:
//!
//! | the host that answered | others | then |
//! | --- | --- | --- |
//! | shows the VM running | | its answer counts |
//! | | one shows it running | that one is asked |
//! | shows it off | none shows it running | its answer counts |
//! | shows no such VM | one shows it off | that one is asked |
//! | shows no such VM | none shows it | the answer counts, and the agent says why |
//!
//! The second host gets a request of its own, and no other host gets a proof for it. The first one has done
//! nothing: it knows no such VM, or has denied the request, or has failed with a VM that is off there. A request
//! whose answer is missing is never made again, nor is one made to a host that may have carried out the first: any
//! where auth is none; for a reboot, a C daemon that called back late. (A second off or on changes nothing.)

use std::net::IpAddr;
use std::time::Duration;

use super::hosts::Hosts;
use super::report::AgentOutcome;
use super::settings::Transport;
use super::transport::{self, AgentRequest, HostListing, HostReply, VmListing, nobody};
use crate::auth::HashKind;
use crate::fence::{Answer, Operation, PowerState, Verdict};
use crate::time::Instant;

/// Time for a question after an answer.
const INQUIRY_LIMIT: Duration = Duration::from_secs(3);

/// Time for the lists of hosts that have not been heard yet. Two more rounds of datagrams leave by then.
const HOSTS_LIMIT: Duration = Duration::from_secs(5);

/// What the lists say about an answer.
#[derive(Debug, PartialEq, Eq)]
enum Whereabouts {
    /// The answer counts.
    Stands,
    /// None of the hosts, `None` for the only one, has the VM.
    Nowhere(Vec<Option<IpAddr>>),
    /// This other host has the VM.
    At(IpAddr),
    /// Several other hosts have the VM.
    AtSeveral(Vec<IpAddr>),
    /// This other host may have carried out the request.
    Doubtful(IpAddr),
}

/// Sends the request, and inquires where the answer is not enough.
pub(super) fn ask(transport: &Transport, request: &AgentRequest) -> AgentOutcome {
    let reply = match transport::send(transport, request) {
        Ok(reply) => reply,
        Err(reason) => return AgentOutcome::Unanswered(reason),
    };
    request.log.debug(format_args!("{}", reply.answer));
    match &reply.answer {
        Answer::HostList(entries) if entries.is_empty() && hides(transport, request, &reply) => {
            AgentOutcome::HiddenList
        }
        Answer::Verdict(verdict) if is_open(*verdict, request.operation, reply.host.is_some()) => {
            inquire(transport, request, &reply, *verdict)
        }
        _ => AgentOutcome::Answered(reply.answer),
    }
}

/// True if the host may have answered so because it does not know the VM. A denial says nothing more where
/// there is no other host.
fn is_open(verdict: Verdict, operation: Operation, has_others: bool) -> bool {
    match verdict {
        Verdict::Success => false,
        Verdict::Failure => operation.is_power(),
        Verdict::Off => operation == Operation::Status,
        Verdict::Denied => operation.names_a_domain() && has_others,
    }
}

fn inquire(
    transport: &Transport,
    request: &AgentRequest,
    reply: &HostReply,
    verdict: Verdict,
) -> AgentOutcome {
    let begin = Instant::now();
    let list = AgentRequest { operation: Operation::HostList, begin, ..request.clone() };
    let limit = if reply.host.is_some() { HOSTS_LIMIT } else { INQUIRY_LIMIT };
    let listings = match transport::lists(transport, &list, request.operation, reply, begin + limit) {
        Ok(listings) => listings,
        Err(reason) => {
            request.log.debug(format_args!("no list: {reason}"));
            Vec::new()
        }
    };
    let whereabouts = find(&listings, reply.host, verdict);
    match whereabouts {
        Whereabouts::Stands => AgentOutcome::Answered(verdict.into()),
        // Without auth a host carries out what it hears: this one may have done so already.
        Whereabouts::At(_) if request.operation.is_power() && request.policy.auth == HashKind::None => {
            AgentOutcome::Answered(verdict.into())
        }
        Whereabouts::Doubtful(host) => AgentOutcome::Unanswered(format!(
            "{host} called back late and may have carried out the request, but does not say so; its log does; {OWN_GROUP}"
        )),
        Whereabouts::Nowhere(hosts) => AgentOutcome::Unlisted(verdict, hosts.into_iter().flatten().collect()),
        Whereabouts::AtSeveral(hosts) => {
            AgentOutcome::Unanswered(format!("several hosts list the VM: {}; {OWN_GROUP}", Hosts(&hosts)))
        }
        Whereabouts::At(host) => {
            request.log.print(format_args!(
                "{} of {:?}: {} does not run the VM, {host} lists it and is asked; {OWN_GROUP}",
                request.operation,
                request.target.as_str(),
                Hosts(&Vec::from_iter(reply.host)),
            ));
            let second = AgentRequest { only: Some(host), ..request.clone() };
            match transport::send(transport, &second) {
                Ok(reply) => AgentOutcome::Answered(reply.answer),
                Err(reason) => AgentOutcome::Unanswered(reason),
            }
        }
    }
}

/// Advice where several hosts hear one group.
const OWN_GROUP: &str =
    "give the VMs of each host a multicast group of their own (address of the listener, -a)";

/// Judges the lists. `host` gave the answer `verdict`.
fn find(listings: &[HostListing], host: Option<IpAddr>, verdict: Verdict) -> Whereabouts {
    let own = listings.iter().find(|listing| listing.host == host).map(|listing| listing.vm);
    let with = |state| {
        let others = listings.iter().filter(|listing| listing.host != host && listing.vm == state);
        others.filter_map(|listing| listing.host).collect::<Vec<IpAddr>>()
    };
    if let Some(&doubtful) = with(VmListing::Stale).first() {
        return Whereabouts::Doubtful(doubtful);
    }
    // A denial proves that nothing was done, whatever the list shows.
    let is_absent = own == Some(VmListing::Absent) || (verdict == Verdict::Denied && own.is_some());
    if own == Some(VmListing::Listed(PowerState::Running)) {
        return Whereabouts::Stands;
    }
    let running = with(VmListing::Listed(PowerState::Running));
    let off = with(VmListing::Listed(PowerState::Off));
    let candidates = match running.is_empty() {
        true if is_absent => off,
        _ => running,
    };
    match candidates[..] {
        [] if own == Some(VmListing::Absent) && verdict != Verdict::Denied => {
            let absent = listings.iter().filter(|listing| listing.vm == VmListing::Absent);
            Whereabouts::Nowhere(absent.map(|listing| listing.host).collect())
        }
        [] => Whereabouts::Stands,
        [only] => Whereabouts::At(only),
        _ => Whereabouts::AtSeveral(candidates),
    }
}

/// True if the host of an empty list denies the status of a VM that does not exist. It does so only where it has
/// groups, and then a list shows only what they permit.
fn hides(transport: &Transport, request: &AgentRequest, reply: &HostReply) -> bool {
    let begin = Instant::now();
    let Ok(target) = nobody() else { return false };
    let probe = AgentRequest {
        operation: Operation::Status,
        target,
        only: reply.host,
        begin,
        deadline: request.deadline.min(begin + INQUIRY_LIMIT),
        ..request.clone()
    };
    matches!(
        transport::send(transport, &probe),
        Ok(HostReply { answer: Answer::Verdict(Verdict::Denied), .. })
    )
}

#[cfg(test)]
#[path = "inquiry_tests.rs"]
mod tests;
