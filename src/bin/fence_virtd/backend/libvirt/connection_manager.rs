//! Connection managers: one thread per URI makes every call that can hang with a frozen
//! libvirtd, except those of the worker.
//!
//! 1. It opens two connections: one for the worker, through [`SharedLink`], and one for
//!    its own probes.
//! 2. It probes every two seconds; the worker skips a URI whose probe is late.
//! 3. When a probe fails it withdraws the worker's connection, but holds it until the
//!    worker has released it: the last holder closes it, and that may block.
//! 4. It opens new ones, at growing intervals.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{info, trace, warn};

use super::link::{ManagerCommand, UriLink};
use super::shared_link::SharedLink;
use crate::backoff::Backoff;
use crate::inbox::{Event, Message};
use crate::libvirt::{Connection, Host, LibvirtError, LibvirtResult};
use crate::status::UriState;
use crate::threads::join_by;
use fence_virt::fence::UriIndex;
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// Interval between probes of an idle connection.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Interval between lists of the domains, if there are several URIs.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// Intervals between attempts to open.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// Result of a manager's first attempt to connect.
pub(super) struct FirstConnection {
    pub(super) uri: String,
    pub(super) outcome: Result<(), String>,
}

/// Managers that were just started.
pub(super) struct StartedManagers {
    pub(super) managers: ConnectionManagers,
    /// The worker's ends, in the order of the URIs.
    pub(super) links: Vec<UriLink>,
    pub(super) first: Receiver<FirstConnection>,
}

/// Threads of the connection managers.
#[derive(Debug)]
pub(crate) struct ConnectionManagers(Vec<ManagerHandle>);

#[derive(Debug)]
struct ManagerHandle {
    link: UriLink,
    thread: JoinHandle<()>,
}

impl ConnectionManagers {
    /// Stops the threads, which close their connections, and waits for them until
    /// `deadline`. A thread that hangs with its libvirtd is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        for ManagerHandle { link, thread } in self.0 {
            if link.manager.send_timeout(ManagerCommand::Stop, deadline.remaining()).is_ok() {
                join_by(thread, deadline);
            }
        }
    }

    /// Returns a closure that reports the state of the URIs.
    pub(crate) fn reporter(&self) -> impl Fn() -> Vec<UriState> + Send + use<> {
        let shared: Vec<_> = self.0.iter().map(|manager| manager.link.shared.clone()).collect();
        move || shared.iter().map(|shared| shared.report(Instant::now())).collect()
    }
}

/// Starts a manager for each URI. If its first attempt is awaited, whoever waits reports that it has failed.
pub(super) fn start(
    uris: &[String],
    worker: &Sender<Message>,
    is_awaited: bool,
    lists_domains: bool,
) -> Result<StartedManagers, String> {
    let (first_sender, first) = bounded(uris.len());
    let mut managers = Vec::new();
    let mut links = Vec::new();
    for (at, uri) in uris.iter().enumerate() {
        let (manager, commands) = bounded(1);
        let shared = Arc::new(SharedLink::new(uri));
        let link = UriLink { at: UriIndex(at), worker: worker.clone(), shared, manager };
        let mut manager = ConnectionManager {
            uri: UriIndex(at),
            shared: link.shared.clone(),
            commands,
            worker: worker.clone(),
            first: is_awaited.then(|| first_sender.clone()),
            retired: Vec::new(),
            // With several URIs the backend has to know which had a VM last.
            lists_domains,
            backoff: BACKOFF,
        };
        let thread = thread::Builder::new()
            .name(format!("connection-{at}"))
            .spawn(move || manager.run())
            .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        links.push(link.clone());
        managers.push(ManagerHandle { link, thread });
    }
    Ok(StartedManagers { managers: ConnectionManagers(managers), links, first })
}

struct ConnectionManager {
    uri: UriIndex,
    shared: Arc<SharedLink>,
    commands: Receiver<ManagerCommand>,
    worker: Sender<Message>,
    first: Option<Sender<FirstConnection>>,
    /// Withdrawn connections that the worker may still hold.
    retired: Vec<Arc<Connection>>,
    lists_domains: bool,
    backoff: Backoff,
}

/// Reason for the end of a wait.
enum Wake {
    Timeout,
    Probe,
    Stop,
}

impl ConnectionManager {
    fn run(&mut self) {
        let mut last_reason = None;
        loop {
            let opened = self.open();
            if let Some(first) = self.first.take() {
                let outcome = opened.as_ref().map(|_| ()).map_err(LibvirtError::to_string);
                let reason = outcome.as_ref().err().cloned();
                // The start may have given up waiting.
                if first.send(FirstConnection { uri: self.shared.uri().to_owned(), outcome }).is_ok() {
                    last_reason = reason;
                }
            }
            let is_stopped = match opened {
                Ok((connection, own)) => {
                    info!("{}: connected", self.shared.uri());
                    last_reason = None;
                    let since = Instant::now();
                    let is_stopped = self.keep(connection, &own);
                    // A connection that is lost at once does not reset the backoff.
                    if since.elapsed() >= PROBE_EVERY {
                        self.backoff.reset();
                    }
                    is_stopped || self.rest()
                }
                Err(error) => {
                    let reason = error.to_string();
                    if last_reason.as_ref() != Some(&reason) {
                        warn!("{}: cannot connect: {reason}", self.shared.uri());
                        last_reason = Some(reason.clone());
                    }
                    self.shared.closed(reason);
                    self.rest()
                }
            };
            if is_stopped {
                return;
            }
        }
    }

    /// Opens the worker's connection and the manager's own.
    fn open(&self) -> LibvirtResult<(Arc<Connection>, Connection)> {
        // One per thread: when the keepalive closes a connection on which two threads wait, libvirt 9.0
        // crashes (CVE-2024-4418) if one of them takes over its I/O, and hangs otherwise.
        let own = Connection::open(self.shared.uri())?;
        let connection = Arc::new(Connection::open(self.shared.uri())?);
        self.shared.opened(connection.clone());
        self.list_domains(&own)?;
        Ok((connection, own))
    }

    fn list_domains(&self, own: &Connection) -> LibvirtResult {
        if self.lists_domains {
            self.shared.listed(own.list()?);
        }
        Ok(())
    }

    /// Probes an open connection until it fails; returns true if the manager was stopped.
    fn keep(&mut self, connection: Arc<Connection>, own: &Connection) -> bool {
        let mut is_requested = false;
        let mut listed_at = Instant::now();
        loop {
            self.shared.probing(Some(Instant::now()));
            let mut outcome = own.probe().and_then(|()| connection.check());
            self.shared.probing(None);
            if outcome.is_ok() {
                self.shared.answered();
            }
            // A list waits while a call holds a VM, and probes would wait for the list.
            if outcome.is_ok() && listed_at.elapsed() >= LIST_EVERY && !self.shared.has_busy_lanes() {
                outcome = self.list_domains(own);
                listed_at = Instant::now();
            }
            let outcome = outcome.map_err(|error| error.to_string());
            if is_requested {
                self.report(outcome.clone());
            }
            if let Err(reason) = outcome {
                warn!("{}: connection lost: {reason}", self.shared.uri());
                self.shared.closed(reason);
                self.retired.push(connection);
                return false;
            }
            is_requested = match self.wait(PROBE_EVERY) {
                Wake::Timeout => false,
                Wake::Probe => true,
                Wake::Stop => {
                    self.shared.closed("the daemon is stopping".to_owned());
                    self.retired.push(connection);
                    self.reap();
                    return true;
                }
            };
        }
    }

    /// Waits before the next attempt to open, and answers probes with failure meanwhile.
    /// Returns true if the manager was stopped.
    fn rest(&mut self) -> bool {
        let until = Instant::now() + self.backoff.next();
        loop {
            match self.wait(until.saturating_duration_since(Instant::now())) {
                Wake::Timeout => return false,
                Wake::Probe => self.report(Err("not connected".to_owned())),
                Wake::Stop => return true,
            }
        }
    }

    fn wait(&mut self, limit: Duration) -> Wake {
        self.reap();
        match self.commands.recv_timeout(limit) {
            Ok(ManagerCommand::Probe) => Wake::Probe,
            Ok(ManagerCommand::Stop) | Err(RecvTimeoutError::Disconnected) => Wake::Stop,
            Err(RecvTimeoutError::Timeout) => Wake::Timeout,
        }
    }

    /// Closes the retired connections that the worker has released.
    fn reap(&mut self) {
        self.retired.retain(|connection| Arc::strong_count(connection) > 1);
    }

    fn report(&self, outcome: Result<(), String>) {
        let event = Event::Probed { uri: self.uri, outcome };
        if self.worker.send(Message::Event(event)).is_err() {
            trace!("{}: probe result dropped: the worker has ended", self.shared.uri());
        }
    }
}
