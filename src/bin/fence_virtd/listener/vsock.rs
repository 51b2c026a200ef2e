//! Listening socket of the vsock listener: a port of this host, for peers of any context id.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::{info, warn};

use super::stream::NonblockingStream;
use super::stream_acceptor::ListeningSocket;
use crate::host_checks::missing_vsock_device;
use crate::status::{Channel, Reception};
use fence_virt::config::VsockConfig;
use fence_virt::fence::{ListenerName, Source};
use fence_virt::sys::error_text;
use fence_virt::sys::vsock;

pub(super) struct VsockSocket {
    listener: OwnedFd,
}

impl VsockSocket {
    pub(super) fn bind(
        name: &ListenerName,
        config: &VsockConfig,
        reception: &Reception,
    ) -> Result<VsockSocket, String> {
        let port = config.port;
        let failed = |error| format!("{name}: cannot listen on port {port}: {}", explain(&error));
        let listener = vsock::listen(port).map_err(failed)?;
        if let Some(warning) = missing_vsock_device() {
            warn!("{name}: {warning}");
        }
        info!("{name}: listening on port {port}");
        reception.set_channel(Channel::open("vsock"));
        Ok(VsockSocket { listener })
    }
}

impl ListeningSocket for VsockSocket {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.as_fd())
    }

    fn accept(&self) -> io::Result<(NonblockingStream, Source)> {
        let (socket, cid) = vsock::accept(&self.listener)?;
        Ok((NonblockingStream::connected(socket), Source::Cid(cid)))
    }
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => {
            format!(
                "{}: this kernel has no vsock support; load the module: modprobe vhost_vsock",
                error_text(error)
            )
        }
        Some(libc::EADDRINUSE) => {
            format!(
                "{}: `ss -l --vsock -p` shows which process uses it (needs the module vsock_diag)",
                error_text(error)
            )
        }
        Some(libc::EACCES) => format!("{}: ports below 1024 require root", error_text(error)),
        _ => error_text(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_vsock_names_the_module() {
        let reason = explain(&io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        assert!(reason.contains("modprobe vhost_vsock"), "{reason}");
    }
}
