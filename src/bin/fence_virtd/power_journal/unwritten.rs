//! What the history file lacks, and when it is written. Requests that anybody can send cause few writes.

use std::time::Duration;

use fence_virt::power_log::{NumberedRecord, encode};
use fence_virt::time::Instant;

/// Maximum number of records of each kind, operations and refusals, that are appended before the file is
/// replaced by one with those that are kept. Further ones come with the replacement.
pub(super) const APPENDED_MAX: usize = 250;

/// Intervals between writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteIntervals {
    /// Minimum interval between two appends of lines.
    pub(super) append: Duration,
    /// Minimum interval between two replacements of the file.
    pub(super) replace: Duration,
    /// Interval between a write that failed and the next attempt.
    pub(super) retry: Duration,
}

/// Lines for the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NewLines {
    pub(super) text: String,
    /// They tell of an operation that was begun, so they must survive the host. Refusals need not.
    pub(super) is_durable: bool,
}

/// Records that the file lacks.
#[derive(Debug)]
pub(super) struct UnwrittenRecords {
    intervals: WriteIntervals,
    lines: NewLines,
    /// Operations and refusals added since the file was replaced.
    operations: usize,
    refusals: usize,
    appended_at: Instant,
    replaced_at: Instant,
    /// Number of the last record in the last replacement; the queue may hold it still.
    replaced_up_to: u64,
    /// Time of the next replacement, while the file lacks records that are no lines here.
    replace_at: Option<Instant>,
    /// A write has failed, so the end of the file is uncertain: nothing is appended.
    has_failed: bool,
}

impl UnwrittenRecords {
    pub(super) fn new(intervals: WriteIntervals) -> UnwrittenRecords {
        let never = Instant::from_boot(Duration::ZERO);
        UnwrittenRecords {
            intervals,
            lines: NewLines::default(),
            operations: 0,
            refusals: 0,
            appended_at: never,
            replaced_at: never,
            replaced_up_to: 0,
            replace_at: None,
            has_failed: false,
        }
    }

    /// Adds a record of the queue. The journal has it, too, so a replacement contains it.
    pub(super) fn add(&mut self, NumberedRecord { number, record }: &NumberedRecord) {
        if *number <= self.replaced_up_to || self.has_failed {
            return;
        }
        let is_refusal = record.verdict.is_refusal();
        let added = if is_refusal { &mut self.refusals } else { &mut self.operations };
        if *added >= APPENDED_MAX {
            return self.hold_back();
        }
        *added += 1;
        self.lines.text += &encode(record);
        self.lines.is_durable |= !is_refusal;
    }

    /// Leaves records to the next replacement, which may be due already.
    pub(super) fn hold_back(&mut self) {
        self.replace_at.get_or_insert(self.replaced_at + self.intervals.replace);
    }

    /// Time of the next write; none if the file lacks nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        let append = (!self.lines.text.is_empty()).then(|| self.appended_at + self.intervals.append);
        append.into_iter().chain(self.replace_at).min()
    }

    /// Takes the lines that are to be appended now; at the end, all.
    pub(super) fn take_lines(&mut self, now: Instant, is_end: bool) -> Option<NewLines> {
        let is_due = is_end || now >= self.appended_at + self.intervals.append;
        // A replacement has them all.
        if self.lines.text.is_empty() || !is_due || self.is_replacement_due(now, is_end) {
            return None;
        }
        self.appended_at = now;
        Some(std::mem::take(&mut self.lines))
    }

    /// True if the file is to be replaced now.
    pub(super) fn is_replacement_due(&self, now: Instant, is_end: bool) -> bool {
        self.replace_at.is_some_and(|at| is_end || now >= at)
    }

    /// Notes a replacement that contains the records up to this one. Returns whether a write had failed before.
    pub(super) fn replaced(&mut self, last: u64, now: Instant) -> bool {
        let had_failed = self.has_failed;
        *self = UnwrittenRecords {
            appended_at: self.appended_at,
            replaced_at: now,
            replaced_up_to: last,
            ..UnwrittenRecords::new(self.intervals)
        };
        had_failed
    }

    /// Notes that a write has failed: a replacement is to make up for it.
    pub(super) fn failed(&mut self, now: Instant) {
        self.lines = NewLines::default();
        self.has_failed = true;
        self.replace_at = Some(now + self.intervals.retry);
    }
}

#[cfg(test)]
#[path = "unwritten_tests.rs"]
mod tests;
