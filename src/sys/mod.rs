//! The operating system, as far as the standard library and nix do not reach:
//! the only place with unsafe code. It knows nothing of fencing.
#![allow(unsafe_code)]

pub mod lock;
pub mod multicast_sender;
pub mod mutex;
mod option;
pub mod poll;
pub mod syslog;
pub mod tty;
pub mod vsock;
pub mod within;

#[cfg(feature = "daemon")]
pub mod clock;
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
pub mod signals;
#[cfg(feature = "daemon")]
pub mod unix;
