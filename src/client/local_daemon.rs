//! Questions of the daemon's tools to a daemon on this host, asked as the agents ask them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::addresses;
use super::agent::Agent;
use super::report::{self, AgentOutcome};
use super::settings::Transport;
use super::stderr_log::StderrLog;
use super::transport::{self, AgentRequest};
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

/// Daemon of this host, behind one of its listeners.
#[derive(Debug, Clone)]
pub struct LocalDaemon {
    transport: Transport,
    /// Address of a TCP listener.
    address: Option<IpAddr>,
    policy: Arc<Policy>,
}

impl LocalDaemon {
    /// Daemon at the end of a route, with the key and the hashes to ask it with.
    pub fn new(route: LocalRoute, policy: Policy) -> LocalDaemon {
        let address = match route {
            LocalRoute::Tcp { address, .. } => Some(address),
            LocalRoute::Multicast { .. } | LocalRoute::Vsock { .. } => None,
        };
        let transport = match route {
            LocalRoute::Multicast { group, port, interface } => {
                Transport::Multicast { group, port, interface, retrans: RETRANS, hops: 0 }
            }
            LocalRoute::Tcp { address, port } => Transport::Tcp { host: address.to_string(), port },
            LocalRoute::Vsock { port } => Transport::Vsock { cid: CID_LOCAL, port },
        };
        LocalDaemon { transport, address, policy: Arc::new(policy) }
    }

    /// Sends a request and returns the answer.
    ///
    /// # Errors
    ///
    /// A sentence with the reason why there is no answer that can be trusted.
    pub fn ask(&self, operation: Operation, target: &Target, limit: Duration) -> Result<Answer, String> {
        let own = addresses::own()
            .map_err(|error| format!("cannot list the addresses of this host: {}", error_text(&error)))?;
        // The address may be one of another host, with a daemon that has the same key.
        if let Some(foreign) = self.address.filter(|address| !address.is_loopback() && !own.contains(address))
        {
            return Err(format!("this host does not have the address {foreign}"));
        }
        let begin = Instant::now();
        let request = AgentRequest {
            operation,
            target: target.clone(),
            is_uuid: false,
            policy: self.policy.clone(),
            begin,
            deadline: begin + limit,
            // A multicast with TTL 0 leaves the host if no socket here is in its group.
            only: Some(own),
            log: StderrLog { agent: Agent::Virt, is_debug: false },
        };
        transport::send(&self.transport, &request).map(|reply| reply.answer)
    }
}

/// Kind of the transport and address.
impl fmt::Display for LocalDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)
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
