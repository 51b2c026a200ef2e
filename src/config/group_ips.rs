//! The `ip` and `source` lines of a group: addresses, networks and CIDs of requesters.

use crate::groups::{Requesters, RequestersError};

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::lexer::Span;

/// Kinds of listeners that a group applies to.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupListeners {
    /// Multicast or tcp, which know a requester by its address only.
    pub(super) by_address: bool,
    /// vsock.
    pub(super) by_cid: bool,
    /// vsock or serial, which know the requesting VM.
    pub(super) by_vm: bool,
}

/// True if there is an `ip` line, or a `source` line with an address or network.
pub(super) fn has_address(ips: &[Span], sources: &[Span]) -> bool {
    let is_address =
        |source: &Span| matches!(Requesters::parse_source(source.text), Ok(Some(Requesters::Network(_))));
    !ips.is_empty() || sources.iter().any(is_address)
}

/// Reports the `ip` and `source` lines that match no requester, and those that match all.
pub(super) fn check(ips: &[Span], sources: &[Span], listeners: GroupListeners, sink: &mut DiagnosticSink) {
    for ip in ips {
        check_line(*ip, Requesters::parse(ip.text), listeners, sink);
    }
    for source in sources {
        match Requesters::parse_source(source.text) {
            Ok(None) => {}
            Ok(Some(requesters)) => check_line(*source, Ok(requesters), listeners, sink),
            Err(RequestersError::Address) => {
                let shown = quoted(source.text);
                let message = format!(
                    "{shown} is no IP address and no name of a VM; write one address, network or CID a line, or list \
                     the VM by its UUID"
                );
                sink.error(source.at, message);
            }
            Err(error) => check_line(*source, Err(error), listeners, sink),
        }
    }
}

fn check_line(
    ip: Span,
    parsed: Result<Requesters, RequestersError>,
    listeners: GroupListeners,
    sink: &mut DiagnosticSink,
) {
    let shown = quoted(ip.text);
    let error = match parsed {
        Ok(Requesters::Network(network)) if network.is_whole_family() => {
            let family = if network.is_ipv4() { "IPv4" } else { "IPv6" };
            let message =
                format!("this is every {family} address: any requester with the key may use this group");
            return sink.warning(ip.at, message);
        }
        Ok(Requesters::Cid(_)) if !listeners.by_cid => {
            let message = format!(
                "{shown} is a vsock CID, but no vsock listener uses this group: it matches no requester"
            );
            return sink.warning(ip.at, message);
        }
        Ok(_) => return,
        Err(error) => error,
    };
    let message = match error {
        RequestersError::Word if listeners.by_vm || !listeners.by_address => {
            let message = format!(
                "{shown} is no IP address, network or CID: it matches no requester; list a VM as uuid = {shown}"
            );
            return sink.warning(ip.at, message);
        }
        RequestersError::Word => format!(
            "{shown} is no IP address, network or CID; write the address of the requester: names are not resolved"
        ),
        RequestersError::Address => {
            format!(
                "{shown} is no IP address; write one address or network (192.0.2.0/24, 2001:db8::/64) a line"
            )
        }
        RequestersError::Cid => format!("{shown} is no CID; expected 0 to {}", u32::MAX),
        RequestersError::PrefixLength(longest) => {
            format!("invalid prefix length in {shown}; expected 0 to {longest} after the slash")
        }
        RequestersError::HostBits { address, network } => format!(
            "{shown} has bits set behind its prefix; write {network} for the network, or {address} for one address"
        ),
    };
    sink.error(ip.at, message);
}
