use std::time::Duration;

use super::agent_request::{AgentRequest, HostReply};
use super::driver::drive;
use super::line::LineClient;
use super::listing::{self, HostListing};
use super::multicast::Multicast;
use super::{connect, serial};
use crate::client::settings::Transport;
use crate::fence::Answer;

/// Time to listen to a vmchannel before use. Leftovers arrive at once: the C
/// agent leaves the end of each list unread, which reads as a success.
const VMCHANNEL_SILENCE: Duration = Duration::from_millis(200);

/// TTL of multicasts, as set by the C agent.
const HOPS: u32 = 2;

const TCP_HINT: &str = "is fence_virtd running there with a tcp listener, and no firewall in between?";
const VMCHANNEL_HINT: &str = "does this VM have a vmchannel and a route to its address? (-T, -S and -D, or ipaddr, vsock and serial_device on stdin, \
     choose other transports)";

/// Sends the request over the transport and returns the daemon's answer.
/// Errors: a message with the reason for the missing answer.
pub(in crate::client) fn send(transport: &Transport, request: &AgentRequest) -> Result<HostReply, String> {
    let answer = match transport {
        Transport::Multicast { group, port, interface, retrans } => {
            let interface = interface.as_deref();
            return Multicast { group: *group, port: *port, interface, retrans: *retrans, hops: HOPS }
                .send(request);
        }
        Transport::Tcp { host, port } => return tcp(host, *port, request),
        Transport::Vsock { cid, port } => return vsock(*cid, *port, request),
        Transport::Vmchannel { host, port } => {
            let peer = format!("the vmchannel {host} port {port}");
            // Locked before connecting: QEMU sends answers to its newest connection.
            let mut line = LineClient::lock(&format!("vmchannel-{host}-{port}"), &peer, request)?;
            // Declared after the line, so that it is closed before the lock is released.
            let mut stream = connect::tcp(host, *port, VMCHANNEL_HINT, request)?;
            line.send(&mut stream, VMCHANNEL_SILENCE, request)
        }
        Transport::Serial { device, framing } => serial::send(device, *framing, request),
    }?;
    Ok(only_host(answer))
}

/// Sends the request over TCP.
/// Errors: those of [`send`].
pub(in crate::client) fn tcp(host: &str, port: u16, request: &AgentRequest) -> Result<HostReply, String> {
    let mut stream = connect::tcp(host, port, TCP_HINT, request)?;
    drive(&format!("{host} port {port}"), &mut stream, &mut request.session()?, request).map(only_host)
}

/// Sends the request over vsock.
/// Errors: those of [`send`].
pub(in crate::client) fn vsock(cid: u32, port: u16, request: &AgentRequest) -> Result<HostReply, String> {
    let mut stream = connect::vsock(cid, port, request)?;
    drive(&format!("CID {cid} port {port}"), &mut stream, &mut request.session()?, request).map(only_host)
}

/// Reply where there is one host to ask.
fn only_host(answer: Answer) -> HostReply {
    HostReply { answer, host: None, is_bound: false }
}

/// Sends a list request, in search of the request's VM: to the one host that there is, or to all that hear the
/// multicasts. `reply` is the answer in question.
/// Errors: a message with the reason why nothing is known.
pub(in crate::client) fn lists(
    transport: &Transport,
    request: &AgentRequest,
    reply: &HostReply,
) -> Result<Vec<HostListing>, String> {
    if let (Transport::Multicast { group, port, interface, retrans }, Some(host)) = (transport, reply.host) {
        let interface = interface.as_deref();
        let multicast = Multicast { group: *group, port: *port, interface, retrans: *retrans, hops: HOPS };
        return multicast.lists(request, host);
    }
    let HostReply { answer, host, .. } = send(transport, request)?;
    Ok(vec![HostListing { host, vm: listing::read(&answer, &request.target, false) }])
}
