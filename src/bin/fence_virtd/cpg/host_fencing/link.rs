//! The worker's end of the fencer's thread.

use std::sync::{Arc, Mutex};

use crossbeam_channel::Receiver;

use super::shared::{FencerCommand, SharedHosts};
use super::stays::{FencedStay, StayTable};
use crate::cpg::shared::GroupEvent;
use crate::status::FencerState;
use fence_virt::sys::mailbox::MailboxSender;
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// The worker's end.
#[derive(Debug)]
pub(crate) struct FencingLink {
    pub(super) commands: MailboxSender<FencerCommand>,
    pub(super) news: Receiver<FencedStay>,
    pub(super) hosts: Arc<Mutex<SharedHosts>>,
    pub(super) state: Arc<Mutex<FencerState>>,
    pub(super) table: StayTable,
}

impl FencingLink {
    /// Reports an event of the group.
    pub(crate) fn hear(&mut self, event: &GroupEvent) {
        match event {
            GroupEvent::Joined(me) => self.table.join(me.node),
            GroupEvent::Lost(_) => self.table.leave(),
            GroupEvent::Changed(change) => change.joined.iter().for_each(|peer| self.table.joined(peer.node)),
            GroupEvent::Quorum { nodes, .. } => self.table.votes(nodes),
            GroupEvent::Configured(_) | GroupEvent::Message { .. } | GroupEvent::Unsent(_) => return,
        }
        self.publish();
    }

    /// Takes the hosts that were fenced since they were last up, and are lost.
    pub(crate) fn fenced(&mut self, now: Instant) -> Vec<NodeId> {
        self.news.try_iter().for_each(|fence| self.table.fenced(fence));
        self.table.take_fenced(now)
    }

    /// State of the fencer, for the status report.
    pub(crate) fn state(&self) -> FencerState {
        lock(&self.state).clone()
    }

    fn publish(&self) {
        if lock(&self.hosts).put(self.table.stays()) {
            // Without the thread there is no news.
            let _ = self.commands.post(FencerCommand::HostsChanged);
        }
    }
}
