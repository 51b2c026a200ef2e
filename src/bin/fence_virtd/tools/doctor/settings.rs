//! Checks of the configuration file and its keys.

use std::path::Path;

use super::process::RunningDaemon;
use crate::access::key_file::{self, LoadedKey};
use crate::access::policies;
use crate::problem::Problem;
use crate::tools::finding::{Finding, Level, listed};
use fence_virt::config::{Config, Diagnostic, NamedListener, ParseOutcome, Severity};

const ABOUT: &str = "configuration";

/// Maximum number of problems of a file that are shown; the others are counted.
const SHOWN_MAX: usize = 50;

/// Judges the file, or the failure to read it.
pub(super) fn judge(path: &Path, outcome: &Result<ParseOutcome, String>) -> Vec<Finding> {
    let shown = path.display();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(reason) => {
            let remedy = "create it with `fence_virtd -c`, or give another path with -f";
            return vec![Finding::error(ABOUT, reason, remedy)];
        }
    };
    let mut found: Vec<&Diagnostic> = outcome.diagnostics.iter().collect();
    found.sort_by_key(|diagnostic| diagnostic.severity);
    let mut findings: Vec<Finding> =
        found.iter().take(SHOWN_MAX).map(|found| diagnostic(path, found)).collect();
    if let Some(more @ 1..) = found.len().checked_sub(SHOWN_MAX) {
        let what = format!("{more} more problems in {shown}");
        findings.push(Finding::warning(ABOUT, what, "fix those above first"));
    }
    match &outcome.config {
        Some(config) if findings.is_empty() => {
            let names = listed(config.listeners.iter().map(|listener| &listener.name));
            let text = format!("{shown}: listeners {names}, backend {}", config.backend);
            findings.push(Finding::ok(ABOUT, text));
        }
        Some(_) => {}
        None => {
            let what =
                format!("the daemon does not start with these errors in {shown}; nothing else was checked");
            findings.push(Finding::note(ABOUT, what, "fix them and run this again"));
        }
    }
    findings
}

/// Returns a finding about a diagnostic. Unknown keys are errors, as in `--check`.
fn diagnostic(path: &Path, found: &Diagnostic) -> Finding {
    let level = match found.severity {
        Severity::Error | Severity::Unknown => Level::Error,
        Severity::Warning => Level::Warning,
    };
    let shown = path.display();
    let line = found.line;
    let column = found.column;
    let what = format!("{shown}:{line}:{column}: {}", found.message);
    let remedy = format!("correct line {line}; `fence_virtd --check -f {shown}` shows the place");
    Finding::of(level, ABOUT, Problem::new(what, remedy))
}

/// Judges the key files of a listener, read as the running daemon would.
pub(super) fn keys(listener: &NamedListener, running: Option<RunningDaemon>) -> Vec<Finding> {
    let Some(auth) = listener.config.auth() else { return Vec::new() };
    let judge = |path: &Path| {
        if running.is_none() && key_file::is_out_of_reach(path) {
            return vec![unchecked(listener, path)];
        }
        let loaded = key_file::examine(path, running.and_then(|running| running.uid));
        let is_old = auth.old_key_file.as_deref() == Some(path);
        if is_old { vec![judge_old_key(listener, path, loaded)] } else { judge_key(listener, path, loaded) }
    };
    policies::key_files(auth).flat_map(judge).collect()
}

/// Returns a finding about the key of a unit that is not running, or has another pid file.
fn unchecked(listener: &NamedListener, path: &Path) -> Finding {
    let what = format!(
        "key file {} is a credential, which exists only while its unit runs: not checked",
        path.display()
    );
    let remedy = "start the unit and run this again, with -p if it has another pid file";
    Finding::note(&listener.name, what, remedy)
}

fn judge_key(listener: &NamedListener, path: &Path, loaded: Result<LoadedKey, Problem>) -> Vec<Finding> {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problem) => return vec![Finding::of(Level::Error, &listener.name, problem)],
    };
    if loaded.warnings.is_empty() {
        let text = format!(
            "key file {} has {} bytes and is not accessible by others",
            path.display(),
            loaded.key.len()
        );
        return vec![Finding::ok(&listener.name, text)];
    }
    loaded.warnings.into_iter().map(|problem| Finding::of(Level::Warning, &listener.name, problem)).collect()
}

/// Judges an old key. Its remedies never suggest to create a new one.
fn judge_old_key(listener: &NamedListener, path: &Path, loaded: Result<LoadedKey, Problem>) -> Finding {
    const REMEDY: &str = "remove `old_key_file` once every guest has the new key";
    let name = &listener.name;
    match loaded {
        Ok(_) => Finding::note(name, format!("the old key {} is still accepted", path.display()), REMEDY),
        Err(Problem { what, remedy }) if path.exists() => {
            Finding::error(name, what, format!("{remedy}; {REMEDY}"))
        }
        Err(Problem { what, .. }) => Finding::error(name, what, format!("restore the old key, or {REMEDY}")),
    }
}

/// Returns the severity of a missing address or interface: with `wait_for_init`, the daemon starts without it.
pub(super) fn absence(config: &Config) -> Level {
    if config.wait_for_init { Level::Warning } else { Level::Error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::levels;
    use fence_virt::auth::Key;
    use fence_virt::config;

    fn judged(text: &str) -> Vec<Finding> {
        let path = Path::new("a.conf");
        judge(path, &Ok(config::parse(path, text.as_bytes())))
    }

    #[test]
    fn a_good_file_is_one_finding() {
        let findings = judged("fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }");
        assert_eq!(levels(&findings), [Level::Ok], "{findings:?}");
        assert!(findings[0].text.contains("tcp"), "{findings:?}");
    }

    #[test]
    fn problems_have_a_place_and_unknown_keys_are_errors() {
        let findings = judged("fence_virtd { listener = \"tcp\"; backend = \"libvirt\";\nbackand = \"x\"; }");
        assert_eq!(levels(&findings), [Level::Error], "{findings:?}");
        assert!(findings[0].text.starts_with("a.conf:2:1: "), "{findings:?}");
        let findings = judged("fence_virtd { listener = \"ucp\"; backend = \"libvirt\"; }");
        assert_eq!(levels(&findings), [Level::Error, Level::Note], "{findings:?}");
    }

    #[test]
    fn of_many_problems_the_worst_are_shown() {
        let text = "x = \"1\";\n".repeat(70) + "fence_virtd { listener = \"ucp\"; backend = \"libvirt\"; }";
        let findings = judged(&text);
        assert_eq!(findings.len(), SHOWN_MAX + 2);
        assert!(findings[0].text.contains(":71:"), "{:?}", findings[0]);
        assert!(findings[SHOWN_MAX].text.contains("21 more"), "{:?}", findings[SHOWN_MAX]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let findings = judge(Path::new("a.conf"), &Err("cannot read it".to_owned()));
        assert_eq!(levels(&findings), [Level::Error]);
    }

    #[test]
    fn a_missing_credential_is_an_error_only_while_its_unit_runs() {
        let text = "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }
            listeners { tcp { key_file = \"/run/credentials/fence-nonexistent.service/key\"; } }";
        let listener = config::parse(Path::new("a"), text.as_bytes()).config.unwrap().listeners.remove(0);
        assert_eq!(levels(&keys(&listener, None)), [Level::Note]);
        let running = RunningDaemon { pid: 7, uid: Some(5) };
        assert_eq!(levels(&keys(&listener, Some(running))), [Level::Error]);
    }

    #[test]
    fn problems_of_a_key_keep_their_severity() {
        let text = "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }";
        let listener = config::parse(Path::new("a"), text.as_bytes()).config.unwrap().listeners.remove(0);
        let path = Path::new("/k");
        let of = |warnings: Vec<Problem>| {
            judge_key(&listener, path, Ok(LoadedKey { key: Key::new(vec![1]), warnings }))
        };
        assert_eq!(levels(&of(vec![])), [Level::Ok]);
        assert_eq!(levels(&of(vec![Problem::new("a", "b"), Problem::new("c", "d")])), [Level::Warning; 2]);
        assert_eq!(levels(&judge_key(&listener, path, Err(Problem::new("a", "b")))), [Level::Error]);
        let short = LoadedKey { key: Key::new(vec![1]), warnings: vec![Problem::new("short", "x")] };
        assert_eq!(judge_old_key(&listener, path, Ok(short)).level, Level::Note);
        let gone = judge_old_key(&listener, path, Err(Problem::new("it is not there", "make a new one")));
        assert_eq!(gone.level, Level::Error);
        assert!(!gone.remedy.as_ref().unwrap().contains("make a new one"), "{gone:?}");
    }
}
