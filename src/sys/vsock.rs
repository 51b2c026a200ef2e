//! Connections between virtual machines and their host: vsock(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
#[cfg(feature = "daemon")]
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect as connect_socket, getsockopt, socket, sockopt,
};
#[cfg(feature = "daemon")]
use nix::sys::socket::{Backlog, accept4, bind, getpeername, listen as listen_on};

use super::poll::{Interest, PollSet};
use crate::time::Instant;

/// Connects to a port of the machine with this context id (2: the host) before
/// `deadline`. The connection is non-blocking.
///
/// # Errors
///
/// Errors of socket(2) and connect(2): EAFNOSUPPORT without vsock in the kernel, ENODEV without a
/// transport to the context id, ECONNRESET without a listener; `TimedOut` at the deadline.
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

/// True if processes of this machine can connect to each other by the context id 1: the kernel has loaded
/// `vsock_loopback`.
#[cfg(feature = "daemon")]
pub fn has_loopback() -> bool {
    let flags = SockFlag::SOCK_CLOEXEC;
    let any_port = VsockAddr::new(libc::VMADDR_CID_LOCAL, libc::VMADDR_PORT_ANY);
    socket(AddressFamily::Vsock, SockType::Stream, flags, None)
        .is_ok_and(|fd| bind(fd.as_raw_fd(), &any_port).is_ok())
}

/// Listens on a port of this machine for connections of any context id. The socket is non-blocking.
///
/// # Errors
///
/// Errors of socket(2), bind(2) and listen(2): EAFNOSUPPORT without vsock in
/// the kernel, EADDRINUSE, EACCES for ports below 1024 without privilege.
#[cfg(feature = "daemon")]
pub fn listen(port: u32) -> io::Result<OwnedFd> {
    let fd = reserve(port)?;
    listen_on(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

/// Binds to a port of this machine without listening: nobody can connect.
///
/// # Errors
///
/// Errors of socket(2) and bind(2), as with [`listen`].
#[cfg(feature = "daemon")]
pub fn reserve(port: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, port))?;
    Ok(fd)
}

/// Accepts a pending connection, non-blocking, and returns the peer's context id.
///
/// # Errors
///
/// Errors of accept(2), `WouldBlock` if none is pending, and of getpeername(2).
#[cfg(feature = "daemon")]
pub fn accept(listener: &OwnedFd) -> io::Result<(OwnedFd, u32)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: accept4 has just opened this descriptor, and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let peer = getpeername::<VsockAddr>(fd.as_raw_fd())?;
    Ok((fd, peer.cid()))
}
