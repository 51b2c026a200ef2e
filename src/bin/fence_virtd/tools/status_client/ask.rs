//! Queries of the running daemon over its status socket.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::access::credentials::unit_directory;
use crate::config_file;
use crate::status::{HISTORY, Query, REFUSED, RELOADED, UNWELL, WELL, parse_reply_head};
use fence_virt::config;
use fence_virt::sys::error_text;

/// Time limit of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of the reply to a reload: the daemon waits up to 5 s for its worker, and may be busy with another one.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum length of a report, in bytes.
const REPORT_MAX: u64 = 16 << 20;

/// Report of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tools) struct DaemonReport {
    pub(in crate::tools) text: String,
    /// True if it has no problems.
    pub(in crate::tools) is_well: bool,
}

/// Asks the daemon that runs with this configuration. Errors in the file are ignored: it may be edited while
/// the daemon runs.
/// Errors: a sentence with the reason for the missing answer.
pub(in crate::tools) fn ask(config: &Path, query: &Query) -> Result<DaemonReport, String> {
    let socket = config::status_socket(&config_file::read(config)?);
    let reply = exchange(&socket, query).map_err(|error| unanswered(&socket, &error))?;
    let (head, text) = reply.split_once('\n').unwrap_or_default();
    let (word, running) = parse_reply_head(head);
    let is_well = match (query, word) {
        (Query::Status(_), WELL) | (Query::History { .. }, HISTORY) | (Query::Reload(_), RELOADED) => true,
        (Query::Status(_), UNWELL) => false,
        (Query::Reload(_), REFUSED) => {
            return Err(format!("reload refused: {}: nothing has changed", text.trim_end()));
        }
        _ => {
            return Err(format!(
                "cannot query {}: no valid reply: not a fence_virtd, or we are not allowed",
                socket.display()
            ));
        }
    };
    match running.filter(|running| !is_same_file(running, config)) {
        None => Ok(DaemonReport { text: text.to_owned(), is_well }),
        Some(running) => Err(format!(
            "the daemon that answers at {} runs with the configuration {}, not with {}; give each daemon a status_socket of its own, or ask with -f {}",
            socket.display(),
            running.display(),
            config.display(),
            running.display()
        )),
    }
}

fn unanswered(socket: &Path, error: &io::Error) -> String {
    let meaning = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "no fence_virtd is running with this configuration, or its status_socket was changed since it started"
        }
        io::ErrorKind::PermissionDenied => "run this as root",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the daemon does not respond",
        _ => "the query failed",
    };
    format!("cannot query {}: {}: {meaning}", socket.display(), error_text(error))
}

/// Returns true if two paths lead to one file. The daemon may have been told the path of a link. Of a copy that the
/// service manager has made for it, nobody can tell which file it was made of.
fn is_same_file(running: &Path, asked: &Path) -> bool {
    let asked = fs::canonicalize(asked);
    asked.is_ok_and(|asked| {
        *running == asked
            || unit_directory(running).is_some()
            || fs::canonicalize(running).is_ok_and(|running| running == asked)
    })
}

fn exchange(socket: &Path, query: &Query) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    let is_reload = matches!(query, Query::Reload(_));
    stream.set_read_timeout(Some(if is_reload { RELOAD_TIMEOUT } else { IO_TIMEOUT }))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.write_all(format!("{}\n", query.line()).as_bytes())?;
    let mut report = String::new();
    stream.take(REPORT_MAX).read_to_string(&mut report)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_a_configuration_are_the_same_file() {
        let dir = std::env::temp_dir().join(format!("fence-virtd-{}-ask", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (file, other, link) = (dir.join("a.conf"), dir.join("b.conf"), dir.join("link.conf"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink("a.conf", &link).unwrap();
        assert!(is_same_file(&file, &file) && is_same_file(&link, &file) && is_same_file(&file, &link));
        assert!(is_same_file(Path::new("/run/credentials/fence_virtd.service/fence_virt.conf"), &file));
        assert!(!is_same_file(&other, &file) && !is_same_file(&dir.join("gone.conf"), &file));
        fs::remove_dir_all(&dir).unwrap();
    }
}
