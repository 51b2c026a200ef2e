//! Queries of the running daemon over its status socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::config_file;
use crate::restraints::HoldChange;
use crate::status::{HELD, HISTORY, Query, REFUSED, RELEASED, RELOADED, UNWELL, WELL, parse_reply_head};
use fence_virt::config;
use fence_virt::sys::error_text;

/// Time limit of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of the reply to an order: a reload waits up to 5 s for the worker, and others may be carried out before.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum length of a report, in bytes.
const REPORT_MAX: u64 = 16 << 20;

/// Report of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tools) struct DaemonReport {
    pub(in crate::tools) text: String,
    /// True if it has no problems.
    pub(in crate::tools) is_well: bool,
}

/// No report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tools) struct NoReport {
    /// A sentence.
    pub(in crate::tools) reason: String,
    /// False if nobody listens at the socket. Else a daemon may run, perhaps with another configuration.
    pub(in crate::tools) has_daemon: bool,
}

impl NoReport {
    fn of_daemon(reason: String) -> NoReport {
        NoReport { reason, has_daemon: true }
    }
}

/// Asks the daemon that runs with this configuration. Errors in the file are ignored: it may be edited while
/// the daemon runs.
pub(in crate::tools) fn ask(config: &Path, query: &Query) -> Result<DaemonReport, NoReport> {
    let text = config_file::read(config).map_err(|reason| NoReport { reason, has_daemon: false })?;
    let socket = config::status_socket(&text);
    let reply = exchange(&socket, query).map_err(|error| unanswered(&socket, &error))?;
    let (head, text) = reply.split_once('\n').unwrap_or_default();
    let (word, running) = parse_reply_head(head);
    let is_well = match (query, word) {
        (Query::Status(_), WELL) | (Query::History { .. }, HISTORY) | (Query::Reload(_), RELOADED) => true,
        (Query::Hold { change: HoldChange::Place { .. }, .. }, HELD) => true,
        (Query::Hold { change: HoldChange::Release(_), .. }, RELEASED) => true,
        (Query::Status(_), UNWELL) => false,
        (Query::Reload(_) | Query::Hold { .. }, REFUSED) => {
            let order = if matches!(query, Query::Reload(_)) { "reload" } else { "hold or release" };
            let reason = format!("{order} refused: {}: nothing has changed", text.trim_end());
            return Err(NoReport::of_daemon(reason));
        }
        _ => {
            return Err(NoReport::of_daemon(format!(
                "cannot query {}: no valid reply: not a fence_virtd, or we are not allowed",
                socket.display()
            )));
        }
    };
    match running.filter(|running| !config_file::is_same(running, config)) {
        None => Ok(DaemonReport { text: text.to_owned(), is_well }),
        Some(running) => Err(NoReport::of_daemon(format!(
            "the daemon that answers at {} runs with the configuration {}, not with {}; give each daemon a status_socket of its own, or ask with -f {}",
            socket.display(),
            running.display(),
            config.display(),
            running.display()
        ))),
    }
}

fn unanswered(socket: &Path, error: &io::Error) -> NoReport {
    let has_daemon = !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    let meaning = match error.kind() {
        _ if !has_daemon => {
            "no fence_virtd is running with this configuration, or its status_socket was changed since it started"
        }
        io::ErrorKind::PermissionDenied => "run this as root",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the daemon does not respond",
        _ => "the query failed",
    };
    let reason = format!("cannot query {}: {}: {meaning}", socket.display(), error_text(error));
    NoReport { reason, has_daemon }
}

fn exchange(socket: &Path, query: &Query) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    let is_order = matches!(query, Query::Reload(_) | Query::Hold { .. });
    stream.set_read_timeout(Some(if is_order { ORDER_TIMEOUT } else { IO_TIMEOUT }))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.write_all(format!("{}\n", query.line()).as_bytes())?;
    let mut report = String::new();
    stream.take(REPORT_MAX).read_to_string(&mut report)?;
    Ok(report)
}
