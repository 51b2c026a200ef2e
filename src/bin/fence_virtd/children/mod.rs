//! Fence agents that run as child processes: one thread feeds them, reads what they print, ends those that are late,
//! and reaps them.
//!
//! | module | content |
//! | --- | --- |
//! | [`run`] | one child, from its start to its end |
//! | [`thread`] | the thread for all of them, and the interface to it |
#![forbid(unsafe_code)]

mod run;
mod thread;

pub(crate) use run::{RunEnd, RunOutcome};
pub(crate) use thread::{ChildRunner, Children};
