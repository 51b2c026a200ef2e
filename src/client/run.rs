//! The agents' main function: from arguments to exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::action::AgentAction;
use super::agent::Agent;
use super::args::{self, CommandLine};
use super::raw_options::RawOptions;
use super::report::{self, AgentOutcome};
use super::settings::{self, Settings, is_debug};
use super::stderr_log::StderrLog;
use super::transport::{self, AgentRequest};
use super::{help, metadata, stdin};
use crate::auth::{HashKind, Key};
use crate::fence::{Answer, Operation, Verdict, column};
use crate::key_file;
use crate::session::Policy;
use crate::sys::error_text;
use crate::sys::with_timeout::with_timeout;
use crate::time::Instant;

/// Timeout of the list request after a failure, which shows if the host knows the VM.
const LIST_LIMIT: Duration = Duration::from_secs(3);

/// Runs the agent with the arguments of this process, or with the options on stdin if there are none. Exit
/// code 0: success, or the VM is on; 1: failure; 2: status of a VM that is off; 3: permission denied.
pub fn run() -> ExitCode {
    let mut args = std::env::args_os();
    let agent = Agent::from_path(args.next().as_deref());
    let args: Vec<OsString> = args.collect();
    let quiet = StderrLog { agent, is_debug: false };
    let command = match args.is_empty() {
        false => args::parse(agent, args),
        true => read_stdin(&quiet).map(|(options, warnings)| {
            for warning in warnings {
                quiet.print(format_args!("{warning}"));
            }
            CommandLine::Run(options)
        }),
    };
    let options = match command {
        Ok(CommandLine::Run(options)) => options,
        Ok(CommandLine::KeyFingerprint(options)) => {
            return finished(&quiet, print_fingerprint(&quiet, &options));
        }
        Ok(CommandLine::Help) => return print_stdout(&quiet, &help::text(agent)),
        Ok(CommandLine::Version) => {
            return print_stdout(&quiet, &format!("{} {}\n", agent.name(), env!("CARGO_PKG_VERSION")));
        }
        Err(reason) => {
            quiet.print(format_args!("{reason} (see {} -h)", agent.name()));
            return ExitCode::FAILURE;
        }
    };
    let log = StderrLog { agent, is_debug: is_debug(&options) };
    finished(&log, act(&log, &options))
}

/// Exit code of a run; prints why it failed.
fn finished(log: &StderrLog, result: Result<ExitCode, String>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(reason) => {
            log.print(format_args!("{reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Reads the options on stdin. Says so on a terminal, where nothing else shows that the agent waits.
fn read_stdin(log: &StderrLog) -> Result<(RawOptions, Vec<String>), String> {
    if io::stdin().is_terminal() {
        log.print(format_args!(
            "reading options from standard input, name=value on each line; end with Ctrl-D; see {} -h",
            log.agent.name()
        ));
    }
    stdin::read(log.agent)
}

fn print_stdout(log: &StderrLog, text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.print(format_args!("cannot write to stdout: {}", error_text(&error)));
            ExitCode::FAILURE
        }
    }
}

fn act(log: &StderrLog, options: &RawOptions) -> Result<ExitCode, String> {
    let settings = Settings::new(log.agent, options)?;
    log.debug(format_args!("{} via {}", settings.action, settings.transport));
    let operation = match settings.action {
        AgentAction::Metadata => return Ok(print_stdout(log, &metadata::xml(log.agent))),
        AgentAction::ValidateAll => {
            policy(log, &settings)?;
            return Ok(ExitCode::SUCCESS);
        }
        AgentAction::Request(operation) => operation,
    };
    let policy = policy(log, &settings)?;
    if operation.is_power() && !settings.delay.is_zero() {
        log.debug(format_args!("delay: waiting {} s", settings.delay.as_secs()));
        // Resumes after signals.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(settings.delay);
    }
    let deadline = Instant::now() + settings.timeout;
    let outcome = fence(log, &settings, operation, policy, deadline);
    Ok(report::emit(log, &settings, operation, &outcome, deadline))
}

fn print_fingerprint(log: &StderrLog, options: &RawOptions) -> Result<ExitCode, String> {
    let key = read_key(&settings::key_file(options)?, settings::timeout(options)?)?;
    Ok(print_stdout(log, &format!("{}\n", key.fingerprint())))
}

/// Reads the key and returns the policy. A key that is needed but cannot be read is fatal.
fn policy(log: &StderrLog, settings: &Settings) -> Result<Arc<Policy>, String> {
    let Settings { hash, auth, .. } = *settings;
    let path = &settings.key_file;
    let is_needed = settings.transport.has_key() && (hash, auth) != (HashKind::None, HashKind::None);
    if !is_needed {
        return Ok(Arc::new(Policy { hash, auth, key: Key::new(Vec::new()), old_key: None }));
    }
    let key = read_key(path, settings.timeout)?;
    log.debug(format_args!("key file {}: {} bytes", path.display(), key.len()));
    Ok(Arc::new(Policy { hash, auth, key, old_key: None }))
}

/// Reads the key, which must not be empty.
fn read_key(path: &Path, limit: Duration) -> Result<Key, String> {
    // The file may be on an unresponsive file server.
    let from = path.to_owned();
    let read = with_timeout(limit, move || key_file::read(&from))
        .and_then(|read| read.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"))));
    let (key, _) = read.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run this as root",
            io::ErrorKind::NotFound => "copy it from the host, or name it with -k (key_file)",
            _ => "name another with -k (key_file)",
        };
        format!("cannot read the key file {}: {}; {remedy}", path.display(), error_text(&error))
    })?;
    if key.is_empty() {
        return Err(format!("the key file {} is empty: copy it from the host", path.display()));
    }
    Ok(key)
}

fn fence(
    log: &StderrLog,
    settings: &Settings,
    operation: Operation,
    policy: Arc<Policy>,
    deadline: Instant,
) -> AgentOutcome {
    let begin = Instant::now();
    let request = |operation, deadline| AgentRequest {
        operation,
        target: settings.target.clone(),
        is_uuid: settings.is_uuid,
        policy: policy.clone(),
        begin: Instant::now(),
        deadline,
        log: *log,
    };
    let mut outcome = match transport::send(&settings.transport, &request(operation, deadline)) {
        Ok(answer) => AgentOutcome::Answered(answer),
        Err(reason) => AgentOutcome::Unanswered(reason),
    };
    let took = begin.elapsed();
    let took = took.as_secs() * 1000 + u64::from(took.subsec_millis());
    log.debug(format_args!("after {took} ms: {outcome}"));
    let is_refusal = matches!(outcome, AgentOutcome::Answered(Answer::Verdict(Verdict::Failure)));
    if is_refusal && operation.is_power() {
        // The answer has no reason; the host's list may show one.
        let limit = deadline.min(Instant::now() + LIST_LIMIT);
        let list = transport::send(&settings.transport, &request(Operation::HostList, limit));
        if let Ok(Answer::HostList(entries)) = list {
            let name = settings.target.as_str();
            let listed = column(name);
            let is_it = |text: &str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&listed);
            // An empty list proves nothing: a C daemon with several URIs sends it.
            if !entries.is_empty() && !entries.iter().any(|entry| is_it(&entry.name) || is_it(&entry.uuid)) {
                outcome = AgentOutcome::Unknown;
            }
        }
    }
    outcome
}
