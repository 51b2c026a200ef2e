//! Network interfaces of this host, for the multicast listener and the doctor.

use std::collections::BTreeSet;
use std::fs;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use crate::problem::Problem;

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
