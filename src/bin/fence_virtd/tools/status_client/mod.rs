//! `--status`, `--history` and `--reload`: ask the running daemon for its status, for the last power operations, or
//! to read its configuration again.

mod ask;
mod run;
mod textfile;

pub(super) use ask::{DaemonReport, NoReport, ask};
pub(crate) use run::{history, reload, status};
