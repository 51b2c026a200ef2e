//! Status of the running daemon, served to `fence_virtd --status` over a unix
//! socket that only root and the daemon's own user may use.
//!
//! A query is a line: `text`, `json` or `openmetrics`, to which the reply is a line, `well` or `unwell`, and
//! the report; or `history text` or `history json`, both perhaps with a VM behind them, to which the reply is
//! the line `history` and the power operations. `reload` with the path of the configuration has the daemon reload it;
//! the reply, once that is done, is a line, `reloaded` or `refused`, and the changes or the reason.
#![forbid(unsafe_code)]

mod counts;
mod form;
mod history;
mod openmetrics;
mod query;
mod reload_order;
mod render;
mod server;
mod snapshot;

pub(crate) use counts::{Counts, Refusal};
pub(crate) use form::{Form, HistoryForm};
pub(crate) use query::{HISTORY, Query, REFUSED, RELOADED, UNWELL, WELL};
pub(crate) use reload_order::ReloadOrder;
pub(crate) use server::{Sources, StatusSocket};
pub(crate) use snapshot::{ClusterState, FencerState, HostFencingState, LaneReport, OldestCall, UriState};
