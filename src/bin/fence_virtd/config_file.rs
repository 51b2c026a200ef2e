//! Reading and parsing of the configuration file.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use log::{Level, log};

use crate::access::KeyReader;
use crate::access::credentials::unit_directory;
use fence_virt::config::{self, Config, ParseOutcome, Severity};
use fence_virt::sys::error_text;

/// Reads the configuration file.
/// Errors: a sentence that names the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| unreadable(path, &KeyReader::this_process(), &error))
}

fn unreadable(path: &Path, reader: &KeyReader, error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "; create it with fence_virtd -c, or name another with -f".to_owned(),
        ErrorKind::PermissionDenied if reader.is_root() => {
            "; let root read it and the directories above it".to_owned()
        }
        ErrorKind::PermissionDenied => {
            format!("; run this as root, or let this user read it: {}", reader.commands(path))
        }
        _ => String::new(),
    };
    format!("cannot read the configuration {}: {}{remedy}", path.display(), error_text(error))
}

/// Reads and parses the configuration file.
/// Errors: a sentence that names the file if it cannot be read at all.
pub(crate) fn parse(path: &Path) -> Result<ParseOutcome, String> {
    Ok(config::parse(path, &read(path)?))
}

/// Returns the configuration in a file and passes its diagnostics to `show`. `strict` also refuses unknown keys.
/// Errors: a sentence if the file cannot be read or has errors.
pub(crate) fn load(path: &Path, strict: bool, show: &dyn Fn(&str)) -> Result<Config, String> {
    let outcome = parse(path)?;
    if !outcome.diagnostics.is_empty() {
        show(&outcome.diagnostics.render(strict));
    }
    accepted(path, outcome, strict)
}

fn accepted(path: &Path, outcome: ParseOutcome, strict: bool) -> Result<Config, String> {
    let is_fatal = outcome.diagnostics.is_fatal(strict);
    let config = outcome.config.filter(|_| !is_fatal);
    config.ok_or_else(|| {
        let path = path.display();
        format!("the configuration {path} has errors; `fence_virtd --check -f {path}` shows them")
    })
}

/// Returns true if a daemon that runs with one path means the configuration of the other path: they lead to one file, or
/// the daemon has a copy that its service manager has made (`LoadCredential=`), of which nobody can tell the source.
pub(crate) fn is_same(running: &Path, asked: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    running == asked || unit_directory(running).is_some() || real(running) == real(asked)
}

/// Loads the configuration of the daemon, at its start and for a reload; diagnostics go to the log, one line each.
/// Errors: same as [`load`].
pub(crate) fn load_and_log(path: &Path) -> Result<Config, String> {
    let outcome = parse(path)?;
    for (severity, line) in outcome.diagnostics.lines(false) {
        let level = if severity == Severity::Error { Level::Error } else { Level::Warn };
        log!(level, "{line}");
    }
    accepted(path, outcome, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_a_missing_permission_depends_on_the_user() {
        let denied = ErrorKind::PermissionDenied.into();
        let refusal = |uid| unreadable(Path::new("/etc/f.conf"), &KeyReader::of_user(uid), &denied);
        // User and group `daemon` have the number 1 on every system.
        let advice =
            "run this as root, or let this user read it: `chgrp daemon /etc/f.conf; chmod 0640 /etc/f.conf`";
        assert!(refusal(1).ends_with(advice), "{}", refusal(1));
        assert!(refusal(0).ends_with("; let root read it and the directories above it"), "{}", refusal(0));
    }

    #[test]
    fn links_to_a_configuration_are_the_same_file() {
        let dir = std::env::temp_dir().join(format!("fence-virtd-{}-same", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (file, other, link) = (dir.join("a.conf"), dir.join("b.conf"), dir.join("link.conf"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink("a.conf", &link).unwrap();
        assert!(is_same(&file, &file) && is_same(&link, &file) && is_same(&file, &link));
        assert!(is_same(Path::new("/run/credentials/fence_virtd.service/fence_virt.conf"), &file));
        assert!(!is_same(&other, &file) && !is_same(&dir.join("gone.conf"), &file));
        fs::remove_dir_all(&dir).unwrap();
    }
}
