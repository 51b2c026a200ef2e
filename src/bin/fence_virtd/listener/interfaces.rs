//! Which network interfaces this host has, for the multicast listener.

use std::collections::BTreeSet;
use std::fs;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use crate::problem::Problem;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
}

/// The interface of this name, if there is one.
pub(super) fn named(name: &str) -> Option<Interface> {
    let index = if_nametoindex(name).ok()?;
    Some(Interface { index, name: name.to_owned() })
}

/// All interfaces on which a group can be heard: up, able to multicast (or
/// the loopback), and no port of a bridge, since the bridge hears for it.
pub(super) fn all() -> BTreeSet<Interface> {
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

/// What is to be said about a bridge that keeps the requests of guests from
/// reaching the host: IGMP snooping without a querier forgets the members
/// after a few minutes.
pub(crate) fn snooping_warning(interface: &str) -> Option<Problem> {
    let setting = |name: &str| {
        fs::read_to_string(format!("/sys/class/net/{interface}/bridge/{name}")).map(|text| text.trim() == "1")
    };
    match (setting("multicast_snooping"), setting("multicast_querier")) {
        (Ok(true), Ok(false)) => Some(Problem::new(
            format!(
                "the bridge {interface} snoops on IGMP without a querier: after some minutes it no longer passes on requests"
            ),
            format!(
                "run `echo 1 > /sys/class/net/{interface}/bridge/multicast_querier` (or 0 to .../multicast_snooping)"
            ),
        )),
        _ => None,
    }
}
