//! What carries requests out.

pub(crate) mod libvirt;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::access::Permissions;
use crate::cpg::{self, GroupThread};
use crate::job::Job;
use crate::problem::Flaw;
use crate::status::ClusterState;
use crate::watch::Watchers;
use crate::worker::Message;
use fence_virt::config::BackendConfig;
use fence_virt::fence::Uuid;
use fence_virt::routing::LocalVm;
use fence_virt::sys::signals::Signals;

pub(crate) use libvirt::Keepers;

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
    /// What a watcher saw of the VMs of a URI.
    Vms {
        /// Which URI, by its place in the configuration.
        uri: usize,
        /// What it saw.
        seen: Seen,
    },
    /// There is something of the cluster's group to be fetched.
    Cluster,
}

/// What a watcher saw of the VMs of a URI.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All of them.
    All(Vec<LocalVm>),
    /// One that is new, or has changed.
    One(LocalVm),
    /// That one is there no more.
    Gone(Uuid),
    /// The URI does not answer: what is there is not known until all are listed again.
    Lost,
}

/// Carries requests out. The worker calls it from its one thread; it may take
/// as long as one call of libvirt takes, and keeps what has to wait.
pub(crate) trait Backend {
    /// Carries a job out, or keeps it for later.
    fn begin(&mut self, job: Job, now: Instant);

    /// Takes notice of an event.
    fn event(&mut self, event: Event, now: Instant);

    /// From now on these permissions count.
    fn adopt(&mut self, permissions: Permissions);

    /// Does what is due.
    fn turn(&mut self, now: Instant);

    /// When something will be due.
    fn deadline(&self) -> Option<Instant>;

    /// A job of its own for the worker, which is to be begun in its turn.
    fn job(&mut self) -> Option<Job> {
        None
    }

    /// Nobody waits for anything any more; what has begun may be finished.
    fn stop(&mut self) {}

    /// Whether it has something to finish before the worker ends.
    fn is_at_work(&self) -> bool {
        self.deadline().is_some()
    }
}

/// A backend that is connected, or will be.
pub(crate) struct Started {
    pub(crate) backend: Box<dyn Backend + Send>,
    pub(crate) keepers: Keepers,
    pub(crate) group: Option<GroupThread>,
    /// How this host stands in the cluster, for a report.
    pub(crate) cluster: Option<Arc<Mutex<ClusterState>>>,
}

/// Whether this backend can be had.
///
/// # Errors
///
/// A sentence that says why not.
pub(crate) fn check(config: &BackendConfig) -> Result<(), String> {
    match config {
        BackendConfig::Libvirt { .. } => Ok(()),
        BackendConfig::Cpg(_) => cpg::check(),
    }
}

/// What a configuration leaves open, and should not.
pub(crate) fn warn_of_delay(config: &BackendConfig) -> Option<Flaw> {
    match config {
        BackendConfig::Libvirt { .. } => None,
        BackendConfig::Cpg(config) => cpg::warn_of_delay(config),
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
    watchers: &mut Watchers,
    worker: &Sender<Message>,
    wait: bool,
    signals: &Signals,
) -> Result<Option<Started>, String> {
    match config {
        BackendConfig::Libvirt { uris } => {
            let Some((libvirt, keepers)) = libvirt::start(uris, permissions, worker, wait, signals)? else {
                return Ok(None);
            };
            Ok(Some(Started { backend: Box::new(libvirt), keepers, group: None, cluster: None }))
        }
        BackendConfig::Cpg(config) => cpg::start(config, permissions, watchers, worker, wait, signals),
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
