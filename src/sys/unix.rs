//! Non-blocking connections to unix sockets: unix(7).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket};

/// Connects to a stream socket without waiting. The connection is non-blocking.
///
/// # Errors
///
/// Errors of socket(2) and connect(2): ENOENT, ECONNREFUSED without a listener, EAGAIN if its backlog
/// is full, ENAMETOOLONG for a path of more than 107 bytes, EMFILE.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_socket(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn connecting_never_waits() {
        let folder = std::env::temp_dir().join(format!("fence-unix-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        assert_eq!(connect(&path).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let listener = UnixListener::bind(&path).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match connect(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::EAGAIN), "the backlog is full");
        drop(listener);
        assert_eq!(connect(&path).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        let long = folder.join("x".repeat(120));
        assert_eq!(connect(&long).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
