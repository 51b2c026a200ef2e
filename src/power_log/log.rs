use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::PowerRecord;

/// Maximum of records of operations that were begun.
pub const OPERATIONS_MAX: usize = 1000;

/// Maximum of records of operations that were denied or refused.
pub const REFUSALS_MAX: usize = 250;

/// Number of the first record that is no older one; see [`PowerLog::of_file`].
const FIRST: u64 = 1 << 32;

/// Record with its number; a later one has a higher number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedRecord {
    /// Number.
    pub number: u64,
    /// Record.
    pub record: Arc<PowerRecord>,
}

/// Last power operations, and apart from them the last ones that were denied or refused: those which anybody
/// can cause remove none that was carried out.
#[derive(Debug)]
pub struct PowerLog {
    operations: FairRing,
    refusals: FairRing,
    next: u64,
}

impl Default for PowerLog {
    fn default() -> PowerLog {
        PowerLog {
            operations: FairRing::new(OPERATIONS_MAX),
            refusals: FairRing::new(REFUSALS_MAX),
            next: FIRST,
        }
    }
}

impl PowerLog {
    /// Adds a record, with its texts shortened, and returns it.
    pub fn add(&mut self, record: PowerRecord) -> NumberedRecord {
        let record = NumberedRecord { number: self.next, record: Arc::new(record.bounded()) };
        self.next += 1;
        self.ring(&record.record).push(record.clone());
        record
    }

    /// Log of the records of a file, oldest first, with their texts shortened.
    pub fn of_file(records: Vec<PowerRecord>) -> PowerLog {
        let mut log = PowerLog::default();
        let records = records.into_iter().map(|record| Arc::new(record.bounded()));
        for (number, record) in (0..FIRST).zip(records) {
            log.ring(&record).push(NumberedRecord { number, record });
        }
        log
    }

    /// Adds the records of [`PowerLog::of_file`], as older than all others. The time that this takes depends on
    /// the records that are there, not on the file.
    pub fn add_older(&mut self, mut older: PowerLog) {
        for record in self.records() {
            older.ring(&record.record).push(record);
        }
        older.next = self.next;
        *self = older;
    }

    fn ring(&mut self, record: &PowerRecord) -> &mut FairRing {
        if record.verdict.is_refusal() { &mut self.refusals } else { &mut self.operations }
    }

    /// All records, oldest first.
    pub fn records(&self) -> Vec<NumberedRecord> {
        let mut all: Vec<NumberedRecord> =
            self.operations.records.iter().chain(&self.refusals.records).cloned().collect();
        all.sort_by_key(|record| record.number);
        all
    }

    /// The last records, so many at most, oldest first. The time that this takes depends on their number alone.
    pub fn last(&self, count: usize) -> Vec<Arc<PowerRecord>> {
        let mut last: Vec<_> = self.operations.last(count).chain(self.refusals.last(count)).collect();
        last.sort_by_key(|record| record.number);
        let first = last.len().saturating_sub(count);
        last[first..].iter().map(|record| record.record.clone()).collect()
    }
}

/// Bounded list of records. In place of the oldest one, the oldest one of the requester with the most
/// records goes. So each requester keeps its last ones up to an equal share, however many another one sends.
#[derive(Debug)]
struct FairRing {
    max: usize,
    records: VecDeque<NumberedRecord>,
    /// Number of records of each share.
    shares: HashMap<String, usize>,
}

impl FairRing {
    fn new(max: usize) -> FairRing {
        FairRing { max, records: VecDeque::new(), shares: HashMap::new() }
    }

    fn push(&mut self, record: NumberedRecord) {
        *self.shares.entry(record.record.share.clone()).or_default() += 1;
        self.records.push_back(record);
        if self.records.len() > self.max {
            self.remove_one();
        }
    }

    /// The last records, so many at most, oldest first.
    fn last(&self, count: usize) -> impl Iterator<Item = &NumberedRecord> {
        self.records.range(self.records.len().saturating_sub(count)..)
    }

    /// Removes the oldest record of a share that has as many as any.
    fn remove_one(&mut self) {
        let most = self.shares.values().copied().max().unwrap_or_default();
        let is_largest = |record: &NumberedRecord| {
            self.shares.get(&record.record.share).is_some_and(|&count| count >= most)
        };
        let at = self.records.iter().position(is_largest).unwrap_or_default();
        let Some(removed) = self.records.remove(at) else { return };
        let share = &removed.record.share;
        if let Some(count) = self.shares.get_mut(share) {
            *count -= 1;
            if *count == 0 {
                self.shares.remove(share);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{PowerVerdict, WallTime};
    use super::*;
    use crate::fence::Operation;

    pub(in super::super) fn record(share: &str, millis: u64, verdict: PowerVerdict) -> PowerRecord {
        PowerRecord {
            time: WallTime::from_millis(millis),
            listener: "tcp".to_owned(),
            requester: share.to_owned(),
            share: share.to_owned(),
            operation: Operation::Off,
            vm: "node1".to_owned(),
            verdict,
            reason: "because".to_owned(),
            millis: Some(9),
        }
    }

    fn count(log: &PowerLog, share: &str) -> usize {
        log.records().iter().filter(|record| record.record.share == share).count()
    }

    #[test]
    fn a_flood_removes_no_records_of_those_who_have_fewer() {
        let mut log = PowerLog::default();
        for at in 0..400 {
            log.add(record("quiet", at, PowerVerdict::Success));
        }
        for at in 0..5000 {
            log.add(record("loud", at, PowerVerdict::Success));
        }
        assert_eq!((count(&log, "quiet"), count(&log, "loud")), (400, 600));
        // Its newest are kept.
        let first = log.records().into_iter().find(|record| record.record.share == "loud").unwrap();
        assert_eq!(first.record.time, WallTime::from_millis(4400));
        for share in 0..5000 {
            log.add(record(&share.to_string(), 0, PowerVerdict::Success));
        }
        assert_eq!(log.records().len(), OPERATIONS_MAX);
        assert_eq!(log.operations.shares.values().sum::<usize>(), OPERATIONS_MAX);
        assert!(log.operations.shares.len() <= OPERATIONS_MAX);
    }

    #[test]
    fn refusals_remove_no_operations() {
        let mut log = PowerLog::default();
        log.add(record("a", 1, PowerVerdict::Failure));
        for at in 2..3000 {
            log.add(record("a", at, PowerVerdict::Refused));
            log.add(record("a", at, PowerVerdict::Denied));
        }
        let records = log.records();
        assert_eq!(records.len(), 1 + REFUSALS_MAX);
        assert_eq!(records[0].record.verdict, PowerVerdict::Failure);
        assert!(records.windows(2).all(|pair| pair[0].number < pair[1].number));
    }

    #[test]
    fn records_of_a_file_come_before_those_that_are_there() {
        let mut log = PowerLog::default();
        let present = log.add(record("a", 7, PowerVerdict::Success));
        let older = (0..2 * OPERATIONS_MAX as u64).map(|at| record("b", at, PowerVerdict::Success)).collect();
        log.add_older(PowerLog::of_file(older));
        let records = log.records();
        assert_eq!((records.len(), records.last()), (OPERATIONS_MAX, Some(&present)));
        assert_eq!(log.add(record("a", 8, PowerVerdict::Success)).number, present.number + 1);
    }

    #[test]
    fn the_last_records_are_those_of_both_kinds() {
        let mut log = PowerLog::default();
        assert_eq!(log.last(5), []);
        // A flood of either kind ends in a few of the other one.
        for verdicts in [
            [PowerVerdict::Refused, PowerVerdict::Success],
            [PowerVerdict::Success, PowerVerdict::Denied],
            [PowerVerdict::Failure, PowerVerdict::Failure],
        ] {
            for (verdict, count) in verdicts.into_iter().zip([2000, 2]) {
                (0..count).for_each(|at| drop(log.add(record("a", at, verdict))));
            }
            let all: Vec<_> = log.records().into_iter().map(|record| record.record).collect();
            for count in [0, 1, 2, 5, 300, all.len(), all.len() + 1] {
                assert_eq!(log.last(count), all[all.len().saturating_sub(count)..]);
            }
        }
        let older = PowerLog::of_file(vec![record("b", 7, PowerVerdict::Denied)]);
        log.add_older(older);
        assert_ne!(log.last(1)[0].share, "b");
    }

    #[test]
    fn a_record_is_bounded() {
        let mut log = PowerLog::default();
        let long = "é".repeat(5000);
        let endless = PowerRecord {
            listener: long.clone(),
            requester: long.clone(),
            share: long.clone(),
            vm: long.clone(),
            reason: long,
            ..record("", 0, PowerVerdict::Failure)
        };
        let PowerRecord { listener, requester, share, vm, reason, .. } = &*log.add(endless).record;
        assert!([listener, requester, share, vm, reason].into_iter().map(String::len).sum::<usize>() < 1500);
    }
}
