//! What the worker and the keeper of a URI share: the open connection, and
//! since when a probe of it is unanswered.
//!
//! This is a lock and not a message because the worker may be inside a call
//! of libvirt, and the jobs behind it must see a frozen URI at once when it
//! comes out. The lock is never held during a call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::libvirt::Link;
use crate::libvirt::{Connection, Failed};
use crate::status::UriState;

/// How long a probe may take before the worker passes the URI by.
const LATE: Duration = Duration::from_secs(2);

/// What a keeper is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Look whether the URI answers, and say so.
    Probe,
    /// Close the connection and end.
    Stop,
}

/// The state of a URI.
#[derive(Debug)]
enum State {
    /// Why there is no connection.
    Closed(String),
    Open {
        connection: Arc<Connection>,
        probed: Option<Instant>,
    },
}

/// The shared part.
#[derive(Debug)]
pub(crate) struct Shared {
    uri: String,
    state: Mutex<Inner>,
}

/// What the lock protects.
#[derive(Debug)]
struct Inner {
    state: State,
    /// UUID and name of the VMs that were there lately, until the worker takes them over.
    inventory: Option<Vec<(String, String)>>,
    /// When it last answered.
    answered: Option<Instant>,
}

impl Shared {
    pub(super) fn new(uri: &str) -> Shared {
        let state = State::Closed("the connection is not open yet".to_owned());
        Shared { uri: uri.to_owned(), state: Mutex::new(Inner { state, inventory: None, answered: None }) }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    // Nothing panics while it holds the lock; the state is whole even if it did.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper opened a connection.
    pub(super) fn opened(&self, connection: Arc<Connection>) {
        let mut inner = self.lock();
        inner.state = State::Open { connection, probed: None };
        inner.answered = Some(Instant::now());
    }

    /// A probe was answered.
    pub(super) fn answered(&self) {
        self.lock().answered = Some(Instant::now());
    }

    /// For a report on the daemon.
    pub(crate) fn report(&self) -> UriState {
        let inner = self.lock();
        let closed = match &inner.state {
            State::Closed(reason) => Some(reason.clone()),
            State::Open { .. } => None,
        };
        UriState { uri: self.uri.clone(), closed, answered: inner.answered.map(|at| at.elapsed()) }
    }

    /// The keeper looked which VMs are there: UUID and name.
    pub(super) fn saw(&self, inventory: Vec<(String, String)>) {
        self.lock().inventory = Some(inventory);
    }

    /// The keeper gave the connection up.
    pub(super) fn closed(&self, reason: String) {
        self.lock().state = State::Closed(reason);
    }

    /// The keeper begins a probe, or has its answer (none).
    pub(super) fn probing(&self, since: Option<Instant>) {
        if let State::Open { probed, .. } = &mut self.lock().state {
            *probed = since;
        }
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct UriLink {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Sender<Command>,
}

impl Link for UriLink {
    type Host = Connection;

    fn name(&self) -> &str {
        &self.shared.uri
    }

    fn host(&self, now: Instant) -> Result<Arc<Connection>, Failed> {
        match &self.shared.lock().state {
            State::Closed(reason) => Err(Failed(reason.clone())),
            State::Open { probed: Some(since), .. } if now.saturating_duration_since(*since) >= LATE => {
                Err(Failed("it does not answer".to_owned()))
            }
            State::Open { connection, .. } => Ok(connection.clone()),
        }
    }

    fn inventory(&self) -> Option<Vec<(String, String)>> {
        self.shared.lock().inventory.take()
    }

    fn probe(&self) {
        // A full channel holds a probe that the keeper has not come to yet: it will do.
        let _ = self.keeper.try_send(Command::Probe);
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_uri_whose_probe_is_late_is_passed_by() {
        let (keeper, _commands) = crossbeam_channel::bounded(1);
        let shared = Arc::new(Shared::new("test:///default"));
        let link = UriLink { shared: shared.clone(), keeper };
        let now = Instant::now();
        assert!(link.host(now).is_err(), "not open yet");
        shared.opened(Arc::new(Connection::open("test:///default").unwrap()));
        assert!(link.host(now).is_ok());
        shared.probing(Some(now));
        assert!(link.host(now + LATE - Duration::from_millis(1)).is_ok());
        assert!(link.host(now + LATE).is_err());
        shared.probing(None);
        assert!(link.host(now + LATE).is_ok(), "it answered");
        shared.closed("gone".to_owned());
        assert_eq!(link.host(now).unwrap_err(), Failed("gone".to_owned()));
    }

    #[test]
    fn each_look_is_told_once() {
        let (keeper, _commands) = crossbeam_channel::bounded(1);
        let shared = Arc::new(Shared::new("test:///default"));
        let link = UriLink { shared: shared.clone(), keeper };
        assert_eq!(link.inventory(), None);
        shared.saw(vec![("u".into(), "n".into())]);
        assert_eq!(link.inventory(), Some(vec![("u".into(), "n".into())]));
        assert_eq!(link.inventory(), None);
    }
}
