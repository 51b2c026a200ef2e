//! Connections to a virtual machine's host, or to another by its context id: vsock(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
#[cfg(feature = "daemon")]
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect as connect_socket, getsockopt, socket, sockopt,
};
#[cfg(feature = "daemon")]
use nix::sys::socket::{Backlog, accept4, bind, getpeername, listen as listen_on};

use super::poll::{Interest, PollSet};

/// Connects to a port of the machine with this context id (2: the host), and
/// gives up at `deadline`. The connection does not block.
///
/// # Errors
///
/// socket(2)'s or connect(2)'s: EAFNOSUPPORT without the kernel's vsock,
/// ENODEV without a transport to that context id, ECONNRESET where nobody
/// listens; `TimedOut` at the deadline.
pub fn connect(cid: u32, port: u32, deadline: Instant) -> io::Result<File> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    match connect_socket(fd.as_raw_fd(), &VsockAddr::new(cid, port)) {
        Ok(()) => return Ok(File::from(fd)),
        Err(Errno::EINPROGRESS | Errno::EAGAIN) => {}
        Err(errno) => return Err(errno.into()),
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut set = PollSet::new();
        let slot = set.add(fd.as_fd(), Interest::Write);
        set.wait(Some(left))?;
        if set.ready(slot).any() {
            return match getsockopt(&fd, sockopt::SocketError)? {
                0 => Ok(File::from(fd)),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
    }
}

/// Listens on a port of this machine for connections of any context id. The
/// socket does not block.
///
/// # Errors
///
/// socket(2)'s, bind(2)'s or listen(2)'s: EAFNOSUPPORT without the kernel's
/// vsock, EADDRINUSE, EACCES for ports below 1024 without privilege.
#[cfg(feature = "daemon")]
pub fn listen(port: u32) -> io::Result<OwnedFd> {
    let fd = reserve(port)?;
    listen_on(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

/// Takes a port of this machine without listening on it: nobody can connect.
///
/// # Errors
///
/// socket(2)'s or bind(2)'s, as with [`listen`].
#[cfg(feature = "daemon")]
pub fn reserve(port: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, port))?;
    Ok(fd)
}

/// Takes a connection that waits, and says which context id is at its other
/// end. It does not block.
///
/// # Errors
///
/// accept(2)'s, `WouldBlock` if none waits; that of a peer without an address.
#[cfg(feature = "daemon")]
pub fn accept(listener: &OwnedFd) -> io::Result<(OwnedFd, u32)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: accept4 has just made this descriptor, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let peer = getpeername::<VsockAddr>(fd.as_raw_fd())?;
    Ok((fd, peer.cid()))
}
