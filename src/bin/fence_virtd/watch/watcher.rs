use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{trace, warn};

use super::change_handler::ChangeHandler;
use super::change_queue::ChangeQueue;
use super::domain_query::DomainQuery;
use crate::backoff::Backoff;
use crate::libvirt::{
    Connection, HeldVms, LibvirtError, LibvirtEvent, LibvirtResult, LifecycleChange, Subscription,
};
use fence_virt::fence::Uuid;
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// Interval between lists of all VMs, in case an event was missed.
const RESYNC_EVERY: Duration = Duration::from_secs(30);
/// Longest delay of such a list while VMs are held: it would wait for them.
const RESYNC_DELAY_MAX: Duration = Duration::from_secs(120);
/// Interval at which the watcher looks whether VMs are still held.
const HELD_INTERVAL: Duration = Duration::from_millis(500);
/// Intervals between attempts to open the connection.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// A watcher's thread, as the main thread holds it.
pub(super) struct WatcherHandle {
    pub(super) name: &'static str,
    pub(super) uri: String,
    pub(super) queue: ChangeQueue,
    pub(super) thread: JoinHandle<()>,
    /// Result of the first attempt to connect, if the start waits for it.
    pub(super) first: Option<Receiver<Result<(), String>>>,
}

/// The thread that follows one URI. Only this thread makes calls on its connection.
pub(super) struct Watcher {
    name: &'static str,
    uri: String,
    queue: ChangeQueue,
    handler: Box<dyn ChangeHandler>,
    first: Option<Sender<Result<(), String>>>,
    /// Number of the connection; each attempt gets a new one.
    connection: u64,
    backoff: Backoff,
    held: HeldVms,
}

impl Watcher {
    /// Spawns the thread.
    pub(super) fn start(
        name: &'static str,
        uri: &str,
        queue: ChangeQueue,
        handler: Box<dyn ChangeHandler>,
        held: &HeldVms,
    ) -> Result<WatcherHandle, String> {
        let uri = uri.to_owned();
        let (first_sender, first) = bounded(1);
        let mut watcher = Watcher {
            name,
            uri: uri.clone(),
            queue: queue.clone(),
            handler,
            first: Some(first_sender),
            connection: 0,
            backoff: BACKOFF,
            held: held.clone(),
        };
        let thread = thread::Builder::new()
            .name(format!("watch-{name}"))
            .spawn(move || watcher.run())
            .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        Ok(WatcherHandle { name, uri, queue, thread, first: Some(first) })
    }

    fn run(&mut self) {
        let mut last_reason = None;
        loop {
            let began = Instant::now();
            let Err(error) = self.connect_and_follow() else { return };
            let reason = error.to_string();
            if last_reason.as_ref() != Some(&reason) {
                warn!("{}: {}: {reason}", self.name, self.uri);
                last_reason = Some(reason);
            }
            self.handler.lost();
            // A connection that is lost at once does not reset the backoff.
            if began.elapsed() >= BACKOFF.max {
                self.backoff.reset();
                last_reason = None;
            }
            if self.rest() {
                return;
            }
        }
    }

    /// Opens a connection and follows it; `Ok` if the watcher was stopped.
    fn connect_and_follow(&mut self) -> LibvirtResult {
        self.connection += 1;
        let opened = Connection::open(&self.uri).and_then(|connection| {
            let subscription = self.subscribe(&connection)?;
            Ok((connection, subscription))
        });
        if let Some(first) = self.first.take() {
            // With wait_for_init nobody waits for it.
            let _ = first.send(opened.as_ref().map(|_| ()).map_err(LibvirtError::to_string));
        }
        // Dropped in reverse order: the subscription before its connection.
        let (connection, _subscription) = opened?;
        self.follow(&connection)
            .map_err(|error| LibvirtError::ConnectionLost(format!("connection lost: {error}")))
    }

    fn subscribe(&self, connection: &Connection) -> LibvirtResult<Subscription> {
        let queue = self.queue.clone();
        let number = self.connection;
        let uri = self.uri.clone();
        let handler = move |event| {
            match &event {
                LibvirtEvent::Lifecycle(uuid, LifecycleChange::MovedAway) => {
                    trace!("{uri}: event: {} has migrated away", Uuid::from_bytes(*uuid));
                }
                LibvirtEvent::Lifecycle(uuid, _) => {
                    trace!("{uri}: event: the state of {} changed", Uuid::from_bytes(*uuid));
                }
                LibvirtEvent::Devices(uuid) => {
                    trace!("{uri}: event: the devices of {} changed", Uuid::from_bytes(*uuid));
                }
                LibvirtEvent::Closed => trace!("{uri}: event: the connection is closed"),
            }
            match event {
                LibvirtEvent::Lifecycle(uuid, change) => queue.lifecycle(Uuid::from_bytes(uuid), change),
                LibvirtEvent::Devices(uuid) => queue.devices(Uuid::from_bytes(uuid)),
                LibvirtEvent::Closed => queue.lost(number),
            }
        };
        Ok(Subscription::new(connection.connect()?, Arc::new(handler))?)
    }

    /// Follows the VMs of a connection; `Ok` if the watcher was stopped.
    fn follow(&mut self, query: &dyn DomainQuery) -> LibvirtResult {
        self.handler.resync(query, true, Instant::now())?;
        let mut resync_at = Instant::now() + RESYNC_EVERY;
        loop {
            self.handler.turn(query, Instant::now())?;
            let changes = self.queue.wait(Some(self.wake_at(resync_at, Instant::now())));
            if changes.stop {
                return Ok(());
            }
            let now = Instant::now();
            // Before anything that may fail: a lost line is reported once.
            self.handler.handle_lost_lines(&changes, now);
            if changes.lost == Some(self.connection) {
                return Err(LibvirtError::ConnectionLost(
                    "libvirtd has closed it, or does not answer".to_owned(),
                ));
            }
            // libvirt sends an event about a VM at the end of the call that holds it.
            self.handler.handle(&changes, query, now)?;
            if self.may_list(resync_at, now) {
                self.handler.resync(query, false, now)?;
                resync_at = now + RESYNC_EVERY;
            }
        }
    }

    /// True if the list is due, and waits for no VM that is held.
    fn may_list(&self, resync_at: Instant, now: Instant) -> bool {
        now >= resync_at && (self.held.is_empty() || now >= resync_at + RESYNC_DELAY_MAX)
    }

    /// Time of the next turn, if no change comes before.
    fn wake_at(&self, resync_at: Instant, now: Instant) -> Instant {
        let waits_for_held = now >= resync_at && !self.held.is_empty();
        let next = if waits_for_held { now + HELD_INTERVAL } else { resync_at };
        self.handler.deadline().map_or(next, |at| at.min(next))
    }

    /// Waits before the next attempt to connect; returns true if the watcher was stopped.
    fn rest(&mut self) -> bool {
        let until = Instant::now() + self.backoff.next();
        while Instant::now() < until {
            let changes = self.queue.wait(Some(until));
            if changes.stop {
                return true;
            }
            self.handler.handle_lost_lines(&changes, Instant::now());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial_event::LineId;
    use crate::watch::domain_tracker::DomainTracker;
    use crate::watch::fake::{Fake, Observed};

    fn watcher(observed: &Observed) -> (Watcher, ChangeQueue) {
        let queue = ChangeQueue::default();
        let watcher = Watcher {
            name: "test",
            uri: "uri".to_owned(),
            queue: queue.clone(),
            handler: Box::new(DomainTracker::new("test", Box::new(observed.clone()))),
            first: None,
            connection: 1,
            backoff: BACKOFF,
            held: HeldVms::default(),
        };
        (watcher, queue)
    }

    #[test]
    fn a_line_that_was_lost_with_the_connection_is_reported() {
        let observed = Observed::default();
        let (mut watcher, queue) = watcher(&observed);
        queue.line_lost(LineId(7));
        queue.lost(1);
        assert!(watcher.follow(&Fake::default()).is_err());
        assert_eq!(observed.take(), ["synced", "line 7 lost"]);
    }

    #[test]
    fn no_list_is_made_while_a_vm_is_held_unless_that_takes_long() {
        let observed = Observed::default();
        let (watcher, _) = watcher(&observed);
        let now = Instant::now();
        let due = now.checked_sub(Duration::from_secs(1)).unwrap();
        assert!(watcher.may_list(due, now) && !watcher.may_list(now + RESYNC_EVERY, now));
        assert_eq!(watcher.wake_at(now + RESYNC_EVERY, now), now + RESYNC_EVERY);
        watcher.held.hold(Uuid::from_bytes([1; 16]));
        assert!(!watcher.may_list(due, now) && watcher.may_list(due, due + RESYNC_DELAY_MAX));
        assert_eq!(watcher.wake_at(due, now), now + HELD_INTERVAL);
        assert_eq!(watcher.wake_at(now + RESYNC_EVERY, now), now + RESYNC_EVERY);
    }
}
