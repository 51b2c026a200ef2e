//! Whether a tcp listener would get its address and port.

use std::io;
use std::net::SocketAddr;

use super::finding::{Finding, Level, listed};
use super::process::Running;
use super::sockets::{self, Holder, Protocol};
use crate::problem::Flaw;
use fence_virt::config::TcpConfig;
use fence_virt::fence::ListenerName;

/// What was seen of the host.
#[derive(Debug)]
pub(super) struct Facts {
    bound: io::Result<()>,
    /// Who has the port, if it is taken.
    holders: Vec<Holder>,
    running: Option<Running>,
    /// How bad it is if the address is not there.
    absence: Level,
}

/// Looks. The socket never listens, and is closed at once.
pub(super) fn look(config: &TcpConfig, running: Option<Running>, absence: Level) -> Facts {
    let address = SocketAddr::new(config.address, config.port);
    let bound = sockets::try_tcp(address);
    let is_taken = bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    let holders = if is_taken { sockets::holders(Protocol::Tcp, address) } else { Vec::new() };
    Facts { bound, holders, running, absence }
}

pub(super) fn judge(name: &ListenerName, config: &TcpConfig, facts: &Facts) -> Vec<Finding> {
    let address = SocketAddr::new(config.address, config.port);
    let mut findings = vec![match &facts.bound {
        Ok(()) => Finding::ok(name, format!("{address} can be had")),
        Err(error) => refused(name, address, error, facts),
    }];
    if config.address.is_loopback() {
        let what = format!("{} is this host alone: no guest reaches it", config.address);
        let remedy = "write the address of this host on the guests' network in `address`";
        findings.push(Finding::note(name, what, remedy));
    }
    findings
}

fn refused(name: &ListenerName, address: SocketAddr, error: &io::Error, facts: &Facts) -> Finding {
    match error.kind() {
        io::ErrorKind::AddrInUse => taken(name, address, facts),
        io::ErrorKind::AddrNotAvailable => {
            let start = match facts.absence {
                Level::Error => "no daemon starts",
                _ => "nothing is heard until it has",
            };
            let what = format!("this host does not have the address {}: {start}", address.ip());
            let remedy = "`ip -br address` shows those it has: write one of them in `address`, or give it this \
                          one; wait_for_init = \"1\" waits for it";
            Finding::of(facts.absence, name, Flaw::new(what, remedy))
        }
        io::ErrorKind::PermissionDenied => {
            let what = format!("{address} cannot be had: {error}");
            Finding::error(
                name,
                what,
                "ports below 1024 are root's: run this as root, or choose another `port`",
            )
        }
        _ => {
            let what = format!("{address} cannot be had: {error}");
            Finding::error(name, what, "choose another `address` or `port`")
        }
    }
}

fn taken(name: &ListenerName, address: SocketAddr, facts: &Facts) -> Finding {
    let Facts { holders, running, .. } = facts;
    let is_ours = |running: &Running| {
        // Only root sees who has it: if that cannot be seen, the daemon that runs is the one.
        holders.is_empty() || holders.iter().any(|holder| holder.pid == running.pid)
    };
    if let Some(running) = running.filter(is_ours) {
        return Finding::ok(name, format!("the daemon that runs (process {}) has {address}", running.pid));
    }
    let by = match holders.is_empty() {
        true => "another process".to_owned(),
        false => listed(holders),
    };
    let what = format!("{address} is taken by {by}: no daemon starts");
    let remedy = format!(
        "stop that (`ss -ltnp 'sport = :{}'` shows it), or choose another `port` here and in the agents",
        address.port()
    );
    Finding::error(name, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::auth::HashKind;
    use fence_virt::config::AuthConfig;

    fn judged(address: &str, facts: Facts) -> Vec<(Level, String)> {
        let (hash, old_key_file) = (HashKind::Sha256, None);
        let auth = AuthConfig { key_file: "/k".into(), old_key_file, hash, auth: hash };
        let config = TcpConfig { auth, address: address.parse().unwrap(), port: 1229 };
        let findings = judge(&ListenerName::new("tcp", Some("b")), &config, &facts);
        let shown =
            |finding: Finding| (finding.level, finding.text + " / " + &finding.remedy.unwrap_or_default());
        findings.into_iter().map(shown).collect()
    }

    fn facts(bound: Result<(), io::ErrorKind>) -> Facts {
        let bound = bound.map_err(io::Error::from);
        Facts { bound, holders: Vec::new(), running: None, absence: Level::Error }
    }

    #[test]
    fn a_free_port_is_well_and_the_loopback_a_note() {
        assert_eq!(judged("192.0.2.1", facts(Ok(())))[0].0, Level::Ok);
        let found = judged("127.0.0.1", facts(Ok(())));
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [Level::Ok, Level::Note]);
    }

    #[test]
    fn an_address_of_another_host() {
        let absent = || facts(Err(io::ErrorKind::AddrNotAvailable));
        let found = judged("192.0.2.1", absent());
        assert!(found[0].0 == Level::Error && found[0].1.contains("ip -br address"), "{found:?}");
        let found = judged("192.0.2.1", Facts { absence: Level::Warning, ..absent() });
        assert_eq!(found[0].0, Level::Warning);
        let found = judged("192.0.2.1", facts(Err(io::ErrorKind::PermissionDenied)));
        assert!(found[0].0 == Level::Error && found[0].1.contains("below 1024"), "{found:?}");
    }

    #[test]
    fn a_taken_port_is_well_only_if_our_daemon_has_it() {
        let taken = |running: Option<u32>, holder: Option<u32>| {
            let running = running.map(|pid| Running { pid, uid: Some(0) });
            let holders = holder.map(|pid| Holder { pid, program: "x".into() }).into_iter().collect();
            judged("192.0.2.1", Facts { running, holders, ..facts(Err(io::ErrorKind::AddrInUse)) }).remove(0)
        };
        assert_eq!(taken(Some(7), Some(7)).0, Level::Ok);
        assert_eq!(taken(Some(7), None).0, Level::Ok);
        for (level, text) in [taken(None, Some(8)), taken(Some(7), Some(8)), taken(None, None)] {
            assert!(level == Level::Error && text.contains("ss -ltnp"), "{text}");
        }
        assert!(taken(None, Some(8)).1.contains("x (process 8)"));
    }
}
