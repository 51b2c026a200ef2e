use std::sync::Arc;
use std::time::Duration;

use super::host::AgentView;
use super::lane::AgentLane;
use super::link::{AGENT_LOOKUP_MAX, AGENT_SILENCE_MAX, AgentLink};
use crate::backend::libvirt::{LaneThread, UriLink};
use crate::libvirt::{
    Call, CallId, Connection, Definition, DomainState, FoundDomain, Host, Lane, LibvirtResult, Link,
};
use crate::status::LaneReport;
use fence_virt::fence::Target;
use fence_virt::time::Instant;

/// A place of VMs: a libvirt URI, or an agent.
#[derive(Clone)]
pub(crate) enum PlaceLink {
    Uri(UriLink),
    Agent(AgentLink),
}

/// Lane of a place.
pub(crate) enum PlaceLane {
    Uri(LaneThread),
    Agent(AgentLane),
}

impl Lane for PlaceLane {
    fn make(&self, id: CallId, call: Call) {
        match self {
            PlaceLane::Uri(lane) => lane.make(id, call),
            PlaceLane::Agent(lane) => lane.make(id, call),
        }
    }
}

/// What the worker itself may ask of a place.
pub(crate) enum PlaceHost {
    Uri(Arc<Connection>),
    Agent(AgentView),
}

impl PlaceHost {
    fn host(&self) -> &dyn Host {
        match self {
            PlaceHost::Uri(connection) => connection.as_ref(),
            PlaceHost::Agent(view) => view,
        }
    }
}

impl Host for PlaceHost {
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>> {
        self.host().find(target)
    }

    fn observe(&self, uuid: &str) -> LibvirtResult<Option<DomainState>> {
        self.host().observe(uuid)
    }

    fn definition(&self, uuid: &str) -> LibvirtResult<Definition> {
        self.host().definition(uuid)
    }

    fn is_leaving(&self, uuid: &str) -> LibvirtResult<bool> {
        self.host().is_leaving(uuid)
    }

    fn destroy(&self, uuid: &str) -> LibvirtResult {
        self.host().destroy(uuid)
    }

    fn start(&self, uuid: &str, definition: &Definition) -> LibvirtResult {
        self.host().start(uuid, definition)
    }

    fn list(&self) -> LibvirtResult<Vec<FoundDomain>> {
        self.host().list()
    }
}

impl Link for PlaceLink {
    type Host = PlaceHost;
    type Lane = PlaceLane;

    fn name(&self) -> &str {
        match self {
            PlaceLink::Uri(link) => link.name(),
            PlaceLink::Agent(link) => link.name(),
        }
    }

    fn host(&self, now: Instant) -> LibvirtResult<Arc<PlaceHost>> {
        Ok(Arc::new(match self {
            PlaceLink::Uri(link) => PlaceHost::Uri(link.host(now)?),
            PlaceLink::Agent(link) => PlaceHost::Agent(link.view()),
        }))
    }

    fn check_open(&self) -> LibvirtResult {
        match self {
            PlaceLink::Uri(link) => link.check_open(),
            // Each call is a program of its own.
            PlaceLink::Agent(_) => Ok(()),
        }
    }

    fn open_lane(&self) -> Result<PlaceLane, String> {
        match self {
            PlaceLink::Uri(link) => link.open_lane().map(PlaceLane::Uri),
            PlaceLink::Agent(link) => link.open_lane().map(PlaceLane::Agent),
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
