//! The ways to a daemon. Each asks one thing, takes one answer, and ends at
//! its deadline.

mod callbacks;
mod connect;
mod driver;
mod line;
mod multicast;
mod serial;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::settings::Transport;
use super::stderr_log::StderrLog;
use crate::fence::{Answer, Operation, Request, Target};
use crate::session::{ClientSession, Policy};
use crate::wire::Packet;

/// What is to be asked, and until when.
pub(super) struct AgentRequest {
    pub(super) operation: Operation,
    pub(super) target: Target,
    pub(super) is_uuid: bool,
    pub(super) policy: Arc<Policy>,
    pub(super) begin: Instant,
    pub(super) deadline: Instant,
    pub(super) log: StderrLog,
}

impl AgentRequest {
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How a time-out begins: with the words that pacemaker knows it by.
    fn timed_out(&self) -> String {
        let whole = self.deadline.saturating_duration_since(self.begin);
        // To the whole second above; `begin` is some microseconds after the deadline was set.
        let seconds = whole.as_secs() + u64::from(whole.subsec_nanos() > 0);
        format!("timed out after {seconds} s")
    }

    /// The request under a number of its own: one that begins in the same
    /// moment must not be taken for a duplicate.
    fn wire_request(&self) -> Result<Request, String> {
        let seqno = u32::from_le_bytes(random()?);
        Ok(Request { operation: self.operation, target: self.target.clone(), seqno })
    }

    fn flags(&self) -> u8 {
        u8::from(self.is_uuid)
    }

    /// The request with fresh salt, for tcp and vsock.
    fn packet(&self, request: Request) -> Result<Packet, String> {
        Ok(Packet {
            request,
            hash: self.policy.hash,
            address_len: 0,
            flags: self.flags(),
            address: [0; 28],
            port: 0,
            random: random()?,
            family: 0,
            digest: [0; 64],
        })
    }

    /// A session that begins with the request.
    fn session(&self) -> Result<ClientSession, String> {
        Ok(ClientSession::opening(self.policy.clone(), &self.packet(self.wire_request()?)?, random()?))
    }
}

/// How long a vmchannel is listened to before it is used. What is left on it
/// comes at once: the C agent leaves the end of each list unread, which reads
/// as a success.
const VMCHANNEL_SILENCE: Duration = Duration::from_millis(200);

const TCP_HINT: &str = "is fence_virtd running there with a tcp listener, and no firewall in between?";
const VMCHANNEL_HINT: &str =
    "has this VM a vmchannel, and a way to its address? (-T, -S and -D are the other ways to the host)";

/// A name that no VM has.
fn nobody() -> Result<Target, String> {
    let name = format!("no-vm-{:08x}", u32::from_le_bytes(random()?));
    Target::new(name.as_bytes()).map_err(|error| error.to_string())
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers from the system: {error}"))?;
    Ok(bytes)
}

/// Asks.
///
/// # Errors
///
/// A sentence that says why there is no answer.
pub(super) fn ask(transport: &Transport, request: &AgentRequest) -> Result<Answer, String> {
    match transport {
        Transport::Multicast { group, port, interface, retrans } => multicast::Multicast {
            group: *group,
            port: *port,
            interface: interface.as_deref(),
            retrans: *retrans,
        }
        .ask(request),
        Transport::Tcp { host, port } => {
            let mut stream = connect::tcp(host, *port, TCP_HINT, request)?;
            driver::converse(&format!("{host} port {port}"), &mut stream, &mut request.session()?, request)
        }
        Transport::Vsock { cid, port } => {
            let mut stream = connect::vsock(*cid, *port, request)?;
            driver::converse(&format!("CID {cid} port {port}"), &mut stream, &mut request.session()?, request)
        }
        Transport::Vmchannel { host, port } => {
            let peer = format!("the vmchannel {host} port {port}");
            // Taken before it is connected to: QEMU gives the answers to its newest connection.
            let mut line = line::LineClient::take(&format!("vmchannel-{host}-{port}"), &peer, request)?;
            let mut stream = connect::tcp(host, *port, VMCHANNEL_HINT, request)?;
            // Dropped in the other order: the stream goes before the line.
            line.send(&mut stream, VMCHANNEL_SILENCE, request)
        }
        Transport::Serial { device, framing } => serial::ask(device, *framing, request),
    }
}
