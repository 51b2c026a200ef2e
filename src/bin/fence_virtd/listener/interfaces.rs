//! Network interfaces of this host, for the listeners and the doctor.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use crate::problem::Problem;
use fence_virt::origins::Prefix;

/// Network interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NetworkInterface {
    pub(super) index: u32,
    pub(super) name: String,
}

/// Reason why nothing arrives at an address.
pub(super) fn no_address(address: IpAddr) -> String {
    format!("this host does not have the address {address}")
}

/// Addresses of all interfaces of this host.
#[derive(Debug)]
pub(super) struct HostAddresses(Vec<HostAddress>);

#[derive(Debug)]
struct HostAddress {
    interface: String,
    is_up: bool,
    address: IpAddr,
    mask: Option<IpAddr>,
}

impl HostAddresses {
    /// Lists the addresses.
    /// Errors: error of getifaddrs(3).
    pub(super) fn list() -> io::Result<HostAddresses> {
        let of = |found: InterfaceAddress| {
            Some(HostAddress {
                is_up: found.flags.contains(InterfaceFlags::IFF_UP),
                address: ip_address(&found.address?)?,
                mask: found.netmask.as_ref().and_then(ip_address),
                interface: found.interface_name,
            })
        };
        Ok(HostAddresses(getifaddrs()?.filter_map(of).collect()))
    }

    /// Returns the prefixes of the addresses of all interfaces that are up, in order.
    pub(super) fn prefixes(&self) -> BTreeSet<Prefix> {
        let up = self.0.iter().filter(|found| found.is_up);
        up.filter_map(|found| Prefix::new(found.address, found.mask?)).collect()
    }

    /// Returns the reason why nothing can arrive at an address on which a socket listens; none if it can.
    pub(super) fn obstacle(&self, address: IpAddr) -> Option<String> {
        // All of 127.0.0.0/8 belongs to the loopback.
        if address.is_unspecified() || address.is_loopback() {
            return None;
        }
        let mut found = self.0.iter().filter(|found| found.address == address).peekable();
        let Some(first) = found.peek() else { return Some(no_address(address)) };
        let down = format!("the interface {} with the address {address} is down", first.interface);
        found.all(|found| !found.is_up).then_some(down)
    }
}

/// Returns the reason why nothing can arrive at an address of this host; none if it can, or if the addresses cannot
/// be listed.
pub(crate) fn address_obstacle(address: IpAddr) -> Option<String> {
    HostAddresses::list().ok()?.obstacle(address)
}

/// Returns true if an interface is up.
pub(super) fn is_up(name: &str) -> bool {
    getifaddrs().is_ok_and(|mut found| {
        found.any(|it| it.interface_name == name && it.flags.contains(InterfaceFlags::IFF_UP))
    })
}

/// Returns the interface of this name, if it exists.
pub(super) fn named(name: &str) -> Option<NetworkInterface> {
    let index = if_nametoindex(name).ok()?;
    Some(NetworkInterface { index, name: name.to_owned() })
}

/// Returns the interfaces that can receive multicasts: up, multicast-capable or
/// the loopback, and not a bridge port, since its bridge receives for it.
pub(super) fn all() -> BTreeSet<NetworkInterface> {
    let Ok(addresses) = getifaddrs() else { return BTreeSet::new() };
    addresses
        .filter(|address| {
            address.flags.contains(InterfaceFlags::IFF_UP)
                && address.flags.intersects(InterfaceFlags::IFF_MULTICAST | InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|address| named(&address.interface_name))
        .filter(|interface| {
            fs::symlink_metadata(format!("/sys/class/net/{}/master", interface.name)).is_err()
        })
        .collect()
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// Returns a warning about a bridge that will stop forwarding requests to the host:
/// IGMP snooping without a querier forgets the members after a few minutes.
pub(crate) fn snooping_warning(interface: &str) -> Option<Problem> {
    let setting = |name: &str| {
        fs::read_to_string(format!("/sys/class/net/{interface}/bridge/{name}")).map(|text| text.trim() == "1")
    };
    match (setting("multicast_snooping"), setting("multicast_querier")) {
        (Ok(true), Ok(false)) => Some(Problem::new(
            format!(
                "the bridge {interface} snoops on IGMP without a querier: after some minutes it no longer forwards requests"
            ),
            format!(
                "run `echo 1 > /sys/class/net/{interface}/bridge/multicast_querier` (or 0 to .../multicast_snooping)"
            ),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_a_network_of_this_host() {
        let loopback = Prefix::new([127, 0, 0, 1].into(), [255, 0, 0, 0].into()).unwrap();
        assert!(HostAddresses::list().unwrap().prefixes().contains(&loopback));
    }

    #[test]
    fn an_address_is_heard_if_one_interface_that_is_up_has_it() {
        let of = |interface: &str, address: &str, is_up| HostAddress {
            interface: interface.to_owned(),
            is_up,
            address: address.parse().unwrap(),
            mask: None,
        };
        let host = HostAddresses(vec![
            of("br0", "192.0.2.1", true),
            of("br1", "192.0.2.2", false),
            of("br2", "192.0.2.3", false),
            of("br3", "192.0.2.3", true),
        ]);
        for (address, words) in [
            ("192.0.2.1", None),
            ("192.0.2.2", Some("br1 with the address 192.0.2.2 is down")),
            ("192.0.2.3", None),
            ("192.0.2.4", Some("does not have the address 192.0.2.4")),
            ("0.0.0.0", None),
            ("::", None),
            ("127.0.0.2", None),
        ] {
            let obstacle = host.obstacle(address.parse().unwrap());
            assert_eq!(obstacle.is_some(), words.is_some(), "{address}: {obstacle:?}");
            assert!(obstacle.unwrap_or_default().contains(words.unwrap_or_default()), "{address}");
        }
    }
}
