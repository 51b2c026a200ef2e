//! Output, exit code and syslog message of an outcome.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::action::AgentAction;
use super::settings::Settings;
use super::stderr_log::StderrLog;
use crate::fence::{Answer, HostEntry, Operation, PowerState, Verdict, column, printable};
use crate::sys::error_text;
use crate::sys::syslog::{self, Priority};
use crate::sys::with_timeout::with_timeout;
use crate::time::Instant;

/// Timeout for a line to syslog, which must not delay the exit.
const SYSLOG_LIMIT: Duration = Duration::from_millis(200);

/// Place of the reason for a failure, which the wire does not carry.
const SEE_LOG: &str = "the daemon's log on the host says why (journalctl -u fence_virtd)";

/// Remedy for a name that no host lists.
const NAMES: &str = "-o list shows the names; pcmk_host_map tells pacemaker which VM each node is";

/// Minimum timeout for output.
const OUTPUT_LEAST: Duration = Duration::from_secs(1);

/// Outcome of a request.
#[derive(Debug)]
pub(super) enum AgentOutcome {
    /// The daemon answered.
    Answered(Answer),
    /// A daemon answered this, and none of the hosts (if there is one way to one host: empty) lists the VM.
    Unlisted(Verdict, Vec<IpAddr>),
    /// A daemon answered this, and this is known about other hosts.
    Remarked(Verdict, String),
    /// The list is empty, and the host has groups.
    HiddenList,
    /// No trustworthy answer, with the reason.
    Unanswered(String),
}

impl fmt::Display for AgentOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentOutcome::Answered(answer) => answer.fmt(f),
            AgentOutcome::Unlisted(verdict, _) => write!(f, "{verdict}; the VM is not listed"),
            AgentOutcome::Remarked(verdict, remark) => write!(f, "{verdict}; {remark}"),
            AgentOutcome::HiddenList => f.write_str("an empty list, of a host with groups"),
            AgentOutcome::Unanswered(reason) => f.write_str(reason),
        }
    }
}

/// Exit code, standard output, and the reason for a failure.
struct ExitReport {
    code: u8,
    output: String,
    reason: Option<String>,
    /// Hint on stderr that does not change the exit code.
    note: Option<String>,
}

/// Prints an outcome and returns its exit code. Waits for a blocked stdout until the deadline.
pub(super) fn emit(
    log: &StderrLog,
    settings: &Settings,
    operation: Operation,
    outcome: &AgentOutcome,
    deadline: Instant,
) -> ExitCode {
    let name = settings.target.as_str();
    let mut report = report(name, operation, outcome);
    let written = write(std::mem::take(&mut report.output), deadline);
    if let (Err(error), Operation::HostList) = (written, operation) {
        report = ExitReport::failure(format!("cannot write the list to stdout: {}", error_text(&error)));
    }
    if let Some(reason) = report.reason.as_ref().or(report.note.as_ref()) {
        log.print(format_args!("{reason}"));
    }
    if operation.names_a_domain() {
        write_syslog(log, operation, name, &report);
    }
    ExitCode::from(report.code)
}

impl ExitReport {
    fn success(output: String) -> ExitReport {
        ExitReport { code: 0, output, reason: None, note: None }
    }

    fn failure(reason: String) -> ExitReport {
        ExitReport { code: 1, output: String::new(), reason: Some(reason), note: None }
    }
}

fn write(output: String, deadline: Instant) -> io::Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    let limit = deadline.saturating_duration_since(Instant::now()).max(OUTPUT_LEAST);
    let written = with_timeout(limit, move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush())
    });
    written?.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// Returns why an answer is a failure, in the words of the agents; none for a success.
#[cfg(feature = "daemon")]
pub(super) fn failure(name: &str, operation: Operation, outcome: &AgentOutcome) -> Option<String> {
    report(name, operation, outcome).reason
}

/// Converts an outcome; the only source of exit code 0.
fn report(name: &str, operation: Operation, outcome: &AgentOutcome) -> ExitReport {
    let what = match operation.names_a_domain() {
        true => format!("{operation} of {name:?}"),
        false => AgentAction::Request(operation).to_string(),
    };
    let failed = |reason: &str| ExitReport::failure(format!("{what} failed: {reason}"));
    let verdict = match outcome {
        AgentOutcome::Unanswered(reason) => return failed(reason),
        AgentOutcome::Unlisted(Verdict::Off, hosts) if operation == Operation::Status => {
            let unlisted = unlisted(hosts);
            let note =
                format!("{what}: {unlisted}, so Status: OFF may only mean that the name is unknown; {NAMES}");
            return ExitReport { note: Some(note), ..off() };
        }
        AgentOutcome::Unlisted(_, hosts) => {
            return failed(&format!("{}; {NAMES}; {SEE_LOG}", unlisted(hosts)));
        }
        AgentOutcome::Remarked(Verdict::Off, remark) if operation == Operation::Status => {
            return ExitReport {
                note: Some(format!("{what}: the host that answered says off; {remark}")),
                ..off()
            };
        }
        AgentOutcome::Remarked(verdict, remark) => {
            return failed(&format!("the daemon answered {verdict}; {remark}; {SEE_LOG}"));
        }
        AgentOutcome::Answered(Answer::HostList(entries)) => return ExitReport::success(list(entries)),
        AgentOutcome::HiddenList => {
            let note = "the list is empty: the host has groups in its fence_virt.conf, and a list shows only VMs that \
                        one of them lets this requester list; the host's log names the requester";
            return ExitReport { note: Some(note.to_owned()), ..ExitReport::success(String::new()) };
        }
        AgentOutcome::Answered(Answer::Verdict(verdict)) => verdict,
    };
    match (verdict, operation) {
        (Verdict::Success, Operation::Status) => ExitReport::success("Status: ON\n".to_owned()),
        (Verdict::Off, Operation::Status) => off(),
        (Verdict::Success, Operation::Off | Operation::On | Operation::Reboot | Operation::Devstatus) => {
            ExitReport::success(String::new())
        }
        (Verdict::Denied, _) => {
            let code = if operation.names_a_domain() { 3 } else { 1 };
            let reason = "permission denied: no group in the host's fence_virt.conf has both this requester and the \
                          VM; -o list shows the VMs that it may fence, and the host's log names the requester";
            ExitReport { code, ..failed(reason) }
        }
        (Verdict::Failure, Operation::Null) => failed("the daemon answers, and null is always a failure"),
        (Verdict::Failure, Operation::Devstatus) => {
            failed(&format!("the daemon answers, but cannot reach a hypervisor; {SEE_LOG}"))
        }
        (Verdict::Failure, _) => failed(&format!("the daemon answered failure; {SEE_LOG}")),
        (Verdict::Success | Verdict::Off, _) => {
            failed(&format!("the daemon answered {verdict}, which is not a valid answer"))
        }
    }
}

/// Report of a VM that is off.
fn off() -> ExitReport {
    ExitReport { code: 2, ..ExitReport::success("Status: OFF\n".to_owned()) }
}

/// Tells that no host lists the VM.
fn unlisted(hosts: &[IpAddr]) -> String {
    match hosts {
        [] | [_] => "the host lists no VM with this name or UUID".to_owned(),
        _ => {
            let hosts: Vec<String> = hosts.iter().map(IpAddr::to_string).collect();
            format!("the hosts {} list no VM with this name or UUID", hosts.join(", "))
        }
    }
}

/// Formats one line for each VM: name, UUID, on or off, each one word. Callers split at blanks.
fn list(entries: &[HostEntry]) -> String {
    let line = |entry: &HostEntry| {
        let state = match entry.state {
            PowerState::Running => "on",
            PowerState::Off => "off",
        };
        format!("{:<32} {} {state}\n", column(&entry.name), column(&entry.uuid))
    };
    entries.iter().map(line).collect()
}

/// Writes one line to syslog(3), as the C agent does.
fn write_syslog(log: &StderrLog, operation: Operation, name: &str, report: &ExitReport) {
    let line = match (&report.reason, report.code) {
        (Some(reason), _) => printable(reason),
        (None, 2) => format!("Domain {name:?} is off"),
        (None, _) if operation == Operation::Status => format!("Domain {name:?} is on"),
        (None, _) => format!("{operation} of domain {name:?}: done"),
    };
    let c_name = log.agent.c_name();
    // A blocked syslog is not a failure.
    let _ = with_timeout(SYSLOG_LIMIT, move || {
        syslog::open(c_name);
        syslog::write(Priority::Notice, &line);
    });
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
