//! Origins by which sessions, requests and log lines are counted, and the networks that they belong to.
//!
//! One host can take any number of the addresses of its own network. So beside the limits of an origin
//! there are limits of a network, and origins that have proven the key keep room beyond those.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::fence::{KeyId, Source, Uuid};
use crate::time::Instant;

/// Maximum of established origins of a listener.
pub const ESTABLISHED_MAX: usize = 512;

/// Maximum of established origins of one network, so that it leaves room for other networks.
pub const NETWORK_ESTABLISHED_MAX: usize = ESTABLISHED_MAX / 4;

/// Time without a request after which an established origin may be replaced by another one. Cluster
/// managers monitor their fence devices more often.
pub const ESTABLISHED_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Unit by which sessions, requests and log lines are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// IPv4 address, IPv6 address of a link of this host, or the /64 of any other IPv6 address, which one
    /// host can own entirely.
    Ip(IpAddr),
    /// Context id of a vsock peer.
    Cid(u32),
    /// VM, with all its lines.
    Domain(Uuid),
    /// VM that has proven a key of its own, whatever its address.
    Key(KeyId),
}

/// IP prefix: the addresses of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// First address.
    address: IpAddr,
    /// Length in bits.
    length: u32,
}

impl Prefix {
    /// Prefix of an address with the mask of its network; none for a mask without a leading one.
    pub fn new(address: IpAddr, mask: IpAddr) -> Option<Prefix> {
        let length = match (address, mask) {
            (IpAddr::V4(_), IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
            (IpAddr::V6(_), IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
            _ => 0,
        };
        (length > 0).then(|| Prefix { address: first_address(address, length), length })
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && first_address(address, self.length) == self.address
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// First address of the prefix with this address and this length, which is 1 at least.
fn first_address(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & (u32::MAX << (32 - length))).into()),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - length)))),
    }
}

/// Network whose addresses one host may take in any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// Prefix of an address of this host.
    OnLink(Prefix),
    /// IPv6 link-local addresses, fe80::/10, of all links.
    LinkLocal,
    /// All other IP addresses.
    Remote,
}

/// Client as the limits see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Origin.
    pub origin: Origin,
    /// Network of an IP address; none for a CID or a VM, which no guest chooses.
    pub network: Option<Network>,
    /// True if requests of other origins cannot use up the room of this one: it has proven the key lately,
    /// or is no IP address.
    pub is_established: bool,
}

/// Standing of all clients of a listener. An origin that proves that it has the key is established, unless
/// as many others are. An established one is replaced only after [`ESTABLISHED_IDLE`], so that a flood from
/// new addresses replaces none that is in use.
#[derive(Debug, Default)]
pub struct Origins {
    /// Prefixes of this host's links.
    prefixes: Vec<Prefix>,
    /// Network of each established IP address, and time of its last proof.
    established: HashMap<Origin, (Network, Instant)>,
}

impl Origins {
    /// Replaces the prefixes of this host's links.
    pub fn set_prefixes(&mut self, prefixes: &[Prefix]) {
        self.prefixes = prefixes.to_vec();
        for (origin, (network, _)) in &mut self.established {
            if let Origin::Ip(address) = origin {
                *network = network_of(&self.prefixes, *address);
            }
        }
    }

    /// Standing of the client of a request.
    pub fn standing(&self, source: &Source) -> Standing {
        let (origin, network) = match source {
            Source::Ip(address) => {
                let network = network_of(&self.prefixes, *address);
                let origin = match address {
                    IpAddr::V6(_) if network == Network::Remote => first_address(*address, 64),
                    _ => *address,
                };
                (Origin::Ip(origin), Some(network))
            }
            Source::Cid(cid) => (Origin::Cid(*cid), None),
            Source::Domain(domain) => (Origin::Domain(domain.uuid), None),
            Source::Key(keyed) => (Origin::Key(keyed.holder.key), None),
        };
        let is_established = network.is_none() || self.established.contains_key(&origin);
        Standing { origin, network, is_established }
    }

    /// Notes that a client has proven that it has the key; returns its standing from now on.
    pub fn proved(&mut self, source: &Source, now: Instant) -> Standing {
        let standing = self.standing(source);
        let Some(network) = standing.network else { return standing };
        if !standing.is_established && !self.make_room(network, now) {
            return standing;
        }
        self.established.insert(standing.origin, (network, now));
        Standing { is_established: true, ..standing }
    }

    /// Makes room for an established origin of this network; false if there is none.
    fn make_room(&mut self, network: Network, now: Instant) -> bool {
        let is_crowded =
            self.established.values().filter(|(of, _)| *of == network).count() >= NETWORK_ESTABLISHED_MAX;
        if !is_crowded && self.established.len() < ESTABLISHED_MAX {
            return true;
        }
        let rivals = self.established.iter().filter(|(_, (of, _))| !is_crowded || *of == network);
        let idle = rivals.min_by_key(|(_, (_, proved))| *proved);
        let Some((&origin, &(_, proved))) = idle else { return false };
        let is_idle = now.saturating_duration_since(proved) >= ESTABLISHED_IDLE;
        if is_idle {
            self.established.remove(&origin);
        }
        is_idle
    }
}

/// Network of an address: the longest prefix that has it.
fn network_of(prefixes: &[Prefix], address: IpAddr) -> Network {
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Network::LinkLocal;
    }
    let prefix = prefixes.iter().filter(|prefix| prefix.contains(address)).max_by_key(|prefix| prefix.length);
    prefix.map_or(Network::Remote, |prefix| Network::OnLink(*prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn on_link(prefixes: &[(&str, &str)]) -> Origins {
        let mut origins = Origins::default();
        let prefixes: Vec<Prefix> =
            prefixes.iter().map(|(address, mask)| Prefix::new(ip(address), ip(mask)).unwrap()).collect();
        origins.set_prefixes(&prefixes);
        origins
    }

    fn bridge() -> Origins {
        on_link(&[("fd00:2::1", "ffff:ffff:ffff:ffff::"), ("192.0.2.1", "255.255.255.0")])
    }

    fn numbered(host: u32) -> Source {
        Source::Ip(Ipv6Addr::from_bits(ip_bits("fd00:2::") | u128::from(host)).into())
    }

    fn ip_bits(text: &str) -> u128 {
        text.parse::<Ipv6Addr>().unwrap().to_bits()
    }

    #[test]
    fn neighbours_are_counted_one_by_one_and_others_by_64() {
        let origins = bridge();
        let of = |text: &str| origins.standing(&Source::ip(ip(text)));
        assert_ne!(of("fd00:2::2").origin, of("fd00:2::3").origin);
        assert_eq!(of("fd00:2::2").network, of("fd00:2::3").network);
        assert_eq!(of("2001:db8::1").origin, of("2001:db8::ffff:1:2:3").origin);
        assert_ne!(of("2001:db8::1").origin, of("2001:db8:0:1::1").origin);
        assert_eq!(of("2001:db8::1").network, Some(Network::Remote));
        assert_ne!(of("fe80::1").origin, of("fe80::2").origin);
        assert_eq!(of("fe80::1").network, Some(Network::LinkLocal));
        assert_ne!(of("192.0.2.1").origin, of("192.0.2.2").origin);
        assert_ne!(of("192.0.2.1").network, of("198.51.100.1").network);
    }

    #[test]
    fn a_prefix_may_have_any_length_and_the_longest_counts() {
        let origins = on_link(&[
            ("2001:db8::1", "ffff:ffff:ffff::"),
            ("2001:db8:0:5::1", "ffff:ffff:ffff:ffff::"),
            ("2001:db8:1::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("192.0.2.1", "255.255.255.255"),
        ]);
        let of = |text: &str| origins.standing(&Source::ip(ip(text)));
        assert_ne!(of("2001:db8:0:7::1").origin, of("2001:db8:0:7::2").origin);
        assert_ne!(of("2001:db8:0:5::9").network, of("2001:db8:0:7::1").network);
        assert_eq!(of("2001:db8:1::2").network, Some(Network::Remote));
        assert_eq!(of("192.0.2.2").network, Some(Network::Remote));
        assert_eq!(Prefix::new(ip("::1"), ip("::")), None);
        assert_eq!(Prefix::new(ip("::1"), ip("255.0.0.0")), None);
    }

    #[test]
    fn prefixes_come_and_go_and_established_addresses_stay() {
        let now = Instant::now();
        let mut origins = bridge();
        assert!(origins.proved(&numbered(2), now).is_established);
        let prefixes = origins.prefixes.clone();
        origins.set_prefixes(&[]);
        assert_eq!(origins.standing(&numbered(2)).origin, origins.standing(&numbered(3)).origin);
        assert!(!origins.standing(&numbered(2)).is_established, "another may have its address now");
        origins.set_prefixes(&prefixes);
        assert!(origins.standing(&numbered(2)).is_established);
        assert!(!origins.standing(&numbered(3)).is_established);
    }

    #[test]
    fn a_flood_of_new_addresses_replaces_none_in_use_and_leaves_room_for_other_networks() {
        let start = Instant::now();
        let mut origins = bridge();
        assert!(origins.proved(&numbered(1), start).is_established);
        for host in 2..2000 {
            origins.proved(&numbered(host), start);
        }
        assert_eq!(origins.established.len(), NETWORK_ESTABLISHED_MAX);
        assert!(origins.standing(&numbered(1)).is_established);
        assert!(origins.proved(&Source::ip(ip("192.0.2.9")), start).is_established);
        // One that is in use stays for more than a day; one that is not is replaced.
        let day = start + ESTABLISHED_IDLE;
        origins.proved(&numbered(1), day);
        for host in 2000..4000 {
            origins.proved(&numbered(host), day);
        }
        assert!(origins.standing(&numbered(1)).is_established);
        assert!(origins.standing(&Source::ip(ip("192.0.2.9"))).is_established);
        assert!(!origins.standing(&numbered(2)).is_established);
        assert_eq!(origins.established.len(), NETWORK_ESTABLISHED_MAX + 1);
    }

    #[test]
    fn established_origins_are_bounded_whatever_the_number_of_networks() {
        let now = Instant::now();
        let prefixes = (0..8)
            .map(|bridge| Prefix::new(IpAddr::V4([10, bridge, 0, 1].into()), ip("255.255.0.0")).unwrap());
        let mut origins = Origins::default();
        origins.set_prefixes(&prefixes.collect::<Vec<_>>());
        for host in 0..8 * ESTABLISHED_MAX as u32 {
            let [_, _, high, low] = (host / 8).to_be_bytes();
            origins.proved(&Source::Ip([10, (host % 8) as u8, high, low].into()), now);
        }
        assert_eq!(origins.established.len(), ESTABLISHED_MAX);
        assert!(origins.standing(&Source::Cid(3)).is_established, "no guest chooses its CID");
    }
}
