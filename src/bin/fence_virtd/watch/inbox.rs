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
pub(super) enum Change {
    /// Whether it runs.
    Lifecycle,
    /// Its devices too.
    Devices,
}

/// All that came since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) changed: BTreeMap<Uuid, Change>,
    /// Lines that the listener lost.
    pub(super) closed: Vec<LineId>,
    /// The connection with this number has ended.
    pub(super) lost: Option<u64>,
    /// There is something for the follower to look at.
    pub(super) woken: bool,
    pub(super) stop: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        *self == News::default()
    }
}

/// The place where it is put; its clones are the same place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inbox(Arc<(Mutex<News>, Condvar)>);

impl Inbox {
    // Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, News> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut News)) {
        put(&mut self.lock());
        self.0.1.notify_one();
    }

    /// Something happened to a VM.
    pub(super) fn changed(&self, uuid: Uuid, change: Change) {
        self.put(|news| {
            let present = news.changed.entry(uuid).or_insert(change);
            *present = change.max(*present);
        });
    }

    /// The connection with this number has ended.
    pub(super) fn lost(&self, connection: u64) {
        self.put(|news| news.lost = news.lost.max(Some(connection)));
    }

    /// The listener lost a line.
    pub(super) fn closed(&self, line: LineId) {
        self.put(|news| news.closed.push(line));
    }

    /// The follower has something to look at.
    pub(super) fn wake(&self) {
        self.put(|news| news.woken = true);
    }

    /// Whether it was, since the last time.
    #[cfg(test)]
    pub(super) fn was_woken(&self) -> bool {
        std::mem::take(&mut self.lock().woken)
    }

    /// The watcher is to end.
    pub(super) fn stop(&self) {
        self.put(|news| news.stop = true);
    }

    /// Waits until something is there, or for that long; gives it all. A stop stays.
    pub(super) fn wait(&self, until: Option<Instant>) -> News {
        let mut news = self.lock();
        while news.is_empty() {
            news = match until.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => self.0.1.wait_timeout(news, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.1.wait(news).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let stop = news.stop;
        std::mem::replace(&mut news, News { stop, ..News::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn many_events_about_a_vm_are_one() {
        let inbox = Inbox::default();
        let uuid = Uuid::from_bytes([1; 16]);
        for change in [Change::Lifecycle, Change::Devices, Change::Lifecycle] {
            inbox.changed(uuid, change);
        }
        inbox.lost(2);
        inbox.lost(1);
        inbox.closed(LineId(7));
        let news = inbox.wait(None);
        assert_eq!(news.changed.into_iter().collect::<Vec<_>>(), [(uuid, Change::Devices)]);
        assert_eq!((news.lost, news.closed, news.stop), (Some(2), vec![LineId(7)], false));
        assert!(inbox.wait(Some(Instant::now())).is_empty(), "each once");
    }

    #[test]
    fn it_wakes_who_waits_and_a_stop_stays() {
        let inbox = Inbox::default();
        let theirs = inbox.clone();
        let waiter = thread::spawn(move || theirs.wait(Some(Instant::now() + Duration::from_secs(30))).stop);
        inbox.stop();
        assert!(waiter.join().unwrap());
        assert!(inbox.wait(None).stop);
    }
}
