//! State of a URI that the worker and its connection manager share.
//!
//! A lock instead of a message: the worker may be in a libvirt call, and when that ends,
//! the next jobs must see at once that the URI is frozen. No call is made under the lock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::libvirt::{Connection, FoundDomain, LibvirtError, LibvirtResult, Link};
use crate::status::UriState;
use fence_virt::sys::mutex::lock;

/// Duration of an unanswered probe after which the worker skips the URI.
const LATE: Duration = Duration::from_secs(2);

/// Command to a connection manager.
#[derive(Debug)]
pub(super) enum ManagerCommand {
    /// Probe the URI, and report the result to the worker.
    Probe,
    /// Close the connection and end.
    Stop,
}

#[derive(Debug)]
enum ConnectionState {
    /// No connection, with the reason.
    Closed(String),
    Open {
        connection: Arc<Connection>,
        /// Begin of a probe that is unanswered.
        probed: Option<Instant>,
    },
}

/// State of a URI.
#[derive(Debug)]
pub(super) struct SharedLink {
    uri: String,
    state: Mutex<LinkState>,
}

#[derive(Debug)]
struct LinkState {
    connection: ConnectionState,
    /// Domains that were listed last, until the worker takes them.
    inventory: Option<Vec<FoundDomain>>,
    /// Time of the last answer.
    answered: Option<Instant>,
}

impl SharedLink {
    pub(super) fn new(uri: &str) -> SharedLink {
        let connection = ConnectionState::Closed("not connected yet".to_owned());
        let state = LinkState { connection, inventory: None, answered: None };
        SharedLink { uri: uri.to_owned(), state: Mutex::new(state) }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Records a new connection.
    pub(super) fn opened(&self, connection: Arc<Connection>) {
        let mut state = lock(&self.state);
        state.connection = ConnectionState::Open { connection, probed: None };
        state.answered = Some(Instant::now());
    }

    /// Records an answered probe.
    pub(super) fn answered(&self) {
        lock(&self.state).answered = Some(Instant::now());
    }

    /// State for the status report.
    pub(super) fn report(&self) -> UriState {
        let state = lock(&self.state);
        let closed = match &state.connection {
            ConnectionState::Closed(reason) => Some(reason.clone()),
            ConnectionState::Open { .. } => None,
        };
        UriState { uri: self.uri.clone(), closed, answered: state.answered.map(|at| at.elapsed()) }
    }

    /// Records a list of all domains.
    pub(super) fn listed(&self, domains: Vec<FoundDomain>) {
        lock(&self.state).inventory = Some(domains);
    }

    /// Records the loss of the connection.
    pub(super) fn closed(&self, reason: String) {
        lock(&self.state).connection = ConnectionState::Closed(reason);
    }

    /// Records the begin of a probe, or its end (none).
    pub(super) fn probing(&self, since: Option<Instant>) {
        if let ConnectionState::Open { probed, .. } = &mut lock(&self.state).connection {
            *probed = since;
        }
    }
}

/// End of the worker and the main thread.
#[derive(Debug, Clone)]
pub(crate) struct UriLink {
    pub(super) shared: Arc<SharedLink>,
    pub(super) manager: Sender<ManagerCommand>,
}

impl Link for UriLink {
    type Host = Connection;

    fn name(&self) -> &str {
        &self.shared.uri
    }

    fn host(&self, now: Instant) -> LibvirtResult<Arc<Connection>> {
        match &lock(&self.shared.state).connection {
            ConnectionState::Closed(reason) => Err(LibvirtError::ConnectionLost(reason.clone())),
            ConnectionState::Open { probed: Some(since), .. }
                if now.saturating_duration_since(*since) >= LATE =>
            {
                Err(LibvirtError::ConnectionLost("libvirtd does not answer".to_owned()))
            }
            ConnectionState::Open { connection, .. } => Ok(connection.clone()),
        }
    }

    fn inventory(&self) -> Option<Vec<FoundDomain>> {
        lock(&self.shared.state).inventory.take()
    }

    fn probe(&self) {
        // A full channel holds a probe that the manager has yet to make: that one serves.
        let _ = self.manager.try_send(ManagerCommand::Probe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::libvirt::fake::found;

    fn link() -> UriLink {
        let (manager, _) = crossbeam_channel::bounded(1);
        UriLink { shared: Arc::new(SharedLink::new("test:///default")), manager }
    }

    #[test]
    fn a_uri_whose_probe_is_late_is_skipped() {
        let link = link();
        let shared = link.shared.clone();
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
        assert_eq!(link.host(now).unwrap_err(), LibvirtError::ConnectionLost("gone".to_owned()));
    }

    #[test]
    fn each_list_is_returned_once() {
        let link = link();
        assert_eq!(link.inventory(), None);
        link.shared.listed(vec![found("n", "u")]);
        assert_eq!(link.inventory(), Some(vec![found("n", "u")]));
        assert_eq!(link.inventory(), None);
    }
}
