//! Transports to a daemon. Each sends one request, returns one answer, and ends at the request's deadline.

mod agent_request;
mod callbacks;
mod connect;
mod datagrams;
mod dispatch;
mod driver;
mod host_lists;
mod line;
mod listing;
mod multicast;
mod serial;

pub(super) use agent_request::{AgentRequest, HostReply, nobody};
pub(super) use dispatch::{lists, send};
#[cfg(feature = "daemon")]
pub(super) use dispatch::{tcp, vsock};
pub(super) use listing::{HostListing, VmListing};
#[cfg(feature = "daemon")]
pub(super) use multicast::Multicast;
