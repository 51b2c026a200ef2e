//! What carries requests out.

mod libvirt;
mod permissions;

use std::fmt;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::job::Job;
use super::worker::Message;
use crate::config::BackendConfig;
use crate::sys::signals::Signals;

pub(crate) use libvirt::Keepers;
pub(crate) use permissions::Permissions;

/// What else the worker is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A keeper looked, as it was asked to, whether its URI answers.
    Probed {
        /// Which URI, by its place in the configuration.
        uri: usize,
        /// Whether it answers, and if not why.
        outcome: Result<(), String>,
    },
}

/// Carries requests out. The worker calls it from its one thread; it may take
/// as long as one call of libvirt takes, and keeps what has to wait.
pub(crate) trait Backend {
    /// Carries a job out, or keeps it for later.
    fn begin(&mut self, job: Job, now: Instant);

    /// Takes notice of an event.
    fn event(&mut self, event: Event, now: Instant);

    /// Does what is due.
    fn turn(&mut self, now: Instant);

    /// When something will be due.
    fn deadline(&self) -> Option<Instant>;
}

/// A backend that is connected, or will be.
pub(crate) struct Started {
    pub(crate) backend: Box<dyn Backend + Send>,
    pub(crate) keepers: Keepers,
}

/// Whether this backend can be had.
///
/// # Errors
///
/// A sentence that says why not.
pub(crate) fn check(config: &BackendConfig) -> Result<(), String> {
    match config {
        BackendConfig::Libvirt { .. } => Ok(()),
        BackendConfig::Cpg { .. } => Err("the cpg backend is not built yet".to_owned()),
    }
}

/// Starts the threads that keep its connections, and waits for the first
/// connection unless `wait` says that it may come later. None if a signal
/// says stop meanwhile.
///
/// # Errors
///
/// A sentence for each URI that cannot be reached.
pub(crate) fn start(
    config: &BackendConfig,
    permissions: Permissions,
    worker: &Sender<Message>,
    wait: bool,
    signals: &Signals,
) -> Result<Option<Started>, String> {
    check(config)?;
    match config {
        BackendConfig::Libvirt { uris } | BackendConfig::Cpg { uris, .. } => {
            libvirt::start(uris, permissions, worker, wait, signals)
        }
    }
}

/// Words, one after the other, with commas between them.
struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}
