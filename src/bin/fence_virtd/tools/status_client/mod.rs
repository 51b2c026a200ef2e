//! `--status` and `--history`: ask the running daemon for its status, or for the last power operations.

mod ask;
mod run;
mod textfile;

pub(crate) use run::{history, status};
