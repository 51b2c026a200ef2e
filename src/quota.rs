//! Who makes room when a listener has all the sessions it may have.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::fence::{Source, Uuid};

/// Sessions of one listener.
pub const SESSIONS_MAX: usize = 256;

/// What sessions are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IPv4 address, a link-local IPv6 address, or an IPv6 /64, since one host has all addresses of that.
    Ip(IpAddr),
    /// A vsock peer.
    Cid(u32),
    /// A VM, whatever lines it has.
    Domain(Uuid),
}

impl From<&Source> for Origin {
    fn from(source: &Source) -> Origin {
        match source {
            // All guests on a link share fe80::/64.
            Source::Ip(IpAddr::V6(address)) if address.segments()[0] & 0xffc0 != 0xfe80 => {
                Origin::Ip(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into())
            }
            Source::Ip(address) => Origin::Ip(*address),
            Source::Cid(cid) => Origin::Cid(*cid),
            Source::Domain(domain) => Origin::Domain(domain.uuid),
        }
    }
}

/// A session as the quota sees it.
#[derive(Debug, Clone, Copy)]
pub struct OpenSession<Id> {
    /// The session's id; a lower one is older.
    pub id: Id,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether the worker has its request: such a session stays. Its number
    /// is bounded for each origin by the listener.
    pub is_waiting: bool,
}

/// What happens to a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission<Id> {
    /// There is room.
    Admit,
    /// This session has to go first.
    Evict(Id),
    /// There is no room to be made.
    Refuse,
}

/// Decides about a newcomer. In a full house the oldest session of the origin
/// that holds most goes, of those that have not authenticated or are only
/// reading their answer, provided that this origin holds more than the
/// newcomer's; else the newcomer's own oldest; so a flood from one origin
/// never pushes out another's.
pub fn admit<Id: Copy + Ord>(
    newcomer: Origin,
    held: impl Iterator<Item = OpenSession<Id>> + Clone,
) -> Admission<Id> {
    if held.clone().count() < SESSIONS_MAX {
        return Admission::Admit;
    }
    // Of each origin: how many sessions, and the oldest that may go.
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
    fn the_largest_holder_makes_room() {
        let full = sessions(&[("192.0.2.1", 6, false), ("192.0.2.2", 250, false)]);
        assert_eq!(admit_to("192.0.2.3", &full[..255]), Admission::Admit);
        assert_eq!(admit_to("192.0.2.3", &full), Admission::Evict(6));
        assert_eq!(admit_to("192.0.2.1", &full), Admission::Evict(6));
        assert_eq!(admit_to("192.0.2.2", &full), Admission::Evict(6), "a flood pushes out its own");
    }

    #[test]
    fn sessions_that_the_worker_has_stay() {
        let full = sessions(&[("192.0.2.1", 200, true), ("192.0.2.2", 56, false)]);
        assert_eq!(admit_to("192.0.2.3", &full), Admission::Evict(200));
        assert_eq!(admit_to("192.0.2.1", &full), Admission::Refuse, "the hog pushes out nobody smaller");
        assert_eq!(admit_to("192.0.2.3", &sessions(&[("192.0.2.1", 256, true)])), Admission::Refuse);
    }

    #[test]
    fn among_equals_the_newcomers_own_goes() {
        let mut full = sessions(&[("192.0.2.1", 128, false), ("192.0.2.2", 128, false)]);
        assert_eq!(admit_to("192.0.2.2", &full), Admission::Evict(128));
        full[128].is_waiting = true;
        assert_eq!(admit_to("192.0.2.2", &full), Admission::Evict(129));
    }

    #[test]
    fn an_ipv6_host_is_its_64() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1:2:3"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_ne!(origin("fe80::1"), origin("fe80::2"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }
}
