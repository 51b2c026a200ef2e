//! The worker's end of the cpg thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use super::shared::{
    CpgCommand, GroupEvent, JoinGeneration, Outbound, ThreadProgress, UNSENT_MAX, now_millis,
};
use crate::pauses::PAUSE_MAX;
use fence_virt::routing::Outgoing;
use fence_virt::sys::mailbox::MailboxSender;
use fence_virt::time::millis;

/// Time without a turn of the thread after which corosync counts as not answering.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// The worker's end.
#[derive(Debug)]
pub(super) struct GroupLink {
    pub(super) commands: MailboxSender<CpgCommand>,
    pub(super) events: Receiver<Vec<GroupEvent>>,
    pub(super) progress: Arc<ThreadProgress>,
    /// Generation that the worker has received.
    pub(super) generation: JoinGeneration,
}

impl GroupLink {
    /// Returns the next batch of events; empty if there is none.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub(super) fn fetch(&mut self) -> Result<Vec<GroupEvent>, String> {
        match self.events.try_recv() {
            Ok(batch) => {
                let joins = batch.iter().filter(|event| matches!(event, GroupEvent::Joined(_)));
                self.generation.0 += joins.count() as u64;
                Ok(batch)
            }
            Err(TryRecvError::Empty) => Ok(Vec::new()),
            Err(TryRecvError::Disconnected) => Err("the cpg thread has ended".to_owned()),
        }
    }

    /// True if there are events to fetch.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// True if the group may have delivered events that were not fetched yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.events.is_empty() || self.has_paused()
    }

    /// True if nothing was read of the group for a while: the thread, or this host, stood still.
    pub(super) fn has_paused(&self) -> bool {
        let pause = now_millis().saturating_sub(self.progress.caught_up.load(Ordering::Acquire));
        pause > millis(PAUSE_MAX)
    }

    /// True if another message can be taken. If not, an event announces room.
    pub(super) fn has_room(&self) -> bool {
        self.progress.unsent.load(Ordering::Acquire) < UNSENT_MAX
    }

    /// Sends a message.
    pub(super) fn send(&self, message: Outgoing) {
        self.progress.unsent.fetch_add(1, Ordering::AcqRel);
        // The next fetch reports a thread that has ended.
        let _ = self.commands.post(CpgCommand::Send(Outbound { message, generation: self.generation }));
    }

    /// True if corosync does not answer: the thread hangs in a call.
    pub(super) fn is_unresponsive(&self) -> bool {
        now_millis().saturating_sub(self.progress.turned.load(Ordering::Acquire)) > millis(SILENCE_MAX)
    }
}
