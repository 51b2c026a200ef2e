use std::sync::Arc;
use std::time::Duration;

use super::link::{AGENT_LOOKUP_MAX, AGENT_SILENCE_MAX, AgentLink};
use crate::backend::libvirt::{LaneThread, UriLink};
use crate::libvirt::{FoundDomain, Host, LibvirtResult, Link};
use crate::status::LaneReport;
use fence_virt::time::Instant;

/// A place of VMs: a libvirt URI, or an agent.
#[derive(Clone)]
pub(crate) enum PlaceLink {
    Uri(UriLink),
    Agent(AgentLink),
}

impl Link for PlaceLink {
    type Host = dyn Host;
    type Lane = LaneThread;

    fn name(&self) -> &str {
        match self {
            PlaceLink::Uri(link) => link.name(),
            PlaceLink::Agent(link) => link.name(),
        }
    }

    fn host(&self, now: Instant) -> LibvirtResult<Arc<dyn Host>> {
        Ok(match self {
            PlaceLink::Uri(link) => link.host(now)?,
            PlaceLink::Agent(link) => link.view(),
        })
    }

    fn check_open(&self) -> LibvirtResult {
        match self {
            PlaceLink::Uri(link) => link.check_open(),
            // Each call is a program of its own.
            PlaceLink::Agent(_) => Ok(()),
        }
    }

    fn open_lane(&self) -> Result<LaneThread, String> {
        match self {
            PlaceLink::Uri(link) => link.open_lane(),
            PlaceLink::Agent(link) => link.open_lane(),
        }
    }

    fn report_lanes(&self, report: LaneReport) {
        match self {
            PlaceLink::Uri(link) => link.report_lanes(report),
            PlaceLink::Agent(link) => link.report_lanes(report),
        }
    }

    fn inventory(&self) -> Option<Vec<FoundDomain>> {
        match self {
            PlaceLink::Uri(link) => link.inventory(),
            PlaceLink::Agent(link) => link.inventory(),
        }
    }

    fn probe(&self) {
        match self {
            PlaceLink::Uri(link) => link.probe(),
            PlaceLink::Agent(link) => link.probe(),
        }
    }

    fn silence_max(&self) -> Duration {
        match self {
            PlaceLink::Uri(link) => link.silence_max(),
            PlaceLink::Agent(_) => AGENT_SILENCE_MAX,
        }
    }

    fn lookup_max(&self) -> Duration {
        match self {
            PlaceLink::Uri(link) => link.lookup_max(),
            PlaceLink::Agent(_) => AGENT_LOOKUP_MAX,
        }
    }

    fn max_lanes(&self) -> Option<usize> {
        match self {
            PlaceLink::Uri(_) => None,
            PlaceLink::Agent(link) => Some(link.max_parallel),
        }
    }

    fn is_queried_on_lanes(&self) -> bool {
        matches!(self, PlaceLink::Agent(_))
    }
}
