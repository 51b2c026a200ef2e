use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::host::{AgentHost, AgentView};
use crate::backend::libvirt::LaneThread;
use crate::inbox::Message;
use crate::libvirt::{Call, FoundDomain};
use crate::status::{LaneReport, UriState};
use fence_virt::fence::UriIndex;
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Command to the manager of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentCommand {
    /// Ask the agent's monitor, and report the result to the worker.
    Monitor,
    /// End.
    Stop,
}

/// State of an agent that its threads share.
#[derive(Debug, Default)]
pub(super) struct AgentState {
    /// Time of the last answer.
    pub(super) answered: Option<Instant>,
    /// Reason why the last list or monitor failed.
    pub(super) obstacle: Option<String>,
    /// Last list, until the worker takes it.
    pub(super) inventory: Option<Vec<FoundDomain>>,
    pub(super) lanes: LaneReport,
}

/// Access of the worker and the main thread to an agent.
#[derive(Clone)]
pub(crate) struct AgentLink {
    pub(super) at: UriIndex,
    pub(super) max_parallel: usize,
    pub(super) host: Arc<AgentHost>,
    pub(super) state: Arc<Mutex<AgentState>>,
    pub(super) worker: Sender<Message>,
    pub(super) manager: Sender<AgentCommand>,
}

impl AgentLink {
    pub(super) fn name(&self) -> &str {
        self.host.place()
    }

    pub(super) fn view(&self) -> Arc<AgentView> {
        Arc::new(AgentView(self.host.clone()))
    }

    pub(super) fn open_lane(&self) -> Result<LaneThread, String> {
        let host = self.host.clone();
        LaneThread::spawn(self.at, self.worker.clone(), move || move |call: Call| call.execute(host.as_ref()))
    }

    pub(super) fn report_lanes(&self, report: LaneReport) {
        lock(&self.state).lanes = report;
    }

    pub(super) fn inventory(&self) -> Option<Vec<FoundDomain>> {
        lock(&self.state).inventory.take()
    }

    pub(super) fn probe(&self) {
        // A full channel holds a probe that the manager has yet to make: that one serves.
        let _ = self.manager.try_send(AgentCommand::Monitor);
    }

    /// State for the status report.
    pub(super) fn report(&self, now: Instant) -> UriState {
        let state = lock(&self.state);
        let age = |at| now.saturating_duration_since(at);
        UriState {
            uri: self.name().to_owned(),
            is_agent: true,
            obstacle: state.obstacle.clone(),
            answered: state.answered.map(age),
            lanes: state.lanes.clone(),
        }
    }
}

/// Time limit for the answer of an agent's monitor.
pub(super) const AGENT_SILENCE_MAX: Duration = Duration::from_secs(20);
/// Time after which a lookup that another place has answered goes on without an agent.
pub(super) const AGENT_LOOKUP_MAX: Duration = Duration::from_secs(5);
