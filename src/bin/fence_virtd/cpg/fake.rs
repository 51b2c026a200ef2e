//! A group without a thread: what the worker hears is what a test says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Sender, bounded};

use super::link::GroupLink;
use super::shared::{CpgCommand, GroupEvent, JoinGeneration, ThreadProgress, now_millis};
use fence_virt::sys::mailbox::{Mailbox, mailbox};
use fence_virt::wire::cluster::ClusterMessage;

/// The thread's end.
pub(super) struct FakeGroup {
    commands: Mailbox<CpgCommand>,
    events: Sender<Vec<GroupEvent>>,
    progress: Arc<ThreadProgress>,
}

impl FakeGroup {
    pub(super) fn new() -> (FakeGroup, GroupLink) {
        let (address, commands) = mailbox().unwrap();
        let (sender, events) = bounded(64);
        let progress = Arc::new(ThreadProgress::default());
        let link = GroupLink {
            commands: address,
            events,
            progress: progress.clone(),
            generation: JoinGeneration::default(),
        };
        (FakeGroup { commands, events: sender, progress }, link)
    }

    /// The worker hears this, and that it was all.
    pub(super) fn tell(&self, events: Vec<GroupEvent>) {
        self.events.send(events).unwrap();
        self.turns();
    }

    /// It has turned, and heard all that there was.
    pub(super) fn turns(&self) {
        self.progress.turned.store(now_millis(), Ordering::Release);
        self.progress.caught_up.store(now_millis(), Ordering::Release);
    }

    /// Since so many milliseconds it hangs.
    pub(super) fn hangs(&self, millis: u64) {
        self.progress.turned.store(now_millis().saturating_sub(millis), Ordering::Release);
        self.progress.caught_up.store(now_millis().saturating_sub(millis), Ordering::Release);
    }

    /// What the worker has sent since.
    pub(super) fn sent(&self) -> Vec<ClusterMessage> {
        let commands = self.commands.take().collect::<Vec<_>>();
        self.progress.unsent.store(0, Ordering::Release);
        let message = |command| match command {
            CpgCommand::Send(outbound) => ClusterMessage::decode(&outbound.message.bytes).unwrap(),
            CpgCommand::Stop => panic!("the worker does not stop it"),
        };
        commands.into_iter().map(message).collect()
    }
}
