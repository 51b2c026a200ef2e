//! The worker's end of the fencer's thread.

use std::sync::{Arc, Mutex};

use crossbeam_channel::Receiver;

use super::shared::{FencerCommand, SharedHosts};
use super::stays::{FencedStay, StayTable};
use crate::cpg::shared::GroupEvent;
use crate::status::FencerState;
use fence_virt::config::HostFencing;
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
    /// With `host_fencing = "auto"`.
    pub(super) is_asked: bool,
}

impl FencingLink {
    /// Sets where fences are known from. What was known of one that the router has not been told is forgotten
    /// with `none`.
    pub(crate) fn set_source(&mut self, source: HostFencing) {
        let is_asked = source == HostFencing::Auto;
        if std::mem::replace(&mut self.is_asked, is_asked) != is_asked {
            self.table.forget_fences();
            // Without the thread there is no news.
            let _ = self.commands.post(FencerCommand::Ask(is_asked));
        }
    }

    /// Reports an event of the group.
    pub(crate) fn hear(&mut self, event: &GroupEvent) {
        match event {
            GroupEvent::Joined(me) => self.table.join(me.node),
            GroupEvent::Lost(_) => self.table.leave(),
            GroupEvent::Changed(change) => self.table.changed(change),
            GroupEvent::Quorum { nodes, .. } => self.table.votes(nodes),
            GroupEvent::Configured(_) | GroupEvent::Message { .. } | GroupEvent::Unsent(_) => return,
        }
        self.publish();
    }

    /// Takes the hosts that were fenced since they were last up, and are lost.
    pub(crate) fn take_fenced(&mut self, now: Instant) -> Vec<NodeId> {
        for fence in self.news.try_iter().filter(|_| self.is_asked) {
            self.table.fenced(fence);
        }
        self.table.take_fenced(now)
    }

    /// Returns true if the fencer answers, so that the next fence will be known.
    pub(crate) fn answers(&self) -> bool {
        self.is_asked && matches!(*lock(&self.state), FencerState::Connected(_))
    }

    /// State of the fencer, for the status report; none if it is not asked.
    pub(crate) fn state(&self) -> Option<FencerState> {
        self.is_asked.then(|| lock(&self.state).clone())
    }

    fn publish(&self) {
        if lock(&self.hosts).put(self.table.stays()) {
            // Without the thread there is no news.
            let _ = self.commands.post(FencerCommand::HostsChanged);
        }
    }
}
