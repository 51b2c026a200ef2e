//! Transports to a daemon. Each sends one request, returns one answer, and ends at the request's deadline.

mod agent_request;
mod callbacks;
mod connect;
mod datagrams;
mod dispatch;
mod driver;
mod line;
mod multicast;
mod serial;

pub(super) use agent_request::AgentRequest;
pub(super) use dispatch::send;
