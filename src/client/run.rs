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
use super::report;
use super::settings::{self, Settings, is_debug};
use super::stderr_log::StderrLog;
use super::transport::AgentRequest;
use super::{help, inquiry, metadata, stdin};
use crate::auth::{HashKind, Key};
use crate::fence::counted;
use crate::key_file;
use crate::session::Policy;
use crate::sys::error_text;
use crate::sys::with_timeout::with_timeout;
use crate::time::Instant;

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
    let request = AgentRequest {
        operation,
        target: settings.target.clone(),
        is_uuid: settings.is_uuid,
        policy,
        begin: Instant::now(),
        deadline,
        only: None,
        log: *log,
    };
    let outcome = inquiry::ask(&settings.transport, &request);
    let took = request.begin.elapsed();
    let took = took.as_secs() * 1000 + u64::from(took.subsec_millis());
    log.debug(format_args!("after {took} ms: {outcome}"));
    Ok(report::emit(log, &settings, operation, &outcome, deadline))
}

fn print_fingerprint(log: &StderrLog, options: &RawOptions) -> Result<ExitCode, String> {
    let key = read_key(&settings::key_file(options)?, settings::timeout(options)?)?;
    Ok(print_stdout(log, &format!("{}\n", key.id())))
}

/// Reads the key and returns the policy. A key that is needed but cannot be read is fatal.
fn policy(log: &StderrLog, settings: &Settings) -> Result<Arc<Policy>, String> {
    let Settings { hash, auth, .. } = *settings;
    let path = &settings.key_file;
    let endpoint = settings.transport.endpoint();
    let none = (HashKind::None.into(), HashKind::None);
    let is_needed = settings.transport.has_key() && (hash, auth) != none;
    if !is_needed {
        return Ok(Arc::new(Policy::new(hash, auth, Key::new(Vec::new()), endpoint)));
    }
    let key = read_key(path, settings.timeout)?;
    log.debug(format_args!("key file {}: {}", path.display(), counted(key.len(), "byte")));
    Ok(Arc::new(Policy::new(hash, auth, key, endpoint)))
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
