//! `--status`, `--history`, `--reload`, `--hold` and `--release`: ask the running daemon for its status, for the last
//! power operations, to read its configuration again, or to place or end a hold.

mod ask;
mod run;
mod textfile;

pub(super) use ask::{DaemonReport, NoReport, ask};
pub(crate) use run::{history, hold, reload, status};
