//! Attacks on the daemon by hostile clients, guests and tenants, on real sockets in network
//! namespaces: floods, replays, reflections, extended hashes, half-open sessions, borrowed
//! names, and guests that do not read or never stop. SECURITY.md says what is promised.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod common;

#[path = "attack/borrowed.rs"]
mod borrowed;
#[path = "attack/clients.rs"]
mod clients;
#[path = "attack/digests.rs"]
mod digests;
#[path = "attack/extension.rs"]
mod extension;
#[path = "attack/floods.rs"]
mod floods;
#[path = "attack/half_open.rs"]
mod half_open;
#[path = "attack/honest.rs"]
mod honest;
#[path = "attack/host.rs"]
mod host;
#[path = "attack/names.rs"]
mod names;
#[path = "attack/reflection.rs"]
mod reflection;
#[path = "attack/replay.rs"]
mod replay;
#[path = "attack/slow_guests.rs"]
mod slow_guests;
#[path = "attack/under_flood.rs"]
mod under_flood;
