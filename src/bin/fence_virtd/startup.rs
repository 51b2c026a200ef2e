//! The wait for first connections during the start.
#![forbid(unsafe_code)]

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::info;

use crate::inbox::Message;
use crate::libvirt::HeldVms;
use crate::power_journal::PowerJournal;
use crate::restraints::SharedRestraints;
use fence_virt::sys::error_text;
use fence_virt::sys::signals::Signals;
use fence_virt::time::Instant;

/// Time limit for the first connection.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);
/// Interval at which a stop signal is looked for meanwhile.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Context of the start.
pub(crate) struct Startup<'a> {
    /// The worker's inbox.
    pub(crate) worker: &'a Sender<Message>,
    /// True with `wait_for_init`: connections may come after the start.
    pub(crate) wait_for_init: bool,
    /// VMs that the watchers do not wait for.
    pub(crate) held_vms: HeldVms,
    /// Maximum of lanes for each URI.
    pub(crate) max_parallel: usize,
    pub(crate) signals: &'a Signals,
    pub(crate) journal: &'a PowerJournal,
    pub(crate) restraints: &'a SharedRestraints,
}

/// Result of waiting for a thread's first attempt to connect.
pub(crate) enum FirstAttempt<T> {
    Made(T),
    /// The deadline passed.
    TimedOut,
    /// The thread ended without an attempt.
    ThreadEnded,
    /// A stop signal came.
    Interrupted,
}

/// Waits for the first attempt of a thread to connect to `peer`.
/// Errors: if signals cannot be read.
pub(crate) fn await_first<T>(
    first: &Receiver<T>,
    deadline: Instant,
    signals: &Signals,
    peer: &str,
) -> Result<FirstAttempt<T>, String> {
    loop {
        if let Some(signal) =
            signals.next().map_err(|error| format!("cannot read signals: {}", error_text(&error)))?
        {
            info!("{signal}: stopped while waiting for {peer}");
            return Ok(FirstAttempt::Interrupted);
        }
        match first.recv_timeout(SIGNAL_INTERVAL) {
            Ok(outcome) => return Ok(FirstAttempt::Made(outcome)),
            Err(RecvTimeoutError::Disconnected) => return Ok(FirstAttempt::ThreadEnded),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return Ok(FirstAttempt::TimedOut),
        }
    }
}
