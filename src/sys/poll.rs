//! poll(2) over a set that is built anew for every turn: no registration can become stale.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Events to wait for on a descriptor. Errors and hang-ups are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Input or end of file.
    Read,
    /// Room for output.
    Write,
    /// Both.
    Both,
    /// Neither: only a hang-up of the peer.
    HangUp,
}

/// Events that occurred on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Input, end of file, hang-up or error: read to learn which.
    pub read: bool,
    /// Room for output, hang-up or error: write to learn which.
    pub write: bool,
}

impl Readiness {
    /// True if any event occurred.
    pub fn any(self) -> bool {
        self.read || self.write
    }
}

/// Index of a descriptor in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// Descriptors of one turn.
#[derive(Debug, Default)]
pub struct PollSet<'fd> {
    fds: Vec<PollFd<'fd>>,
}

impl<'fd> PollSet<'fd> {
    /// Makes an empty set.
    pub fn new() -> PollSet<'fd> {
        PollSet::default()
    }

    /// Adds a descriptor.
    pub fn add(&mut self, fd: BorrowedFd<'fd>, interest: Interest) -> Slot {
        let flags = match interest {
            Interest::Read => PollFlags::POLLIN,
            Interest::Write => PollFlags::POLLOUT,
            Interest::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
            Interest::HangUp => PollFlags::empty(),
        };
        self.fds.push(PollFd::new(fd, flags));
        Slot(self.fds.len() - 1)
    }

    /// Waits for an event or the timeout; none waits indefinitely. The timeout is rounded up to whole
    /// milliseconds, so that a deadline has passed when it returns. A signal ends the wait early.
    ///
    /// # Errors
    ///
    /// Errors of poll(2).
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let millis = |wait: Duration| i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = timeout.map_or(PollTimeout::NONE, |wait| {
            PollTimeout::try_from(millis(wait)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut self.fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns the events of this slot.
    pub fn ready(&self, slot: Slot) -> Readiness {
        let flags = self.fds.get(slot.0).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let broken = flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL);
        Readiness {
            read: broken || flags.contains(PollFlags::POLLIN),
            write: broken || flags.contains(PollFlags::POLLOUT),
        }
    }
}
