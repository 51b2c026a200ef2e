//! The interface between the worker and a backend.

use crate::inbox::{BackendSettings, Event};
use crate::job::Job;
use fence_virt::fence::Target;
use fence_virt::routing::JobId;
use fence_virt::time::Instant;

/// Carries requests out. All calls come from the worker's thread. A call may take as
/// long as one libvirt call; what has to wait longer, the backend keeps.
pub(crate) trait Backend {
    /// Carries a job out, or keeps it for later.
    fn begin(&mut self, job: Job, now: Instant);

    /// Handles an event.
    fn event(&mut self, event: Event, now: Instant);

    /// Replaces the settings in force.
    fn adopt(&mut self, settings: BackendSettings, now: Instant);

    /// Returns true if there is such a VM, by its name or UUID.
    /// Errors: the reason why that is not known.
    fn knows(&mut self, target: &Target, now: Instant) -> Result<bool, String>;

    /// Does the work that is due.
    fn turn(&mut self, now: Instant);

    /// Time at which work is due next.
    fn deadline(&self) -> Option<Instant>;

    /// Next call of the backend's own that takes its turn among the clients' jobs.
    fn next_local_call(&mut self) -> Option<PendingCall> {
        None
    }

    /// Begins a call that `next_local_call` returned.
    fn begin_local_call(&mut self, _call: JobId, _now: Instant) {}

    /// Drops what nobody waits for any more; work that has begun may be finished.
    fn stop(&mut self) {}

    /// True if the backend has work to finish before the worker ends.
    fn is_busy(&self) -> bool {
        self.deadline().is_some()
    }
}

/// A call that waits for its turn in the worker's backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingCall {
    pub(crate) id: JobId,
    /// True for power operations, which precede questions.
    pub(crate) is_power: bool,
}
