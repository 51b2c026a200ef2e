use std::collections::BTreeMap;

use super::hold::{HoldSubject, PowerHold};
use crate::power_log::WallTime;

/// Maximum of holds.
pub const HOLDS_MAX: usize = 1024;

/// Holds by their subjects, one for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoldTable(BTreeMap<String, PowerHold>);

impl HoldTable {
    /// Adds a hold. Returns the one that it replaces.
    ///
    /// # Errors
    ///
    /// A sentence if there are [`HOLDS_MAX`] others.
    pub fn insert(&mut self, hold: PowerHold) -> Result<Option<PowerHold>, String> {
        let key = hold.subject.key();
        if self.0.len() >= HOLDS_MAX && !self.0.contains_key(&key) {
            return Err(format!("there are {HOLDS_MAX} holds already: release one first"));
        }
        Ok(self.0.insert(key, hold))
    }

    /// Removes the hold on a subject.
    pub fn remove(&mut self, subject: &HoldSubject) -> Option<PowerHold> {
        self.0.remove(&subject.key())
    }

    /// Removes the holds that have ended.
    pub fn take_ended(&mut self, now: WallTime) -> Vec<PowerHold> {
        let (kept, ended) =
            std::mem::take(&mut self.0).into_iter().partition(|(_, hold)| hold.is_in_force(now));
        self.0 = kept;
        let ended: BTreeMap<String, PowerHold> = ended;
        ended.into_values().collect()
    }

    /// Time at which the next hold ends.
    pub fn next_end(&self) -> Option<WallTime> {
        self.0.values().map(|hold| hold.ends).min()
    }

    /// Returns the hold on the subject with this key, see [`HoldSubject::key`].
    pub(super) fn of_key(&self, key: &str) -> Option<&PowerHold> {
        self.0.get(key)
    }

    /// Returns the holds in the order of their subjects.
    pub fn iter(&self) -> impl Iterator<Item = &PowerHold> {
        self.0.values()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::hold::{HoldReason, HoldTime};
    use super::*;

    /// Hold of this subject from the beginning of 1970 on, for so many seconds.
    pub(in super::super) fn hold(subject: &str, seconds: u64) -> PowerHold {
        PowerHold::begin(
            HoldSubject::new(subject).unwrap(),
            HoldReason::new("new kernel").unwrap(),
            HoldTime::parse(&format!("{seconds}s")).unwrap(),
            WallTime::from_millis(0),
        )
    }

    /// Table with these holds.
    pub(in super::super) fn table(holds: &[PowerHold]) -> HoldTable {
        let mut table = HoldTable::default();
        holds.iter().for_each(|hold| drop(table.insert(hold.clone()).unwrap()));
        table
    }

    #[test]
    fn a_subject_has_one_hold() {
        let mut table = table(&[hold("a", 5)]);
        assert_eq!(table.insert(hold("A", 9)), Ok(Some(hold("a", 5))));
        assert_eq!(table.iter().collect::<Vec<_>>(), [&hold("A", 9)]);
        assert_eq!(table.remove(&HoldSubject::new("b").unwrap()), None);
        assert_eq!(table.remove(&HoldSubject::new("a").unwrap()), Some(hold("A", 9)));
        assert!(table.is_empty());
    }

    #[test]
    fn the_number_of_holds_is_bounded() {
        let mut table = HoldTable::default();
        (0..HOLDS_MAX).for_each(|at| drop(table.insert(hold(&format!("vm{at}"), 5)).unwrap()));
        assert!(table.insert(hold("one more", 5)).unwrap_err().contains("1024"));
        assert!(table.insert(hold("VM7", 9)).is_ok(), "it replaces another one");
        assert_eq!(table.iter().count(), HOLDS_MAX);
    }

    #[test]
    fn holds_end_one_by_one() {
        let mut table = table(&[hold("a", 5), hold("b", 3), hold("c", 3)]);
        let end = |seconds: u64| WallTime::from_millis(seconds * 1000);
        assert_eq!(table.next_end(), Some(end(3)));
        assert!(table.take_ended(WallTime::from_millis(2999)).is_empty());
        assert_eq!(table.take_ended(end(3)), [hold("b", 3), hold("c", 3)]);
        assert_eq!((table.next_end(), table.take_ended(end(9))), (Some(end(5)), vec![hold("a", 5)]));
        assert_eq!(table.next_end(), None);
    }
}
