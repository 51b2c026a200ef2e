use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_channel::Sender;

use fence_virt::power_log::{NumberedRecord, PowerLog, PowerRecord, WallTime};
use fence_virt::sys::clock::wall_millis;
use fence_virt::sys::mutex::lock;

/// Order to the thread that writes the history file.
#[derive(Debug)]
pub(super) enum WriterOrder {
    Append(NumberedRecord),
    /// Write what is left, confirm it, and end.
    Finish(Sender<()>),
}

/// Power operations since the start, and those of the history file.
#[derive(Debug, Clone, Default)]
pub(crate) struct PowerJournal(Arc<SharedJournal>);

#[derive(Debug, Default)]
struct SharedJournal {
    log: Mutex<PowerLog>,
    /// Queue of the thread that writes the file, once there is one.
    queue: OnceLock<Sender<WriterOrder>>,
    /// Records that the full queue did not take.
    lost: AtomicU64,
}

impl PowerJournal {
    /// Records an operation. Never waits for the file.
    pub(crate) fn record(&self, record: PowerRecord) {
        let PowerJournal(shared) = self;
        let mut log = lock(&shared.log);
        let record = log.add(record);
        // Under the lock, so that the file has the same order.
        if let Some(queue) = shared.queue.get() {
            if queue.try_send(WriterOrder::Append(record)).is_err() {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// All records, oldest first.
    pub(crate) fn records(&self) -> Vec<NumberedRecord> {
        lock(&self.0.log).records()
    }

    /// The last records, so many at most, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Arc<PowerRecord>> {
        lock(&self.0.log).last(count)
    }

    /// Adds the records of the file, as older than all others.
    pub(super) fn add_older(&self, older: Vec<PowerRecord>) {
        // Outside the lock, for which the listeners and the worker wait.
        let older = PowerLog::of_file(older);
        lock(&self.0.log).add_older(older);
    }

    /// Sends all records from now on to the thread with this queue, too.
    pub(super) fn follow(&self, queue: Sender<WriterOrder>) {
        self.0.queue.get_or_init(|| queue);
    }

    /// Returns the number of records since the last call that the full queue did not take.
    pub(super) fn take_lost(&self) -> u64 {
        self.0.lost.swap(0, Ordering::Relaxed)
    }
}

/// Returns the present time of the wall clock.
pub(crate) fn wall_time() -> WallTime {
    WallTime::from_millis(wall_millis())
}
