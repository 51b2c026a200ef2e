//! Status of the running daemon, served to `fence_virtd --status` over a unix
//! socket that only root and the daemon's own user may use.
//!
//! A query is one word and a line feed: `text`, `json` or `openmetrics`. The
//! reply is a line, `well` or `unwell`, and the report.
#![forbid(unsafe_code)]

mod counts;
mod form;
mod openmetrics;
mod render;
mod server;
mod snapshot;

pub(crate) use counts::{Counts, Refusal};
pub(crate) use form::Form;
pub(crate) use server::{Sources, StatusSocket};
pub(crate) use snapshot::{ClusterState, FencerState, HostFencingState, LaneReport, OldestCall, UriState};
