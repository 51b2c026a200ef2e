//! Acceptor of connections from a listening socket, with limits.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use log::debug;

use super::service::Acceptor;
use super::sessions::Sessions;
use super::stream::{NonblockingStream, is_out_of_descriptors};
use crate::pauses::Pause;
use crate::status::Refusal;
use fence_virt::fence::Source;
use fence_virt::sys::error_text;
use fence_virt::sys::poll::{Interest, PollSet, Slot};
use fence_virt::time::Instant;

/// Pause after the system ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);
/// Maximum connections accepted in one turn, so that a crowd does not starve the sessions.
const BATCH: usize = 64;

/// Socket that listens, or that will once its address exists.
pub(super) trait ListeningSocket: Send {
    /// Descriptor, if the socket listens.
    fn socket(&self) -> Option<BorrowedFd<'_>>;

    /// Accepts a pending connection; returns it with its peer.
    fn accept(&self) -> io::Result<(NonblockingStream, Source)>;

    /// Time of the next `retry`, if the socket does not listen yet.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Tries to listen, if the deadline has passed.
    fn retry(&mut self, _now: Instant) {}
}

/// Acceptor of the connections of one socket.
pub(super) struct StreamAcceptor<L> {
    socket: L,
    /// Descriptor to give up where none is left: only once a connection is accepted its peer is known, and
    /// so which session has to go.
    spare: Option<File>,
    /// End of a pause.
    resume: Option<Instant>,
    /// Time since which connections may wait to be accepted, until there are none left.
    waiting_since: Option<Instant>,
}

impl<L: ListeningSocket> StreamAcceptor<L> {
    pub(super) fn new(socket: L) -> StreamAcceptor<L> {
        StreamAcceptor { socket, spare: open_spare(), resume: None, waiting_since: None }
    }

    fn accept_batch(&mut self, sessions: &mut Sessions, now: Instant) {
        // A short wait for descriptors is none to mind.
        let since = self.waiting_since.filter(|&since| Pause::between(since, now).is_some());
        for _ in 0..BATCH {
            let outcome = match self.socket.accept() {
                Ok((stream, source)) => {
                    sessions.accept(stream, source, since, now);
                    Ok(())
                }
                Err(error) if is_out_of_descriptors(&error) => self.accept_in_place(sessions, since, now),
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { continue };
            // Without a descriptor the kernel does not look whether a connection is pending (EMFILE).
            if error.kind() == io::ErrorKind::WouldBlock {
                self.waiting_since = None;
                return;
            }
            sessions.log().log_refusal(
                Refusal::Error,
                None,
                format_args!("cannot accept a connection: {}", error_text(&error)),
                now,
            );
            // After any other error, which concerns one connection, the next one may succeed.
            if is_shortage(&error) {
                self.resume = Some(now + PAUSE);
                self.waiting_since.get_or_insert(now);
                return;
            }
        }
    }

    /// Accepts a connection where no descriptor is left. One session has to go: another one, or that of the
    /// connection.
    fn accept_in_place(
        &mut self,
        sessions: &mut Sessions,
        since: Option<Instant>,
        now: Instant,
    ) -> io::Result<()> {
        if self.spare.take().is_none() && !sessions.free_descriptor(now) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let accepted = self.socket.accept();
        let outcome = accepted.map(|(stream, source)| sessions.accept_in_place(stream, source, since, now));
        self.spare = open_spare();
        outcome
    }
}

impl<L: ListeningSocket> Acceptor<Sessions> for StreamAcceptor<L> {
    fn register<'a>(&'a self, set: &mut PollSet<'a>) -> Vec<Slot> {
        let socket = self.socket.socket().filter(|_| self.resume.is_none());
        socket.map(|socket| set.add(socket, Interest::Read)).into_iter().collect()
    }

    fn deadline(&self) -> Option<Instant> {
        self.resume.into_iter().chain(self.socket.deadline()).min()
    }

    fn accept(&mut self, ready: &[bool], sessions: &mut Sessions, now: Instant) {
        self.resume = self.resume.filter(|at| now < *at);
        self.socket.retry(now);
        self.waiting_since = self.waiting_since.or(sessions.waiting_since());
        match ready {
            [true] => self.accept_batch(sessions, now),
            [false] => self.waiting_since = None,
            // The socket was not polled.
            _ => {}
        }
    }
}

fn open_spare() -> Option<File> {
    File::open("/dev/null")
        .inspect_err(|error| debug!("cannot reserve a file descriptor: {}", error_text(error)))
        .ok()
}

/// Returns true if the system is out of descriptors or memory, which an immediate retry cannot mend.
fn is_shortage(error: &io::Error) -> bool {
    is_out_of_descriptors(error) || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
#[path = "stream_acceptor_tests.rs"]
mod tests;
