//! The operating system, as far as the standard library and nix do not reach:
//! the only place with unsafe code. It knows nothing of fencing.
#![allow(unsafe_code)]

pub mod detach;
pub mod mailbox;
pub mod multicast;
pub mod netlink;
pub mod poll;
pub mod signals;
pub mod syslog;
