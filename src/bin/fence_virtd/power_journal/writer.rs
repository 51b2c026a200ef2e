//! Thread that writes the history file. A disk that is full or slow delays it alone.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{info, warn};

use super::file::JournalFile;
use super::journal::{PowerJournal, WriterOrder};
use super::unwritten::{UnwrittenRecords, WriteIntervals};
use crate::logging::{Limiter, Suppressed};
use fence_virt::fence::counted;
use fence_virt::power_log::encode;
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// Maximum number of records that wait for the thread. Those beyond come with the next replacement.
const QUEUE_MAX: usize = 1024;
/// Interval between warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Limits in force outside of tests.
const LIMITS: WriterLimits = WriterLimits {
    writes: WriteIntervals {
        append: Duration::from_secs(1),
        replace: Duration::from_secs(60),
        retry: Duration::from_secs(10),
    },
    flush: Duration::from_secs(1),
};

/// Time limits of the thread.
#[derive(Debug, Clone, Copy)]
struct WriterLimits {
    writes: WriteIntervals,
    /// Time limit for the file to be read at the start, and for the last records to be written at the end.
    flush: Duration,
}

/// The thread, as its owner holds it. Dropping it waits until all records are written, a second at most.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    orders: Sender<WriterOrder>,
    limits: WriterLimits,
}

impl JournalWriter {
    /// Starts the thread, which reads the file and then writes to it what the journal records.
    /// None, after a warning, if the system has no thread left: without the file the daemon still fences.
    pub(crate) fn start(path: PathBuf, journal: &PowerJournal) -> Option<JournalWriter> {
        let name = path.display().to_string();
        let writer = JournalWriter::with_limits(path, journal, LIMITS);
        let no_thread = |error: io::Error| {
            let reason = error_text(&error);
            // Its words for a limit that is reached, "try again", say too little.
            let limits = "see TasksMax of the service, and ulimit -u";
            warn!(
                "history_file {name}: cannot start a thread ({reason}; {limits}): power operations are kept in memory only"
            );
        };
        writer.map_err(no_thread).ok()
    }

    fn with_limits(path: PathBuf, journal: &PowerJournal, limits: WriterLimits) -> io::Result<JournalWriter> {
        let (sender, orders) = bounded(QUEUE_MAX);
        let (done, loaded) = bounded::<()>(0);
        let body = WriterThread::new(JournalFile(path), journal.clone(), limits.writes);
        thread::Builder::new().name("history".into()).spawn(move || body.run(&orders, done))?;
        journal.follow(sender.clone());
        // The channel closes. A file that cannot be read in time does not hold up the start.
        let _ = loaded.recv_timeout(limits.flush);
        Ok(JournalWriter { orders: sender, limits })
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        let (done, finished) = bounded(1);
        let deadline = Instant::now() + self.limits.flush;
        let sent = self.orders.send_timeout(WriterOrder::Finish(done), deadline.remaining()).is_ok();
        if sent && finished.recv_timeout(deadline.remaining()) == Err(RecvTimeoutError::Timeout) {
            warn!("history_file: the disk is slow: ending without the last records");
        }
    }
}

/// Takes orders and carries none out, until it is told to end.
fn idle(orders: &Receiver<WriterOrder>) {
    for order in orders {
        if let WriterOrder::Finish(done) = order {
            let _ = done.send(());
            return;
        }
    }
}

struct WriterThread {
    file: JournalFile,
    retry: Duration,
    journal: PowerJournal,
    /// Limit of warnings.
    limiter: Limiter,
    unwritten: UnwrittenRecords,
}

impl WriterThread {
    fn new(file: JournalFile, journal: PowerJournal, intervals: WriteIntervals) -> WriterThread {
        let limiter = Limiter::new(1, WARNING_INTERVAL, Instant::now());
        WriterThread {
            file,
            retry: intervals.retry,
            journal,
            limiter,
            unwritten: UnwrittenRecords::new(intervals),
        }
    }

    fn run(mut self, orders: &Receiver<WriterOrder>, loaded: Sender<()>) {
        match self.file.load() {
            Ok(kept) => {
                if kept.skipped > 0 {
                    warn!("{}: dropped lines that are unreadable: {}", self.name(), kept.skipped);
                }
                self.journal.add_older(kept.records);
            }
            Err(error) => {
                // Whatever it is, it is not ours to overwrite.
                warn!("{}: {}: power operations are kept in memory only", self.name(), error_text(&error));
                drop(loaded);
                return idle(orders);
            }
        }
        drop(loaded);
        self.replace(Instant::now());
        loop {
            let order = match self.unwritten.due() {
                Some(at) => orders.recv_timeout(at.remaining()),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let finish = match order {
                Ok(order) => self.collect(order, orders),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.write(Instant::now(), finish.is_some());
            if let Some(done) = finish {
                // The owner may have given up.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Collects a record and all that have followed it. Returns the confirmation if the thread is to end.
    fn collect(&mut self, first: WriterOrder, orders: &Receiver<WriterOrder>) -> Option<Sender<()>> {
        let mut finish = None;
        for order in std::iter::once(first).chain(orders.try_iter().take(QUEUE_MAX)) {
            match order {
                WriterOrder::Append(record) => self.unwritten.add(&record),
                WriterOrder::Finish(done) => finish = Some(done),
            }
        }
        let lost = self.journal.take_lost();
        if lost > 0 {
            self.warn(
                &format!("the disk is slow: {} to be written later", counted(lost, "record")),
                Instant::now(),
            );
            self.unwritten.hold_back();
        }
        finish
    }

    /// Writes what is due; at the end, all.
    fn write(&mut self, now: Instant, is_end: bool) {
        if let Some(lines) = self.unwritten.take_lines(now, is_end) {
            if let Err(error) = self.file.append(&lines.text, lines.is_durable) {
                self.failed(&error_text(&error), now);
            }
        }
        if self.unwritten.is_replacement_due(now, is_end) {
            self.replace(now);
        }
    }

    /// Replaces the file by one with all records that are in memory.
    fn replace(&mut self, now: Instant) {
        let records = self.journal.records();
        let lines: String = records.iter().map(|record| encode(&record.record)).collect();
        match self.file.replace(&lines) {
            Ok(()) => {
                let last = records.last().map_or(0, |last| last.number);
                if self.unwritten.replaced(last, now) {
                    info!("{}: written, with all records that are kept", self.name());
                }
            }
            Err(error) => self.failed(&error_text(&error), now),
        }
    }

    fn failed(&mut self, reason: &str, now: Instant) {
        self.unwritten.failed(now);
        let seconds = self.retry.as_secs();
        let reason =
            format!("cannot write it: {reason}: trying again every {seconds} s; power operations go on");
        self.warn(&reason, now);
    }

    fn warn(&mut self, reason: &str, now: Instant) {
        if let Some(suppressed) = self.limiter.allow(now) {
            warn!("{}: {reason}{}", self.name(), Suppressed(suppressed));
        }
    }

    fn name(&self) -> String {
        format!("history_file {}", self.file.0.display())
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
