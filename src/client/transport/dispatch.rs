use std::time::Duration;

use super::agent_request::AgentRequest;
use super::driver::drive;
use super::line::LineClient;
use super::multicast::Multicast;
use super::{connect, serial};
use crate::client::settings::Transport;
use crate::fence::Answer;

/// Time to listen to a vmchannel before use. Leftovers arrive at once: the C
/// agent leaves the end of each list unread, which reads as a success.
const VMCHANNEL_SILENCE: Duration = Duration::from_millis(200);

const TCP_HINT: &str = "is fence_virtd running there with a tcp listener, and no firewall in between?";
const VMCHANNEL_HINT: &str = "does this VM have a vmchannel and a route to its address? (-T, -S and -D, or ipaddr, vsock and serial_device on stdin, \
     choose other transports)";

/// Sends the request over the transport and returns the daemon's answer.
/// Errors: a message with the reason for the missing answer.
pub(in crate::client) fn send(transport: &Transport, request: &AgentRequest) -> Result<Answer, String> {
    match transport {
        Transport::Multicast { group, port, interface, retrans } => {
            let interface = interface.as_deref();
            Multicast { group: *group, port: *port, interface, retrans: *retrans }.send(request)
        }
        Transport::Tcp { host, port } => {
            let mut stream = connect::tcp(host, *port, TCP_HINT, request)?;
            drive(&format!("{host} port {port}"), &mut stream, &mut request.session()?, request)
        }
        Transport::Vsock { cid, port } => {
            let mut stream = connect::vsock(*cid, *port, request)?;
            drive(&format!("CID {cid} port {port}"), &mut stream, &mut request.session()?, request)
        }
        Transport::Vmchannel { host, port } => {
            let peer = format!("the vmchannel {host} port {port}");
            // Locked before connecting: QEMU sends answers to its newest connection.
            let mut line = LineClient::lock(&format!("vmchannel-{host}-{port}"), &peer, request)?;
            // Declared after the line, so that it is closed before the lock is released.
            let mut stream = connect::tcp(host, *port, VMCHANNEL_HINT, request)?;
            line.send(&mut stream, VMCHANNEL_SILENCE, request)
        }
        Transport::Serial { device, framing } => serial::send(device, *framing, request),
    }
}
