//! Status of the running daemon, served to `fence_virtd --status` over a unix
//! socket that only root and the daemon's own user may use.
//!
//! A query is a line: `text`, `table`, `json` or `openmetrics`, to which the reply is a line, `well` or `unwell`,
//! and the report; or `history text` or `history json`, both perhaps with a VM behind them, to which the reply is
//! the line `history` and the power operations. The first line of a reply also has the path of the daemon's
//! configuration, in hexadecimal digits, by which the client knows whether it has reached the daemon it meant.
//! `reload` with the path of the configuration has the daemon reload it; the reply, once that is done, is a line,
//! `reloaded` or `refused`, and the changes or the reason. `hold` with a time in seconds, subject, reason (both in
//! hexadecimal digits) and the path places a hold, `release` with subject and path ends one; the replies are
//! `held`, `released` or `refused`.
//!
//! | step | module |
//! | --- | --- |
//! | what is recorded meanwhile | `counts`, `reception`, `last_reload` |
//! | the state at one moment | `sources` takes a `snapshot` |
//! | problems and warnings | `judgement` |
//! | the report | `render`: `text`, `report_json`, `openmetrics`; `history` |
//! | the socket | `server`, `query` |
#![forbid(unsafe_code)]

mod client_order;
mod counts;
mod down;
mod form;
mod history;
mod judgement;
mod last_reload;
mod openmetrics;
mod place;
mod query;
mod reception;
mod render;
mod report_json;
#[cfg(test)]
mod sample;
mod server;
mod snapshot;
mod sources;
mod span;
mod table;
mod text;

pub(crate) use client_order::{ClientOrder, OrderKind};
pub(crate) use counts::{Counts, Refusal};
pub(crate) use down::down;
pub(crate) use form::{Form, HistoryForm};
pub(crate) use last_reload::LastReload;
pub(crate) use place::ListeningPlace;
pub(crate) use query::{HELD, HISTORY, Query, REFUSED, RELEASED, RELOADED, UNWELL, WELL, parse_reply_head};
pub(crate) use reception::{Channel, Reception};
pub(crate) use server::StatusSocket;
pub(crate) use snapshot::{ClusterState, FencerState, HostFencingState, LaneReport, OldestCall, UriState};
pub(crate) use sources::{KeysInForce, ListenerSource, Sources};
