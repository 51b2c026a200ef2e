//! A client's connection: non-blocking, perhaps still being made.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

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

/// A connection to a client.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    connecting: bool,
}

impl Stream {
    /// One that was accepted.
    pub(super) fn accepted(socket: TcpStream) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        Ok(Stream { socket, connecting: false })
    }

    /// Begins a connection to `address`, without waiting for it.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Stream> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let socket = TcpStream::from(fd);
        // Every message is written at once; waiting for more only delays it.
        socket.set_nodelay(true)?;
        Ok(Stream { socket, connecting: true })
    }

    /// Whether the connection is still being made.
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
    }

    /// A connection that was being made turned out: made, or the reason why not.
    pub(super) fn connected(&mut self) -> io::Result<()> {
        self.connecting = false;
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    /// Looks what a read would bring, and leaves it there.
    pub(super) fn peek(&self) -> io::Result<Input> {
        match self.socket.peek(&mut [0]) {
            Ok(0) => Ok(Input::End),
            Ok(count) => Ok(Input::Bytes(count)),
            Err(error) if is_passing(&error) => Ok(Input::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        match self.socket.read(buffer) {
            Ok(0) => Ok(Input::End),
            Ok(count) => Ok(Input::Bytes(count)),
            Err(error) if is_passing(&error) => Ok(Input::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Writes once; gives the bytes that went.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.write(bytes) {
            Ok(count) => Ok(count),
            Err(error) if is_passing(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
