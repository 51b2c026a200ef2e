//! State of a URI that the worker, its lanes and its connection manager share.
//!
//! A lock instead of a message: the worker may be in a libvirt call, and when that ends,
//! the next jobs must see at once that the URI is frozen. No call is made under the lock.

use std::sync::{Arc, Mutex};

use crate::libvirt::{Connection, FoundDomain, LibvirtError, LibvirtResult, URI_SILENCE_MAX};
use crate::status::{LaneReport, UriState};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

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
    lanes: LaneReport,
}

impl ConnectionState {
    /// Connection, if it answers.
    /// Errors: reason why requests pass the URI by.
    fn usable(&self, now: Instant) -> Result<&Arc<Connection>, String> {
        match self {
            ConnectionState::Closed(reason) => Err(reason.clone()),
            ConnectionState::Open { probed: Some(since), .. }
                if now.saturating_duration_since(*since) >= URI_SILENCE_MAX =>
            {
                Err("libvirtd does not answer".to_owned())
            }
            ConnectionState::Open { connection, .. } => Ok(connection),
        }
    }
}

impl SharedLink {
    pub(super) fn new(uri: &str) -> SharedLink {
        let connection = ConnectionState::Closed("not connected yet".to_owned());
        let state = LinkState { connection, inventory: None, answered: None, lanes: LaneReport::default() };
        SharedLink { uri: uri.to_owned(), state: Mutex::new(state) }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Connection of the worker, if it is open and answers.
    pub(super) fn host(&self, now: Instant) -> LibvirtResult<Arc<Connection>> {
        lock(&self.state).connection.usable(now).cloned().map_err(LibvirtError::ConnectionLost)
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
    pub(super) fn report(&self, now: Instant) -> UriState {
        let state = lock(&self.state);
        UriState {
            uri: self.uri.clone(),
            is_agent: false,
            obstacle: state.connection.usable(now).err(),
            answered: state.answered.map(|at| now.saturating_duration_since(at)),
            lanes: state.lanes.clone(),
        }
    }

    /// Checks that there is a connection, even one that answers late.
    pub(super) fn check_open(&self) -> LibvirtResult {
        match &lock(&self.state).connection {
            ConnectionState::Closed(reason) => Err(LibvirtError::ConnectionLost(reason.clone())),
            ConnectionState::Open { .. } => Ok(()),
        }
    }

    /// True while calls that may take long are in progress.
    pub(super) fn has_busy_lanes(&self) -> bool {
        lock(&self.state).lanes.busy > 0
    }

    /// Records the use of the lanes.
    pub(super) fn report_lanes(&self, report: LaneReport) {
        lock(&self.state).lanes = report;
    }

    /// Takes the list of all domains; each list once.
    pub(super) fn take_inventory(&self) -> Option<Vec<FoundDomain>> {
        lock(&self.state).inventory.take()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::libvirt::fake::found;
    use std::time::Duration;

    #[test]
    fn requests_and_the_report_agree_on_a_uri_whose_probe_is_late() {
        let shared = SharedLink::new("test:///default");
        let now = Instant::now();
        let serves = |at| {
            let obstacle = shared.report(at).obstacle;
            assert_eq!(shared.host(at).is_ok(), obstacle.is_none(), "{obstacle:?}");
            obstacle.is_none()
        };
        assert!(!serves(now), "not open yet");
        shared.opened(Arc::new(Connection::open("test:///default").unwrap()));
        assert!(serves(now));
        shared.probing(Some(now));
        assert!(serves(now + URI_SILENCE_MAX - Duration::from_millis(1)));
        assert!(!serves(now + URI_SILENCE_MAX));
        shared.probing(None);
        assert!(serves(now + URI_SILENCE_MAX), "it answered");
        shared.closed("gone".to_owned());
        assert_eq!(shared.host(now).unwrap_err(), LibvirtError::ConnectionLost("gone".to_owned()));
    }

    #[test]
    fn each_list_is_returned_once() {
        let shared = SharedLink::new("test:///default");
        assert_eq!(shared.take_inventory(), None);
        shared.listed(vec![found("n", "u")]);
        assert_eq!(shared.take_inventory(), Some(vec![found("n", "u")]));
        assert_eq!(shared.take_inventory(), None);
    }
}
