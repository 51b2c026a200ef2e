//! Checks of the host that the start and `--check` share.

use nix::net::if_::if_nametoindex;

use fence_virt::config::{MulticastConfig, SerialConfig};

/// Returns a warning if the configured network interface does not exist.
pub(crate) fn missing_interface(config: &MulticastConfig) -> Option<String> {
    let name = config.interface.as_ref().filter(|name| if_nametoindex(name.as_str()).is_err())?;
    Some(format!("this host has no interface {name}: the start fails, or with wait_for_init waits for it"))
}

/// Returns a warning if the configured directory of sockets does not exist.
pub(crate) fn missing_directory(config: &SerialConfig) -> Option<String> {
    let path = config.path.as_ref().filter(|path| !path.is_dir())?;
    Some(format!("there is no folder {}: no socket of a VM can be in it", path.display()))
}
