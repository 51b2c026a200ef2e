//! Connections over TCP and vsock.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::agent_request::AgentRequest;
use crate::sys::error_text;
use crate::sys::vsock as system;
use crate::sys::with_timeout::with_timeout;
use crate::time::Instant;

/// Connects to the first reachable address of `host`. Each address gets an equal
/// share of the time left, so that an unresponsive one does not use up all of it.
/// The stream is non-blocking. `hint` is appended to the error.
pub(super) fn tcp(host: &str, port: u16, hint: &str, request: &AgentRequest) -> Result<TcpStream, String> {
    let addresses = resolve(host, port, request)?;
    let mut failures = Vec::new();
    for (at, address) in addresses.iter().enumerate() {
        let left = request.time_left();
        if left.is_zero() {
            break;
        }
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        request.log.debug(format_args!("connecting to {address}"));
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => {
                let prepared = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                prepared.map_err(|error| format!("{address}: {}", error_text(&error)))?;
                return Ok(stream);
            }
            Err(error) => {
                let reason = format!("{address}: {}", explain(&error));
                request.log.debug(format_args!("{reason}"));
                failures.push(reason);
            }
        }
    }
    Err(match failures.is_empty() {
        true => format!("{} connecting to {host} port {port}", request.timed_out()),
        false => format!("cannot connect to {host} port {port} ({}); {hint}", failures.join(", ")),
    })
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        // The words by which pacemaker recognises a timeout.
        ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error_text(error),
    }
}

/// Resolves a host name or address. The resolver, which has no timeout, runs in a separate thread.
fn resolve(host: &str, port: u16, request: &AgentRequest) -> Result<Vec<SocketAddr>, String> {
    let host = host.trim();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    request.log.debug(format_args!("resolving {host}"));
    let name = host.to_owned();
    let found = with_timeout(request.time_left(), move || {
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    });
    match found {
        Ok(Some(Ok(mut addresses))) => {
            addresses.dedup();
            match addresses.is_empty() {
                true => Err(format!("{host} has no address")),
                false => Ok(addresses),
            }
        }
        Ok(None) => Err(format!("{} resolving {host}", request.timed_out())),
        Ok(Some(Err(error))) | Err(error) => Err(format!("cannot resolve {host}: {}", error_text(&error))),
    }
}

/// Connects over vsock.
pub(super) fn vsock(cid: u32, port: u16, request: &AgentRequest) -> Result<File, String> {
    request.log.debug(format_args!("connecting to CID {cid} port {port}"));
    let deadline: Instant = request.deadline;
    system::connect(cid, port.into(), deadline).map_err(|error| {
        let hint = match error.raw_os_error() {
            _ if error.kind() == ErrorKind::TimedOut => {
                return format!("{} connecting to CID {cid} port {port} over vsock", request.timed_out());
            }
            Some(libc::EAFNOSUPPORT) => {
                "this kernel has no vsock: load the module vmw_vsock_virtio_transport and give the VM a <vsock> device"
            }
            Some(libc::ENODEV | libc::ENETUNREACH | libc::EADDRNOTAVAIL) => {
                "no vsock route: give the VM a <vsock> device and load vmw_vsock_virtio_transport"
            }
            _ => "is fence_virtd running there with a vsock listener, and not too busy to accept?",
        };
        let reason = error_text(&error);
        format!("cannot connect to CID {cid} port {port} over vsock: {reason}; {hint}")
    })
}
