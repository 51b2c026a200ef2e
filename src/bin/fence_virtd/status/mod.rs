//! What is going on: `fence_virtd --status` asks the daemon that runs, over a
//! unix socket that is for root alone (and for the user whom the daemon runs as).
//!
//! The question is one word and a line feed: text, json or openmetrics. The answer
//! is a line, `well` or `unwell`, and the report.

mod counts;
mod render;
mod server;
mod snapshot;

pub(crate) use counts::{Counts, Refusal};
pub(crate) use render::Form;
pub(crate) use server::{Sources, StatusSocket};
pub(crate) use snapshot::{ClusterState, UriState};
