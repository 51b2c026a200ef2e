//! Interface between the backend and one libvirt URI; traits, so that tests can inject faults.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::call::{Call, CallId};
use super::error::LibvirtResult;
use super::host::{FoundDomain, Host};
use crate::status::LaneReport;
use fence_virt::time::Instant;

/// Time without an answer after which a URI counts as silent: requests pass it by, and the status report and
/// the metrics name it. A busy libvirtd answers a probe within milliseconds.
pub(crate) const URI_SILENCE_MAX: Duration = Duration::from_secs(2);

/// Thread that makes the calls of one URI which may take long, one at a time, on a
/// connection of its own. It ends when it is dropped.
pub(crate) trait Lane {
    /// Makes a call. The outcome comes to the worker as an event. No other call may be in progress.
    fn make(&self, id: CallId, call: Call);
}

/// Access to one URI, whose connection may be down.
pub(crate) trait Link {
    /// Connection of the link.
    type Host: Host + ?Sized;

    /// Lane of the link.
    type Lane: Lane;

    /// The URI.
    fn name(&self) -> &str;

    /// Returns the connection if it is open and answers.
    fn host(&self, now: Instant) -> LibvirtResult<Arc<Self::Host>>;

    /// Checks that there is a connection, even one that answers late.
    fn check_open(&self) -> LibvirtResult;

    /// Opens a lane.
    /// Errors: if the system has no thread left.
    fn open_lane(&self) -> Result<Self::Lane, String>;

    /// Records the use of the lanes for the status report.
    fn report_lanes(&self, report: LaneReport);

    /// Returns the domains that the connection manager listed last; each list once.
    fn inventory(&self) -> Option<Vec<FoundDomain>>;

    /// Requests a probe from the connection manager, which reports it by an event.
    fn probe(&self);

    /// Time without an answer after which a probe has failed.
    fn silence_max(&self) -> Duration {
        URI_SILENCE_MAX
    }

    /// Time without an answer after which a lookup that another place has answered goes on without this one.
    fn lookup_max(&self) -> Duration {
        URI_SILENCE_MAX
    }

    /// Maximum of lanes, if it is not that of all places (`max_parallel`).
    fn max_lanes(&self) -> Option<usize> {
        None
    }

    /// True if even queries take so long that they are made on lanes.
    fn is_queried_on_lanes(&self) -> bool {
        false
    }
}
