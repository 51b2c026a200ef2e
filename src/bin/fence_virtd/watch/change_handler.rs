use std::time::{Duration, Instant};

use super::change_queue::PendingChanges;
use super::domain_query::DomainQuery;
use crate::libvirt::LibvirtResult;

/// Interval before a VM is queried again after a failed query.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Handler of the changes that a watcher receives.
pub(super) trait ChangeHandler: Send {
    /// Lists the VMs. `reread` is true the first time on a connection: changes may have
    /// been missed.
    fn resync(&mut self, query: &dyn DomainQuery, reread: bool, now: Instant) -> LibvirtResult;

    /// Queries the VMs that have changed.
    fn handle(&mut self, changes: &PendingChanges, query: &dyn DomainQuery, now: Instant) -> LibvirtResult;

    /// Handles the lines that the listener has lost.
    fn handle_lost_lines(&mut self, _changes: &PendingChanges, _now: Instant) {}

    /// Does the work that is due.
    fn turn(&mut self, query: &dyn DomainQuery, now: Instant) -> LibvirtResult;

    /// Time at which work is due next.
    fn deadline(&self) -> Option<Instant>;

    /// Handles the loss of the connection.
    fn lost(&mut self);
}
