//! Journal of power operations: kept in memory for `--history` and `--status`, and, with `history_file`, in a
//! file, which a thread of its own writes.
//!
//! | | module |
//! | --- | --- |
//! | what listeners and the worker record, and reports read | `journal` |
//! | the thread | `writer` |
//! | when it writes what | `unwritten` |
//! | the file | `file` |
#![forbid(unsafe_code)]

mod file;
mod journal;
#[cfg(test)]
pub(crate) mod sample;
mod unwritten;
mod writer;

pub(crate) use journal::{PowerJournal, wall_time};
pub(crate) use writer::JournalWriter;
