//! The vsock front: connections of any context id to a port of this host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use log::{info, warn};

use super::accepting::Door;
use super::stream::Stream;
use fence_virt::config::VsockConfig;
use fence_virt::fence::{ListenerName, Source};
use fence_virt::sys::vsock;

/// The device through which QEMU gives a VM its vsock. The node is there, and
/// loads the module when it is opened, where the kernel has the module at all.
const HOST_DEVICE: &str = "/dev/vhost-vsock";

pub(super) struct VsockDoor {
    listener: OwnedFd,
}

impl VsockDoor {
    pub(super) fn bind(name: &ListenerName, config: &VsockConfig) -> Result<VsockDoor, String> {
        let port = config.port;
        let explained = |error| format!("{name}: cannot listen on port {port}: {}", explain(&error));
        let listener = vsock::listen(port).map_err(explained)?;
        if !Path::new(HOST_DEVICE).exists() {
            warn!(
                "{name}: there is no {HOST_DEVICE}: no VM reaches this host until its module is loaded: modprobe vhost_vsock"
            );
        }
        info!("{name}: listening on port {port}");
        Ok(VsockDoor { listener })
    }
}

impl Door for VsockDoor {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.as_fd())
    }

    fn accept(&self) -> io::Result<(Stream, Source)> {
        let (socket, cid) = vsock::accept(&self.listener)?;
        Ok((Stream::connected_by(socket), Source::Cid(cid)))
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn attend(&mut self, _now: Instant) {}
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => {
            format!("{error}: this kernel has no vsock; load its module: modprobe vhost_vsock")
        }
        Some(libc::EADDRINUSE) => {
            format!("{error}: `ss -l --vsock -p` shows by whom (it needs the module vsock_diag)")
        }
        Some(libc::EACCES) => format!("{error}: ports below 1024 are root's"),
        _ => error.to_string(),
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
