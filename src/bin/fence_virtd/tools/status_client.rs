//! `--status` and `--history`: ask the running daemon for its status, or for the last power operations.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config_file;
use crate::console::{complain, print};
use crate::status::{HISTORY, Query, UNWELL, WELL};
use fence_virt::config;

/// Time limit of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a report, in bytes.
const REPORT_MAX: u64 = 16 << 20;

/// Prints what the daemon that runs with this configuration replies. Exit code 0: no problems, or a history;
/// 2: problems; 1: no answer. Errors in the file are ignored: it may be edited while the daemon runs.
pub(crate) fn run(path: &Path, query: &Query) -> ExitCode {
    match self::query(path, query) {
        Ok((report, is_well)) => match print(&report) {
            ExitCode::SUCCESS if !is_well => ExitCode::from(2),
            code => code,
        },
        Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

/// Returns the report of the daemon that runs with this configuration, and true if it has no problems.
/// Errors: a sentence with the reason for the missing answer.
pub(super) fn query(path: &Path, query: &Query) -> Result<(String, bool), String> {
    ask(&config::status_socket(&config_file::read(path)?), query)
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
        format!("cannot query {}: {error}: {meaning}", socket.display())
    })?;
    match (query, report.split_once('\n')) {
        (Query::Status(_), Some((WELL, report))) => Ok((report.to_owned(), true)),
        (Query::Status(_), Some((UNWELL, report))) => Ok((report.to_owned(), false)),
        (Query::History { .. }, Some((HISTORY, report))) => Ok((report.to_owned(), true)),
        _ => Err(format!(
            "cannot query {}: no valid reply: not a fence_virtd, or we are not allowed",
            socket.display()
        )),
    }
}

fn exchange(socket: &Path, query: &Query) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.write_all(format!("{}\n", query.line()).as_bytes())?;
    let mut report = String::new();
    stream.take(REPORT_MAX).read_to_string(&mut report)?;
    Ok(report)
}
