//! Which requests were carried out lately, or are being carried out now: so
//! that none is carried out twice.
//!
//! A multicast client sends the same request again and again, from each of
//! its addresses, until it is called back.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::fence::Identity;
use crate::quota::Origin;

/// How long a request that was carried out is held against its twins.
pub const HOLD: Duration = Duration::from_secs(10);

/// How many requests are held of each of the two kinds, as a rule.
pub const CAPACITY: usize = 4096;

/// How many of them may come from one origin, so that it cannot fill the room of all.
pub const SHARE: usize = CAPACITY / 8 * 7;

/// So many of each origin are held though the room is full, so that those who
/// fill it together take nobody's fence.
pub const RESERVE: usize = 64;

/// More than this are never held.
pub const HARD_CAPACITY: usize = 16 * CAPACITY;

/// Why a request may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRefusal {
    /// The same one was carried out in the last 10 s, or is now.
    Duplicate,
    /// Too many requests are held; none is forgotten early.
    Full,
}

/// The requests of one listener. Those that change power states and those
/// that only ask are held apart, so that a flood of questions cannot fill the
/// room of a fence.
#[derive(Debug, Default)]
pub struct History {
    power: RequestSet,
    questions: RequestSet,
}

#[derive(Debug, Default)]
struct RequestSet {
    /// Where the request came from, and when it was finished: none while it
    /// is being carried out.
    held: HashMap<Identity, (Origin, Option<Instant>)>,
    /// How many there are of each origin.
    shares: HashMap<Origin, usize>,
    /// The finished ones, oldest first.
    order: VecDeque<(Instant, Identity)>,
}

impl History {
    /// Whether the same request was carried out lately or is being carried out now.
    pub fn holds(&mut self, identity: &Identity, now: Instant) -> bool {
        let held = self.side(identity);
        held.forget(now);
        held.held.contains_key(identity)
    }

    /// Marks a request as being carried out.
    ///
    /// # Errors
    ///
    /// [`HistoryRefusal`] if it must not be.
    pub fn begin(&mut self, identity: &Identity, origin: Origin, now: Instant) -> Result<(), HistoryRefusal> {
        let held = self.side(identity);
        held.forget(now);
        let share = held.shares.get(&origin).copied().unwrap_or(0);
        if held.held.contains_key(identity) {
            return Err(HistoryRefusal::Duplicate);
        }
        let count = held.held.len();
        if share >= SHARE || count >= HARD_CAPACITY || (count >= CAPACITY && share >= RESERVE) {
            return Err(HistoryRefusal::Full);
        }
        held.held.insert(identity.clone(), (origin, None));
        held.shares.insert(origin, share + 1);
        Ok(())
    }

    /// Marks a request as carried out at `now`.
    pub fn finish(&mut self, identity: &Identity, now: Instant) {
        let held = self.side(identity);
        if let Some((_, finished @ None)) = held.held.get_mut(identity) {
            *finished = Some(now);
            held.order.push_back((now, identity.clone()));
        }
    }

    /// Forgets a request that began and came to nothing: it was never handed to the worker.
    pub fn retract(&mut self, identity: &Identity) {
        let held = self.side(identity);
        if let Some((_, None)) = held.held.get(identity) {
            held.remove(identity);
        }
    }

    fn side(&mut self, identity: &Identity) -> &mut RequestSet {
        if identity.operation().is_power() { &mut self.power } else { &mut self.questions }
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
        let Some((origin, _)) = self.held.remove(identity) else { return };
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
    fn a_twin_waits_out_the_hold_counted_from_the_end() {
        let start = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        assert!(!history.holds(&off, start));
        assert_eq!(history.begin(&off, origin(1), start), Ok(()));
        let later = start + Duration::from_secs(60);
        assert_eq!(
            history.begin(&off, origin(1), later),
            Err(HistoryRefusal::Duplicate),
            "still being carried out"
        );
        history.finish(&off, later);
        assert_eq!(
            history.begin(&identity(Operation::Off, 1, "A"), origin(1), later + HOLD / 2),
            Err(HistoryRefusal::Duplicate)
        );
        assert_eq!(
            history.begin(&identity(Operation::On, 1, "a"), origin(1), later),
            Ok(()),
            "another operation"
        );
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
        assert_eq!(
            history.begin(&identity(Operation::Off, 7, "a"), origin(1), start),
            Ok(()),
            "a fence has its own room"
        );
        assert_eq!(
            history.begin(&identity(Operation::Status, u32::MAX, "a"), origin(1), start + HOLD),
            Ok(())
        );
    }

    #[test]
    fn those_who_fill_the_room_together_leave_some_to_everybody() {
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
                    assert_eq!(history.power.held.len(), HARD_CAPACITY);
                    return;
                }
            }
        }
    }

    #[test]
    fn one_origin_leaves_room_for_others() {
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
        assert!(history.holds(&off, now), "what was carried out is not retracted");
    }
}
