//! Backends: the interface to the worker, the libvirt backend, and fence agents of other projects as places beside
//! libvirt URIs. The cpg backend has a room of its own.
#![forbid(unsafe_code)]

#[cfg(feature = "agent-backend")]
pub(crate) mod agent;
mod interface;
pub(crate) mod libvirt;

pub(crate) use interface::{Backend, PendingCall};
