//! Hints about the firewall. Its rules are not read.

use std::fs;
use std::path::Path;

use crate::tools::finding::{Finding, listed};
use fence_virt::config::{Config, ListenerConfig};

const ABOUT: &str = "firewall";

/// Signs of a firewall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signs {
    firewalld: bool,
    ufw: bool,
    /// Tables of nftables or iptables are in use in the kernel.
    tables: bool,
}

pub(super) fn inspect() -> Signs {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let has_tables = |path: &str| !read(path).trim().is_empty();
    Signs {
        firewalld: ["/run/firewalld", "/run/firewalld.pid"].iter().any(|path| Path::new(path).exists()),
        ufw: read("/etc/ufw/ufw.conf").lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")),
        tables: is_nf_tables_used(&read("/proc/modules"))
            || has_tables("/proc/net/ip_tables_names")
            || has_tables("/proc/net/ip6_tables_names"),
    }
}

/// Returns true if the module has users. Fields of a line in /proc/modules: name, size, users.
fn is_nf_tables_used(modules: &str) -> bool {
    modules.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nf_tables")
            && words.nth(1).and_then(|users| users.parse().ok()).unwrap_or(0) > 0
    })
}

/// Returns the required ports, each for firewall-cmd(1) and for people.
fn ports(config: &Config) -> Vec<(String, String)> {
    let mut ports = Vec::new();
    for listener in &config.listeners {
        match &listener.config {
            ListenerConfig::Multicast(multicast) => {
                let membership = if multicast.address.is_ipv4() { "IGMP" } else { "MLD (ICMPv6)" };
                let text = format!("UDP {} to {} and {membership}", multicast.port, multicast.address);
                ports.push((format!("{}/udp", multicast.port), text));
            }
            ListenerConfig::Tcp(tcp) if !tcp.address.is_loopback() => {
                ports.push((format!("{}/tcp", tcp.port), format!("TCP {} to {}", tcp.port, tcp.address)));
            }
            // Firewalls allow the loopback, and the others need no network.
            ListenerConfig::Tcp(_) | ListenerConfig::Vsock(_) | ListenerConfig::Serial(_) => {}
        }
    }
    ports
}

pub(super) fn judge(signs: Signs, config: &Config) -> Vec<Finding> {
    let ports = ports(config);
    if ports.is_empty() {
        return Vec::new();
    }
    let mut needed = listed(ports.iter().map(|(_, text)| text));
    let callbacks = listed(config.listeners.iter().filter_map(|listener| match &listener.config {
        ListenerConfig::Multicast(multicast) => Some(format!("TCP {}", multicast.port)),
        _ => None,
    }));
    if !callbacks.is_empty() {
        needed += &format!("; on the guests, for this host's callback: {callbacks}");
    }
    vec![match signs {
        Signs { firewalld: true, .. } => {
            let options: String = ports.iter().map(|(port, _)| format!(" --add-port={port}")).collect();
            let remedy = format!(
                "`firewall-cmd --permanent --zone=ZONE{options}`, then `firewall-cmd --reload`; ZONE is the zone of the guests' bridge (`firewall-cmd --get-zone-of-interface=BRIDGE`)"
            );
            Finding::note(ABOUT, format!("firewalld is running and must allow {needed}"), remedy)
        }
        Signs { ufw: true, .. } => {
            let allow: Vec<String> = ports.iter().map(|(port, _)| format!("`ufw allow {port}`")).collect();
            Finding::note(ABOUT, format!("ufw is enabled and must allow {needed}"), allow.join(", "))
        }
        Signs { tables: true, .. } => {
            let what = format!("nftables or iptables rules are loaded and must allow {needed}");
            Finding::note(ABOUT, what, "`nft list ruleset` or `iptables -S` lists them")
        }
        _ => Finding::ok(ABOUT, format!("none detected; needed: {needed}")),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::Level;
    use fence_virt::config;

    fn parsed(listeners: &str, sections: &str) -> Config {
        let text = format!(
            "fence_virtd {{ listener = \"{listeners}\"; backend = \"libvirt\"; }} listeners {{ {sections} }}"
        );
        config::parse(Path::new("a"), text.as_bytes()).config.unwrap()
    }

    #[test]
    fn the_ports_of_the_configuration_are_named() {
        let config = parsed("multicast, tcp, serial", "tcp { address = \"192.0.2.1\"; port = \"77\"; }");
        let firewalld = judge(Signs { firewalld: true, ufw: true, tables: true }, &config).remove(0);
        assert_eq!(firewalld.level, Level::Note);
        for words in ["UDP 1229 to 225.0.0.12 and IGMP", "TCP 77 to 192.0.2.1", "guests", "TCP 1229"] {
            assert!(firewalld.text.contains(words), "{words:?} in {firewalld:?}");
        }
        assert!(firewalld.remedy.unwrap().contains("--add-port=1229/udp --add-port=77/tcp"));
        let ufw = judge(Signs { ufw: true, ..Signs::default() }, &config).remove(0);
        assert!(ufw.remedy.unwrap().contains("`ufw allow 77/tcp`"));
        let tables = judge(Signs { tables: true, ..Signs::default() }, &config).remove(0);
        assert!(tables.level == Level::Note && tables.remedy.unwrap().contains("nft list ruleset"));
        assert_eq!(judge(Signs::default(), &config)[0].level, Level::Ok);
    }

    #[test]
    fn listeners_without_a_network_need_no_port() {
        let all = Signs { firewalld: true, ufw: true, tables: true };
        assert!(judge(all, &parsed("tcp, vsock, serial", "")).is_empty());
    }

    #[test]
    fn a_module_without_users_has_no_rules() {
        assert!(is_nf_tables_used("x 1 2 - Live\nnf_tables 372736 405 nft_ct,nft_chain_nat, Live 0x0\n"));
        assert!(!is_nf_tables_used("nf_tables 372736 0 - Live 0x0\nnf_tables_x 1 9 - Live\n"));
    }
}
