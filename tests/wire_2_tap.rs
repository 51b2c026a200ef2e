//! Version 2 of the wire (docs/WIRE-2.md) on a real network: a tap records sessions between the daemon and the agents,
//! and then every message of every session is put in the place of those of other sessions.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod common;

#[path = "wire_2_tap/exchange.rs"]
mod exchange;
#[path = "wire_2_tap/impostors.rs"]
mod impostors;
#[path = "wire_2_tap/lab.rs"]
mod lab;
#[path = "wire_2_tap/live.rs"]
mod live;
#[path = "wire_2_tap/recorded.rs"]
mod recorded;
#[path = "wire_2_tap/relay.rs"]
mod relay;
#[path = "wire_2_tap/tap.rs"]
mod tap;
#[path = "wire_2_tap/to_daemon.rs"]
mod to_daemon;
#[path = "wire_2_tap/vsock.rs"]
mod vsock;
