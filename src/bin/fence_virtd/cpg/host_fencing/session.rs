//! Connections to the fencer, and what has happened since the last question.

use std::time::Duration;

use fence_virt::sys::error_text;
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::sys::stonith::{FencerEvent, FencingRecord};
use fence_virt::wire::cluster::NodeId;

use super::fencer::{Fencer, FencerConnector};

/// Kinds of events that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FencerEvents {
    /// A fencing action has ended.
    pub(super) has_ended: bool,
    /// The fencer takes over records of other nodes.
    pub(super) has_synced: bool,
}

impl FencerEvents {
    pub(super) fn any(self) -> bool {
        self.has_ended || self.has_synced
    }

    /// Both events and later ones.
    pub(super) fn and(self, later: FencerEvents) -> FencerEvents {
        FencerEvents {
            has_ended: self.has_ended || later.has_ended,
            has_synced: self.has_synced || later.has_synced,
        }
    }

    /// Returns true if new records are of actions that have ended now, and not of other nodes.
    pub(super) fn are_own(self) -> bool {
        self.has_ended && !self.has_synced
    }
}

/// Three connections: one for each kind of events, and one for questions.
#[derive(Debug)]
pub(super) struct FencerSession<F> {
    pub(super) ended: F,
    pub(super) synced: F,
    questions: F,
}

impl<F: Fencer> FencerSession<F> {
    pub(super) fn open(connector: &impl FencerConnector<Fencer = F>) -> Result<FencerSession<F>, String> {
        Ok(FencerSession {
            ended: awaiting(connector, FencerEvent::FencingEnded)?,
            synced: awaiting(connector, FencerEvent::HistorySynced)?,
            questions: connector.connect()?,
        })
    }

    /// Returns the events that have come since the connections were renewed.
    pub(super) fn events(&self) -> Result<FencerEvents, String> {
        let mut set = PollSet::new();
        let [ended, synced] = [&self.ended, &self.synced].map(|fencer| set.add(fencer.fd(), Interest::Read));
        set.wait(Some(Duration::ZERO)).map_err(|error| format!("poll: {}", error_text(&error)))?;
        Ok(FencerEvents { has_ended: set.ready(ended).any(), has_synced: set.ready(synced).any() })
    }

    /// Replaces the connections on which these events have come. The new one is there before the old one
    /// ends, so that no event is missed.
    pub(super) fn renew(
        &mut self,
        events: FencerEvents,
        connector: &impl FencerConnector<Fencer = F>,
    ) -> Result<(), String> {
        if events.has_ended {
            self.ended = awaiting(connector, FencerEvent::FencingEnded)?;
        }
        if events.has_synced {
            self.synced = awaiting(connector, FencerEvent::HistorySynced)?;
        }
        Ok(())
    }

    /// Queries the fencing actions on a node. An event has come before the answer that has its record.
    pub(super) fn history(&mut self, node: NodeId) -> Result<Vec<FencingRecord>, String> {
        self.questions.history(node)
    }
}

fn awaiting<F: Fencer>(
    connector: &impl FencerConnector<Fencer = F>,
    event: FencerEvent,
) -> Result<F, String> {
    let mut fencer = connector.connect()?;
    fencer.await_event(event)?;
    Ok(fencer)
}
