use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{debug, warn};

use super::Follower;
use super::census::Census;
use super::inbox::{Change, Inbox, News};
use crate::libvirt::DomainRun;
use crate::libvirt::{Connection, Failed, failed};
use crate::libvirt::{Notice, Subscription};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;

/// How often all VMs that run are listed anew, though nothing was heard of them.
const RESYNC_EVERY: Duration = Duration::from_secs(30);
/// How long a VM that libvirt cannot tell about keeps the others from being all.
const SYNC_LIMIT: Duration = Duration::from_secs(10);
/// The first and the longest interval between attempts to open.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A watcher's thread, as others hold it.
pub(super) struct Handle {
    pub(super) name: &'static str,
    pub(super) uri: String,
    pub(super) inbox: Inbox,
    pub(super) thread: JoinHandle<()>,
    /// The outcome of the first attempt to connect, if the start waits for it.
    pub(super) first: Option<Receiver<Result<(), String>>>,
}

/// The thread of one URI.
pub(super) struct Watcher {
    uri: String,
    inbox: Inbox,
    view: Box<dyn Look>,
    first: Option<Sender<Result<(), String>>>,
    /// The number of the connection.
    connection: u64,
    backoff: Duration,
}

/// Why a connection is not kept.
enum End {
    Lost(Failed),
    Stopped,
}

impl From<Failed> for End {
    fn from(failed: Failed) -> End {
        End::Lost(failed)
    }
}

impl Watcher {
    pub(super) fn start(uri: &str, inbox: Inbox, view: Box<dyn Look>) -> Result<Handle, String> {
        let name = view.name();
        let (first_sender, first) = bounded(1);
        let mut watcher = Watcher {
            uri: uri.to_owned(),
            inbox: inbox.clone(),
            view,
            first: Some(first_sender),
            connection: 0,
            backoff: BACKOFF.0,
        };
        let thread = thread::Builder::new()
            .name(format!("watch-{name}"))
            .spawn(move || watcher.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Handle { name, uri: uri.to_owned(), inbox, thread, first: Some(first) })
    }

    fn run(&mut self) {
        let mut last_reason = None;
        loop {
            let began = Instant::now();
            let name = self.view.name();
            match self.connect_and_keep() {
                End::Stopped => return,
                End::Lost(Failed(reason)) => {
                    if last_reason.as_ref() != Some(&reason) {
                        warn!("{name}: {}: {reason}", self.uri);
                        last_reason = Some(reason);
                    }
                }
            }
            self.view.lost();
            // One that is lost at once is not opened again at once.
            if began.elapsed() >= BACKOFF.1 {
                self.backoff = BACKOFF.0;
                last_reason = None;
            }
            if self.rest() {
                return;
            }
        }
    }

    fn connect_and_keep(&mut self) -> End {
        self.connection += 1;
        let opened = Connection::open(&self.uri).and_then(|connection| {
            let subscription = self.subscribe(&connection)?;
            Ok((connection, subscription))
        });
        if let Some(first) = self.first.take() {
            let outcome = opened.as_ref().map(|_| ()).map_err(|Failed(reason)| reason.clone());
            // Nobody waits for it with wait_for_init.
            let _ = first.send(outcome);
        }
        let (connection, subscription) = match opened {
            Ok(opened) => opened,
            Err(failed) => return End::Lost(failed),
        };
        let end = self.keep(&connection);
        drop(subscription);
        end
    }

    fn subscribe(&self, connection: &Connection) -> Result<Subscription, Failed> {
        let (inbox, number) = (self.inbox.clone(), self.connection);
        let listener = move |notice| match notice {
            Notice::Lifecycle(uuid) => inbox.changed(Uuid::from_bytes(uuid), Change::Lifecycle),
            Notice::Devices(uuid) => inbox.changed(Uuid::from_bytes(uuid), Change::Devices),
            Notice::Closed => inbox.lost(number),
        };
        Subscription::new(connection.connect()?, Arc::new(listener)).map_err(failed)
    }

    fn keep(&mut self, census: &dyn Census) -> End {
        match self.follow(census) {
            Ok(()) => End::Stopped,
            Err(End::Lost(Failed(reason))) => End::Lost(Failed(format!("the connection is lost: {reason}"))),
            Err(End::Stopped) => End::Stopped,
        }
    }

    fn follow(&mut self, census: &dyn Census) -> Result<(), End> {
        self.view.resync(census, true, Instant::now())?;
        let mut resync_at = Instant::now() + RESYNC_EVERY;
        loop {
            let now = Instant::now();
            self.view.attend(census, &self.uri, now)?;
            let wake = self.view.deadline().map_or(resync_at, |at| at.min(resync_at));
            let news = self.inbox.wait(Some(wake));
            if news.stop {
                return Ok(());
            }
            let now = Instant::now();
            // Before all that may end this: nobody tells of a lost line twice.
            self.view.take_closed(&news, now);
            if news.lost == Some(self.connection) {
                return Err(End::Lost(Failed("libvirtd has gone, or does not answer".to_owned())));
            }
            self.view.take(&news, census, now)?;
            if now >= resync_at {
                self.view.resync(census, false, now)?;
                resync_at = now + RESYNC_EVERY;
            }
        }
    }

    /// Waits before the next attempt to open; true if it is to end.
    fn rest(&mut self) -> bool {
        let until = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        while Instant::now() < until {
            let news = self.inbox.wait(Some(until));
            if news.stop {
                return true;
            }
            self.view.take_closed(&news, Instant::now());
        }
        false
    }
}

/// What a watcher does with what it hears.
pub(super) trait Look: Send {
    /// What it is called in the log.
    fn name(&self) -> &'static str;

    /// Lists the VMs; the first time on a connection with `reread`, since changes may have been missed.
    fn resync(&mut self, census: &dyn Census, reread: bool, now: Instant) -> Result<(), Failed>;

    /// Looks at those that have changed.
    fn take(&mut self, news: &News, census: &dyn Census, now: Instant) -> Result<(), Failed>;

    /// The listener lost these lines.
    fn take_closed(&mut self, _news: &News, _now: Instant) {}

    /// Does what is due.
    fn attend(&mut self, census: &dyn Census, uri: &str, now: Instant) -> Result<(), Failed>;

    /// When something is due.
    fn deadline(&self) -> Option<Instant>;

    /// The connection is lost.
    fn lost(&mut self);
}

/// When a VM that libvirt could not tell about is looked at again.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What was found, and told to the follower.
pub(super) struct View {
    follower: Box<dyn Follower>,
    /// The runs that the follower knows.
    known: BTreeMap<Uuid, u32>,
    /// VMs of which libvirt could not tell, and when they are looked at again.
    again: BTreeMap<Uuid, Instant>,
    /// Whether the follower was told of all that run since the connection was
    /// made; from then on those that libvirt cannot tell about are not waited for.
    is_synced: bool,
    synced_by: Option<Instant>,
}

impl View {
    pub(super) fn new(follower: Box<dyn Follower>) -> View {
        View { follower, known: BTreeMap::new(), again: BTreeMap::new(), is_synced: false, synced_by: None }
    }

    /// Looks at one VM.
    pub(super) fn look(
        &mut self,
        uuid: Uuid,
        census: &dyn Census,
        reread: bool,
        now: Instant,
    ) -> Result<(), Failed> {
        match census.find(uuid) {
            Ok(Some(vm)) => self.see(vm, census, reread, now),
            Ok(None) => {
                self.forget(uuid);
                Ok(())
            }
            Err(failed) => self.put_off(uuid, failed, census, now),
        }
    }

    fn see(&mut self, vm: DomainRun, census: &dyn Census, reread: bool, now: Instant) -> Result<(), Failed> {
        let uuid = vm.domain.uuid;
        if self.known.get(&uuid) == Some(&vm.id) && !reread && !self.again.contains_key(&uuid) {
            return Ok(());
        }
        self.again.remove(&uuid);
        let devices = match census.devices(uuid) {
            Ok(Some(Ok(devices))) => devices,
            Ok(Some(Err(error))) => {
                warn!("{}: {}: {error}", self.follower.name(), vm.domain);
                Devices { run: Some(vm.id), ..Devices::default() }
            }
            Ok(None) => {
                self.forget(uuid);
                return Ok(());
            }
            Err(failed) => return self.put_off(uuid, failed, census, now),
        };
        if devices.run != Some(vm.id) {
            // It was stopped and started in between: these are the devices of another run.
            self.forget(uuid);
            return self.put_off(uuid, Failed("it was started anew".to_owned()), census, now);
        }
        self.known.insert(uuid, vm.id);
        self.follower.runs(&vm, devices, now);
        Ok(())
    }

    fn forget(&mut self, uuid: Uuid) {
        self.again.remove(&uuid);
        if self.known.remove(&uuid).is_some() {
            self.follower.gone(uuid);
        }
    }

    /// A call about one VM failed: for it alone, or is the connection gone?
    fn put_off(
        &mut self,
        uuid: Uuid,
        failed: Failed,
        census: &dyn Census,
        now: Instant,
    ) -> Result<(), Failed> {
        census.check()?;
        debug!("{}: {uuid}: {failed}: looking again", self.follower.name());
        self.again.insert(uuid, now + AGAIN_AFTER);
        Ok(())
    }
}

impl Look for View {
    fn name(&self) -> &'static str {
        self.follower.name()
    }

    /// Lists what runs, and tells the follower what it does not know; with
    /// `reread` the devices of all, since their changes may have been missed.
    fn resync(&mut self, census: &dyn Census, reread: bool, now: Instant) -> Result<(), Failed> {
        let running = census.running()?;
        self.synced_by.get_or_insert(now + SYNC_LIMIT);
        let uuids: BTreeSet<Uuid> = running.iter().map(|vm| vm.domain.uuid).collect();
        let gone: Vec<Uuid> = self.known.keys().filter(|uuid| !uuids.contains(uuid)).copied().collect();
        for uuid in gone {
            self.forget(uuid);
        }
        for vm in running {
            self.see(vm, census, reread, now)?;
        }
        Ok(())
    }

    fn take(&mut self, news: &News, census: &dyn Census, now: Instant) -> Result<(), Failed> {
        for (&uuid, &change) in &news.changed {
            self.look(uuid, census, change == Change::Devices, now)?;
        }
        Ok(())
    }

    fn take_closed(&mut self, news: &News, now: Instant) {
        for &line in &news.closed {
            self.follower.closed(line, now);
        }
    }

    /// Does what is due.
    fn attend(&mut self, census: &dyn Census, uri: &str, now: Instant) -> Result<(), Failed> {
        let due: Vec<Uuid> = self.again.iter().filter(|(_, at)| now >= **at).map(|(&uuid, _)| uuid).collect();
        for uuid in due {
            self.look(uuid, census, true, now)?;
        }
        let is_patient = self.synced_by.is_some_and(|at| now < at);
        if !self.is_synced && (self.again.is_empty() || !is_patient) {
            self.is_synced = true;
            self.follower.synced(uri);
        }
        self.follower.attend(census, now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.again.values().copied().chain(self.follower.deadline()).min()
    }

    fn lost(&mut self) {
        self.follower.lost();
        self.again.clear();
        self.is_synced = false;
        self.synced_by = None;
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
