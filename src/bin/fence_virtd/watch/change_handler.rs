use std::time::Duration;

use super::change_queue::PendingChanges;
use super::domain_query::DomainQuery;
use crate::libvirt::{DomainRun, LibvirtResult};
use crate::serial_event::LineId;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;
use fence_virt::time::Instant;

/// Interval before a VM is queried again after a failed query.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Handler of the changes that a watcher receives.
pub(super) trait ChangeHandler: Send {
    /// Lists the VMs. `reread` is true the first time on a connection: changes may have been missed.
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

/// Observer of the running VMs of a URI; the watcher's thread makes all calls.
pub(super) trait DomainObserver: Send {
    /// The VM runs and has these devices. Replaces what was known of it.
    fn running(&mut self, vm: &DomainRun, devices: Devices, now: Instant);

    /// The VM has stopped.
    fn stopped(&mut self, uuid: Uuid);

    /// All running VMs have been reported.
    fn synced(&mut self);

    /// The connection is lost: VMs may start and stop unseen.
    fn lost(&mut self);

    /// The listener has lost this line.
    fn line_lost(&mut self, _line: LineId, _now: Instant) {}

    /// Does the work that is due. Called only with a connection; fails if that is gone.
    fn turn(&mut self, _query: &dyn DomainQuery, _now: Instant) -> LibvirtResult {
        Ok(())
    }

    /// Time at which work is due next.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
