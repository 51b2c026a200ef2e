//! Tells a service manager how far we are: the datagrams of sd_notify(3).

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager listens, from `$NOTIFY_SOCKET`.
#[derive(Debug)]
pub(crate) struct Notifier {
    target: Option<OsString>,
}

impl Notifier {
    pub(crate) fn from_environment() -> Notifier {
        Notifier { target: std::env::var_os("NOTIFY_SOCKET") }
    }

    /// Sends a state such as `READY=1`, if anybody listens.
    pub(crate) fn send(&self, state: &str) {
        let Some(target) = &self.target else { return };
        if let Err(error) = send(target.as_bytes(), state) {
            log::warn!("cannot notify the service manager at NOTIFY_SOCKET={target:?}: {error}");
        }
    }
}

fn send(target: &[u8], state: &str) -> io::Result<()> {
    let address = match target {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
