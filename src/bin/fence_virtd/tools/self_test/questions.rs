//! Questions to one listener, and the findings about its answers.

use std::time::Duration;

use crate::tools::finding::Finding;
use fence_virt::client::{LocalDaemon, failure};
use fence_virt::fence::{Answer, ListenerName, Operation, Target, Verdict, counted};
use fence_virt::time::{Instant, millis};

/// Result of the test of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TestOutcome {
    /// It answered, and the answers are no failures.
    Passed,
    /// It did not answer, or answered a failure.
    Failed,
    /// It cannot be asked from this host.
    NotTried,
    /// It could not be asked, for a reason to correct.
    Prevented,
}

/// Answer, or the reason why there is none, and the time that it took.
pub(super) struct TimedReply {
    pub(super) reply: Result<Answer, String>,
    pub(super) took: Duration,
}

impl TimedReply {
    pub(super) fn ask(
        daemon: &LocalDaemon,
        operation: Operation,
        target: &Target,
        limit: Duration,
    ) -> TimedReply {
        let begin = Instant::now();
        let reply = daemon.ask(operation, target, limit);
        TimedReply { reply, took: begin.elapsed() }
    }

    pub(super) fn after(&self) -> String {
        format!("after {} ms", millis(self.took))
    }
}

/// Listener under test.
pub(super) struct ListenerTest {
    pub(super) name: ListenerName,
    pub(super) daemon: LocalDaemon,
    /// The configuration has groups, which may hide all VMs from this host.
    pub(super) has_groups: bool,
    /// Time limit of each question.
    pub(super) limit: Duration,
    /// Path of the configuration, for remedies.
    pub(super) config: String,
    /// Remedy for a question without an answer.
    pub(super) unanswered: String,
}

impl ListenerTest {
    /// Asks for monitor, and if that is answered, for the list.
    pub(super) fn run(&self) -> (Vec<Finding>, TestOutcome) {
        let none = Target::default();
        let monitor = TimedReply::ask(&self.daemon, Operation::Devstatus, &none, self.limit);
        let mut findings = vec![self.judge_monitor(&monitor)];
        if monitor.reply.is_err() {
            findings.push(Finding::remark(&self.name, "list: not tried, since monitor was not answered"));
            return (findings, TestOutcome::Failed);
        }
        let list = TimedReply::ask(&self.daemon, Operation::HostList, &none, self.limit);
        findings.push(self.judge_list(&list));
        let is_failure = findings.iter().any(Finding::is_error);
        (findings, if is_failure { TestOutcome::Failed } else { TestOutcome::Passed })
    }

    fn judge_monitor(&self, monitor: &TimedReply) -> Finding {
        match &monitor.reply {
            Ok(Answer::Verdict(Verdict::Success)) => Finding::ok(
                &self.name,
                format!("monitor: success {} ({})", monitor.after(), self.daemon.route),
            ),
            _ => self.failed(Operation::Devstatus, &Target::default(), monitor),
        }
    }

    fn judge_list(&self, list: &TimedReply) -> Finding {
        let after = list.after();
        let hides = match &list.reply {
            Ok(Answer::HostList(vms)) => vms.is_empty() && self.has_groups,
            Ok(Answer::Verdict(verdict)) => *verdict == Verdict::Denied,
            Err(_) => false,
        };
        if hides {
            let what = format!("list: no VM {after}: no group permits this host a VM");
            let remedy = "none needed if the groups name guests alone: the requester is this host";
            return Finding::note(&self.name, what, remedy);
        }
        match &list.reply {
            Ok(Answer::HostList(vms)) => {
                Finding::ok(&self.name, format!("list: {} {after}", counted(vms.len(), "VM")))
            }
            _ => self.failed(Operation::HostList, &Target::default(), list),
        }
    }

    /// Returns a finding about a reply other than the wanted one.
    pub(super) fn failed(&self, operation: Operation, target: &Target, reply: &TimedReply) -> Finding {
        let what = failure(operation, target, &reply.reply);
        let remedy = match &reply.reply {
            Ok(_) => format!("`fence_virtd --doctor -f {}` checks the backend", self.config),
            Err(_) => self.unanswered.clone(),
        };
        Finding::error(&self.name, what, remedy)
    }

    /// Remedy where groups deny an operation on a VM.
    pub(super) fn permission(&self, target: &Target, operation: Operation) -> String {
        format!(
            "fence it from a guest; or `fence_virtd --explain ADDRESS {} --operation {operation} -f {}` names the line \
             that permits it to this host: the daemon's log names the address",
            target.as_str(),
            self.config
        )
    }
}
