use std::sync::Arc;

use super::super::sample;
use super::*;
use fence_virt::power_log::{FILE_BYTES_MAX, FILE_RECORDS_MAX, OPERATIONS_MAX, REFUSALS_MAX};
use fence_virt::power_log::{PowerLog, PowerRecord, PowerVerdict, WallTime};

const INTERVALS: WriteIntervals = WriteIntervals {
    append: Duration::from_secs(1),
    replace: Duration::from_secs(60),
    retry: Duration::from_secs(10),
};

fn at(millis: u64) -> Instant {
    Instant::from_boot(Duration::from_secs(1000) + Duration::from_millis(millis))
}

fn record(number: u64, verdict: PowerVerdict) -> NumberedRecord {
    NumberedRecord { number, record: Arc::new(PowerRecord { verdict, ..sample::record("node1") }) }
}

/// Writes that a file has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Writes {
    appended: usize,
    durable: usize,
    replaced: usize,
    lines: usize,
}

/// Writes what is due at this time.
fn write(unwritten: &mut UnwrittenRecords, writes: &mut Writes, last: u64, now: Instant) {
    if let Some(lines) = unwritten.take_lines(now, false) {
        writes.appended += 1;
        writes.durable += usize::from(lines.is_durable);
        writes.lines += lines.text.lines().count();
    }
    if unwritten.is_replacement_due(now, false) {
        writes.replaced += 1;
        unwritten.replaced(last, now);
    }
}

/// Five minutes with a record each millisecond.
fn flood(verdict: PowerVerdict) -> Writes {
    let (mut unwritten, mut writes) = (UnwrittenRecords::new(INTERVALS), Writes::default());
    unwritten.replaced(0, at(0));
    for millis in 1..300_000 {
        unwritten.add(&record(millis, verdict));
        write(&mut unwritten, &mut writes, millis, at(millis));
    }
    assert!(unwritten.due().is_some_and(|due| due > at(299_999)), "nothing is overdue");
    writes
}

#[test]
fn a_flood_of_denials_causes_few_writes_and_waits_for_no_disk() {
    // In each minute one line at once, and after a second as many as are permitted.
    let expected = Writes { appended: 10, durable: 0, replaced: 4, lines: 5 * APPENDED_MAX };
    assert_eq!(flood(PowerVerdict::Denied), expected);
    assert_eq!(flood(PowerVerdict::Refused), expected);
}

#[test]
fn operations_are_durable_and_refusals_hold_up_none() {
    let expected = Writes { appended: 10, durable: 10, replaced: 4, lines: 5 * APPENDED_MAX };
    assert_eq!(flood(PowerVerdict::Success), expected);
    let (mut unwritten, mut writes) = (UnwrittenRecords::new(INTERVALS), Writes::default());
    unwritten.replaced(0, at(0));
    (0..1000).for_each(|number| unwritten.add(&record(1 + number, PowerVerdict::Denied)));
    write(&mut unwritten, &mut writes, 1000, at(1));
    unwritten.add(&record(1001, PowerVerdict::Failure));
    assert_eq!(unwritten.due(), Some(at(1001)), "a second after the last write");
    write(&mut unwritten, &mut writes, 1001, at(1000));
    assert_eq!(writes.appended, 1);
    write(&mut unwritten, &mut writes, 1001, at(1001));
    assert_eq!(writes, Writes { appended: 2, durable: 1, replaced: 0, lines: APPENDED_MAX + 1 });
    assert_eq!(unwritten.due(), Some(at(60_000)), "the denials that were held back");
}

#[test]
fn a_record_after_a_pause_is_written_at_once_and_all_at_the_end() {
    let mut unwritten = UnwrittenRecords::new(INTERVALS);
    unwritten.replaced(7, at(0));
    assert_eq!(unwritten.due(), None);
    unwritten.add(&record(7, PowerVerdict::Success));
    assert_eq!(unwritten.due(), None, "the replacement has it");
    unwritten.add(&record(8, PowerVerdict::Success));
    assert!(unwritten.take_lines(at(5000), false).is_some_and(|lines| lines.is_durable));
    unwritten.add(&record(9, PowerVerdict::Denied));
    assert_eq!(unwritten.take_lines(at(5001), false), None);
    assert!(unwritten.take_lines(at(5001), true).is_some_and(|lines| !lines.is_durable));
    unwritten.hold_back();
    assert!(
        !unwritten.is_replacement_due(at(59_999), false) && unwritten.is_replacement_due(at(59_999), true)
    );
}

#[test]
fn nothing_is_appended_after_a_failure_until_the_file_is_replaced() {
    let mut unwritten = UnwrittenRecords::new(INTERVALS);
    unwritten.replaced(0, at(0));
    unwritten.add(&record(1, PowerVerdict::Success));
    unwritten.failed(at(100));
    unwritten.add(&record(2, PowerVerdict::Success));
    assert_eq!((unwritten.take_lines(at(5000), true), unwritten.due()), (None, Some(at(10_100))));
    // Records that are held back bring the attempt no nearer.
    unwritten.hold_back();
    assert_eq!(unwritten.due(), Some(at(10_100)));
    assert!(unwritten.replaced(2, at(10_100)), "it had failed");
    unwritten.add(&record(3, PowerVerdict::Success));
    assert!(unwritten.take_lines(at(10_200), false).is_some());
}

#[test]
fn the_longest_file_can_be_read() {
    let long = "\u{1b}".repeat(1000);
    let texts = PowerRecord {
        time: WallTime::from_millis(u64::MAX),
        listener: long.clone(),
        requester: long.clone(),
        share: long.clone(),
        vm: long.clone(),
        reason: long,
        millis: Some(u64::MAX),
        ..PowerRecord::clone(&record(1, PowerVerdict::Success).record)
    };
    let line = encode(&PowerLog::default().add(texts).record);
    let lines = OPERATIONS_MAX + REFUSALS_MAX + 2 * APPENDED_MAX;
    assert!(line.len() * lines < FILE_BYTES_MAX && lines <= FILE_RECORDS_MAX, "{}", line.len());
}
