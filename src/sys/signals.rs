//! Signals through signalfd(2): blocked in every thread, read by one.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that stop the daemon.
const STOPPING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// Descriptor for the signals that stop the daemon (SIGTERM, SIGINT, SIGQUIT) or make it reload (SIGHUP).
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    reload: Cell<bool>,
}

impl Signals {
    /// Blocks the signals in this thread and its future children, and opens the descriptor.
    ///
    /// # Errors
    ///
    /// Errors of sigprocmask(2) and signalfd(2).
    pub fn block() -> io::Result<Signals> {
        let blocked: SigSet = STOPPING.into_iter().chain([Signal::SIGHUP]).collect();
        blocked.thread_block()?;
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, reload: Cell::new(false) })
    }

    /// Returns the name of the next pending stop signal, if any, and remembers
    /// a reload signal for [`Signals::take_reload`].
    ///
    /// # Errors
    ///
    /// Errors of read(2).
    pub fn next(&self) -> io::Result<Option<&'static str>> {
        while let Some(info) = self.fd.read_signal()? {
            match STOPPING.into_iter().find(|signal| *signal as u32 == info.ssi_signo) {
                Some(signal) => return Ok(Some(signal.as_str())),
                None => self.reload.set(true),
            }
        }
        Ok(None)
    }

    /// Returns true if a reload signal was read since the last call.
    pub fn take_reload(&self) -> bool {
        self.reload.take()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
