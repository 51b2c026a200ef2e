//! Interfaces and routes of the kernel.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{AddressFamily, SockaddrLike};

use crate::listener::snooping_warning;
use crate::problem::Problem;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nic {
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
    /// The interface's multicast flag; the loopback does not need it.
    pub(super) can_multicast: bool,
    pub(super) has_v4: bool,
    pub(super) has_v6: bool,
    /// Bridge that this interface is a port of.
    pub(super) bridge: Option<String>,
    /// Problem of a bridge's IGMP snooping.
    pub(super) snooping: Option<Problem>,
}

impl Nic {
    /// Returns true if multicast packets can be received here.
    pub(super) fn receives_multicast(&self) -> bool {
        self.is_up && (self.can_multicast || self.is_loopback) && self.bridge.is_none()
    }

    pub(super) fn has_address_like(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.has_v4 } else { self.has_v6 }
    }
}

/// Returns all interfaces in the kernel's order.
/// Errors: those of getifaddrs(3).
pub(super) fn nics() -> io::Result<Vec<Nic>> {
    let mut nics: Vec<Nic> = Vec::new();
    for address in getifaddrs()? {
        let at = nics.iter().position(|nic| nic.name == address.interface_name).unwrap_or_else(|| {
            nics.push(nic(&address.interface_name, address.flags));
            nics.len() - 1
        });
        match address.address.and_then(|address| address.family()) {
            Some(AddressFamily::Inet) => nics[at].has_v4 = true,
            Some(AddressFamily::Inet6) => nics[at].has_v6 = true,
            _ => {}
        }
    }
    Ok(nics)
}

fn nic(name: &str, flags: InterfaceFlags) -> Nic {
    let directory = format!("/sys/class/net/{name}");
    let is_port = fs::symlink_metadata(format!("{directory}/brport")).is_ok();
    let master = fs::read_link(format!("{directory}/master")).ok().filter(|_| is_port);
    Nic {
        name: name.to_owned(),
        is_up: flags.contains(InterfaceFlags::IFF_UP),
        is_loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
        can_multicast: flags.contains(InterfaceFlags::IFF_MULTICAST),
        has_v4: false,
        has_v6: false,
        bridge: master.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        snooping: snooping_warning(name),
    }
}

/// Returns the interface with a name, which may be one of its alternative names.
pub(super) fn find<'a>(nics: &'a [Nic], name: &str) -> Option<&'a Nic> {
    let index = if_nametoindex(name).ok()?;
    nics.iter().find(|nic| if_nametoindex(nic.name.as_str()) == Ok(index))
}

/// Returns true if this host has a route to an address; none if that is unknown.
pub(super) fn has_route(address: IpAddr) -> Option<bool> {
    match address {
        IpAddr::V4(v4) => fs::read_to_string("/proc/net/route")
            .ok()
            .map(|table| table.lines().any(|line| leads_v4(line, v4))),
        IpAddr::V6(v6) => fs::read_to_string("/proc/net/ipv6_route")
            .ok()
            .map(|table| table.lines().any(|line| leads_v6(line, v6))),
    }
}

const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;

fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

/// Fields of a line of /proc/net/route: interface, destination, gateway, flags, three counters, mask.
fn leads_v4(line: &str, to: Ipv4Addr) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, destination, _, flags, _, _, _, mask, ..] = words[..] else { return false };
    // The digits are a number in host byte order whose bytes in memory are in network byte order.
    let bits =
        |hex: &str| u32::from_str_radix(hex, 16).ok().map(|number| u32::from_be_bytes(number.to_ne_bytes()));
    let (Some(destination), Some(mask)) = (bits(destination), bits(mask)) else { return false };
    is_usable(flags) && u32::from(to) & mask == destination
}

/// Fields of a line of /proc/net/ipv6_route: destination and its prefix length, source and its
/// prefix length, gateway, three counters, flags, interface.
fn leads_v6(line: &str, to: Ipv6Addr) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, _, _, _, _, _, _, flags, ..] = words[..] else { return false };
    let destination = u128::from_str_radix(destination, 16);
    let (Ok(destination), Ok(length)) = (destination, u32::from_str_radix(length, 16)) else { return false };
    let mask = u128::MAX.checked_shl(128u32.saturating_sub(length)).unwrap_or(0);
    is_usable(flags) && u128::from(to) & mask == destination
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_a_loopback() {
        let nics = nics().unwrap();
        let lo = nics.iter().find(|nic| nic.is_loopback).expect("a loopback");
        assert_eq!(find(&nics, &lo.name), Some(lo));
        assert!(lo.bridge.is_none() && find(&nics, "nosuchinterface").is_none());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_of_ipv4() {
        let group = "225.0.0.12".parse().unwrap();
        let line = |destination: &str, flags: &str, mask: &str| {
            format!("eth0\t{destination}\t00000000\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0")
        };
        assert!(leads_v4(&line("00000000", "0003", "00000000"), group), "the default route");
        assert!(leads_v4(&line("000000E0", "0001", "000000F0"), group), "224.0.0.0/4");
        assert!(!leads_v4(&line("000000E0", "0201", "000000F0"), group), "a reject route");
        assert!(!leads_v4(&line("0002A8C0", "0001", "00FFFFFF"), group), "192.168.2.0/24");
        assert!(!leads_v4("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask", group));
    }

    #[test]
    fn routes_of_ipv6() {
        let group = "ff05::3:1".parse().unwrap();
        let line = |destination: &str, length: &str, flags: &str| {
            let zero = "0".repeat(32);
            format!("{destination:0<32} {length} {zero} 00 {zero} 00000100 00000001 00000000 {flags} eth0")
        };
        assert!(leads_v6(&line("ff", "08", "00000001"), group), "ff00::/8");
        assert!(leads_v6(&line("", "00", "00000003"), group), "the default route");
        assert!(!leads_v6(&line("", "00", "00200200"), group), "a reject route");
        assert!(!leads_v6(&line("fe80", "40", "00000001"), group), "fe80::/64");
        assert!(!leads_v6(&line("ff050000000000000000000000030002", "80", "00000001"), group));
    }
}
