//! Inquiry after an answer that leaves open if the host knows the VM at all.
//!
//! The wire has no answer "no such VM": off, on and reboot then fail, and status says off, or fails in version 2. Where several hosts hear
//! the multicasts, each answers for itself, and the VM may be on another one. So the agent asks for lists:
//!
//! | the host that answered | other hosts | then |
//! | --- | --- | --- |
//! | lists the VM, or sends no list | | its answer counts |
//! | does not list it | exactly one lists it as on, and each that called back has sent a list | that one is asked |
//! | does not list it | any other case | its answer counts, and the agent says which hosts list it |
//!
//! The second host gets a request of its own, and no other host gets a proof for it. The first one has done
//! nothing, since it knows no such VM. A host that lists the VM as off is not asked: that it is off there is no proof
//! that it is off elsewhere. A denial counts at once. So does the answer of a C daemon by multicast, and of any daemon
//! without auth: it does not say which request it answers, and may be carrying it out again.

use std::net::IpAddr;
use std::time::Duration;

use super::report::AgentOutcome;
use super::settings::Transport;
use super::transport::{self, AgentRequest, HostListing, HostReply, VmListing, nobody};
use crate::fence::{Answer, Operation, PowerState, SignatureKind, Verdict};
use crate::time::Instant;

/// Time for a question after an answer.
const INQUIRY_LIMIT: Duration = Duration::from_secs(3);

/// Time for the lists of all hosts. Two more rounds of datagrams leave by then.
const HOSTS_LIMIT: Duration = Duration::from_secs(5);

/// What the lists say about an answer.
#[derive(Debug, PartialEq, Eq)]
enum Whereabouts {
    /// The answer counts.
    Stands,
    /// None of the hosts that have sent lists, with their addresses if there may be several, has the VM.
    Nowhere(Vec<IpAddr>),
    /// This other host alone runs the VM.
    At(IpAddr),
    /// The answer counts; other hosts list the VM, or have sent no list.
    Elsewhere(Vec<HostListing>),
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
        Answer::Verdict(verdict) if is_open(*verdict, request.operation, request.policy.hash, transport) => {
            inquire(transport, request, &reply, *verdict)
        }
        _ => AgentOutcome::Answered(reply.answer),
    }
}

/// True if the host may have answered so because it does not know the VM. A list over a serial line is slow, and
/// nothing but a remark can follow: not after a status.
fn is_open(verdict: Verdict, operation: Operation, hash: SignatureKind, transport: &Transport) -> bool {
    let is_version_2 = hash == SignatureKind::HmacSha256;
    match verdict {
        Verdict::Success | Verdict::Denied => false,
        // In version 2 off is the answer of a host that has the VM.
        Verdict::Failure => operation.is_power() || (is_version_2 && operation == Operation::Status),
        Verdict::Off => {
            let is_line = matches!(transport, Transport::Serial { .. });
            operation == Operation::Status && !is_line && !is_version_2
        }
    }
}

fn inquire(
    transport: &Transport,
    request: &AgentRequest,
    reply: &HostReply,
    verdict: Verdict,
) -> AgentOutcome {
    if reply.host.is_some() && !reply.is_bound {
        return AgentOutcome::Answered(verdict.into());
    }
    let begin = Instant::now();
    let limit = if reply.host.is_some() { HOSTS_LIMIT } else { INQUIRY_LIMIT };
    let deadline = lists_end(begin, limit, request.deadline);
    let list = AgentRequest { operation: Operation::HostList, begin, deadline, ..request.clone() };
    let listings = match transport::lists(transport, &list, reply) {
        Ok(listings) => listings,
        Err(reason) => {
            request.log.debug(format_args!("no list: {reason}"));
            Vec::new()
        }
    };
    match find(&listings, reply.host) {
        Whereabouts::Stands => AgentOutcome::Answered(verdict.into()),
        Whereabouts::Nowhere(hosts) => AgentOutcome::Unlisted(verdict, hosts),
        Whereabouts::Elsewhere(others) => {
            let others: Vec<String> = others.iter().map(HostListing::to_string).collect();
            let remark = format!("no other host is asked: {}; {OWN_GROUP}", others.join(", "));
            AgentOutcome::Remarked(verdict, remark)
        }
        Whereabouts::At(host) => ask_second(transport, request, host, verdict),
    }
}

/// End of the lists: half of the time that is left is for a second request.
fn lists_end(begin: Instant, limit: Duration, deadline: Instant) -> Instant {
    begin + limit.min(deadline.saturating_duration_since(begin) / 2)
}

/// Asks the host that runs the VM. Unless it succeeds, the verdict of the first host counts.
fn ask_second(transport: &Transport, request: &AgentRequest, host: IpAddr, verdict: Verdict) -> AgentOutcome {
    request.log.print(format_args!(
        "{} of {:?}: the host that answered does not list the VM, {host} lists it as on and is asked; {OWN_GROUP}",
        request.operation,
        request.target.as_str(),
    ));
    let second = AgentRequest { only: Some(vec![host]), ..request.clone() };
    let failure = match transport::send(transport, &second) {
        Ok(HostReply { answer: Answer::Verdict(second), .. })
            if second == Verdict::Success
                || (second == Verdict::Off && request.operation == Operation::Status) =>
        {
            return AgentOutcome::Answered(second.into());
        }
        Ok(reply) => format!("it answered {}", reply.answer),
        Err(reason) => reason,
    };
    AgentOutcome::Remarked(
        verdict,
        format!("{host}, which lists the VM as on, did not succeed either: {failure}"),
    )
}

/// Advice where several hosts hear one group.
const OWN_GROUP: &str =
    "give the VMs of each host a multicast group of their own (address of the listener, -a)";

/// Judges the lists. `host` gave the answer.
fn find(listings: &[HostListing], host: Option<IpAddr>) -> Whereabouts {
    let own = listings.iter().find(|listing| listing.host == host).map(|listing| listing.vm);
    let others = || listings.iter().filter(|listing| listing.host != host);
    let is_listed = others().any(|other| matches!(other.vm, VmListing::Listed(_)));
    match own {
        Some(VmListing::Listed(_)) => return Whereabouts::Stands,
        Some(VmListing::Absent) if !is_listed => {
            let absent = listings.iter().filter(|listing| listing.vm == VmListing::Absent);
            return Whereabouts::Nowhere(absent.filter_map(|listing| listing.host).collect());
        }
        _ if !is_listed => return Whereabouts::Stands,
        _ => {}
    }
    let has_all = own == Some(VmListing::Absent) && others().all(|other| other.vm != VmListing::Unknown);
    let running = others().filter(|other| other.vm == VmListing::Listed(PowerState::Running));
    let running: Vec<IpAddr> = running.filter_map(|other| other.host).collect();
    match running[..] {
        [only] if has_all => Whereabouts::At(only),
        _ => {
            Whereabouts::Elsewhere(others().filter(|other| other.vm != VmListing::Absent).copied().collect())
        }
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
        only: reply.host.map(|host| vec![host]),
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
