use std::fs;
use std::path::{Path, PathBuf};

use super::domain_query::DomainQuery;
use crate::libvirt::{Connection, DomainRun, LibvirtResult};
use fence_virt::config::{SerialConfig, SerialMode};
use fence_virt::domain_xml::Devices;

/// Sockets of a VM that the serial listener serves by its configuration.
pub(super) fn wanted_sockets(config: &SerialConfig, devices: Devices) -> Vec<PathBuf> {
    let mut paths = match config.mode {
        SerialMode::Serial => devices.serials,
        SerialMode::VmChannel => devices.channels,
    };
    paths.retain(|path| config.path.as_ref().is_none_or(|folder| is_directly_in(path, folder)));
    paths
}

/// True if a socket is in this folder and not deeper. /var/run is /run, also if the
/// configuration has the one name and the XML the other.
fn is_directly_in(path: &Path, folder: &Path) -> bool {
    let Some(parent) = path.parent() else { return false };
    // Path's comparison ignores `//`, `/./` and a trailing `/`.
    parent == folder
        || fs::canonicalize(parent)
            .is_ok_and(|parent| fs::canonicalize(folder).is_ok_and(|folder| parent == folder))
}

/// Numbers of VMs that a serial listener would serve at a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineCounts {
    /// Running VMs.
    pub(crate) running: usize,
    /// Running VMs with a socket that the listener would connect to.
    pub(crate) with_socket: usize,
}

/// Counts them over a new connection. May block forever.
pub(crate) fn lines(uri: &str, config: &SerialConfig) -> LibvirtResult<LineCounts> {
    let connection = Connection::open(uri)?;
    let running = connection.running()?;
    let has_socket = |vm: &DomainRun| -> LibvirtResult<bool> {
        // A VM that has stopped meanwhile, or whose XML cannot be read, has none.
        let devices = connection.devices(vm.domain.uuid)?.and_then(Result::ok);
        Ok(devices.is_some_and(|devices| !wanted_sockets(config, devices).is_empty()))
    };
    let with_socket = running.iter().map(has_socket).collect::<Result<Vec<_>, _>>()?;
    Ok(LineCounts { running: running.len(), with_socket: with_socket.into_iter().filter(|has| *has).count() })
}
