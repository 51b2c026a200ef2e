//! Local source addresses of multicasts.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
#[cfg(feature = "daemon")]
use nix::sys::socket::SockaddrStorage;

/// Address of this machine with its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalAddress {
    pub(super) address: IpAddr,
    pub(super) interface: String,
    /// Index of the interface.
    pub(super) index: u32,
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.interface)
    }
}

/// Returns the local addresses of one family, on one interface or on all that are up. Includes loopback only
/// without other addresses, and an IPv6 address of link scope only if its interface has no other.
/// Errors: those of getifaddrs(3); `NotFound` for an interface that does not exist.
pub(super) fn local(is_ipv4: bool, only: Option<&str>) -> io::Result<Vec<LocalAddress>> {
    if let Some(name) = only {
        if_nametoindex(name).map_err(|_| io::ErrorKind::NotFound)?;
    }
    let mut found: Vec<LocalAddress> = Vec::new();
    for entry in getifaddrs()? {
        let is_wanted = only.is_none_or(|name| name == entry.interface_name);
        if !is_wanted || !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some(storage) = entry.address else { continue };
        let address = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(v4), _) if is_ipv4 => IpAddr::V4(v4.ip()),
            (_, Some(v6)) if !is_ipv4 => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        // The interface may be gone by now; the next round lists them again.
        let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
        if !found.iter().any(|other| other.address == address && other.index == index) {
            found.push(LocalAddress { address, interface: entry.interface_name, index });
        }
    }
    Ok(preferred(found))
}

/// Returns every address of this machine.
/// Errors: those of getifaddrs(3).
#[cfg(feature = "daemon")]
pub(super) fn own() -> io::Result<Vec<IpAddr>> {
    let ip = |address: SockaddrStorage| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    };
    Ok(getifaddrs()?.filter_map(|entry| entry.address.and_then(ip)).collect())
}

fn preferred(mut found: Vec<LocalAddress>) -> Vec<LocalAddress> {
    if found.iter().any(|local| !local.address.is_loopback()) {
        found.retain(|local| !local.address.is_loopback());
    }
    let has_better = |index| found.iter().any(|other| other.index == index && !is_link_local(other.address));
    let keep: Vec<bool> =
        found.iter().map(|local| !is_link_local(local.address) || !has_better(local.index)).collect();
    let mut keep = keep.into_iter();
    found.retain(|_| keep.next().unwrap_or(true));
    found
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(address: &str, index: u32) -> LocalAddress {
        LocalAddress { address: address.parse().unwrap(), interface: format!("eth{index}"), index }
    }

    fn preferred(addresses: &[(&str, u32)]) -> Vec<String> {
        let found = addresses.iter().map(|(address, index)| local(address, *index)).collect();
        super::preferred(found).into_iter().map(|local| local.address.to_string()).collect()
    }

    #[test]
    #[cfg(feature = "daemon")]
    fn the_loopback_is_an_own_address() {
        assert!(own().unwrap().contains(&[127, 0, 0, 1].into()));
    }

    #[test]
    fn loopback_counts_if_there_is_no_other() {
        assert_eq!(preferred(&[("127.0.0.1", 1), ("127.0.0.2", 1)]), ["127.0.0.1", "127.0.0.2"]);
        assert_eq!(preferred(&[("127.0.0.1", 1), ("192.0.2.1", 2)]), ["192.0.2.1"]);
        assert_eq!(preferred(&[("::1", 1), ("fd00::1", 2)]), ["fd00::1"]);
        assert_eq!(preferred(&[]), [""; 0]);
    }

    #[test]
    fn link_scope_counts_where_an_interface_has_no_other() {
        let addresses = [("fe80::1", 2), ("fd00::1", 2), ("fe80::2", 3)];
        assert_eq!(preferred(&addresses), ["fd00::1", "fe80::2"]);
        assert_eq!(preferred(&[("::1", 1), ("fe80::1", 2)]), ["fe80::1"]);
    }
}
