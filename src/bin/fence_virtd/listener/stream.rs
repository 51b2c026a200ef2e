//! A client's connection: non-blocking, perhaps still being made.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, recv, send,
    setsockopt, socket, sockopt,
};

/// What reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The peer hung up.
    End,
}

/// A stream socket of any family, which never blocks.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    connecting: bool,
}

impl Stream {
    /// One that is connected, and set not to block.
    pub(super) fn connected_by(socket: impl Into<OwnedFd>) -> Stream {
        Stream { socket: socket.into(), connecting: false }
    }

    /// Begins a connection to `address`, without waiting for it.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Stream> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Every message is written at once; waiting for more only delays it.
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        Ok(Stream { socket, connecting: true })
    }

    /// Whether the connection is still being made.
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
    }

    /// A connection that was being made turned out: made, or the reason why not.
    pub(super) fn connected(&mut self) -> io::Result<()> {
        self.connecting = false;
        match getsockopt(&self.socket, sockopt::SocketError)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Looks what a read would bring, and leaves it there.
    pub(super) fn peek(&self) -> io::Result<Input> {
        self.receive(&mut [0], MsgFlags::MSG_PEEK)
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        self.receive(buffer, MsgFlags::empty())
    }

    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> io::Result<Input> {
        match recv(self.socket.as_raw_fd(), buffer, flags) {
            Ok(0) => Ok(Input::End),
            Ok(count) => Ok(Input::Bytes(count)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Input::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes once; gives the bytes that went.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
