//! setsockopt(2) for options that neither std nor nix covers.

use std::io;
use std::mem::size_of_val;
use std::os::fd::AsRawFd;

pub(super) fn set<T>(fd: &impl AsRawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: `value` is valid for `length` bytes; the kernel copies it.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (value as *const T).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
