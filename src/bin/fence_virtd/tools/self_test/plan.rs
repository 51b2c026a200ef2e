//! Ways from this host to the listeners of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use crate::access::key_file;
use crate::problem::Problem;
use crate::tools::finding::Finding;
use fence_virt::auth::Key;
use fence_virt::client::{LocalDaemon, LocalRoute};
use fence_virt::config::{AuthConfig, ListenerConfig, MulticastConfig, NamedListener};
use fence_virt::fence::{Endpoint, SignatureKind};
use fence_virt::session::Policy;
use fence_virt::sys::vsock;

/// Returns the way to a listener, with this key or with its shared one. The error is a finding: it cannot be asked from
/// this host, and why.
pub(super) fn plan(listener: &NamedListener, own_key: Option<&Path>) -> Result<LocalDaemon, Finding> {
    let name = &listener.name;
    let skip = |what: &str, remedy: &str| Err(Finding::note(name, format!("not tried: {what}"), remedy));
    let (route, auth) = match &listener.config {
        ListenerConfig::Tcp(tcp) => {
            (LocalRoute::Tcp { address: own_address(tcp.address), port: tcp.port }, &tcp.auth)
        }
        ListenerConfig::Multicast(MulticastConfig { auth, address, port, interface }) => {
            let interface = interface.clone();
            (LocalRoute::Multicast { group: *address, port: *port, interface }, auth)
        }
        ListenerConfig::Vsock(config) => match u16::try_from(config.port) {
            Ok(port) if vsock::has_loopback() => (LocalRoute::Vsock { port }, &config.auth),
            Ok(_) => {
                return skip(
                    "this host cannot reach its own vsock listeners: the module vsock_loopback is not loaded",
                    "run `modprobe vsock_loopback` and repeat the test, or ask from a guest: `fence_virt -S 2 -o list`",
                );
            }
            Err(_) => {
                let what = format!("not tried: agents reach ports up to 65535, and this is {}", config.port);
                return Err(Finding::error(name, what, "set `port` to one up to 65535"));
            }
        },
        ListenerConfig::Serial(_) => {
            return skip(
                "serial lines and channels belong to the guests",
                "ask from a guest: `fence_virt -D /dev/ttyS1 -o list`, or `fence_virt -o list` over a vmchannel",
            );
        }
    };
    if own_key.is_none() && !auth.is_shared {
        return skip(
            "it takes keys of VMs alone (shared = \"no\")",
            "give the test the key of a VM: `--key FILE`, or ask from a guest: `fence_virt -c hmac-sha256 -o list`",
        );
    }
    let policy = policy(auth, own_key, listener.config.endpoint())
        .map_err(|Problem { what, remedy }| Finding::error(name, format!("not tried: {what}"), remedy))?;
    Ok(LocalDaemon { route, policy: Arc::new(policy) })
}

/// Address at which a listener is reached from its own host.
fn own_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// Key and hashes of an agent that the listener serves. Errors: the key cannot be read.
fn policy(auth: &AuthConfig, own_key: Option<&Path>, endpoint: Endpoint) -> Result<Policy, Problem> {
    if let Some(path) = own_key {
        // The keys of VMs are for version 2 alone; shared keys are as well.
        return Ok(Policy::new(SignatureKind::HmacSha256, auth.auth, key(path)?, endpoint));
    }
    let key = if auth.needs_key() { key(&auth.key_file)? } else { Key::new(Vec::new()) };
    Ok(Policy::new(auth.hash, auth.auth, key, endpoint))
}

/// Reads a key, which may belong to the user of the daemon. Its mode and owner are the daemon's matter.
fn key(path: &Path) -> Result<Key, Problem> {
    match fence_virt::key_file::read(path) {
        Ok((key, _)) if !key.is_empty() => Ok(key),
        _ => key_file::examine(path, None).map(|loaded| loaded.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::config;

    const NO_KEY: &str = "hash = \"none\"; auth = \"none\";";

    /// Address to ask, or the finding, for one listener of a configuration.
    fn planned(listener: &str, settings: &str) -> Result<String, Finding> {
        let text = format!(
            "fence_virtd {{ listener = \"{listener}\"; backend = \"libvirt\"; }}
             listeners {{ {listener} {{ {settings} }} }}"
        );
        let config = config::parse(Path::new("a"), text.as_bytes()).config.unwrap();
        plan(&config.listeners[0], None).map(|daemon| daemon.route.to_string())
    }

    #[test]
    fn the_address_of_the_listener_or_the_loopback() {
        for (listener, settings, expected) in [
            ("tcp", "address = \"192.0.2.1\"; port = \"7\";", "tcp to 192.0.2.1 port 7"),
            ("tcp", "address = \"0.0.0.0\";", "tcp to 127.0.0.1 port 1229"),
            ("tcp", "family = \"ipv6\"; address = \"::\";", "tcp to ::1 port 1229"),
            ("tcp", "", "tcp to 127.0.0.1 port 1229"),
            ("multicast", "", "multicast to 225.0.0.12 port 1229"),
        ] {
            assert_eq!(planned(listener, &format!("{NO_KEY} {settings}")).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_asked_from_the_host() {
        let port = planned("vsock", &format!("{NO_KEY} port = \"65536\";")).unwrap_err();
        assert!(port.is_error() && port.text.contains("up to 65535"), "{port:?}");
        match planned("vsock", NO_KEY) {
            Ok(route) => assert_eq!(route, "vsock to CID 1 port 1229"),
            Err(finding) => assert!(finding.remedy.unwrap().contains("modprobe vsock_loopback")),
        }
        let serial = planned("serial", "").unwrap_err();
        assert!(!serial.is_error() && serial.text.contains("belong to the guests"), "{serial:?}");
        let key = planned("tcp", "key_file = \"/nonexistent/key\";").unwrap_err();
        assert!(key.is_error() && key.text.contains("cannot read the key file /nonexistent/key"), "{key:?}");
    }
}
