//! The program: its output and its exit code.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::fencing::fence;
use super::plan::plan;
use super::questions::{ListenerTest, TestOutcome};
use super::summary::TestSummary;
use crate::config_file;
use crate::console::{complain, warn_on_stderr};
use crate::status::{Form, Query};
use crate::tools::finding::Finding;
use crate::tools::status_client::{self, DaemonReport, NoReport};
use fence_virt::config::{Config, NamedListener};
use fence_virt::fence::Target;

/// Time limit of a question; with fence agents, whose calls take longer; and where nobody listens at the status
/// socket: no daemon may be running.
const LIMIT: Duration = Duration::from_secs(10);
const LIMIT_WITH_AGENTS: Duration = Duration::from_secs(25);
const LIMIT_WITHOUT_DAEMON: Duration = Duration::from_secs(3);

/// Exit code of a test that could not be made.
const NOT_TRIED: u8 = 2;

/// VM to reboot, and leave to do so without a question.
#[derive(Debug)]
pub(crate) struct RebootRequest {
    target: Target,
    is_confirmed: bool,
}

impl RebootRequest {
    /// Errors: a sentence: no VM has such a name, or nobody can be asked.
    fn new(vm: &str, is_confirmed: bool) -> Result<RebootRequest, String> {
        let target = Target::new(vm.as_bytes()).map_err(|error| error.to_string())?;
        if vm.is_empty() {
            return Err("--fence needs the name of a VM".to_owned());
        }
        let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
        if !is_confirmed && !can_ask {
            return Err(format!(
                "--fence reboots {vm:?}, and there is no terminal for the question: nothing was tried; --yes answers it"
            ));
        }
        Ok(RebootRequest { target, is_confirmed })
    }
}

/// Asks with this key, or with the shared ones of the configuration. Prints the answers of all listeners, the reboot, and the counts. Exit code 0: each listener that can be asked from
/// this host answered, and the reboot was verified; 1: one did not, or the reboot failed; 2: nothing could be tried,
/// or no reboot.
pub(crate) fn run(path: &Path, key: Option<&Path>, vm: Option<&str>, is_confirmed: bool) -> ExitCode {
    let request = vm.map(|vm| RebootRequest::new(vm, is_confirmed)).transpose();
    let loaded = request.and_then(|request| Ok((config_file::load(path, false, &warn_on_stderr)?, request)));
    let (config, request) = match loaded {
        Ok(loaded) => loaded,
        Err(reason) => {
            complain(&format!("fence_virtd: {reason}\n"));
            return ExitCode::from(NOT_TRIED);
        }
    };
    match test(path, (&config, key), request.as_ref(), &mut io::stdout()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("fence_virtd: cannot print the answers: {error}\n"));
            ExitCode::from(NOT_TRIED)
        }
    }
}

fn test(
    path: &Path,
    (config, key): (&Config, Option<&Path>),
    request: Option<&RebootRequest>,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let status = status_client::ask(path, &Query::Status(Form::Text));
    let has_daemon = status.as_ref().err().is_none_or(|none| none.has_daemon);
    let limit = match has_daemon {
        false => LIMIT_WITHOUT_DAEMON,
        true if config.backend.agents().is_empty() => LIMIT,
        true => LIMIT_WITH_AGENTS,
    };
    let unanswered = unanswered(path, has_daemon);
    let held = status.as_ref().ok().and_then(|report| judge_holds(path, &report.text));
    print(out, &std::iter::once(judge_status(path, &status)).chain(held).collect::<Vec<_>>())?;
    if status.is_err() && has_daemon && request.is_some() {
        writeln!(out, "nothing was tried: it is not known which daemon would carry out the reboot")?;
        return Ok(NOT_TRIED);
    }
    let test = |listener: &NamedListener| {
        let daemon = plan(listener, key)?;
        let has_groups = !config.groups.is_empty();
        Ok(ListenerTest {
            name: listener.name.clone(),
            daemon,
            has_groups,
            limit,
            config: path.display().to_string(),
            unanswered: unanswered.clone(),
        })
    };
    let tests: Vec<Result<ListenerTest, Finding>> = config.listeners.iter().map(test).collect();
    let outcomes = ask_all(&tests, out)?;
    let answered = tests.into_iter().zip(&outcomes).filter(|(_, outcome)| **outcome == TestOutcome::Passed);
    let passed: Vec<ListenerTest> = answered.filter_map(|(test, _)| test.ok()).collect();
    let reboot =
        request.map(|request| fence(&passed, &request.target, request.is_confirmed, out)).transpose()?;
    let summary = TestSummary { outcomes, reboot, has_daemon };
    writeln!(out, "{summary}")?;
    out.flush()?;
    Ok(summary.exit_code())
}

/// Remedy for a question without an answer.
fn unanswered(path: &Path, has_daemon: bool) -> String {
    let path = path.display();
    match has_daemon {
        true => format!(
            "if the daemon's log says that it refused the request (`journalctl -u fence_virtd`), it runs with another \
             key, hash or auth than {path}: reload it; otherwise `fence_virtd --doctor -f {path}` checks this listener"
        ),
        false => "start the daemon: `systemctl start fence_virtd`".to_owned(),
    }
}

fn print(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    out.write_all(findings.iter().map(Finding::render).collect::<String>().as_bytes())?;
    out.flush()
}

/// Finding about the daemon's status, or about the reason why there is none.
fn judge_status(path: &Path, status: &Result<DaemonReport, NoReport>) -> Finding {
    const ABOUT: &str = "daemon";
    match status {
        Ok(DaemonReport { text, is_well: true }) => {
            Finding::ok(ABOUT, text.lines().next().unwrap_or_default())
        }
        Ok(DaemonReport { text, .. }) => {
            let first = text.lines().next().unwrap_or_default();
            Finding::warning(
                ABOUT,
                format!("{first}; it reports problems"),
                format!("`fence_virtd --status -f {}` names them", path.display()),
            )
        }
        Err(NoReport { reason, .. }) => {
            let remedy =
                "start the daemon (`systemctl start fence_virtd`), or give its configuration with -f";
            Finding::warning(ABOUT, reason, remedy)
        }
    }
}

/// Finding about the holds that a status names in its warning: a reboot of a held VM fails.
fn judge_holds(path: &Path, text: &str) -> Option<Finding> {
    let mut warnings = text.lines().filter_map(|line| line.strip_prefix("warning"));
    let holds =
        warnings.find_map(|line| Some(line.trim_start()).filter(|line| line.starts_with("holds (")))?;
    let remedy = format!("`fence_virtd --status -f {}` shows each with its reason", path.display());
    Some(Finding::warning("daemon", holds, remedy))
}

/// Asks all listeners at the same time, and prints the findings in the order of the configuration.
fn ask_all(tests: &[Result<ListenerTest, Finding>], out: &mut dyn Write) -> io::Result<Vec<TestOutcome>> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            tests.iter().map(|test| test.as_ref().map(|test| scope.spawn(|| test.run()))).collect();
        threads
            .into_iter()
            .map(|thread| {
                let (findings, outcome) = match thread {
                    Ok(thread) => thread.join().map_err(|_| io::Error::other("a thread panicked"))?,
                    Err(finding) if finding.is_error() => (vec![finding.clone()], TestOutcome::Prevented),
                    Err(finding) => (vec![finding.clone()], TestOutcome::NotTried),
                };
                print(out, &findings)?;
                Ok(outcome)
            })
            .collect()
    })
}
