//! Signals as a descriptor: blocked in every thread, read by one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that stop the daemon, as a descriptor to poll.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all that it will
    /// start, and receives the first two. SIGHUP is blocked and not received:
    /// the end of a terminal must not end a fencing daemon (as in the C one).
    ///
    /// # Errors
    ///
    /// sigprocmask(2)'s and signalfd(2)'s.
    pub fn block() -> io::Result<Signals> {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.add(Signal::SIGINT);
        blocked.add(Signal::SIGHUP);
        blocked.thread_block()?;
        blocked.remove(Signal::SIGHUP);
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd })
    }

    /// The name of the next signal that came, if any.
    ///
    /// # Errors
    ///
    /// read(2)'s.
    pub fn next(&self) -> io::Result<Option<&'static str>> {
        Ok(self.fd.read_signal()?.map(|info| match info.ssi_signo as i32 {
            libc::SIGTERM => "SIGTERM",
            _ => "SIGINT",
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
