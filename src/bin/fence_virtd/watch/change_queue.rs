//! What a watcher is to look at. Many events about one VM are one: what waits
//! here is bounded by the number of VMs and lines, however long a call of
//! libvirt keeps the watcher away.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::serial_event::LineId;
use fence_virt::fence::Uuid;

/// What is to be looked at of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ChangeKind {
    /// Whether it runs.
    Lifecycle,
    /// Its devices too.
    Devices,
}

/// All that came since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingChanges {
    pub(super) changed: BTreeMap<Uuid, ChangeKind>,
    /// LineCounts that the listener lost.
    pub(super) closed: Vec<LineId>,
    /// The connection with this number has ended.
    pub(super) lost: Option<u64>,
    /// There is something for the follower to look at.
    pub(super) woken: bool,
    pub(super) stop: bool,
}

impl PendingChanges {
    fn is_empty(&self) -> bool {
        *self == PendingChanges::default()
    }
}

/// The place where it is put; its clones are the same place.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeQueue(Arc<(Mutex<PendingChanges>, Condvar)>);

impl ChangeQueue {
    // Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, PendingChanges> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut PendingChanges)) {
        put(&mut self.lock());
        self.0.1.notify_one();
    }

    /// Something happened to a VM.
    pub(super) fn changed(&self, uuid: Uuid, change: ChangeKind) {
        self.put(|changes| {
            let present = changes.changed.entry(uuid).or_insert(change);
            *present = change.max(*present);
        });
    }

    /// The connection with this number has ended.
    pub(super) fn lost(&self, connection: u64) {
        self.put(|changes| changes.lost = changes.lost.max(Some(connection)));
    }

    /// The listener lost a line.
    pub(super) fn closed(&self, line: LineId) {
        self.put(|changes| changes.closed.push(line));
    }

    /// The follower has something to look at.
    pub(super) fn wake(&self) {
        self.put(|changes| changes.woken = true);
    }

    /// Whether it was, since the last time.
    #[cfg(test)]
    pub(super) fn was_woken(&self) -> bool {
        std::mem::take(&mut self.lock().woken)
    }

    /// The watcher is to end.
    pub(super) fn stop(&self) {
        self.put(|changes| changes.stop = true);
    }

    /// Waits until something is there, or for that long; gives it all. A stop stays.
    pub(super) fn wait(&self, until: Option<Instant>) -> PendingChanges {
        let mut changes = self.lock();
        while changes.is_empty() {
            changes = match until.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => self.0.1.wait_timeout(changes, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.1.wait(changes).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let stop = changes.stop;
        std::mem::replace(&mut changes, PendingChanges { stop, ..PendingChanges::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn many_events_about_a_vm_are_one() {
        let inbox = ChangeQueue::default();
        let uuid = Uuid::from_bytes([1; 16]);
        for change in [ChangeKind::Lifecycle, ChangeKind::Devices, ChangeKind::Lifecycle] {
            inbox.changed(uuid, change);
        }
        inbox.lost(2);
        inbox.lost(1);
        inbox.closed(LineId(7));
        let changes = inbox.wait(None);
        assert_eq!(changes.changed.into_iter().collect::<Vec<_>>(), [(uuid, ChangeKind::Devices)]);
        assert_eq!((changes.lost, changes.closed, changes.stop), (Some(2), vec![LineId(7)], false));
        assert!(inbox.wait(Some(Instant::now())).is_empty(), "each once");
    }

    #[test]
    fn it_wakes_who_waits_and_a_stop_stays() {
        let inbox = ChangeQueue::default();
        let theirs = inbox.clone();
        let waiter = thread::spawn(move || theirs.wait(Some(Instant::now() + Duration::from_secs(30))).stop);
        inbox.stop();
        assert!(waiter.join().unwrap());
        assert!(inbox.wait(None).stop);
    }
}
