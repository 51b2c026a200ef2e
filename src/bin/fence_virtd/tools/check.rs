//! `--check`: judges the configuration, its key files and this host without starting anything.

use std::path::Path;
use std::process::ExitCode;

use crate::access::{key_file, policies};
use crate::console::{complain, print, warn_on_stderr};
use crate::host_checks::{missing_directory, missing_interface};
use crate::problem::Problem;
use crate::restraints::kept_holds;
use crate::{backends, config_file, pid_file, watch};
use fence_virt::config::{Config, ListenerConfig, NamedListener, ParseOutcome};
use fence_virt::fence::counted;

/// Errors and warnings beyond those of the file's syntax.
#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Prints what would run, the errors and warnings, and their numbers. Exit code 1 if there are errors.
/// The lenient form has errors only where the start of the daemon would fail.
pub(crate) fn run(path: &Path, pid_file: &Path, is_lenient: bool) -> ExitCode {
    let ParseOutcome { config, diagnostics } = match config_file::parse(path) {
        Ok(outcome) => outcome,
        Err(reason) => return complain(&format!("fence_virtd: error: {reason}\n")),
    };
    let is_strict = !is_lenient;
    warn_on_stderr(&diagnostics.render(is_strict));
    let (mut errors, mut warnings) = diagnostics.counts(is_strict);
    if let Some(config) = config.filter(|_| !diagnostics.is_fatal(is_strict)) {
        print(&config.summary());
        let found = examine(&config, pid_file, is_lenient);
        for (level, lines) in [("warning", &found.warnings), ("error", &found.errors)] {
            lines.iter().for_each(|line| warn_on_stderr(&format!("fence_virtd: {level}: {line}\n")));
        }
        errors += found.errors.len();
        warnings += found.warnings.len();
    }
    let counts = format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    let printed = print(&format!("{}: {counts}\n", path.display()));
    if errors == 0 { printed } else { ExitCode::FAILURE }
}

fn examine(config: &Config, pid_file: &Path, is_lenient: bool) -> Findings {
    let mut findings = Findings::default();
    let uid_of_daemon = pid_file::running(pid_file).and_then(pid_file::user_of);
    for listener in &config.listeners {
        examine_keys(listener, uid_of_daemon, is_lenient, &mut findings);
        match &listener.config {
            ListenerConfig::Multicast(multicast) => findings.warnings.extend(missing_interface(multicast)),
            ListenerConfig::Serial(serial) => {
                findings.warnings.extend(missing_directory(serial));
                let remote = watch::warn_of_remote(serial, config.backend.uris());
                findings
                    .warnings
                    .extend(remote.iter().map(|warning| format!("{}: {warning}", listener.name)));
            }
            ListenerConfig::Tcp(_) | ListenerConfig::Vsock(_) => {}
        }
    }
    findings
        .warnings
        .extend(backends::warn_of_delay(&config.backend).map(|problem| format!("cpg: {problem}")));
    let holds = kept_holds(&config.status_socket).err();
    findings.errors.extend(holds.map(|problem| format!("{problem}: the daemon will not start")));
    let backend =
        backends::check(&config.backend).err().map(|reason| format!("{reason}: the daemon will not start"));
    let severity = if is_lenient { &mut findings.errors } else { &mut findings.warnings };
    severity.extend(backend);
    findings
}

fn examine_keys(
    listener: &NamedListener,
    uid_of_daemon: Option<u32>,
    is_lenient: bool,
    findings: &mut Findings,
) {
    for path in listener.config.auth().into_iter().flat_map(policies::key_files) {
        match key_file::examine(path, uid_of_daemon) {
            Ok(loaded) => findings.warnings.extend(loaded.warnings.iter().map(Problem::to_string)),
            Err(problem) if is_lenient && key_file::is_out_of_reach(path) => {
                findings.warnings.push(format!("not checked: {}", problem.what));
            }
            Err(problem) => findings.errors.push(problem.to_string()),
        }
    }
}
