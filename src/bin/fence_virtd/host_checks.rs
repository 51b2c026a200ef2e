//! Checks of the host that the start and `--check` share.
#![forbid(unsafe_code)]

use std::path::Path;

use nix::net::if_::if_nametoindex;

use fence_virt::config::{MulticastConfig, SerialConfig};

/// Returns a warning if the configured network interface does not exist.
pub(crate) fn missing_interface(config: &MulticastConfig) -> Option<String> {
    let name = config.interface.as_ref().filter(|name| if_nametoindex(name.as_str()).is_err())?;
    Some(format!(
        "this host has no interface {name}: the daemon will not start, or wait for it with wait_for_init"
    ))
}

/// Returns a warning if VMs cannot have a vsock: QEMU gives them one through this device. Its node exists if the
/// kernel has the module; opening it loads the module.
pub(crate) fn missing_vsock_device() -> Option<String> {
    const DEVICE: &str = "/dev/vhost-vsock";
    let warning = || {
        format!("{DEVICE} does not exist: no VM can connect until its module is loaded: modprobe vhost_vsock")
    };
    (!Path::new(DEVICE).exists()).then(warning)
}

/// Returns a warning if the configured directory of sockets does not exist.
pub(crate) fn missing_directory(config: &SerialConfig) -> Option<String> {
    let path = config.path.as_ref().filter(|path| !path.is_dir())?;
    Some(format!("directory {} does not exist, so no VM can have a socket in it", path.display()))
}
