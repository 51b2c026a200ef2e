//! `--check`: judges the configuration, its key files and this host without starting anything.

use std::path::Path;
use std::process::ExitCode;

#[cfg(feature = "agent-backend")]
use nix::unistd::geteuid;

use crate::access::vm_keys::{self, VmKeys};
use crate::access::{KeyReader, key_file, policies};
#[cfg(feature = "agent-backend")]
use crate::backend::agent;
use crate::console::{complain, print, warn_on_stderr};
use crate::host_checks::{missing_directory, missing_interface};
use crate::problem::Problem;
use crate::restraints::kept_holds;
use crate::{backends, config_file, pid_file, watch};
#[cfg(feature = "agent-backend")]
use fence_virt::config::AgentConfig;
use fence_virt::config::{BackendConfig, Config, ListenerConfig, NamedListener, ParseOutcome};
use fence_virt::fence::{counted, listed};

/// Errors and warnings beyond those of the file's syntax.
#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    /// Lines that are neither.
    notes: Vec<String>,
}

/// Maximum number of errors, and of warnings, about keys of VMs that are shown; the others are counted.
const KEY_PROBLEMS_MAX: usize = 10;

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
        for line in &found.notes {
            print(&format!("{line}\n"));
        }
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
    let vm_keys = examine_vm_keys(config, uid_of_daemon, &mut findings);
    for listener in &config.listeners {
        examine_keys(listener, uid_of_daemon, is_lenient, &vm_keys, &mut findings);
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
    findings.errors.extend(examine_agents(&config.backend, uid_of_daemon));
    let severity = if is_lenient { &mut findings.errors } else { &mut findings.warnings };
    severity.extend(backend);
    findings
}

/// Checks the programs, users and password files of agents without starting them.
#[cfg(feature = "agent-backend")]
fn examine_agents(backend: &BackendConfig, uid_of_daemon: Option<u32>) -> Vec<String> {
    let uid = uid_of_daemon.unwrap_or_else(|| geteuid().as_raw());
    let problems = |config: &AgentConfig| {
        let place = config.place();
        let problems = agent::check_files(config, uid).into_iter();
        problems.map(move |problem| format!("{place}: {problem}")).collect::<Vec<_>>()
    };
    backend.agents().iter().flat_map(problems).collect()
}

/// Returns nothing: the backend itself is missing in this build.
#[cfg(not(feature = "agent-backend"))]
fn examine_agents(_backend: &BackendConfig, _uid_of_daemon: Option<u32>) -> Vec<String> {
    Vec::new()
}

/// Reads the keys of VMs as the daemon does; ten problems of each severity at most.
fn examine_vm_keys(config: &Config, uid_of_daemon: Option<u32>, findings: &mut Findings) -> VmKeys {
    let reader = uid_of_daemon.map_or_else(KeyReader::this_process, KeyReader::of_user);
    let keys = vm_keys::read(&config.keys, &reader);
    findings.errors.extend(first(&keys.errors, "error"));
    findings.warnings.extend(first(&keys.warnings, "warning"));
    if !keys.ring.is_empty() {
        let mut note = format!("keys of VMs: {}", keys.ring.len());
        let nameless = keys.without_uuid();
        if !nameless.is_empty() {
            // Of a VM that is not identified, the address decides whether it is being fenced itself.
            note += &format!(
                "; without a uuid, so that only the address tells which VM asks: {}",
                listed(nameless)
            );
        }
        findings.notes.push(note);
    }
    keys
}

fn first(problems: &[Problem], noun: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        problems.iter().take(KEY_PROBLEMS_MAX).map(|problem| format!("keys: {problem}")).collect();
    if let Some(more @ 1..) = problems.len().checked_sub(KEY_PROBLEMS_MAX) {
        lines.push(format!("keys: and {}", counted(more, &format!("more {noun}"))));
    }
    lines
}

fn examine_keys(
    listener: &NamedListener,
    uid_of_daemon: Option<u32>,
    is_lenient: bool,
    vm_keys: &VmKeys,
    findings: &mut Findings,
) {
    for path in listener.config.auth().into_iter().flat_map(policies::key_files) {
        match key_file::examine(path, uid_of_daemon) {
            Ok(loaded) => {
                findings.warnings.extend(loaded.warnings.iter().map(Problem::to_string));
                let conflict = vm_keys::conflict(&vm_keys.ring, &loaded.key, path);
                findings.errors.extend(conflict.map(|problem| format!("{}: {problem}", listener.name)));
            }
            Err(problem) if is_lenient && key_file::is_out_of_reach(path) => {
                findings.warnings.push(format!("not checked: {}", problem.what));
            }
            Err(problem) => findings.errors.push(problem.to_string()),
        }
    }
}
