//! Scope of a serial listener by its configuration: URIs of this host, and sockets of their VMs.

use std::fs;
use std::path::{Path, PathBuf};

use super::domain_query::DomainQuery;
use crate::libvirt::{Connection, DomainRun, LibvirtResult};
use fence_virt::config::{SerialConfig, SerialMode};
use fence_virt::domain_xml::Devices;

/// The serial listener's own URI, or else those of the backend.
fn uris_of_lines<'a>(config: &'a SerialConfig, backend: &'a [String]) -> &'a [String] {
    config.uri.as_ref().map_or(backend, std::slice::from_ref)
}

/// URIs of this host whose VMs the serial listener serves.
pub(crate) fn local_uris<'a>(
    config: &'a SerialConfig,
    backend: &'a [String],
) -> impl Iterator<Item = &'a String> {
    uris_of_lines(config, backend).iter().filter(|uri| is_local(uri))
}

/// Warnings about URIs whose VMs the serial listener cannot serve.
pub(crate) fn warn_of_remote(config: &SerialConfig, backend: &[String]) -> Vec<String> {
    let remote = uris_of_lines(config, backend).iter().filter(|uri| !is_local(uri));
    remote.map(|uri| format!("{uri} is on another host: cannot connect to the sockets of its VMs")).collect()
}

/// True if a URI is one of this host: `driver[+transport]://[user@][host][:port]/..`,
/// see <https://libvirt.org/uri.html>. A tunnel without a host name goes unnoticed.
pub(super) fn is_local(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once("://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    host.is_empty() || scheme.ends_with("+unix") || matches!(host, "localhost" | "127.0.0.1" | "::1")
}

/// Sockets of a VM that the serial listener serves by its configuration.
pub(super) fn wanted_sockets(config: &SerialConfig, devices: Devices) -> Vec<PathBuf> {
    let mut paths = match config.mode {
        SerialMode::Serial => devices.serials,
        SerialMode::VmChannel => devices.channels,
    };
    paths.retain(|path| config.path.as_ref().is_none_or(|folder| is_directly_in(path, folder)));
    paths
}

/// True if a VM with these devices has a socket that the serial listener serves by its configuration.
pub(crate) fn has_socket(config: &SerialConfig, devices: &Devices) -> bool {
    !wanted_sockets(config, devices.clone()).is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_with_another_host_is_not_local() {
        for local in [
            "qemu:///system",
            "test:///default",
            "test+unix:///default?socket=/run/x@y",
            "qemu+unix:///session",
            "qemu+unix://anything/system",
            "qemu+tcp://localhost/system",
            "qemu+ssh://root@127.0.0.1:2222/system",
            "qemu+tls://[::1]/system",
            "xen",
        ] {
            assert!(is_local(local), "{local}");
        }
        for remote in [
            "qemu://other/system",
            "qemu+ssh://root@other/system",
            "qemu+tcp://192.0.2.1:16509/system",
            "qemu+tls://[2001:db8::1]/system",
            "test+libssh2://user@other/default?socket=/x",
        ] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
