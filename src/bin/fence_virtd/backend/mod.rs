//! Backends: the interface to the worker, and the libvirt backend. The cpg backend has a room of its own.
#![forbid(unsafe_code)]

mod interface;
pub(crate) mod libvirt;

pub(crate) use interface::{Backend, PendingCall};
