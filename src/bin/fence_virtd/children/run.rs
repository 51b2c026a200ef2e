use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use crossbeam_channel::Sender;
use nix::sys::signal::Signal;

use fence_virt::sys::child::{ChildEnd, ChildProcess};
use fence_virt::sys::poll::{Interest, PollSet, Slot};
use fence_virt::time::Instant;

/// Maximum of what a child may print on stdout, in bytes. One that prints more is killed.
const STDOUT_MAX: usize = 1 << 20;
/// Maximum of what is kept of its stderr, in bytes. The rest is read and dropped, with the line that it cuts: part of a
/// secret is not known for one.
const STDERR_MAX: usize = 16 << 10;
/// Time between SIGTERM and SIGKILL for a child that is late.
const GRACE: Duration = Duration::from_secs(2);
/// The same once the daemon stops.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Time after SIGKILL at which a child that has not ended is no longer waited for: it is reaped later.
const DYING: Duration = Duration::from_secs(2);
/// Maximum of bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Order to follow a child.
pub(crate) struct RunOrder {
    pub(crate) process: ChildProcess,
    /// Text for its stdin.
    pub(crate) input: String,
    pub(crate) deadline: Instant,
    pub(crate) reply: Sender<RunOutcome>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// Exit code.
    Exited(i32),
    /// Signal that somebody else killed it with.
    Killed(i32),
    /// It was killed at its deadline.
    Late,
    /// It was killed, since it printed more than a megabyte.
    Flood,
    /// The daemon stops.
    Stopped,
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunEnd::Exited(code) => write!(f, "exit code {code}"),
            RunEnd::Killed(signal) => write!(f, "killed by signal {signal}"),
            RunEnd::Late => f.write_str("no end in time"),
            RunEnd::Flood => f.write_str("it printed more than a megabyte"),
            RunEnd::Stopped => f.write_str("the daemon stops"),
        }
    }
}

/// What a child has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunOutcome {
    pub(crate) end: RunEnd,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Child that runs.
pub(super) struct ChildRun {
    process: ChildProcess,
    stdin: Option<(ChildStdin, Vec<u8>)>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    is_stderr_cut: bool,
    outcome: RunOutcome,
    /// Reason for which it is being killed.
    ending: Option<RunEnd>,
    /// Time of the next signal, or of the end of the wait.
    due: Instant,
    stage: RunStage,
    reply: Option<Sender<RunOutcome>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunStage {
    Runs,
    Terminated,
    Killed,
    /// Nobody waits for it any more.
    Left,
}

/// Slots of a child in a set of descriptors.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunSlots {
    stdin: Option<Slot>,
    stdout: Option<Slot>,
    stderr: Option<Slot>,
    end: Slot,
}

impl ChildRun {
    pub(super) fn new(order: RunOrder) -> ChildRun {
        let RunOrder { mut process, input, deadline, reply } = order;
        let (stdin, stdout, stderr) = process.take_pipes();
        ChildRun {
            process,
            stdin: stdin.map(|stdin| (stdin, input.into_bytes())),
            stdout,
            stderr,
            is_stderr_cut: false,
            outcome: RunOutcome { end: RunEnd::Late, stdout: Vec::new(), stderr: Vec::new() },
            ending: None,
            due: deadline,
            stage: RunStage::Runs,
            reply: Some(reply),
        }
    }

    /// Adds what the child waits for to a set.
    pub(super) fn poll<'fd>(&'fd self, set: &mut PollSet<'fd>) -> RunSlots {
        RunSlots {
            stdin: self.stdin.as_ref().map(|(stdin, _)| set.add(stdin.as_fd(), Interest::Write)),
            stdout: self.stdout.as_ref().map(|stdout| set.add(stdout.as_fd(), Interest::Read)),
            stderr: self.stderr.as_ref().map(|stderr| set.add(stderr.as_fd(), Interest::Read)),
            end: set.add(self.process.pidfd(), Interest::Read),
        }
    }

    /// Time at which something is due; none once nobody waits for it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.stage != RunStage::Left).then_some(self.due)
    }

    /// True if somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.stage != RunStage::Left
    }

    /// Feeds the child, reads what it has printed, and sends the signals that are due. Returns true once it is reaped.
    pub(super) fn turn(&mut self, ready: RunReadiness, now: Instant) -> bool {
        if ready.stdin {
            self.feed();
        }
        if ready.stdout || ready.end {
            self.read_stdout(now);
        }
        if ready.stderr || ready.end {
            self.read_stderr();
        }
        if ready.end && self.reap() {
            return true;
        }
        if self.stage == RunStage::Runs && now >= self.due {
            self.end(RunEnd::Late, now);
        } else if self.stage != RunStage::Left && now >= self.due {
            self.next_stage(now);
        }
        false
    }

    /// Ends the child for this reason.
    pub(super) fn end(&mut self, reason: RunEnd, now: Instant) {
        if self.stage == RunStage::Runs {
            self.ending = Some(reason);
            self.next_stage(now);
        }
    }

    /// Ends the child soon: the daemon stops.
    pub(super) fn stop(&mut self, now: Instant) {
        self.end(RunEnd::Stopped, now);
        self.due = self.due.min(now + STOP_GRACE);
    }

    fn next_stage(&mut self, now: Instant) {
        let (stage, signal, wait) = match self.stage {
            RunStage::Runs => (RunStage::Terminated, Signal::SIGTERM, GRACE),
            RunStage::Terminated => (RunStage::Killed, Signal::SIGKILL, DYING),
            RunStage::Killed | RunStage::Left => {
                if self.stage == RunStage::Killed {
                    log::warn!("a fence agent has not ended {} s after SIGKILL", DYING.as_secs());
                }
                self.stage = RunStage::Left;
                self.answer(RunEnd::Late);
                return;
            }
        };
        self.process.signal_group(signal);
        (self.stage, self.due) = (stage, now + wait);
    }

    fn feed(&mut self) {
        let Some((stdin, input)) = &mut self.stdin else { return };
        match stdin.write(input) {
            Ok(count) => drop(input.drain(..count)),
            Err(error) if is_passing(&error) => {}
            // It has closed its stdin, and reads no more.
            Err(_) => input.clear(),
        }
        if input.is_empty() {
            self.stdin = None;
        }
    }

    fn read_stdout(&mut self, now: Instant) {
        let Some(stdout) = &mut self.stdout else { return };
        let room = STDOUT_MAX + 1 - self.outcome.stdout.len().min(STDOUT_MAX);
        if read_some(stdout, &mut self.outcome.stdout, room) {
            self.stdout = None;
        }
        if self.outcome.stdout.len() > STDOUT_MAX {
            // The pipe fills, and closes with the child.
            self.stdout = None;
            self.end(RunEnd::Flood, now);
        }
    }

    fn read_stderr(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut text = Vec::new();
        if read_some(stderr, &mut text, CHUNK) {
            self.stderr = None;
        }
        if self.is_stderr_cut {
            return;
        }
        let kept = &mut self.outcome.stderr;
        kept.append(&mut text);
        if kept.len() > STDERR_MAX {
            kept.truncate(STDERR_MAX);
            kept.truncate(kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
            self.is_stderr_cut = true;
        }
    }

    fn reap(&mut self) -> bool {
        let end = match self.process.reap() {
            Ok(Some(end)) => end,
            Ok(None) => return false,
            Err(error) => {
                log::error!("cannot wait for a fence agent: {error}");
                return true;
            }
        };
        self.answer(match end {
            ChildEnd::Exited(code) => RunEnd::Exited(code),
            ChildEnd::Killed(signal) => RunEnd::Killed(signal),
        });
        true
    }

    fn answer(&mut self, end: RunEnd) {
        if let Some(reply) = self.reply.take() {
            let end = self.ending.unwrap_or(end);
            let outcome = RunOutcome { end, ..std::mem::replace(&mut self.outcome, empty()) };
            // Whoever asked may have given up.
            let _ = reply.send(outcome);
        }
    }
}

fn empty() -> RunOutcome {
    RunOutcome { end: RunEnd::Late, stdout: Vec::new(), stderr: Vec::new() }
}

/// What a child is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunReadiness {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    end: bool,
}

impl RunSlots {
    pub(super) fn ready(self, set: &PollSet<'_>) -> RunReadiness {
        let is_ready = |slot: Option<Slot>| slot.is_some_and(|slot| set.ready(slot).any());
        RunReadiness {
            stdin: is_ready(self.stdin),
            stdout: is_ready(self.stdout),
            stderr: is_ready(self.stderr),
            end: is_ready(Some(self.end)),
        }
    }
}

/// Reads what is there, up to `max` bytes; returns true at the end of the file.
fn read_some(source: &mut impl Read, into: &mut Vec<u8>, max: usize) -> bool {
    let before = into.len();
    let mut chunk = [0; 4096];
    while into.len() - before < max {
        let room = chunk.len().min(max - (into.len() - before));
        match source.read(&mut chunk[..room]) {
            Ok(0) => return true,
            Ok(count) => into.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return !is_passing(&error),
        }
    }
    false
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
