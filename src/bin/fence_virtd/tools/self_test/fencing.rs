//! Reboot of one VM, and its verification.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use super::questions::{ListenerTest, TimedReply};
use crate::tools::finding::Finding;
use fence_virt::fence::{Answer, Operation, Target, Verdict};
use fence_virt::time::{Instant, millis};

/// Time limit of a request, and of the start after the reboot: the agents' default.
const LIMIT: Duration = Duration::from_secs(30);

/// Pause between two questions whether the VM is on.
const PAUSE: Duration = Duration::from_millis(250);

/// Maximum length of an answer on the terminal, in bytes.
const ANSWER_MAX: u64 = 1024;

/// Result of the reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RebootOutcome {
    /// The VM was on, was rebooted, and is on.
    Verified,
    /// The reboot failed, or the VM is not on.
    Failed,
    /// Nothing was rebooted.
    NotTried,
}

/// Reboot of a VM through the first listener that permits it.
pub(super) struct TestReboot<'a> {
    pub(super) target: &'a Target,
    /// Sends a request to a listener.
    ask: &'a dyn Fn(&ListenerTest, Operation) -> TimedReply,
    /// Returns true for leave to reboot, given a question.
    confirm: &'a dyn Fn(&str) -> io::Result<bool>,
    /// Time limit of the start.
    start_limit: Duration,
    out: &'a mut dyn Write,
}

/// Reboots a VM through the first of these listeners that permits it. `is_confirmed`: without a question.
/// Errors: those of the output and of the terminal; once the reboot was sent, those of the output alone.
pub(super) fn fence(
    tests: &[ListenerTest],
    target: &Target,
    is_confirmed: bool,
    out: &mut dyn Write,
) -> io::Result<RebootOutcome> {
    TestReboot {
        target,
        ask: &|test, operation| TimedReply::ask(&test.daemon, operation, target, LIMIT),
        confirm: &|question| if is_confirmed { Ok(true) } else { confirm(question) },
        start_limit: LIMIT,
        out,
    }
    .run(tests)
}

/// Asks on the terminal. Anything but yes is no, the end of the input too.
fn confirm(question: &str) -> io::Result<bool> {
    // Standard output may go to a file.
    let mut terminal = io::stderr();
    terminal.write_all(question.as_bytes())?;
    terminal.flush()?;
    let mut answer = Vec::new();
    io::stdin().lock().take(ANSWER_MAX).read_until(b'\n', &mut answer)?;
    let answer = String::from_utf8_lossy(&answer).trim().to_ascii_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}

impl TestReboot<'_> {
    fn print(&mut self, finding: Finding) -> io::Result<()> {
        self.out.write_all(finding.render().as_bytes())?;
        self.out.flush()
    }

    fn run(mut self, tests: &[ListenerTest]) -> io::Result<RebootOutcome> {
        let name = self.target.as_str();
        for test in tests {
            let before = (self.ask)(test, Operation::Status);
            match before.reply {
                Ok(Answer::Verdict(Verdict::Success)) => {
                    let what = format!("status of {name:?} before: on {}", before.after());
                    self.print(Finding::ok(&test.name, what))?;
                    match self.reboot(test)? {
                        Some(outcome) => return Ok(outcome),
                        None => self.print_denial(test, Operation::Reboot)?,
                    }
                }
                Ok(Answer::Verdict(Verdict::Denied)) => self.print_denial(test, Operation::Status)?,
                Ok(Answer::Verdict(Verdict::Off)) => {
                    let what = format!("{name:?} is off, or no VM has this name: nothing was rebooted");
                    let remedy = "name a VM that is on: `fence_virt -o list` in a VM, or the hypervisor's own tools, show them";
                    self.print(Finding::note(&test.name, what, remedy))?;
                    return Ok(RebootOutcome::NotTried);
                }
                _ => return self.failed(test, Operation::Status, &before),
            }
        }
        let what = match tests {
            [] => "no listener passed: nothing was rebooted".to_owned(),
            _ => format!("no listener permits this host to fence {name:?}: nothing was rebooted"),
        };
        self.print(Finding::remark("reboot", what))?;
        Ok(RebootOutcome::NotTried)
    }

    fn failed(
        &mut self,
        test: &ListenerTest,
        operation: Operation,
        reply: &TimedReply,
    ) -> io::Result<RebootOutcome> {
        self.print(test.failed(operation, self.target, reply))?;
        Ok(RebootOutcome::Failed)
    }

    fn print_denial(&mut self, test: &ListenerTest, operation: Operation) -> io::Result<()> {
        let name = self.target.as_str();
        let what = match operation {
            Operation::Status => format!("no group permits this host to fence {name:?}"),
            _ => format!("no group permits this host {operation} of {name:?}"),
        };
        self.print(Finding::note(&test.name, what, test.permission(self.target, operation)))
    }

    /// Reboots the VM, which is on, if that is confirmed. None: the groups deny it.
    fn reboot(&mut self, test: &ListenerTest) -> io::Result<Option<RebootOutcome>> {
        let name = self.target.as_str();
        let question = format!(
            "Reboot {name:?} through {}? It is powered off without a shutdown, and started again. [y/N] ",
            test.name
        );
        if !(self.confirm)(&question)? {
            self.print(Finding::remark(&test.name, format!("nothing was rebooted: {name:?} is on")))?;
            return Ok(Some(RebootOutcome::NotTried));
        }
        let reboot = (self.ask)(test, Operation::Reboot);
        match reboot.reply {
            Ok(Answer::Verdict(Verdict::Success)) => {}
            Ok(Answer::Verdict(Verdict::Denied)) => return Ok(None),
            _ => return self.failed(test, Operation::Reboot, &reboot).map(Some),
        }
        self.print(Finding::ok(&test.name, format!("reboot of {name:?}: success {}", reboot.after())))?;
        self.await_start(test).map(Some)
    }

    /// Waits until the VM is on: a reboot is answered once the VM was seen off, before its start.
    fn await_start(&mut self, test: &ListenerTest) -> io::Result<RebootOutcome> {
        let name = self.target.as_str();
        let begin = Instant::now();
        loop {
            let after = (self.ask)(test, Operation::Status);
            let waited = begin.elapsed();
            match after.reply {
                Ok(Answer::Verdict(Verdict::Success)) => {
                    let what =
                        format!("status of {name:?} after: on, {} ms after the answer", millis(waited));
                    self.print(Finding::ok(&test.name, what))?;
                    return Ok(RebootOutcome::Verified);
                }
                Ok(Answer::Verdict(Verdict::Off)) if waited < self.start_limit => wait(PAUSE),
                Ok(Answer::Verdict(Verdict::Off)) => {
                    let what = format!(
                        "{name:?} is off {} s after the reboot: it has not started",
                        waited.as_secs()
                    );
                    let remedy = "start it with the hypervisor's own tools; the daemon's log says why it did not (`journalctl -u \
                                  fence_virtd`)";
                    self.print(Finding::error(&test.name, what, remedy))?;
                    return Ok(RebootOutcome::Failed);
                }
                _ => return self.failed(test, Operation::Status, &after),
            }
        }
    }
}

/// The daemon sends no event when the VM is on.
#[allow(clippy::disallowed_methods)]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
#[path = "fencing_tests.rs"]
mod tests;
