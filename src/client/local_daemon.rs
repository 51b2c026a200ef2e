//! Questions of the daemon's tools to a daemon on this host, asked as the agents ask them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::addresses;
use super::agent::Agent;
use super::report::{self, AgentOutcome};
use super::stderr_log::StderrLog;
use super::transport::{self, AgentRequest, HostReply, Multicast};
use crate::fence::{Answer, Operation, Target};
use crate::session::Policy;
use crate::sys::error_text;
use crate::time::Instant;

/// Time between two rounds of datagrams, as the agents have it by default.
const RETRANS: Duration = Duration::from_secs(2);

/// Context id by which a process reaches others of its machine: VMADDR_CID_LOCAL of vsock(7). Id 2 is the host of a
/// machine that is a VM itself.
const CID_LOCAL: u32 = 1;

/// Way to a listener of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalRoute {
    /// Multicast to a group; the daemon calls back, and call-backs of other hosts are not answered.
    Multicast {
        /// Group.
        group: IpAddr,
        /// UDP port.
        port: u16,
        /// Interface to send on; `None`: all that are up.
        interface: Option<String>,
    },
    /// TCP connection.
    Tcp {
        /// Address of this host.
        address: IpAddr,
        /// TCP port.
        port: u16,
    },
    /// Vsock connection to context id 1.
    Vsock {
        /// Vsock port; agents reach no higher ones.
        port: u16,
    },
}

impl LocalRoute {
    fn send(&self, request: &AgentRequest) -> Result<HostReply, String> {
        match self {
            LocalRoute::Multicast { group, port, interface } => {
                let interface = interface.as_deref();
                // They leave the host only if no socket here is in the group.
                Multicast { group: *group, port: *port, interface, retrans: RETRANS, hops: 0 }.send(request)
            }
            LocalRoute::Tcp { address, port } => transport::tcp(&address.to_string(), *port, request),
            LocalRoute::Vsock { port } => transport::vsock(CID_LOCAL, *port, request),
        }
    }
}

/// Kind of the listener and address.
impl fmt::Display for LocalRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalRoute::Multicast { group, port, .. } => write!(f, "multicast to {group} port {port}"),
            LocalRoute::Tcp { address, port } => write!(f, "tcp to {address} port {port}"),
            LocalRoute::Vsock { port } => write!(f, "vsock to CID {CID_LOCAL} port {port}"),
        }
    }
}

/// Daemon of this host, behind one of its listeners.
#[derive(Debug, Clone)]
pub struct LocalDaemon {
    /// Way to it.
    pub route: LocalRoute,
    /// Key and hashes to ask it with.
    pub policy: Arc<Policy>,
}

impl LocalDaemon {
    /// Sends a request and returns the answer. No other host is asked, also if it has the same key.
    ///
    /// # Errors
    ///
    /// A sentence with the reason why there is no answer that can be trusted.
    pub fn ask(&self, operation: Operation, target: &Target, limit: Duration) -> Result<Answer, String> {
        let own = addresses::own()
            .map_err(|error| format!("cannot list the addresses of this host: {}", error_text(&error)))?;
        if let LocalRoute::Tcp { address, .. } = &self.route {
            if !address.is_loopback() && !own.contains(address) {
                return Err(format!("this host does not have the address {address}"));
            }
        }
        let begin = Instant::now();
        let request = AgentRequest {
            operation,
            target: target.clone(),
            is_uuid: false,
            policy: self.policy.clone(),
            begin,
            deadline: begin + limit,
            only: Some(own),
            log: StderrLog { agent: Agent::Virt, is_debug: false },
        };
        self.route.send(&request).map(|reply| reply.answer)
    }
}

/// Describes an answer, or the lack of one, that is not the wanted one, in the words of the agents. `target` is empty
/// for an operation without a VM.
pub fn failure(operation: Operation, target: &Target, reply: &Result<Answer, String>) -> String {
    let outcome = match reply {
        Ok(answer) => AgentOutcome::Answered(answer.clone()),
        Err(reason) => AgentOutcome::Unanswered(reason.clone()),
    };
    report::failure(target.as_str(), operation, &outcome).unwrap_or_else(|| outcome.to_string())
}
