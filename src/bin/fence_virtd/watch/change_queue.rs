use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::libvirt::LifecycleChange;
use crate::serial_event::LineId;
use fence_virt::fence::Uuid;
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Part of a VM that may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ChangeKind {
    /// Power state.
    Lifecycle,
    /// Devices; includes the power state.
    Devices,
}

/// Changes that a watcher has yet to handle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingChanges {
    pub(super) changed: BTreeMap<Uuid, ChangeKind>,
    /// True for VMs that have moved away, false for those that are active again, by the last event that tells.
    /// libvirt forgets that a VM has moved away once it begins to come back.
    pub(super) moved: BTreeMap<Uuid, bool>,
    /// Lines that the listener has lost.
    pub(super) lost_lines: Vec<LineId>,
    /// Number of the connection that has ended.
    pub(super) lost: Option<u64>,
    /// True if the observer has work.
    pub(super) woken: bool,
    pub(super) stop: bool,
}

impl PendingChanges {
    fn is_empty(&self) -> bool {
        *self == PendingChanges::default()
    }
}

/// Queue of a watcher; clones share it. Many events about one VM are merged, so its
/// size is bounded by the number of VMs and lines, however long a libvirt call takes.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeQueue(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<PendingChanges>,
    changed: Condvar,
}

impl ChangeQueue {
    fn put(&self, put: impl FnOnce(&mut PendingChanges)) {
        put(&mut lock(&self.0.pending));
        self.0.changed.notify_one();
    }

    /// Adds a change of the devices of a VM.
    pub(super) fn devices(&self, uuid: Uuid) {
        self.put(|pending| {
            pending.changed.insert(uuid, ChangeKind::Devices);
        });
    }

    /// Adds a change of the state of a VM.
    pub(super) fn lifecycle(&self, uuid: Uuid, change: LifecycleChange) {
        self.put(|pending| {
            pending.changed.entry(uuid).or_insert(ChangeKind::Lifecycle);
            match change {
                LifecycleChange::MovedAway => pending.moved.insert(uuid, true),
                LifecycleChange::Active => pending.moved.insert(uuid, false),
                LifecycleChange::Other => None,
            };
        });
    }

    /// Adds the end of the connection with this number.
    pub(super) fn lost(&self, connection: u64) {
        self.put(|pending| pending.lost = pending.lost.max(Some(connection)));
    }

    /// Adds a line that the listener has lost.
    pub(super) fn line_lost(&self, line: LineId) {
        self.put(|pending| pending.lost_lines.push(line));
    }

    /// Wakes the watcher for its observer.
    pub(super) fn wake(&self) {
        self.put(|pending| pending.woken = true);
    }

    /// Returns true if the watcher was woken since the last call.
    #[cfg(test)]
    pub(super) fn was_woken(&self) -> bool {
        std::mem::take(&mut lock(&self.0.pending).woken)
    }

    /// Stops the watcher.
    pub(super) fn stop(&self) {
        self.put(|pending| pending.stop = true);
    }

    /// Waits for changes until the deadline, and takes them all. A stop remains.
    pub(super) fn wait(&self, until: Option<Instant>) -> PendingChanges {
        let mut pending = lock(&self.0.pending);
        while pending.is_empty() {
            let changed = &self.0.changed;
            pending = match until.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => changed.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0,
                None => changed.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let stop = pending.stop;
        std::mem::replace(&mut pending, PendingChanges { stop, ..PendingChanges::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn many_events_about_a_vm_are_one() {
        let queue = ChangeQueue::default();
        let uuid = Uuid::from_bytes([1; 16]);
        queue.lifecycle(uuid, LifecycleChange::Active);
        queue.devices(uuid);
        queue.lifecycle(uuid, LifecycleChange::MovedAway);
        queue.lifecycle(uuid, LifecycleChange::Other);
        queue.lost(2);
        queue.lost(1);
        queue.line_lost(LineId(7));
        let pending = queue.wait(None);
        assert_eq!(pending.changed.into_iter().collect::<Vec<_>>(), [(uuid, ChangeKind::Devices)]);
        assert_eq!(
            pending.moved.into_iter().collect::<Vec<_>>(),
            [(uuid, true)],
            "what came after tells nothing"
        );
        assert_eq!((pending.lost, pending.lost_lines, pending.stop), (Some(2), vec![LineId(7)], false));
        assert!(queue.wait(Some(Instant::now())).is_empty(), "each once");
    }

    #[test]
    fn a_stop_wakes_the_waiting_thread_and_remains() {
        let queue = ChangeQueue::default();
        let theirs = queue.clone();
        let waiter = thread::spawn(move || theirs.wait(Some(Instant::now() + Duration::from_secs(30))).stop);
        queue.stop();
        assert!(waiter.join().unwrap());
        assert!(queue.wait(None).stop);
    }
}
