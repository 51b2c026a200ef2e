//! Which requests were carried out lately, or are being carried out now: so
//! that none is carried out twice.
//!
//! A multicast client sends the same request again and again, from each of
//! its addresses, until it is called back.
#![forbid(unsafe_code)]

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::fence::Identity;

/// How long a request that was carried out is held against its twins.
pub const HOLD: Duration = Duration::from_secs(10);

/// How many requests are held of each of the two kinds.
pub const CAPACITY: usize = 4096;

/// Why a request may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
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
    power: Held,
    questions: Held,
}

#[derive(Debug, Default)]
struct Held {
    /// When the request was finished; none while it is being carried out.
    finished: HashMap<Identity, Option<Instant>>,
    /// The finished ones, oldest first.
    order: VecDeque<(Instant, Identity)>,
}

impl History {
    /// Whether the same request was carried out lately or is being carried out now.
    pub fn holds(&mut self, identity: &Identity, now: Instant) -> bool {
        let held = self.side(identity);
        held.forget(now);
        held.finished.contains_key(identity)
    }

    /// Marks a request as being carried out.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it must not be.
    pub fn begin(&mut self, identity: &Identity, now: Instant) -> Result<(), Refusal> {
        let held = self.side(identity);
        held.forget(now);
        let full = held.finished.len() >= CAPACITY;
        match held.finished.entry(identity.clone()) {
            Entry::Occupied(_) => Err(Refusal::Duplicate),
            Entry::Vacant(_) if full => Err(Refusal::Full),
            Entry::Vacant(vacant) => {
                vacant.insert(None);
                Ok(())
            }
        }
    }

    /// Marks a request as carried out at `now`.
    pub fn finish(&mut self, identity: &Identity, now: Instant) {
        let held = self.side(identity);
        if let Some(finished @ None) = held.finished.get_mut(identity) {
            *finished = Some(now);
            held.order.push_back((now, identity.clone()));
        }
    }

    /// Forgets a request that began and came to nothing: it was never handed to the worker.
    pub fn retract(&mut self, identity: &Identity) {
        let held = self.side(identity);
        if held.finished.get(identity) == Some(&None) {
            held.finished.remove(identity);
        }
    }

    fn side(&mut self, identity: &Identity) -> &mut Held {
        if identity.operation().is_power() { &mut self.power } else { &mut self.questions }
    }
}

impl Held {
    fn forget(&mut self, now: Instant) {
        while let Some((finished, _)) = self.order.front() {
            if now.saturating_duration_since(*finished) < HOLD {
                break;
            }
            if let Some((_, identity)) = self.order.pop_front() {
                self.finished.remove(&identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::{Operation, Request, Target};

    fn identity(operation: Operation, seqno: u32, name: &str) -> Identity {
        Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno }.identity()
    }

    #[test]
    fn a_twin_waits_out_the_hold_counted_from_the_end() {
        let start = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        assert!(!history.holds(&off, start));
        assert_eq!(history.begin(&off, start), Ok(()));
        let later = start + Duration::from_secs(60);
        assert_eq!(history.begin(&off, later), Err(Refusal::Duplicate), "still being carried out");
        history.finish(&off, later);
        assert_eq!(
            history.begin(&identity(Operation::Off, 1, "A"), later + HOLD / 2),
            Err(Refusal::Duplicate)
        );
        assert_eq!(history.begin(&identity(Operation::On, 1, "a"), later), Ok(()), "another operation");
        assert_eq!(history.begin(&off, later + HOLD), Ok(()));
    }

    #[test]
    fn a_full_history_refuses_and_forgets_nothing_early() {
        let start = Instant::now();
        let mut history = History::default();
        for seqno in 0..CAPACITY as u32 {
            let status = identity(Operation::Status, seqno, "a");
            assert_eq!(history.begin(&status, start), Ok(()));
            history.finish(&status, start);
        }
        assert_eq!(history.begin(&identity(Operation::Status, u32::MAX, "a"), start), Err(Refusal::Full));
        assert!(history.holds(&identity(Operation::Status, 0, "a"), start));
        assert_eq!(
            history.begin(&identity(Operation::Off, 7, "a"), start),
            Ok(()),
            "a fence has its own room"
        );
        assert_eq!(history.begin(&identity(Operation::Status, u32::MAX, "a"), start + HOLD), Ok(()));
    }

    #[test]
    fn a_retracted_request_may_come_again() {
        let now = Instant::now();
        let mut history = History::default();
        let off = identity(Operation::Off, 1, "a");
        history.begin(&off, now).unwrap();
        history.retract(&off);
        assert_eq!(history.begin(&off, now), Ok(()));
        history.finish(&off, now);
        history.retract(&off);
        assert!(history.holds(&off, now), "what was carried out is not retracted");
    }
}
