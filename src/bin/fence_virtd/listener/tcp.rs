//! Listening socket of the tcp listener: an address of this host.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use log::{info, warn};
use nix::sys::socket::{Backlog, setsockopt, sockopt};

use super::interfaces::no_address;
use super::stream::NonblockingStream;
use super::stream_acceptor::ListeningSocket;
use crate::port_owner::{self, Protocol};
use crate::status::{Channel, Reception};
use fence_virt::config::TcpConfig;
use fence_virt::fence::{ListenerName, Source};
use fence_virt::sys::error_text;
use fence_virt::time::Instant;

/// Interval between attempts to bind an address that this host does not have yet.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct TcpSocket {
    name: ListenerName,
    address: SocketAddr,
    state: TcpState,
    reception: Reception,
}

enum TcpState {
    Listening(TcpListener),
    /// This host does not have the address yet.
    Waiting {
        retry_at: Instant,
        last_error: io::ErrorKind,
    },
}

impl TcpSocket {
    pub(super) fn bind(
        name: &ListenerName,
        config: &TcpConfig,
        wait: bool,
        reception: &Reception,
    ) -> Result<TcpSocket, String> {
        let address = SocketAddr::new(config.address, config.port);
        let state = match listen(address) {
            Ok(listener) => {
                info!("{name}: listening on {address}");
                TcpState::Listening(listener)
            }
            Err(error) if wait && error.kind() == io::ErrorKind::AddrNotAvailable => {
                warn!("{name}: this host does not have the address {} yet: waiting for it", address.ip());
                TcpState::Waiting { retry_at: Instant::now() + RETRY, last_error: error.kind() }
            }
            Err(error) => {
                return Err(format!("{name}: cannot listen on {address}: {}", explain(&error, address)));
            }
        };
        let socket = TcpSocket { name: name.clone(), address, state, reception: reception.clone() };
        socket.report();
        Ok(socket)
    }

    /// Records whether the socket listens.
    fn report(&self) {
        let ip = self.address.ip();
        self.reception.set_channel(match self.state {
            TcpState::Listening(_) => Channel::open(ip.to_string()),
            TcpState::Waiting { last_error: io::ErrorKind::AddrNotAvailable, .. } => {
                Channel::closed(ip.to_string(), no_address(ip))
            }
            TcpState::Waiting { last_error, .. } => {
                Channel::closed(ip.to_string(), format!("cannot listen on {}: {last_error}", self.address))
            }
        });
    }
}

impl ListeningSocket for TcpSocket {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            TcpState::Listening(listener) => Some(listener.as_fd()),
            TcpState::Waiting { .. } => None,
        }
    }

    fn accept(&self) -> io::Result<(NonblockingStream, Source)> {
        let TcpState::Listening(listener) = &self.state else { return Err(io::ErrorKind::WouldBlock.into()) };
        let (socket, peer) = listener.accept()?;
        socket.set_nonblocking(true)?;
        Ok((NonblockingStream::connected(socket), Source::ip(peer.ip())))
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            TcpState::Listening(_) => None,
            TcpState::Waiting { retry_at, .. } => Some(retry_at),
        }
    }

    fn retry(&mut self, now: Instant) {
        let TcpState::Waiting { retry_at, last_error } = self.state else { return };
        if now < retry_at {
            return;
        }
        match listen(self.address) {
            Ok(listener) => {
                info!("{}: listening on {}", self.name, self.address);
                self.state = TcpState::Listening(listener);
            }
            Err(error) => {
                if error.kind() != last_error {
                    warn!(
                        "{}: still cannot listen on {}: {}",
                        self.name,
                        self.address,
                        explain(&error, self.address)
                    );
                }
                self.state = TcpState::Waiting { retry_at: now + RETRY, last_error: error.kind() };
            }
        }
        self.report();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // The default is 128: a crowd of clients fills that while this process waits for a processor, and then
    // the SYN of the next one is dropped, which is sent again a second later.
    nix::sys::socket::listen(&listener, Backlog::MAXCONN)?;
    listener.set_nonblocking(true)?;
    // Inherited by its connections: every message is written at once; Nagle's algorithm would only delay it.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    Ok(listener)
}

fn explain(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{}: this host does not have that address; correct `address`, or start with -w to wait for it",
                error_text(error)
            )
        }
        io::ErrorKind::AddrInUse => match port_owner::owner_of(error, Protocol::Tcp, address) {
            Some(owner) => format!("{}: {owner} has the port", error_text(error)),
            None => format!("{}: `ss -ltnp` shows which process uses it", error_text(error)),
        },
        _ => error_text(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    #[test]
    fn a_crowd_waits_to_be_accepted() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let crowd: io::Result<Vec<TcpStream>> = (0..300).map(connect).collect();
        assert_eq!(crowd.map(|crowd| crowd.len()).ok(), Some(300));
    }
}
