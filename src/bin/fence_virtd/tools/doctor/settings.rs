//! The configuration file, and the keys that it names.

use std::path::Path;

use super::finding::{Finding, Level, listed};
use super::process::Running;
use crate::access::key_file::{self, Loaded};
use crate::access::policies;
use crate::problem::Flaw;
use fence_virt::config::{Config, Diagnostic, NamedListener, Outcome, Severity};

const ABOUT: &str = "configuration";

/// So many mistakes of a file are shown, the others are only counted.
const SHOWN: usize = 50;

/// What there is to say about the file, read or not.
pub(super) fn judge(path: &Path, outcome: &Result<Outcome, String>) -> Vec<Finding> {
    let shown = path.display();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(reason) => {
            let remedy = "name the file with -f, or start from fence_virt.conf.example";
            return vec![Finding::error(ABOUT, reason, remedy)];
        }
    };
    let mut found: Vec<&Diagnostic> = outcome.diagnostics.iter().collect();
    found.sort_by_key(|diagnostic| diagnostic.severity);
    let mut findings: Vec<Finding> = found.iter().take(SHOWN).map(|found| mistake(path, found)).collect();
    if let Some(more @ 1..) = found.len().checked_sub(SHOWN) {
        let what = format!("{shown} has {more} more mistakes");
        findings.push(Finding::warning(ABOUT, what, "correct those above first"));
    }
    match &outcome.config {
        Some(config) if findings.is_empty() => {
            let names: Vec<_> = config.listeners.iter().map(|listener| &listener.name).collect();
            let text = format!("{shown}: listeners {}, backend {}", listed(&names), config.backend);
            findings.push(Finding::ok(ABOUT, text));
        }
        Some(_) => {}
        None => {
            let what =
                format!("with these mistakes in {shown} no daemon starts, and nothing else was looked at");
            findings.push(Finding::note(ABOUT, what, "correct them and run this again"));
        }
    }
    findings
}

/// As strict as `--check`: a key that nobody knows is a key that is missing.
fn mistake(path: &Path, found: &Diagnostic) -> Finding {
    let level = match found.severity {
        Severity::Error | Severity::Unknown => Level::Error,
        Severity::Warning => Level::Warning,
    };
    let (shown, line, column) = (path.display(), found.line, found.column);
    let what = format!("{shown}:{line}:{column}: {}", found.message);
    let remedy = format!("correct line {line}; `fence_virtd --check -f {shown}` shows the place");
    Finding::of(level, ABOUT, Flaw::new(what, remedy))
}

/// Reads the key files of a listener, as the daemon that runs would.
pub(super) fn keys(listener: &NamedListener, running: Option<Running>) -> Vec<Finding> {
    let Some(auth) = listener.config.auth() else { return Vec::new() };
    let judge = |path: &Path| {
        if running.is_none() && key_file::is_out_of_reach(path) {
            return vec![unseen(listener, path)];
        }
        let loaded = key_file::examine(path, running.and_then(|running| running.uid));
        match auth.old_key_file.as_deref() == Some(path) {
            true => judge_old_key(listener, path, loaded),
            false => judge_key(listener, path, loaded),
        }
    };
    policies::key_files(auth).flat_map(judge).collect()
}

/// The key of a unit that does not run, or has a pid file of its own.
fn unseen(listener: &NamedListener, path: &Path) -> Finding {
    let what = format!(
        "the key file {} is a credential, there only while its unit runs: nothing can be said of it",
        path.display()
    );
    let remedy = "start the unit and run this again, with its pid file (-p) if that is another one";
    Finding::note(&listener.name, what, remedy)
}

fn judge_key(listener: &NamedListener, path: &Path, loaded: Result<Loaded, Flaw>) -> Vec<Finding> {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(flaw) => return vec![Finding::of(Level::Error, &listener.name, flaw)],
    };
    if loaded.warnings.is_empty() {
        let text =
            format!("the key file {} has {} bytes and is kept from others", path.display(), loaded.key.len());
        return vec![Finding::ok(&listener.name, text)];
    }
    loaded.warnings.into_iter().map(|flaw| Finding::of(Level::Warning, &listener.name, flaw)).collect()
}

/// An old key is none to be made anew: it is there, or is to be gone.
fn judge_old_key(listener: &NamedListener, path: &Path, loaded: Result<Loaded, Flaw>) -> Vec<Finding> {
    const REMEDY: &str = "take `old_key_file` away when every guest has the new key";
    match loaded {
        Ok(_) => {
            let what = format!("the old key {} is accepted too", path.display());
            vec![Finding::note(&listener.name, what, REMEDY)]
        }
        Err(Flaw { what, remedy }) if path.exists() => {
            vec![Finding::error(&listener.name, what, format!("{remedy}; {REMEDY}"))]
        }
        Err(Flaw { what, .. }) => {
            vec![Finding::error(&listener.name, what, format!("put the old key there again, or {REMEDY}"))]
        }
    }
}

/// Whether what may yet appear on this host (an address, an interface) is
/// waited for, so that its absence keeps nobody from starting.
pub(super) fn absence(config: &Config) -> Level {
    if config.wait_for_init { Level::Warning } else { Level::Error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::auth::Key;
    use fence_virt::config;

    fn judged(text: &str) -> Vec<Finding> {
        let path = Path::new("a.conf");
        judge(path, &Ok(config::parse(path, text.as_bytes())))
    }

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_good_file_is_one_line() {
        let findings = judged("fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }");
        assert_eq!(levels(&findings), [Level::Ok], "{findings:?}");
        assert!(findings[0].text.contains("tcp"), "{findings:?}");
    }

    #[test]
    fn mistakes_have_a_place_and_what_is_unknown_is_an_error() {
        let findings = judged("fence_virtd { listener = \"tcp\"; backend = \"libvirt\";\nbackand = \"x\"; }");
        assert_eq!(levels(&findings), [Level::Error], "{findings:?}");
        assert!(findings[0].text.starts_with("a.conf:2:1: "), "{findings:?}");
        let findings = judged("fence_virtd { listener = \"ucp\"; backend = \"libvirt\"; }");
        assert_eq!(levels(&findings), [Level::Error, Level::Note], "{findings:?}");
    }

    #[test]
    fn of_countless_mistakes_the_worst_are_shown() {
        let text = "x = \"1\";\n".repeat(70) + "fence_virtd { listener = \"ucp\"; backend = \"libvirt\"; }";
        let findings = judged(&text);
        assert_eq!(findings.len(), SHOWN + 2);
        assert!(findings[0].text.contains(":71:"), "{:?}", findings[0]);
        assert!(findings[SHOWN].text.contains("21 more"), "{:?}", findings[SHOWN]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let findings = judge(Path::new("a.conf"), &Err("cannot read it".to_owned()));
        assert_eq!(levels(&findings), [Level::Error]);
    }

    #[test]
    fn a_credential_is_missed_only_while_its_unit_runs() {
        let text = "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }
            listeners { tcp { key_file = \"/run/credentials/fence-nonexistent.service/key\"; } }";
        let listener = config::parse(Path::new("a"), text.as_bytes()).config.unwrap().listeners.remove(0);
        assert_eq!(levels(&keys(&listener, None)), [Level::Note]);
        let running = Running { pid: 7, uid: Some(5) };
        assert_eq!(levels(&keys(&listener, Some(running))), [Level::Error]);
    }

    #[test]
    fn what_is_said_of_a_key_keeps_its_level() {
        let text = "fence_virtd { listener = \"tcp\"; backend = \"libvirt\"; }";
        let listener = config::parse(Path::new("a"), text.as_bytes()).config.unwrap().listeners.remove(0);
        let path = Path::new("/k");
        let of =
            |warnings: Vec<Flaw>| judge_key(&listener, path, Ok(Loaded { key: Key::new(vec![1]), warnings }));
        assert_eq!(levels(&of(vec![])), [Level::Ok]);
        assert_eq!(levels(&of(vec![Flaw::new("a", "b"), Flaw::new("c", "d")])), [Level::Warning; 2]);
        assert_eq!(levels(&judge_key(&listener, path, Err(Flaw::new("a", "b")))), [Level::Error]);
        let key = Key::new(vec![1]);
        let old = judge_old_key(&listener, path, Ok(Loaded { key, warnings: vec![Flaw::new("short", "x")] }));
        assert_eq!(levels(&old), [Level::Note]);
        let gone = judge_old_key(&listener, path, Err(Flaw::new("it is not there", "make a new one")));
        assert_eq!(levels(&gone), [Level::Error]);
        assert!(!gone[0].remedy.as_ref().unwrap().contains("make a new one"), "{gone:?}");
    }
}
