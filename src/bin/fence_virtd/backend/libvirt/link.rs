//! The worker's and the main thread's access to a URI.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::lane::LaneThread;
use super::shared_link::SharedLink;
use crate::inbox::Message;
use crate::libvirt::{Connection, FoundDomain, LibvirtResult, Link};
use crate::status::LaneReport;
use fence_virt::fence::UriIndex;
use fence_virt::time::Instant;

/// Command to a connection manager.
#[derive(Debug)]
pub(super) enum ManagerCommand {
    /// Probe the URI, and report the result to the worker.
    Probe,
    /// Close the connection and end.
    Stop,
}

/// Access of the worker and the main thread.
#[derive(Debug, Clone)]
pub(crate) struct UriLink {
    pub(super) at: UriIndex,
    pub(super) worker: Sender<Message>,
    pub(super) shared: Arc<SharedLink>,
    pub(super) manager: Sender<ManagerCommand>,
}

impl Link for UriLink {
    type Host = Connection;
    type Lane = LaneThread;

    fn name(&self) -> &str {
        self.shared.uri()
    }

    fn host(&self, now: Instant) -> LibvirtResult<Arc<Connection>> {
        self.shared.host(now)
    }

    fn check_open(&self) -> LibvirtResult {
        self.shared.check_open()
    }

    fn open_lane(&self) -> Result<LaneThread, String> {
        LaneThread::start(self.at, self.shared.clone(), self.worker.clone())
    }

    fn report_lanes(&self, report: LaneReport) {
        self.shared.report_lanes(report);
    }

    fn inventory(&self) -> Option<Vec<FoundDomain>> {
        self.shared.take_inventory()
    }

    fn probe(&self) {
        // A full channel holds a probe that the manager has yet to make: that one serves.
        let _ = self.manager.try_send(ManagerCommand::Probe);
    }
}
