//! Start and end of the fencer's thread.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use log::warn;

use super::fencer::FencerConnector;
use super::ledger::SETTLE_TIME;
use super::link::FencingLink;
use super::shared::{FencerCommand, SharedHosts};
use super::stays::StayTable;
use super::thread::FencerThread;
use crate::inbox::Message;
use crate::status::FencerState;
use crate::threads::join_by;
use fence_virt::sys::error_text;
use fence_virt::sys::mailbox::{MailboxSender, mailbox};
use fence_virt::time::Instant;

/// Stack size of the thread, in bytes: libqb needs more than threads have.
const STACK_SIZE: usize = 4 << 20;
/// Capacity of the channel to the worker.
const NEWS_MAX: usize = 64;
/// Time limit for the end of the thread, which is in no call unless something has happened.
const CLOSING: Duration = Duration::from_millis(200);

/// The thread, as the main thread holds it.
pub(crate) struct FencerThreadHandle {
    commands: MailboxSender<FencerCommand>,
    thread: JoinHandle<()>,
}

impl FencerThreadHandle {
    /// Tells the thread to end.
    pub(crate) fn begin_stop(&self) {
        // It may have ended.
        let _ = self.commands.post(FencerCommand::Stop);
    }

    /// Waits for the end, which takes a moment. A thread that hangs in the fencer is left behind.
    pub(crate) fn join(self) {
        if !join_by(self.thread, Instant::now() + CLOSING) {
            warn!("cpg: pacemaker's fencer does not answer: ending without it");
        }
    }
}

/// A thread that was just spawned.
pub(crate) struct SpawnedFencer {
    pub(crate) handle: FencerThreadHandle,
    pub(crate) link: FencingLink,
}

/// Spawns the thread, which asks the fencer once the link has a source that is the fencer.
///
/// # Errors
///
/// If the system has no thread or descriptor left.
pub(crate) fn spawn(
    connector: impl FencerConnector,
    worker: &Sender<Message>,
) -> Result<SpawnedFencer, String> {
    spawn_settling(connector, worker, SETTLE_TIME)
}

fn spawn_settling(
    connector: impl FencerConnector,
    worker: &Sender<Message>,
    settle_time: Duration,
) -> Result<SpawnedFencer, String> {
    let (commands, inbox) =
        mailbox().map_err(|error| format!("cannot create a mailbox: {}", error_text(&error)))?;
    let (news_sender, news) = bounded(NEWS_MAX);
    let (hosts, state): (Arc<Mutex<SharedHosts>>, Arc<Mutex<FencerState>>) = Default::default();
    let mut fencer = FencerThread {
        inbox,
        worker: worker.clone(),
        news: news_sender,
        hosts: hosts.clone(),
        state: state.clone(),
        settle_time,
        undelivered: Vec::new(),
        is_asking: false,
        is_stopped: false,
    };
    let thread = thread::Builder::new()
        .name("fencer".into())
        .stack_size(STACK_SIZE)
        .spawn(move || fencer.run(&connector))
        .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    let (table, of_link) = (StayTable::default(), commands.clone());
    let link = FencingLink { commands: of_link, news, hosts, state, table, is_asked: false };
    Ok(SpawnedFencer { handle: FencerThreadHandle { commands, thread }, link })
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
