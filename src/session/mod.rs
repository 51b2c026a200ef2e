//! State machines of the exchange between a daemon and a client: bytes and
//! instants in, bytes and events out. They own neither socket nor clock.
#![forbid(unsafe_code)]

mod agent_session;
mod answer;
mod answer_with_macs;
mod client;
mod guest_line;
mod line;
mod misconduct;
mod policy;
mod protocol_error;
mod scanner;
mod server;
mod sync_probe;
#[cfg(test)]
mod version_2_tests;

pub use agent_session::AgentSession;
pub use answer::LIST_MAX;
pub use client::ClientSession;
pub use guest_line::{Arrival, GuestLine, LINE_QUEUE_MAX, LINE_READ_MAX};
pub use line::LineSession;
pub use misconduct::Misconduct;
pub use policy::{CheckedPacket, Policy, Signer, WhichKey};
pub use protocol_error::{Awaited, ProtocolError};
pub use scanner::{STALL_LIMIT, Scanner};
pub use server::{HANDSHAKE_LIMIT, REPLY_LIMIT, ServerSession, SessionEvent};
pub use sync_probe::{SYNC_PROBE_LEN, SyncProbe, is_probe, nobody};
