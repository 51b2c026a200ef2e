//! Session limit of a listener, and the choice of the session to evict.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::fence::{Source, Uuid};

/// Maximum sessions of one listener.
pub const SESSIONS_MAX: usize = 256;

/// Origin by which sessions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// IPv4 address, link-local IPv6 address, or the /64 of any other IPv6 address, which one host can own entirely.
    Ip(IpAddr),
    /// Context id of a vsock peer.
    Cid(u32),
    /// VM, with all its lines.
    Domain(Uuid),
}

impl From<&Source> for Origin {
    fn from(source: &Source) -> Origin {
        match source {
            // Link-local addresses keep all bits: all guests on a link share fe80::/64.
            Source::Ip(IpAddr::V6(address)) if address.segments()[0] & 0xffc0 != 0xfe80 => {
                Origin::Ip(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into())
            }
            Source::Ip(address) => Origin::Ip(*address),
            Source::Cid(cid) => Origin::Cid(*cid),
            Source::Domain(domain) => Origin::Domain(domain.uuid),
        }
    }
}

/// Session that counts against the limit.
#[derive(Debug, Clone, Copy)]
pub struct OpenSession<Id> {
    /// Session id; a lower one is older.
    pub id: Id,
    /// Origin.
    pub origin: Origin,
    /// True while the worker has its request: it is not evicted. The listener
    /// limits such sessions of each origin.
    pub is_waiting: bool,
}

/// Decision about a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission<Id> {
    /// Accept it.
    Admit,
    /// Accept it after closing this session.
    Evict(Id),
    /// Refuse it: no session can be evicted.
    Refuse,
}

/// Decides about a new session. At the limit, the oldest session of the origin with most sessions is evicted,
/// if that origin has more than the newcomer's; else the oldest one of the newcomer's origin. Sessions that
/// wait for the worker stay. So a flood from one origin never evicts another's sessions.
pub fn admit<Id: Copy + Ord>(
    newcomer: Origin,
    held: impl Iterator<Item = OpenSession<Id>> + Clone,
) -> Admission<Id> {
    if held.clone().count() < SESSIONS_MAX {
        return Admission::Admit;
    }
    // Per origin: number of sessions, and the oldest one that can be evicted.
    let mut origins: HashMap<Origin, (usize, Option<Id>)> = HashMap::new();
    for session in held {
        let (count, oldest) = origins.entry(session.origin).or_default();
        *count += 1;
        if !session.is_waiting {
            *oldest = Some(oldest.map_or(session.id, |id| id.min(session.id)));
        }
    }
    let (own_count, own_oldest) = origins.get(&newcomer).copied().unwrap_or_default();
    let largest = origins
        .iter()
        .filter(|(origin, _)| **origin != newcomer)
        .filter_map(|(_, &(count, oldest))| oldest.map(|id| (count, std::cmp::Reverse(id))))
        .max();
    match (largest, own_oldest) {
        (Some((count, std::cmp::Reverse(id))), _) if count > own_count => Admission::Evict(id),
        (_, Some(id)) => Admission::Evict(id),
        _ => Admission::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::from(&Source::ip(text.parse().unwrap()))
    }

    fn sessions(parts: &[(&str, usize, bool)]) -> Vec<OpenSession<usize>> {
        let mut sessions = Vec::new();
        for (address, count, is_waiting) in parts {
            for _ in 0..*count {
                let id = sessions.len();
                sessions.push(OpenSession { id, origin: origin(address), is_waiting: *is_waiting });
            }
        }
        sessions
    }

    fn admit_to(newcomer: &str, open: &[OpenSession<usize>]) -> Admission<usize> {
        admit(origin(newcomer), open.iter().copied())
    }

    #[test]
    fn the_origin_with_most_sessions_loses_one() {
        let full = sessions(&[("192.0.2.1", 6, false), ("192.0.2.2", 250, false)]);
        assert_eq!(admit_to("192.0.2.3", &full[..255]), Admission::Admit);
        assert_eq!(admit_to("192.0.2.3", &full), Admission::Evict(6));
        assert_eq!(admit_to("192.0.2.1", &full), Admission::Evict(6));
        assert_eq!(admit_to("192.0.2.2", &full), Admission::Evict(6), "a flood evicts its own");
    }

    #[test]
    fn sessions_that_wait_for_the_worker_stay() {
        let full = sessions(&[("192.0.2.1", 200, true), ("192.0.2.2", 56, false)]);
        assert_eq!(admit_to("192.0.2.3", &full), Admission::Evict(200));
        assert_eq!(admit_to("192.0.2.1", &full), Admission::Refuse, "the largest evicts no smaller one");
        assert_eq!(admit_to("192.0.2.3", &sessions(&[("192.0.2.1", 256, true)])), Admission::Refuse);
    }

    #[test]
    fn among_equals_the_newcomers_origin_loses_one() {
        let mut full = sessions(&[("192.0.2.1", 128, false), ("192.0.2.2", 128, false)]);
        assert_eq!(admit_to("192.0.2.2", &full), Admission::Evict(128));
        full[128].is_waiting = true;
        assert_eq!(admit_to("192.0.2.2", &full), Admission::Evict(129));
    }

    #[test]
    fn an_ipv6_origin_is_a_slash_64() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1:2:3"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_ne!(origin("fe80::1"), origin("fe80::2"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }
}
