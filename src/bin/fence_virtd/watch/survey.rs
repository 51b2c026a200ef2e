//! How many VMs a serial listener would serve, for who only asks.

use super::census::Census;
use super::connector::wanted;
use crate::libvirt::DomainRun;
use crate::libvirt::{Connection, Failed};
use fence_virt::config::SerialConfig;

/// VMs and their lines at a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    /// How many VMs run.
    pub(crate) running: usize,
    /// How many of those have a socket that the listener would connect to.
    pub(crate) with_socket: usize,
}

/// Counts them, over a connection of its own. May take for ever.
pub(crate) fn lines(uri: &str, config: &SerialConfig) -> Result<Lines, Failed> {
    let connection = Connection::open(uri)?;
    let running = connection.running()?;
    let has_socket = |vm: &DomainRun| -> Result<bool, Failed> {
        // One that has stopped meanwhile, or whose XML cannot be read, has none.
        let devices = connection.devices(vm.domain.uuid)?.and_then(Result::ok);
        Ok(devices.is_some_and(|devices| !wanted(config.mode, config.path.as_deref(), devices).is_empty()))
    };
    let with_socket = running.iter().map(has_socket).collect::<Result<Vec<_>, _>>()?;
    Ok(Lines { running: running.len(), with_socket: with_socket.into_iter().filter(|has| *has).count() })
}
