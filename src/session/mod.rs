//! The exchange between a daemon and a client as machines: bytes and
//! instants in, bytes and events out. They own neither socket nor clock.
#![forbid(unsafe_code)]

mod answer;
mod client;
mod gather;
mod line;
mod row;
mod server;

pub use answer::LIST_MAX;
pub use client::{Awaited, Breach, ClientSession};
pub use line::LineSession;
pub use row::{ROW_LEN, Row};
pub use server::{Event, HANDSHAKE_LIMIT, Misconduct, Policy, REPLY_LIMIT, ServerSession};
