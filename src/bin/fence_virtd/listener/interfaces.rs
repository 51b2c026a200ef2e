//! Network interfaces of this host, for the listeners and the doctor.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
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

/// Returns the prefixes of the addresses of all interfaces that are up, in order.
/// Errors: error of getifaddrs(3).
pub(super) fn prefixes() -> io::Result<BTreeSet<Prefix>> {
    let up = getifaddrs()?.filter(|address| address.flags.contains(InterfaceFlags::IFF_UP));
    let prefix = |address: Option<SockaddrStorage>, mask: Option<SockaddrStorage>| {
        Prefix::new(ip_address(&address?)?, ip_address(&mask?)?)
    };
    Ok(up.filter_map(|interface| prefix(interface.address, interface.netmask)).collect())
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
        assert!(prefixes().unwrap().contains(&loopback));
    }
}
