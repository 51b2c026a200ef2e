//! fcntl(2) locks with a timeout.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::with_timeout::with_timeout;
use crate::time::Instant;

/// Locks a whole file for writing, until it is closed. Waits for the process
/// that holds the lock; does not wait if the deadline has passed.
///
/// # Errors
///
/// Errors of fcntl(2); `TimedOut` if another process holds the lock at `deadline`.
pub fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_SETLK(&whole)) {
        Ok(_) => return Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => {}
        Err(errno) => return Err(errno.into()),
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // The lock belongs to the process, so a thread can wait for it. Closing the
    // thread's copy of the file would release the lock, so it stays open.
    let waiting = ManuallyDrop::new(file.try_clone()?);
    let waited = with_timeout(left, move || {
        loop {
            match fcntl(waiting.as_fd(), FcntlArg::F_SETLKW(&whole)) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    });
    match waited? {
        Some(result) => Ok(result.map(|_| ())?),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}
