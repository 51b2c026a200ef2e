//! Session limit of a listener, and the choice of the session to evict.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::origins::{Network, Origin, Standing};

/// Maximum sessions of one listener.
pub const SESSIONS_MAX: usize = 256;

/// Sessions of an origin up to which it counts as one of many in a flood, and not as the flood.
pub const FEW: usize = 8;

/// File descriptors that the daemon needs beside those of sessions: libvirt's connections, sockets, mailboxes.
const DESCRIPTORS_RESERVED: usize = 32;

/// Minimum sessions of one listener, however few descriptors there are.
const SESSIONS_MIN: usize = 2;

/// Maximum sessions of each of `listeners` listeners in a process with this limit of file descriptors. Half
/// of those that are not reserved stay for lines of VMs and for calls of libvirt.
pub fn sessions_max(descriptors: usize, listeners: usize) -> usize {
    let shared = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2;
    (shared / listeners.max(1)).clamp(SESSIONS_MIN, SESSIONS_MAX)
}

/// Session that counts against the limit.
#[derive(Debug, Clone, Copy)]
pub struct OpenSession<Id> {
    /// Session id; a lower one is older.
    pub id: Id,
    /// Standing of its client.
    pub standing: Standing,
    /// True while the worker has its request: it is not evicted. The listener
    /// limits such sessions of each origin.
    pub is_waiting: bool,
}

/// Chooses the session to evict for a new one where `held` sessions are all that there can be; none if the
/// new one has to be refused. A newcomer that is not known counts as not established and of an origin of its
/// own. Sessions that wait for the worker stay. These rules are tried in turn:
///
/// 1. The oldest of the origin with most sessions, if these are more than [`FEW`] and more than the
///    newcomer's. So a flood from one origin never evicts another's sessions.
/// 2. A session of an origin that is not established, in the network that has most of these, or in the
///    newcomer's if that has as many. Of these sessions the one of median age goes: the older half, which
///    includes those from before the flood, may end, and the younger half has time for a handshake.
/// 3. The oldest of the origin with most sessions, if these are more than the newcomer's; a newcomer that is
///    not established leaves each established origin one.
///
/// In 1 and 3, it is the newcomer's oldest one if no origin has more.
pub fn make_room<Id: Copy + Ord>(newcomer: Option<&Standing>, held: &[OpenSession<Id>]) -> Option<Id> {
    let mut counts: HashMap<Origin, usize> = HashMap::new();
    for session in held {
        *counts.entry(session.standing.origin).or_default() += 1;
    }
    let count = |origin: Origin| counts.get(&origin).copied().unwrap_or(0);
    let evictable = || held.iter().filter(|session| !session.is_waiting);
    let own_origin = newcomer.map(|newcomer| newcomer.origin);
    let own = own_origin.map_or(0, count);
    let own_oldest = evictable()
        .filter(|session| Some(session.standing.origin) == own_origin)
        .map(|session| session.id)
        .min();
    let largest = evictable()
        .filter(|session| Some(session.standing.origin) != own_origin)
        .map(|session| (count(session.standing.origin), Reverse(session.id)))
        .max();
    // The oldest of the largest origin, if that has more than `minimum`; else of the newcomer's.
    let of_largest = |minimum: usize| match largest {
        Some((count, Reverse(id))) if count > own.max(minimum) => Some(Some(id)),
        _ if own > minimum => Some(own_oldest),
        _ => None,
    };
    of_largest(FEW)
        .or_else(|| unestablished_of_median_age(newcomer, evictable()).map(Some))
        .or_else(|| of_largest(usize::from(newcomer.is_none_or(|newcomer| !newcomer.is_established))))
        .unwrap_or(own_oldest)
}

fn unestablished_of_median_age<'a, Id: Copy + Ord + 'a>(
    newcomer: Option<&Standing>,
    sessions: impl Iterator<Item = &'a OpenSession<Id>>,
) -> Option<Id> {
    let mut networks: HashMap<Option<Network>, Vec<Id>> = HashMap::new();
    for session in sessions.filter(|session| !session.standing.is_established) {
        networks.entry(session.standing.network).or_default().push(session.id);
    }
    let own_network = newcomer.and_then(|newcomer| newcomer.network);
    let own = networks.get(&own_network).map_or(0, Vec::len);
    let largest = networks.iter().max_by_key(|(_, ids)| (ids.len(), ids.iter().min().map(|id| Reverse(*id))));
    let larger = largest.filter(|(_, ids)| ids.len() > own).map(|(network, _)| *network);
    let mut ids = networks.remove(&larger.unwrap_or(own_network))?;
    ids.sort_unstable();
    ids.get(ids.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Source;
    use crate::origins::{Origins, Prefix};
    use crate::time::Instant;

    /// Sessions of a listener.
    struct World {
        origins: Origins,
        held: Vec<OpenSession<usize>>,
        next_id: usize,
    }

    fn source(text: &str) -> Source {
        Source::ip(text.parse().unwrap())
    }

    impl World {
        fn new() -> World {
            let mut origins = Origins::default();
            let prefixes = [("fd00:2::1", "ffff:ffff:ffff:ffff::"), ("192.0.2.1", "255.255.255.0")];
            let prefixes = prefixes.map(|(ip, mask)| Prefix::new(ip.parse().unwrap(), mask.parse().unwrap()));
            origins.set_prefixes(&prefixes.map(Option::unwrap));
            World { origins, held: Vec::new(), next_id: 0 }
        }

        fn of(parts: &[(&str, usize, bool)]) -> World {
            let mut world = World::new();
            for &(address, count, is_waiting) in parts {
                for _ in 0..count {
                    world.push(&source(address), is_waiting);
                }
            }
            world
        }

        fn push(&mut self, source: &Source, is_waiting: bool) -> usize {
            let id = self.next_id;
            self.next_id += 1;
            let standing = self.origins.standing(source);
            self.held.push(OpenSession { id, standing, is_waiting });
            id
        }

        fn make_room(&self, newcomer: &Source) -> Option<usize> {
            make_room(Some(&self.origins.standing(newcomer)), &self.held)
        }

        fn make_room_for(&self, newcomer: &str) -> Option<usize> {
            self.make_room(&source(newcomer))
        }

        /// Opens a session, after evicting one at the limit; none if it is refused.
        fn connect(&mut self, source: &Source) -> Option<usize> {
            if self.held.len() >= SESSIONS_MAX {
                let evicted = self.make_room(source)?;
                self.held.retain(|session| session.id != evicted);
            }
            Some(self.push(source, false))
        }

        fn has(&self, id: usize) -> bool {
            self.held.iter().any(|session| session.id == id)
        }
    }

    #[test]
    fn the_origin_with_most_sessions_loses_one() {
        let full = World::of(&[("192.0.2.1", 6, false), ("192.0.2.2", 250, false)]);
        assert_eq!(full.make_room_for("192.0.2.3"), Some(6));
        assert_eq!(full.make_room_for("192.0.2.1"), Some(6));
        assert_eq!(full.make_room_for("192.0.2.2"), Some(6), "a flood evicts its own");
    }

    #[test]
    fn sessions_that_wait_for_the_worker_stay() {
        let full = World::of(&[("192.0.2.1", 200, true), ("192.0.2.2", 56, false)]);
        assert_eq!(full.make_room_for("192.0.2.3"), Some(200));
        assert_eq!(full.make_room_for("192.0.2.1"), None, "the largest evicts no smaller one");
        assert_eq!(World::of(&[("192.0.2.1", 256, true)]).make_room_for("192.0.2.3"), None);
    }

    #[test]
    fn among_equals_the_newcomers_origin_loses_one() {
        let mut full = World::of(&[("192.0.2.1", 128, false), ("192.0.2.2", 128, false)]);
        assert_eq!(full.make_room_for("192.0.2.2"), Some(128));
        full.held[128].is_waiting = true;
        assert_eq!(full.make_room_for("192.0.2.2"), Some(129));
    }

    #[test]
    fn neighbours_of_a_flood_in_one_64_keep_their_sessions() {
        let full = World::of(&[("fd00:2::2", 2, false), ("fd00:2::66", 254, false)]);
        for newcomer in ["fd00:2::2", "fd00:2::3", "fd00:2::66"] {
            assert_eq!(full.make_room_for(newcomer), Some(2));
        }
    }

    #[test]
    fn a_flood_from_many_addresses_evicts_no_older_session_and_leaves_new_ones_time() {
        let mut world = World::new();
        let honest = |host: u16| source(&format!("fd00:2::{host:x}"));
        let before = world.connect(&honest(2)).unwrap();
        let flood = |at: u32| source(&format!("fd00:2::1:{at:x}"));
        let mut late = None;
        for at in 0..2000 {
            world.connect(&flood(at)).unwrap();
            if at == 1000 {
                late = world.connect(&honest(3));
            }
            // At 5,000 connections a second, 24 ms.
            assert!(!(1000..=1120).contains(&at) || world.has(late.unwrap()), "{at}");
        }
        assert!(world.has(before));
    }

    #[test]
    fn established_origins_keep_their_sessions_and_always_get_one() {
        let mut world = World::new();
        let honest = source("fd00:2::2");
        world.origins.proved(&honest, Instant::now());
        let before: Vec<_> = (0..FEW).map(|_| world.connect(&honest).unwrap()).collect();
        for at in 0..500 {
            world.connect(&source(&format!("fd00:2::1:{at:x}"))).unwrap();
            world.connect(&source(&format!("192.0.2.{}", at % 200 + 2))).unwrap();
            world.connect(&source(&format!("fe80::{:x}", at + 2))).unwrap();
        }
        assert!(before.iter().all(|&id| world.has(id)));
        let more = world.connect(&honest).unwrap();
        assert!(world.has(more) && before.iter().all(|&id| world.has(id)));
        world.connect(&honest);
        assert!(!world.has(before[0]), "from then on it evicts its own");
    }

    #[test]
    fn a_network_makes_its_own_room_and_takes_no_smaller_ones() {
        let mut world = World::new();
        let neighbours: Vec<_> =
            (2..30).map(|host| world.connect(&source(&format!("192.0.2.{host}"))).unwrap()).collect();
        for at in 0..1000 {
            world.connect(&source(&format!("fd00:2::1:{at:x}"))).unwrap();
        }
        assert!(neighbours.iter().all(|&id| world.has(id)));
    }

    #[test]
    fn established_origins_leave_each_other_one_session() {
        let mut world = World::new();
        for host in 0..32 {
            let source = source(&format!("fd00:2::{host:x}"));
            world.origins.proved(&source, Instant::now());
            for _ in 0..FEW {
                world.connect(&source);
            }
        }
        assert_eq!(world.make_room_for("fd00:2::100"), Some(0), "more than one each");
        let mut one_each = World::new();
        for host in 0..128 {
            for address in [format!("fd00:2::{host:x}"), format!("192.0.2.{host}")] {
                one_each.origins.proved(&source(&address), Instant::now());
                one_each.connect(&source(&address));
            }
        }
        assert_eq!(one_each.make_room_for("fd00:2::100"), None);
        assert_eq!(one_each.make_room_for("fd00:2::7"), Some(14), "its own");
    }

    #[test]
    fn for_a_newcomer_that_is_not_known_a_flood_makes_room_and_an_established_origin_keeps_one() {
        let mut world = World::of(&[("192.0.2.1", 2, false), ("192.0.2.2", 9, false)]);
        assert_eq!(make_room(None, &world.held), Some(2));
        world.held.truncate(2);
        assert_eq!(make_room(None, &world.held), Some(1));
        world.origins.proved(&source("192.0.2.1"), Instant::now());
        world.held.clear();
        world.push(&source("192.0.2.1"), false);
        assert_eq!(make_room(None, &world.held), None);
        world.push(&source("192.0.2.1"), false);
        assert_eq!(make_room(None, &world.held), Some(world.held[0].id));
    }

    #[test]
    fn vsock_peers_are_counted_by_cid() {
        let mut world = World::new();
        for at in 0..256 {
            world.push(&Source::Cid(3 + at % 128), false);
        }
        assert_eq!(world.make_room(&Source::Cid(500)), Some(0));
        assert_eq!(world.make_room(&Source::Cid(7)), Some(4), "no more than others");
    }

    #[test]
    fn sessions_are_bounded_by_descriptors() {
        assert_eq!(sessions_max(64, 1), 16);
        assert_eq!(sessions_max(64, 4), 4);
        assert_eq!(sessions_max(16, 4), SESSIONS_MIN);
        assert_eq!(sessions_max(1024, 2), 248);
        assert_eq!(sessions_max(1 << 20, 4), SESSIONS_MAX);
        assert_eq!(sessions_max(usize::MAX, 0), SESSIONS_MAX);
    }
}
