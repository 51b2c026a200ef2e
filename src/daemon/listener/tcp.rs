//! The tcp front: accepts connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{info, warn};
use nix::sys::socket::{setsockopt, sockopt};

use super::Front;
use super::sessions::Sessions;
use super::stream::Stream;
use crate::config::TcpConfig;
use crate::fence::Source;
use crate::sys::poll::{Interest, PollSet, Readiness, Slot};

/// How often an address that this host does not have yet is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long no connection is taken after the system ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections taken in one turn, so that one crowd does not starve the sessions.
const BATCH: usize = 64;

pub(super) struct TcpFront {
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// While the listener is awaited or pauses: until when.
    resume: Option<Instant>,
    /// Why it is awaited, as it was last said.
    reason: io::ErrorKind,
}

impl TcpFront {
    pub(super) fn bind(config: &TcpConfig, wait: bool) -> Result<TcpFront, String> {
        let address = SocketAddr::new(config.address, config.port);
        let reason = io::ErrorKind::AddrNotAvailable;
        match listen(address) {
            Ok(listener) => Ok(TcpFront { address, listener: Some(listener), resume: None, reason }),
            Err(error) if wait && error.kind() == io::ErrorKind::AddrNotAvailable => {
                warn!("tcp: this host does not have the address {} yet: waiting for it", address.ip());
                Ok(TcpFront { address, listener: None, resume: Some(Instant::now() + RETRY), reason })
            }
            Err(error) => Err(format!("tcp: cannot listen on {address}: {}", explain(&error))),
        }
    }

    fn retry(&mut self, now: Instant) {
        match listen(self.address) {
            Ok(listener) => {
                info!("tcp: listening on {}", self.address);
                self.listener = Some(listener);
                self.resume = None;
            }
            Err(error) => {
                if self.reason != error.kind() {
                    warn!("tcp: still cannot listen on {}: {}", self.address, explain(&error));
                    self.reason = error.kind();
                }
                self.resume = Some(now + RETRY);
            }
        }
    }

    fn accept(&mut self, sessions: &mut Sessions, now: Instant) {
        let Some(listener) = &self.listener else { return };
        for _ in 0..BATCH {
            match listener.accept() {
                Ok((socket, peer)) => match Stream::accepted(socket) {
                    Ok(stream) => sessions.accept(stream, Source::ip(peer.ip()), now),
                    Err(error) => sessions.complain(now, format_args!("{peer}: {error}")),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    sessions.complain(now, format_args!("cannot take a connection for now: {error}"));
                    self.resume = Some(now + PAUSE);
                    return;
                }
                // The connection is gone again; the next one need not be.
                Err(error) => sessions.complain(now, format_args!("a connection was lost: {error}")),
            }
        }
    }
}

impl Front for TcpFront {
    fn register<'a>(&'a self, set: &mut PollSet<'a>, slots: &mut Vec<Slot>) {
        if let (Some(listener), None) = (&self.listener, self.resume) {
            slots.push(set.add(listener.as_fd(), Interest::Read));
        }
    }

    fn attend(&mut self, ready: &[Readiness], sessions: &mut Sessions, now: Instant) {
        if self.resume.is_some_and(|at| now >= at) {
            match self.listener {
                Some(_) => self.resume = None,
                None => self.retry(now),
            }
        }
        if ready.iter().any(|ready| ready.any()) {
            self.accept(sessions, now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.resume
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

/// Whether accepting failed for want of descriptors or memory, which taking
/// the next connection at once would not mend.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
