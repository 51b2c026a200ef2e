//! A thread for each URI that opens its connection, looks every two seconds
//! whether it answers, and closes it: all that can hang with a frozen libvirtd.
//!
//! 1. The keeper opens two connections: one it shows to the worker through
//!    [`Shared`], the other is for its own probes.
//! 2. It probes; the worker passes by a URI whose probe is late.
//! 3. When a probe fails it takes the connection back. The worker may be in a
//!    call on it still, so it keeps its own handle until the worker's is
//!    gone: the last one closes, and that must not be the worker.
//! 4. It opens anew, at growing intervals.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, info, warn};

use super::link::{Command, Shared, UriLink};
use crate::inbox::{Event, Message};
use crate::libvirt::Host;
use crate::libvirt::{Connection, Failed};
use crate::status::UriState;
use crate::threads::join_by;

/// How often an idle connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked anew which VMs are there, where there are several URIs.
const INVENTORY_EVERY: Duration = Duration::from_secs(30);
/// The first and the longest interval between attempts to open.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The outcome of a keeper's first attempt: the URI, and why it failed if it did.
pub(super) type First = (String, Result<(), String>);

/// What [`start`] gives: the threads, the worker's ends, the first outcomes.
type Parts = (Keepers, Vec<UriLink>, Receiver<First>);

/// The threads.
#[derive(Debug)]
pub(crate) struct Keepers {
    threads: Vec<(Sender<Command>, JoinHandle<()>)>,
    shared: Vec<Arc<Shared>>,
}

impl Keepers {
    /// Tells them to close their connections and end, and waits for those
    /// that do by `deadline`. One that hangs with its libvirtd is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        for (command, thread) in self.threads {
            if command.send_deadline(Command::Stop, deadline).is_err() {
                continue;
            }
            join_by(thread, deadline);
        }
    }

    /// What reports on the URIs.
    pub(crate) fn reporter(&self) -> impl Fn() -> Vec<UriState> + Send + use<> {
        let shared = self.shared.clone();
        move || shared.iter().map(|shared| shared.report()).collect()
    }
}

/// Starts a keeper for each URI.
pub(super) fn start(uris: &[String], worker: &Sender<Message>) -> Result<Parts, String> {
    let (first_sender, first) = bounded(uris.len());
    let mut threads = Vec::new();
    let mut links = Vec::new();
    for (place, uri) in uris.iter().enumerate() {
        let (keeper, commands) = bounded(1);
        let shared = Arc::new(Shared::new(uri));
        let mut thread = Keeper {
            place,
            shared: shared.clone(),
            commands,
            worker: worker.clone(),
            first: Some(first_sender.clone()),
            retired: Vec::new(),
            // Who may have copies on several URIs has to know where they were.
            wants_inventory: uris.len() > 1,
            backoff: BACKOFF.0,
        };
        let handle = thread::Builder::new()
            .name(format!("keeper-{place}"))
            .spawn(move || thread.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        threads.push((keeper.clone(), handle));
        links.push(UriLink { shared, keeper });
    }
    let shared = links.iter().map(|link: &UriLink| link.shared.clone()).collect();
    Ok((Keepers { threads, shared }, links, first))
}

struct Keeper {
    place: usize,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    worker: Sender<Message>,
    first: Option<Sender<First>>,
    /// Connections that were given up and that the worker may still hold.
    retired: Vec<Arc<Connection>>,
    wants_inventory: bool,
    /// How long it rests before it opens anew.
    backoff: Duration,
}

/// What ended a wait.
enum Wake {
    Time,
    Asked,
    Stop,
}

impl Keeper {
    fn run(&mut self) {
        let mut last_reason = None;
        loop {
            let outcome = self.open();
            if let Some(first) = self.first.take() {
                let outcome = outcome.as_ref().map(|_| ()).map_err(|Failed(reason)| reason.clone());
                // Nobody waits for it with wait_for_init.
                let _ = first.send((self.shared.uri().to_owned(), outcome));
            }
            let stopped = match outcome {
                Ok((connection, own)) => {
                    info!("{}: connected", self.shared.uri());
                    last_reason = None;
                    let since = Instant::now();
                    let stopped = self.keep(connection, &own);
                    // One that is lost at once is not opened again at once.
                    if since.elapsed() >= PROBE_EVERY {
                        self.backoff = BACKOFF.0;
                    }
                    stopped || self.rest()
                }
                Err(Failed(reason)) => {
                    if last_reason.as_ref() != Some(&reason) {
                        warn!("{}: cannot connect: {reason}", self.shared.uri());
                        last_reason = Some(reason.clone());
                    }
                    self.shared.closed(reason);
                    self.rest()
                }
            };
            if stopped {
                return;
            }
        }
    }

    fn open(&self) -> Result<(Arc<Connection>, Connection), Failed> {
        // Two, one for each thread: when the keepalive ends a connection in which two threads wait, libvirt
        // 9.0 crashes the one that takes over its I/O (CVE-2024-4418), and lets it wait for ever in others.
        let own = Connection::open(self.shared.uri())?;
        let connection = Arc::new(Connection::open(self.shared.uri())?);
        self.shared.opened(connection.clone());
        self.take_inventory(&own)?;
        Ok((connection, own))
    }

    fn take_inventory(&self, own: &Connection) -> Result<(), Failed> {
        if self.wants_inventory {
            let pairs = own.list()?.into_iter().map(|found| (found.uuid, found.name));
            self.shared.saw(pairs.collect());
        }
        Ok(())
    }

    /// Probes an open connection until it fails; true if the keeper is to end.
    fn keep(&mut self, connection: Arc<Connection>, own: &Connection) -> bool {
        let mut was_asked = false;
        let mut inventory_at = Instant::now();
        loop {
            self.shared.probing(Some(Instant::now()));
            let mut outcome = own.probe().and_then(|()| connection.check());
            self.shared.probing(None);
            if outcome.is_ok() {
                self.shared.answered();
            }
            if outcome.is_ok() && inventory_at.elapsed() >= INVENTORY_EVERY {
                outcome = self.take_inventory(own);
                inventory_at = Instant::now();
            }
            if was_asked {
                self.tell(outcome.clone().map_err(|Failed(reason)| reason));
            }
            if let Err(Failed(reason)) = outcome {
                warn!("{}: the connection is lost: {reason}", self.shared.uri());
                self.shared.closed(reason);
                self.retired.push(connection);
                return false;
            }
            was_asked = match self.wait(PROBE_EVERY) {
                Wake::Time => false,
                Wake::Asked => true,
                Wake::Stop => {
                    self.shared.closed("the daemon stops".to_owned());
                    self.retired.push(connection);
                    self.bury();
                    return true;
                }
            };
        }
    }

    /// Waits before the next attempt to open; true if the keeper is to end.
    /// Who asks meanwhile is told no.
    fn rest(&mut self) -> bool {
        let until = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        loop {
            match self.wait(until.saturating_duration_since(Instant::now())) {
                Wake::Time => return false,
                Wake::Asked => self.tell(Err("there is no connection".to_owned())),
                Wake::Stop => return true,
            }
        }
    }

    fn wait(&mut self, limit: Duration) -> Wake {
        self.bury();
        match self.commands.recv_timeout(limit) {
            Ok(Command::Probe) => Wake::Asked,
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => Wake::Stop,
            Err(RecvTimeoutError::Timeout) => Wake::Time,
        }
    }

    /// Closes the connections that only this thread still holds.
    fn bury(&mut self) {
        self.retired.retain(|connection| Arc::strong_count(connection) > 1);
    }

    fn tell(&self, outcome: Result<(), String>) {
        let event = Event::Probed { uri: self.place, outcome };
        if self.worker.send(Message::Event(event)).is_err() {
            debug!("{}: nobody waits for the probe any more", self.shared.uri());
        }
    }
}
