//! History of requests, so that none is carried out twice.
//!
//! A multicast client sends the same request repeatedly, from each of its addresses, until it is called back.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::fence::Identity;
use crate::quota::Origin;
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

/// Absolute maximum of requests of each kind.
pub const HARD_CAPACITY: usize = 16 * CAPACITY;

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
    /// Origin of each request and the time it finished; none while in flight.
    requests: HashMap<Identity, (Origin, Option<Instant>)>,
    /// Number of requests of each origin.
    shares: HashMap<Origin, usize>,
    /// Finished requests, oldest first.
    order: VecDeque<(Instant, Identity)>,
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
    pub fn begin(&mut self, identity: &Identity, origin: Origin, now: Instant) -> Result<(), HistoryRefusal> {
        let set = self.set(identity);
        set.forget(now);
        let share = set.shares.get(&origin).copied().unwrap_or(0);
        if set.requests.contains_key(identity) {
            return Err(HistoryRefusal::Duplicate);
        }
        let count = set.requests.len();
        if share >= SHARE || count >= HARD_CAPACITY || (count >= CAPACITY && share >= RESERVE) {
            return Err(HistoryRefusal::Full);
        }
        set.requests.insert(identity.clone(), (origin, None));
        set.shares.insert(origin, share + 1);
        Ok(())
    }

    /// Marks a request as finished at `now`.
    pub fn finish(&mut self, identity: &Identity, now: Instant) {
        let set = self.set(identity);
        if let Some((_, finished @ None)) = set.requests.get_mut(identity) {
            *finished = Some(now);
            set.order.push_back((now, identity.clone()));
        }
    }

    /// Forgets a request in flight that never reached the worker.
    pub fn retract(&mut self, identity: &Identity) {
        let set = self.set(identity);
        if let Some((_, None)) = set.requests.get(identity) {
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

    fn remove(&mut self, identity: &Identity) {
        let Some((origin, _)) = self.requests.remove(identity) else { return };
        match self.shares.get_mut(&origin) {
            Some(share) if *share > 1 => *share -= 1,
            _ => drop(self.shares.remove(&origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::{Operation, Request, Source, Target};

    fn identity(operation: Operation, seqno: u32, name: &str) -> Identity {
        Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno }.identity()
    }

    fn origin(host: u16) -> Origin {
        let [high, low] = host.to_be_bytes();
        Origin::from(&Source::Ip([192, 0, high, low].into()))
    }

    #[test]
    fn a_duplicate_is_refused_for_the_hold_time_counted_from_the_end() {
        let start = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        assert!(!history.holds(&off, start));
        assert_eq!(history.begin(&off, origin(1), start), Ok(()));
        let later = start + Duration::from_secs(60);
        assert_eq!(history.begin(&off, origin(1), later), Err(HistoryRefusal::Duplicate), "still in flight");
        history.finish(&off, later);
        let same = identity(Operation::Off, 1, "A");
        assert_eq!(history.begin(&same, origin(1), later + HOLD / 2), Err(HistoryRefusal::Duplicate));
        let other = identity(Operation::On, 1, "a");
        assert_eq!(history.begin(&other, origin(1), later), Ok(()), "another operation");
        assert_eq!(history.begin(&off, origin(1), later + HOLD), Ok(()));
    }

    #[test]
    fn a_full_history_refuses_and_forgets_nothing_early() {
        let start = Instant::now();
        let mut history = History::default();
        for seqno in 0..CAPACITY as u32 {
            let status = identity(Operation::Status, seqno, "a");
            assert_eq!(history.begin(&status, origin(2 + (seqno % 2) as u16), start), Ok(()));
            history.finish(&status, start);
        }
        let more = identity(Operation::Status, u32::MAX, "a");
        for busy in [2, 3] {
            assert_eq!(history.begin(&more, origin(busy), start), Err(HistoryRefusal::Full));
        }
        assert!(history.holds(&identity(Operation::Status, 0, "a"), start));
        let off = identity(Operation::Off, 7, "a");
        assert_eq!(history.begin(&off, origin(1), start), Ok(()), "power operations are counted apart");
        assert_eq!(history.begin(&more, origin(1), start + HOLD), Ok(()));
    }

    #[test]
    fn origins_that_use_up_the_capacity_together_leave_each_other_a_reserve() {
        let now = Instant::now();
        let mut history = History::default();
        let off = |seqno| identity(Operation::Off, seqno, "a");
        for seqno in 0..CAPACITY as u32 {
            assert_eq!(history.begin(&off(seqno), origin(1 + (seqno % 2) as u16), now), Ok(()));
        }
        let mut seqno = CAPACITY as u32;
        for host in 10..20 {
            for _ in 0..RESERVE {
                seqno += 1;
                assert_eq!(history.begin(&off(seqno), origin(host), now), Ok(()));
            }
            assert_eq!(history.begin(&off(u32::MAX), origin(host), now), Err(HistoryRefusal::Full));
        }
        for host in 20.. {
            for _ in 0..RESERVE {
                seqno += 1;
                if history.begin(&off(seqno), origin(host), now) == Err(HistoryRefusal::Full) {
                    assert_eq!(history.power.requests.len(), HARD_CAPACITY);
                    return;
                }
            }
        }
    }

    #[test]
    fn one_origin_leaves_capacity_for_others() {
        let now = Instant::now();
        let mut history = History::default();
        for seqno in 0..SHARE as u32 {
            let off = identity(Operation::Off, seqno, "a");
            assert_eq!(history.begin(&off, origin(1), now), Ok(()));
            history.finish(&off, now);
        }
        let more = identity(Operation::Off, u32::MAX, "a");
        assert_eq!(history.begin(&more, origin(1), now), Err(HistoryRefusal::Full));
        assert_eq!(history.begin(&more, origin(2), now), Ok(()));
        let again = identity(Operation::Off, u32::MAX - 1, "a");
        assert_eq!(history.begin(&again, origin(1), now + HOLD), Ok(()));
    }

    #[test]
    fn a_retracted_request_may_come_again() {
        let now = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        history.begin(&off, origin(1), now).unwrap();
        history.retract(&off);
        assert_eq!(history.begin(&off, origin(1), now), Ok(()));
        history.finish(&off, now);
        history.retract(&off);
        assert!(history.holds(&off, now), "a finished request is not retracted");
    }
}
