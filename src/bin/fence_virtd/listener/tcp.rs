//! The tcp front: connections to an address of this host.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use log::{info, warn};
use nix::sys::socket::{setsockopt, sockopt};

use super::accepting::Door;
use super::stream::Stream;
use fence_virt::config::TcpConfig;
use fence_virt::fence::{ListenerName, Source};

/// How often an address that this host does not have yet is tried again.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct TcpDoor {
    name: ListenerName,
    address: SocketAddr,
    state: State,
}

enum State {
    Listening(TcpListener),
    /// This host does not have the address yet: tried again then; why, as it was last said.
    Awaited(Instant, io::ErrorKind),
}

impl TcpDoor {
    pub(super) fn bind(name: &ListenerName, config: &TcpConfig, wait: bool) -> Result<TcpDoor, String> {
        let address = SocketAddr::new(config.address, config.port);
        match listen(address) {
            Ok(listener) => {
                info!("{name}: listening on {address}");
                Ok(TcpDoor { name: name.clone(), address, state: State::Listening(listener) })
            }
            Err(error) if wait && error.kind() == io::ErrorKind::AddrNotAvailable => {
                warn!("{name}: this host does not have the address {} yet: waiting for it", address.ip());
                Ok(TcpDoor {
                    name: name.clone(),
                    address,
                    state: State::Awaited(Instant::now() + RETRY, error.kind()),
                })
            }
            Err(error) => Err(format!("{name}: cannot listen on {address}: {}", explain(&error))),
        }
    }
}

impl Door for TcpDoor {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Listening(listener) => Some(listener.as_fd()),
            State::Awaited(..) => None,
        }
    }

    fn accept(&self) -> io::Result<(Stream, Source)> {
        let State::Listening(listener) = &self.state else { return Err(io::ErrorKind::WouldBlock.into()) };
        let (socket, peer) = listener.accept()?;
        socket.set_nonblocking(true)?;
        Ok((Stream::connected_by(socket), Source::ip(peer.ip())))
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Listening(_) => None,
            State::Awaited(at, _) => Some(at),
        }
    }

    fn attend(&mut self, now: Instant) {
        let State::Awaited(at, reason) = self.state else { return };
        if now < at {
            return;
        }
        match listen(self.address) {
            Ok(listener) => {
                info!("{}: listening on {}", self.name, self.address);
                self.state = State::Listening(listener);
            }
            Err(error) => {
                if reason != error.kind() {
                    warn!("{}: still cannot listen on {}: {}", self.name, self.address, explain(&error));
                }
                self.state = State::Awaited(now + RETRY, error.kind());
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Its connections inherit this: every message is written at once, waiting for more only delays it.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    Ok(listener)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!("{error}: this host does not have that address (wait_for_init waits for it)")
        }
        io::ErrorKind::AddrInUse => format!("{error}: `ss -ltnp` shows by whom"),
        _ => error.to_string(),
    }
}
