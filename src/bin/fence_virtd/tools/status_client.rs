//! `--status`, `--history` and `--reload`: ask the running daemon for its status, for the last power operations, or
//! to read its configuration again.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config_file;
use crate::console::{complain, print};
use crate::status::{HISTORY, Query, REFUSED, RELOADED, UNWELL, WELL};
use fence_virt::config;
use fence_virt::sys::error_text;

/// Time limit of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of the reply to a reload: the daemon waits up to 5 s for its worker, and may be busy with another one.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum length of a report, in bytes.
const REPORT_MAX: u64 = 16 << 20;

/// Prints what the daemon that runs with this configuration replies. Exit code 0: no problems, or a history;
/// 2: problems; 1: no answer. Errors in the file are ignored: it may be edited while the daemon runs.
pub(crate) fn run(path: &Path, query: &Query) -> ExitCode {
    match config_file::read(path).and_then(|text| ask(&config::status_socket(&text), query)) {
        Ok((report, is_well)) => match print(&report) {
            ExitCode::SUCCESS if !is_well => ExitCode::from(2),
            code => code,
        },
        Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

/// Has the daemon that runs with this configuration read it again, and prints the changes. Exit code 0: they are
/// in force; 1: refused, or no answer.
pub(crate) fn reload(path: &Path) -> ExitCode {
    let absolute = match std::path::absolute(path).map(PathBuf::into_os_string).map(OsString::into_string) {
        Ok(Ok(absolute)) if !absolute.contains('\n') => absolute,
        _ => {
            return complain(
                "fence_virtd: --reload: the path of the configuration is not text of one line\n",
            );
        }
    };
    run(path, &Query::Reload(absolute.into()))
}

/// Returns the daemon's report, and true if it has no problems.
/// Errors: a sentence with the reason for the missing answer.
fn ask(socket: &Path, query: &Query) -> Result<(String, bool), String> {
    let report = exchange(socket, query).map_err(|error| {
        let meaning = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "no fence_virtd is running with this configuration"
            }
            io::ErrorKind::PermissionDenied => "run this as root",
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the daemon does not respond",
            _ => "the query failed",
        };
        format!("cannot query {}: {}: {meaning}", socket.display(), error_text(&error))
    })?;
    match (query, report.split_once('\n')) {
        (Query::Status(_), Some((WELL, report))) => Ok((report.to_owned(), true)),
        (Query::Status(_), Some((UNWELL, report))) => Ok((report.to_owned(), false)),
        (Query::History { .. }, Some((HISTORY, report))) => Ok((report.to_owned(), true)),
        (Query::Reload(_), Some((RELOADED, changes))) => Ok((changes.to_owned(), true)),
        (Query::Reload(_), Some((REFUSED, reason))) => {
            Err(format!("reload refused: {}: nothing has changed", reason.trim_end()))
        }
        _ => Err(format!(
            "cannot query {}: no valid reply: not a fence_virtd, or we are not allowed",
            socket.display()
        )),
    }
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
