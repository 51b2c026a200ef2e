//! Signals as a descriptor: blocked in every thread, read by one.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that stop the daemon, and the one that asks it to reload, as a
/// descriptor to poll.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    reload: Cell<bool>,
}

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all that it will
    /// start, and receives them.
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
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, reload: Cell::new(false) })
    }

    /// The name of the next signal to stop that came, if any. One to reload is
    /// remembered meanwhile.
    ///
    /// # Errors
    ///
    /// read(2)'s.
    pub fn next(&self) -> io::Result<Option<&'static str>> {
        while let Some(info) = self.fd.read_signal()? {
            match info.ssi_signo as i32 {
                libc::SIGHUP => self.reload.set(true),
                libc::SIGTERM => return Ok(Some("SIGTERM")),
                _ => return Ok(Some("SIGINT")),
            }
        }
        Ok(None)
    }

    /// Whether a signal to reload has come since this was last asked.
    pub fn take_reload(&self) -> bool {
        self.reload.take()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
