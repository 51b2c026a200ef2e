use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::run::{ChildRun, RunEnd, RunOrder, RunOutcome};
use crate::threads::join_by;
use fence_virt::sys::child::{ChildProcess, ChildUser};
use fence_virt::sys::error_text;
use fence_virt::sys::mailbox::{Mailbox, MailboxSender, mailbox};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::time::Instant;

/// Maximum of children that have survived SIGKILL. No further ones are started.
const LEFT_MAX: usize = 64;

/// Message to the thread.
enum ChildOrder {
    Follow(RunOrder),
    /// Ends all children, and then the thread.
    Stop,
}

/// Time for the end of all children. They get SIGTERM and, if they are stubborn, SIGKILL within it.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The thread. If it is dropped, all children are ended.
pub(crate) struct Children {
    runner: ChildRunner,
    thread: Option<JoinHandle<()>>,
}

/// Starts children, and awaits their ends; clones share the thread.
#[derive(Clone)]
pub(crate) struct ChildRunner {
    orders: MailboxSender<ChildOrder>,
    /// Number of children that have survived SIGKILL.
    left: Arc<AtomicUsize>,
}

impl Children {
    /// Starts the thread.
    /// Errors: if the system has no thread or descriptor left.
    pub(crate) fn start() -> Result<Children, String> {
        let (orders, mailbox) =
            mailbox().map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        let left = Arc::new(AtomicUsize::new(0));
        let runner = ChildRunner { orders, left: left.clone() };
        let thread = std::thread::Builder::new()
            .name("children".into())
            .spawn(move || follow(&mailbox, &left))
            .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        Ok(Children { runner, thread: Some(thread) })
    }

    pub(crate) fn runner(&self) -> ChildRunner {
        self.runner.clone()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let thread = self.thread.take().filter(|_| self.runner.orders.post(ChildOrder::Stop).is_ok());
        if thread.is_some_and(|thread| !join_by(thread, Instant::now() + STOP_LIMIT)) {
            log::warn!("a fence agent has survived SIGKILL: ending without it");
        }
    }
}

impl ChildRunner {
    /// Runs a program without arguments, with this text on its stdin, and waits for its end; `limit` is its time.
    /// Errors: a sentence, if it cannot be started.
    pub(crate) fn run(
        &self,
        program: &Path,
        user: Option<ChildUser>,
        input: String,
        limit: Duration,
    ) -> Result<RunOutcome, String> {
        if self.left.load(Ordering::Relaxed) >= LEFT_MAX {
            return Err(format!("{LEFT_MAX} fence agents have survived SIGKILL: not started"));
        }
        let deadline = Instant::now() + limit;
        let process = ChildProcess::start(program, user)
            .map_err(|error| format!("cannot start {}: {}", program.display(), error_text(&error)))?;
        let (reply, outcome) = bounded(1);
        let order = RunOrder { process, input, deadline, reply };
        // An order that the thread does not take is dropped, and the child killed: the daemon stops.
        drop(self.orders.post(ChildOrder::Follow(order)));
        let stopped = |_| RunOutcome { end: RunEnd::Stopped, stdout: Vec::new(), stderr: Vec::new() };
        Ok(outcome.recv().unwrap_or_else(stopped))
    }
}

fn follow(mailbox: &Mailbox<ChildOrder>, left: &AtomicUsize) {
    let mut runs: Vec<ChildRun> = Vec::new();
    let mut stops = false;
    while !stops || runs.iter().any(ChildRun::is_awaited) {
        let mut set = PollSet::new();
        let orders = set.add(std::os::fd::AsFd::as_fd(mailbox), Interest::Read);
        let slots: Vec<_> = runs.iter().map(|run| run.poll(&mut set)).collect();
        let due = runs.iter().filter_map(ChildRun::deadline).min();
        if let Err(error) = set.wait(due.map(Instant::remaining)) {
            log::error!("cannot wait for fence agents: {}", error_text(&error));
            return;
        }
        let has_orders = set.ready(orders).any();
        let ready: Vec<_> = slots.into_iter().map(|slots| slots.ready(&set)).collect();
        drop(set);
        let now = Instant::now();
        let mut ready = ready.into_iter();
        runs.retain_mut(|run| !ready.next().is_some_and(|ready| run.turn(ready, now)));
        if has_orders {
            for message in mailbox.take() {
                match message {
                    ChildOrder::Follow(order) => runs.push(ChildRun::new(order)),
                    ChildOrder::Stop => stops = true,
                }
            }
        }
        if stops {
            runs.iter_mut().for_each(|run| run.stop(now));
        }
        left.store(runs.iter().filter(|run| !run.is_awaited()).count(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
