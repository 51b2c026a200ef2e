//! The exchange between a daemon and a client as a machine: bytes and
//! instants in, bytes and events out. It owns neither socket nor clock.
#![forbid(unsafe_code)]

mod gather;
mod server;

pub use server::{Event, HANDSHAKE_LIMIT, Misconduct, Policy, REPLY_LIMIT, ServerSession};
