//! Checks for a tcp listener.

use std::io;
use std::net::SocketAddr;

use super::process::RunningDaemon;
use super::sockets;
use crate::listener::address_obstacle;
use crate::port_owner::{self, Protocol, SocketOwner};
use crate::problem::Problem;
use crate::tools::finding::{Finding, Level, listed};
use fence_virt::config::TcpConfig;
use fence_virt::fence::ListenerName;
use fence_virt::sys::error_text;

/// Facts about the host.
#[derive(Debug)]
pub(super) struct TcpFacts {
    bound: io::Result<()>,
    /// Owners of the port, if it is in use.
    owners: Vec<SocketOwner>,
    running: Option<RunningDaemon>,
    /// Severity of a missing address.
    absence: Level,
    /// Reason why nothing can arrive at the address, though a socket may be bound to it.
    obstacle: Option<String>,
}

/// Inspects the host. The socket never listens and is closed at once.
pub(super) fn inspect(config: &TcpConfig, running: Option<RunningDaemon>, absence: Level) -> TcpFacts {
    let address = SocketAddr::new(config.address, config.port);
    let bound = sockets::try_tcp(address);
    let owners = bound.as_ref().err().map(|error| port_owner::owners_if_taken(error, Protocol::Tcp, address));
    let owners = owners.unwrap_or_default();
    TcpFacts { bound, owners, running, absence, obstacle: address_obstacle(config.address) }
}

pub(super) fn judge(name: &ListenerName, config: &TcpConfig, facts: &TcpFacts) -> Vec<Finding> {
    let address = SocketAddr::new(config.address, config.port);
    let mut findings = vec![match &facts.bound {
        Ok(()) => Finding::ok(name, format!("{address} is available")),
        Err(error) => refused(name, address, error, facts),
    }];
    let is_absent = facts.bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable);
    if let Some(obstacle) = facts.obstacle.as_ref().filter(|_| !is_absent) {
        let remedy =
            "`ip address` shows the interfaces with their addresses: set this one up, or change `address`";
        findings.push(Finding::error(name, format!("{obstacle}: no requests are received"), remedy));
    }
    if config.address.is_loopback() {
        let what = format!("{} is a loopback address: guests cannot reach it", config.address);
        let remedy = "set `address` to this host's address on the guests' network";
        findings.push(Finding::note(name, what, remedy));
    }
    findings
}

fn refused(name: &ListenerName, address: SocketAddr, error: &io::Error, facts: &TcpFacts) -> Finding {
    match error.kind() {
        io::ErrorKind::AddrInUse => taken(name, address, facts),
        io::ErrorKind::AddrNotAvailable => {
            let start = match facts.absence {
                Level::Error => {
                    "no requests are received, and a daemon that does not wait for it (-w) does not start"
                }
                _ => "no requests are received until it has",
            };
            let what = format!("this host does not have the address {}: {start}", address.ip());
            let remedy = "set `address` to one that `ip -br address` shows, or add this one to the host; \
                          wait_for_init = \"1\" waits for it";
            Finding::of(facts.absence, name, Problem::new(what, remedy))
        }
        io::ErrorKind::PermissionDenied => {
            let remedy = "ports below 1024 need root: run this as root, or choose another `port`";
            Finding::error(name, format!("cannot bind {address}: {}", error_text(error)), remedy)
        }
        _ => {
            let remedy = "choose another `address` or `port`";
            Finding::error(name, format!("cannot bind {address}: {}", error_text(error)), remedy)
        }
    }
}

fn taken(name: &ListenerName, address: SocketAddr, facts: &TcpFacts) -> Finding {
    let TcpFacts { owners, running, .. } = facts;
    let is_ours = |running: &RunningDaemon| {
        // Only root sees the owner. If it is unknown, assume the running daemon.
        owners.is_empty() || owners.iter().any(|owner| owner.pid == running.pid)
    };
    if let Some(RunningDaemon { pid, .. }) = running.filter(is_ours) {
        return Finding::ok(name, format!("{address} is in use by the running daemon (process {pid})"));
    }
    let by = if owners.is_empty() { "another process".to_owned() } else { listed(owners) };
    let what = format!("{address} is in use by {by}: the daemon does not start");
    let remedy = format!(
        "stop that process (`ss -ltnp 'sport = :{}'` shows it), or choose another `port` here and in the agents",
        address.port()
    );
    Finding::error(name, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::{auth, shown};

    fn judged(address: &str, facts: TcpFacts) -> Vec<(Level, String)> {
        let config = TcpConfig { auth: auth(), address: address.parse().unwrap(), port: 1229 };
        shown(judge(&ListenerName::new("tcp", Some("b")), &config, &facts))
    }

    fn facts(bound: Result<(), io::ErrorKind>) -> TcpFacts {
        let bound = bound.map_err(io::Error::from);
        TcpFacts { bound, owners: Vec::new(), running: None, absence: Level::Error, obstacle: None }
    }

    #[test]
    fn a_free_port_is_ok_and_the_loopback_a_note() {
        assert_eq!(judged("192.0.2.1", facts(Ok(())))[0].0, Level::Ok);
        let found = judged("127.0.0.1", facts(Ok(())));
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [Level::Ok, Level::Note]);
    }

    #[test]
    fn an_address_of_another_host() {
        let absent = || facts(Err(io::ErrorKind::AddrNotAvailable));
        let found = judged("192.0.2.1", absent());
        assert!(found[0].0 == Level::Error && found[0].1.contains("ip -br address"), "{found:?}");
        let found = judged("192.0.2.1", TcpFacts { absence: Level::Warning, ..absent() });
        assert_eq!(found[0].0, Level::Warning);
        let found = judged("192.0.2.1", facts(Err(io::ErrorKind::PermissionDenied)));
        assert!(found[0].0 == Level::Error && found[0].1.contains("below 1024"), "{found:?}");
    }

    #[test]
    fn an_address_at_which_nothing_arrives_is_one_error() {
        let deaf = |bound| TcpFacts { obstacle: Some("br0 is down".to_owned()), ..facts(bound) };
        let found = judged("192.0.2.1", deaf(Ok(())));
        assert!(
            found[1].0 == Level::Error && found[1].1.starts_with("br0 is down: no requests"),
            "{found:?}"
        );
        let found = judged("192.0.2.1", deaf(Err(io::ErrorKind::AddrNotAvailable)));
        assert!(matches!(&found[..], [(Level::Error, _)]), "{found:?}");
    }

    #[test]
    fn a_port_in_use_is_ok_only_if_our_daemon_has_it() {
        let taken = |running: Option<u32>, holder: Option<u32>| {
            let running = running.map(|pid| RunningDaemon { pid, uid: Some(0) });
            let owners = holder.map(|pid| SocketOwner { pid, program: "x".into() }).into_iter().collect();
            judged("192.0.2.1", TcpFacts { running, owners, ..facts(Err(io::ErrorKind::AddrInUse)) })
                .remove(0)
        };
        assert_eq!(taken(Some(7), Some(7)).0, Level::Ok);
        assert_eq!(taken(Some(7), None).0, Level::Ok);
        for (level, text) in [taken(None, Some(8)), taken(Some(7), Some(8)), taken(None, None)] {
            assert!(level == Level::Error && text.contains("ss -ltnp"), "{text}");
        }
        assert!(taken(None, Some(8)).1.contains("x (process 8)"));
    }
}
