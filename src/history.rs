//! History of requests, so that none is carried out twice.
//!
//! A multicast client sends the same request repeatedly, from each of its addresses, until it is called back.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::fence::Identity;
use crate::origins::{ESTABLISHED_MAX, Network, Origin, Standing};
use crate::time::Instant;

/// Time that a finished request is remembered; its duplicates are dropped.
pub const HOLD: Duration = Duration::from_secs(10);

/// Requests remembered of each of the two kinds; see [`RESERVE`] for the exception.
pub const CAPACITY: usize = 4096;

/// Maximum requests of one origin, so that it cannot use up the capacity of all.
pub const SHARE: usize = CAPACITY / 8 * 7;

/// Requests of each origin that are accepted beyond [`CAPACITY`], so that
/// origins that use it up together block nobody else's fencing.
pub const RESERVE: usize = 64;

/// Requests of each kind beyond which only established origins are accepted.
pub const COMMON_CAPACITY: usize = 16 * CAPACITY;

/// Requests of the origins of one network, beyond which only its established ones are accepted.
pub const NETWORK_SHARE: usize = COMMON_CAPACITY / 8 * 7;

/// Requests of each established origin that are accepted however many others there are.
pub const ESTABLISHED_RESERVE: usize = 32;

/// Absolute maximum of requests of each kind.
pub const HARD_CAPACITY: usize = COMMON_CAPACITY + ESTABLISHED_MAX * ESTABLISHED_RESERVE;

/// Reason why a request may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRefusal {
    /// Duplicate of a request in flight, or finished in the last 10 s.
    Duplicate,
    /// Capacity exhausted; no request is forgotten early.
    Full,
}

/// Recent requests of one listener. Power operations and queries are counted
/// separately, so that a flood of queries cannot block fencing.
#[derive(Debug, Default)]
pub struct History {
    power: RequestSet,
    queries: RequestSet,
}

#[derive(Debug, Default)]
struct RequestSet {
    requests: HashMap<Identity, RecentRequest>,
    /// Number of requests of each origin.
    shares: HashMap<Origin, usize>,
    /// Number of requests of each network.
    networks: HashMap<Network, usize>,
    /// Finished requests, oldest first.
    order: VecDeque<(Instant, Identity)>,
}

#[derive(Debug)]
struct RecentRequest {
    origin: Origin,
    network: Option<Network>,
    /// Time it finished; none while in flight.
    finished: Option<Instant>,
}

impl History {
    /// Returns true if the request is a duplicate of one in flight or finished recently.
    pub fn holds(&mut self, identity: &Identity, now: Instant) -> bool {
        let set = self.set(identity);
        set.forget(now);
        set.requests.contains_key(identity)
    }

    /// Marks a request as in flight.
    ///
    /// # Errors
    ///
    /// [`HistoryRefusal`] if it must not be carried out.
    pub fn begin(
        &mut self,
        identity: &Identity,
        standing: &Standing,
        now: Instant,
    ) -> Result<(), HistoryRefusal> {
        let set = self.set(identity);
        set.forget(now);
        if set.requests.contains_key(identity) {
            return Err(HistoryRefusal::Duplicate);
        }
        if !set.has_room_for(standing) {
            return Err(HistoryRefusal::Full);
        }
        let &Standing { origin, network, .. } = standing;
        set.requests.insert(identity.clone(), RecentRequest { origin, network, finished: None });
        *set.shares.entry(origin).or_default() += 1;
        if let Some(network) = network {
            *set.networks.entry(network).or_default() += 1;
        }
        Ok(())
    }

    /// Marks a request as finished at `now`.
    pub fn finish(&mut self, identity: &Identity, now: Instant) {
        let set = self.set(identity);
        if let Some(RecentRequest { finished: finished @ None, .. }) = set.requests.get_mut(identity) {
            *finished = Some(now);
            set.order.push_back((now, identity.clone()));
        }
    }

    /// Forgets a request in flight that never reached the worker.
    pub fn retract(&mut self, identity: &Identity) {
        let set = self.set(identity);
        if set.requests.get(identity).is_some_and(|request| request.finished.is_none()) {
            set.remove(identity);
        }
    }

    fn set(&mut self, identity: &Identity) -> &mut RequestSet {
        if identity.operation().is_power() { &mut self.power } else { &mut self.queries }
    }
}

impl RequestSet {
    fn forget(&mut self, now: Instant) {
        while let Some((finished, _)) = self.order.front() {
            if now.saturating_duration_since(*finished) < HOLD {
                break;
            }
            if let Some((_, identity)) = self.order.pop_front() {
                self.remove(&identity);
            }
        }
    }

    fn has_room_for(&self, standing: &Standing) -> bool {
        let count = self.requests.len();
        let share = self.shares.get(&standing.origin).copied().unwrap_or(0);
        let of_network =
            standing.network.and_then(|network| self.networks.get(&network)).copied().unwrap_or(0);
        if share >= SHARE || count >= HARD_CAPACITY || (count >= CAPACITY && share >= RESERVE) {
            return false;
        }
        let is_crowded = count >= COMMON_CAPACITY || of_network >= NETWORK_SHARE;
        !is_crowded || (standing.is_established && share < ESTABLISHED_RESERVE)
    }

    fn remove(&mut self, identity: &Identity) {
        let Some(RecentRequest { origin, network, .. }) = self.requests.remove(identity) else { return };
        decrease(&mut self.shares, &origin);
        if let Some(network) = network {
            decrease(&mut self.networks, &network);
        }
    }
}

/// Takes one from a count; a count of none is removed.
fn decrease<Key: Eq + Hash>(counts: &mut HashMap<Key, usize>, key: &Key) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::{Operation, Request, Source, Target};
    use crate::origins::{Origins, Prefix};

    fn identity(operation: Operation, seqno: u32, name: &str) -> Identity {
        Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno }.identity()
    }

    fn origin(host: u16) -> Standing {
        let [high, low] = host.to_be_bytes();
        Origins::default().standing(&Source::Ip([192, 0, high, low].into()))
    }

    #[test]
    fn a_duplicate_is_refused_for_the_hold_time_counted_from_the_end() {
        let start = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        assert!(!history.holds(&off, start));
        assert_eq!(history.begin(&off, &origin(1), start), Ok(()));
        let later = start + Duration::from_secs(60);
        assert_eq!(history.begin(&off, &origin(1), later), Err(HistoryRefusal::Duplicate), "still in flight");
        history.finish(&off, later);
        let same = identity(Operation::Off, 1, "A");
        assert_eq!(history.begin(&same, &origin(1), later + HOLD / 2), Err(HistoryRefusal::Duplicate));
        let other = identity(Operation::On, 1, "a");
        assert_eq!(history.begin(&other, &origin(1), later), Ok(()), "another operation");
        assert_eq!(history.begin(&off, &origin(1), later + HOLD), Ok(()));
    }

    #[test]
    fn a_full_history_refuses_and_forgets_nothing_early() {
        let start = Instant::now();
        let mut history = History::default();
        for seqno in 0..CAPACITY as u32 {
            let status = identity(Operation::Status, seqno, "a");
            assert_eq!(history.begin(&status, &origin(2 + (seqno % 2) as u16), start), Ok(()));
            history.finish(&status, start);
        }
        let more = identity(Operation::Status, u32::MAX, "a");
        for busy in [2, 3] {
            assert_eq!(history.begin(&more, &origin(busy), start), Err(HistoryRefusal::Full));
        }
        assert!(history.holds(&identity(Operation::Status, 0, "a"), start));
        let off = identity(Operation::Off, 7, "a");
        assert_eq!(history.begin(&off, &origin(1), start), Ok(()), "power operations are counted apart");
        assert_eq!(history.begin(&more, &origin(1), start + HOLD), Ok(()));
    }

    #[test]
    fn origins_that_use_up_the_capacity_together_leave_each_other_a_reserve() {
        let now = Instant::now();
        let mut history = History::default();
        let off = |seqno| identity(Operation::Off, seqno, "a");
        for seqno in 0..CAPACITY as u32 {
            assert_eq!(history.begin(&off(seqno), &origin(1 + (seqno % 2) as u16), now), Ok(()));
        }
        let mut seqno = CAPACITY as u32;
        for host in 10..20 {
            for _ in 0..RESERVE {
                seqno += 1;
                assert_eq!(history.begin(&off(seqno), &origin(host), now), Ok(()));
            }
            assert_eq!(history.begin(&off(u32::MAX), &origin(host), now), Err(HistoryRefusal::Full));
        }
        for host in 20.. {
            for _ in 0..RESERVE {
                seqno += 1;
                if history.begin(&off(seqno), &origin(host), now) == Err(HistoryRefusal::Full) {
                    assert_eq!(history.power.requests.len(), NETWORK_SHARE);
                    return;
                }
            }
        }
    }

    /// Origins with one /64 and one IPv4 network on the link.
    fn bridge() -> Origins {
        let mut origins = Origins::default();
        let prefixes = [("fd00:2::1", "ffff:ffff:ffff:ffff::"), ("192.0.2.1", "255.255.255.0")];
        let prefixes = prefixes.map(|(ip, mask)| Prefix::new(ip.parse().unwrap(), mask.parse().unwrap()));
        origins.set_prefixes(&prefixes.map(Option::unwrap));
        origins
    }

    fn neighbour(number: u32) -> Source {
        let [.., high, low] = number.to_be_bytes();
        Source::Ip([0xfd00, 2, 0, 0, 0, 0, (number >> 16) as u16, u16::from_be_bytes([high, low])].into())
    }

    /// Carries out a flood of requests from 100,000 addresses of one /64, at this rate. Calls `check` each second with the history and the next free sequence number.
    fn flood(per_second: u32, seconds: u32, mut check: impl FnMut(&mut History, u32, Instant)) {
        let start = Instant::now();
        let mut history = History::default();
        let mut origins = bridge();
        for second in 0..seconds {
            for at in 0..per_second {
                let now =
                    start + Duration::from_secs(second.into()) + Duration::from_secs(1) * at / per_second;
                let number = second * per_second + at;
                let standing = origins.proved(&neighbour(1000 + number % 100_000), now);
                let off = identity(Operation::Off, number, "a");
                if history.begin(&off, &standing, now) == Ok(()) {
                    history.finish(&off, now);
                }
            }
            let now = start + Duration::from_secs(second.into()) + Duration::from_secs(1);
            check(&mut history, u32::MAX - 1000 * second, now);
            assert!(history.power.requests.len() <= HARD_CAPACITY);
        }
    }

    #[test]
    fn one_address_of_a_64_takes_no_room_of_its_neighbours() {
        let now = Instant::now();
        let mut history = History::default();
        let origins = bridge();
        let begin = |history: &mut History, seqno, host| {
            let off = identity(Operation::Off, seqno, "a");
            history.begin(&off, &origins.standing(&neighbour(host)), now)
        };
        for seqno in 0..SHARE as u32 {
            assert_eq!(begin(&mut history, seqno, 66), Ok(()));
        }
        assert_eq!(begin(&mut history, u32::MAX, 66), Err(HistoryRefusal::Full));
        assert_eq!(begin(&mut history, u32::MAX, 2), Ok(()));
    }

    #[test]
    fn five_thousand_requests_a_second_from_one_64_leave_room_for_all_its_addresses() {
        let origins = bridge();
        flood(5000, 12, |history, seqno, now| {
            for (at, source) in [neighbour(2), Source::Ip([192, 0, 2, 2].into())].iter().enumerate() {
                let off = identity(Operation::Off, seqno - at as u32, "a");
                assert_eq!(history.begin(&off, &origins.standing(source), now), Ok(()));
            }
        });
    }

    #[test]
    fn a_faster_flood_leaves_room_for_established_addresses_and_other_networks() {
        let mut origins = bridge();
        assert!(origins.proved(&neighbour(2), Instant::now()).is_established);
        let mut refused = 0;
        flood(10_000, 7, |history, seqno, now| {
            for at in 0..ESTABLISHED_RESERVE as u32 / 10 {
                for (which, source) in [neighbour(2), Source::Ip([192, 0, 2, 2].into())].iter().enumerate() {
                    let off = identity(Operation::Off, seqno - 2 * at - which as u32, "a");
                    assert_eq!(history.begin(&off, &origins.standing(source), now), Ok(()));
                    history.finish(&off, now);
                }
            }
            let off = identity(Operation::Off, seqno - 999, "a");
            refused += usize::from(history.begin(&off, &origins.standing(&neighbour(3)), now).is_err());
        });
        assert!(refused >= 1, "{refused}");
    }

    #[test]
    fn one_origin_leaves_capacity_for_others() {
        let now = Instant::now();
        let mut history = History::default();
        for seqno in 0..SHARE as u32 {
            let off = identity(Operation::Off, seqno, "a");
            assert_eq!(history.begin(&off, &origin(1), now), Ok(()));
            history.finish(&off, now);
        }
        let more = identity(Operation::Off, u32::MAX, "a");
        assert_eq!(history.begin(&more, &origin(1), now), Err(HistoryRefusal::Full));
        assert_eq!(history.begin(&more, &origin(2), now), Ok(()));
        let again = identity(Operation::Off, u32::MAX - 1, "a");
        assert_eq!(history.begin(&again, &origin(1), now + HOLD), Ok(()));
    }

    #[test]
    fn a_retracted_request_may_come_again() {
        let now = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        history.begin(&off, &origin(1), now).unwrap();
        history.retract(&off);
        assert_eq!(history.begin(&off, &origin(1), now), Ok(()));
        history.finish(&off, now);
        history.retract(&off);
        assert!(history.holds(&off, now), "a finished request is not retracted");
    }
}
