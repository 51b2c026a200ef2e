//! Takes connections from a socket that listens, within bounds.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::Front;
use super::sessions::Sessions;
use super::stream::Stream;
use crate::status::Refusal;
use fence_virt::fence::Source;
use fence_virt::sys::poll::{Interest, PollSet, Readiness, Slot};

/// How long no connection is taken after the system ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections taken in one turn, so that one crowd does not starve the sessions.
const BATCH: usize = 64;

/// A socket that listens, or will.
pub(super) trait Door: Send {
    /// The socket, if it listens.
    fn socket(&self) -> Option<BorrowedFd<'_>>;

    /// Takes a connection that waits, and says from whom it comes.
    fn accept(&self) -> io::Result<(Stream, Source)>;

    /// When it wants to be attended to, if it does not listen yet.
    fn deadline(&self) -> Option<Instant>;

    /// Tries to listen, if it is time.
    fn attend(&mut self, now: Instant);
}

/// A front of connections that come in.
pub(super) struct Accepting<D> {
    door: D,
    /// While no connection is taken: until when.
    resume: Option<Instant>,
}

impl<D: Door> Accepting<D> {
    pub(super) fn new(door: D) -> Accepting<D> {
        Accepting { door, resume: None }
    }

    fn accept(&mut self, sessions: &mut Sessions, now: Instant) {
        for _ in 0..BATCH {
            match self.door.accept() {
                Ok((stream, source)) => sessions.accept(stream, source, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    sessions.complain(
                        Refusal::Error,
                        None,
                        now,
                        format_args!("cannot take a connection for now: {error}"),
                    );
                    self.resume = Some(now + PAUSE);
                    return;
                }
                // The connection is gone again; the next one need not be.
                Err(error) => sessions.complain(
                    Refusal::Error,
                    None,
                    now,
                    format_args!("a connection was lost: {error}"),
                ),
            }
        }
    }
}

impl<D: Door> Front for Accepting<D> {
    fn register<'a>(&'a self, set: &mut PollSet<'a>, slots: &mut Vec<Slot>) {
        if let (Some(socket), None) = (self.door.socket(), self.resume) {
            slots.push(set.add(socket, Interest::Read));
        }
    }

    fn attend(&mut self, ready: &[Readiness], sessions: &mut Sessions, now: Instant) {
        if self.resume.is_some_and(|at| now >= at) {
            self.resume = None;
        }
        self.door.attend(now);
        if ready.iter().any(|ready| ready.any()) {
            self.accept(sessions, now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.resume.into_iter().chain(self.door.deadline()).min()
    }
}

/// Whether accepting failed for want of descriptors or memory, which taking
/// the next connection at once would not mend.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
