//! Non-blocking stream sockets: TCP, vsock or unix, perhaps not connected yet.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, recv, send,
    setsockopt, socket, sockopt,
};

/// Reason for closing or refusing a session where the process or the system has no file descriptor left.
pub(super) const NO_DESCRIPTOR: &str = "no file descriptor is left (LimitNOFILE, ulimit -n)";

/// Returns true if the process or the system has no file descriptor left.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Outcome of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Number of bytes read.
    Bytes(usize),
    WouldBlock,
    HungUp,
}

/// Stream socket of any family that never blocks.
#[derive(Debug)]
pub(super) struct NonblockingStream {
    socket: OwnedFd,
    is_connecting: bool,
}

impl NonblockingStream {
    /// Wraps a connected socket, which must be non-blocking already.
    pub(super) fn connected(socket: impl Into<OwnedFd>) -> NonblockingStream {
        NonblockingStream { socket: socket.into(), is_connecting: false }
    }

    /// Begins to connect to `address`.
    pub(super) fn connect(address: SocketAddr) -> io::Result<NonblockingStream> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Every message is written at once; Nagle's algorithm would only delay it.
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        Ok(NonblockingStream { socket, is_connecting: true })
    }

    /// True until `finish_connect`, on a stream from `connect`.
    pub(super) fn is_connecting(&self) -> bool {
        self.is_connecting
    }

    /// Ends a connection attempt that poll(2) reports as ready; returns its error if it failed.
    pub(super) fn finish_connect(&mut self) -> io::Result<()> {
        self.is_connecting = false;
        match getsockopt(&self.socket, sockopt::SocketError)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Returns the outcome of a read without removing the input.
    pub(super) fn peek(&self) -> io::Result<ReadOutcome> {
        self.receive(&mut [0], MsgFlags::MSG_PEEK)
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        self.receive(buffer, MsgFlags::empty())
    }

    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> io::Result<ReadOutcome> {
        match recv(self.socket.as_raw_fd(), buffer, flags) {
            Ok(0) => Ok(ReadOutcome::HungUp),
            Ok(count) => Ok(ReadOutcome::Bytes(count)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(ReadOutcome::WouldBlock),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes as much as the peer takes; returns the number of bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for NonblockingStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
