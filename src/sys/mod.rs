//! System calls and C libraries that the standard library and nix do not
//! cover: the only place with unsafe code. Independent of fencing.
#![allow(unsafe_code)]

pub mod clock;
mod error_text;
pub mod file_lock;
pub mod multicast_sender;
pub mod mutex;
mod option;
pub mod poll;
pub mod syslog;
pub mod tty;
pub mod vsock;
pub mod with_timeout;

#[cfg(feature = "daemon")]
pub mod child;
#[cfg(feature = "daemon")]
pub mod corosync;
#[cfg(feature = "daemon")]
pub mod detach;
#[cfg(feature = "daemon")]
pub mod mailbox;
#[cfg(feature = "daemon")]
pub mod multicast;
#[cfg(feature = "daemon")]
pub mod netlink;
#[cfg(feature = "daemon")]
pub mod peer;
#[cfg(feature = "daemon")]
mod shared_library;
#[cfg(feature = "daemon")]
pub mod signals;
#[cfg(feature = "daemon")]
pub mod stonith;
#[cfg(feature = "daemon")]
pub mod unix;

pub use error_text::error_text;
