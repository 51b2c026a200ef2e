//! Connects to the sockets of running VMs for the serial listener.
//!
//! The XML of a running VM names its sockets. A connection counts only if the same run still exists after it
//! was made, and while no other running VM has the socket: else the peer could be another VM.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{info, trace, warn};
use nix::sys::resource::{Resource, getrlimit, rlim_t};

use super::change_handler::DomainObserver;
use super::change_queue::ChangeQueue;
use super::domain_query::DomainQuery;
use super::serial_scope::wanted_sockets;
use super::socket_registry::SocketRegistry;
use super::vm_socket::VmSocket;
use crate::libvirt::{DomainRun, LibvirtResult};
use crate::logging::Limiter;
use crate::serial_event::{ConnectedLine, LineId, SerialEvent, SerialSink};
use fence_virt::config::{SerialConfig, SerialMode};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{Domain, Uuid};
use fence_virt::sys::{error_text, unix};
use fence_virt::time::Instant;

/// File descriptors reserved for libvirt and other listeners.
const DESCRIPTORS_RESERVED: rlim_t = 64;
/// Reason for not using a socket while the limit of open files is near.
const NO_DESCRIPTOR: &str = "the daemon has almost reached its limit of open files (LimitNOFILE, ulimit -n)";
/// Reason for not using a socket that exists.
const CONFLICT: &str = "another running VM, or the same VM on another URI, has the same socket";

pub(super) struct Connector {
    uri: String,
    config: SerialConfig,
    listener: SerialSink,
    vms: BTreeMap<Uuid, VmSockets>,
    /// Sockets of all running VMs, shared by all watchers of the listener.
    registry: SocketRegistry,
    /// Conflicts in the registry that were handled.
    conflicts: u64,
    queue: ChangeQueue,
    /// Limits log lines about sockets that refuse.
    limiter: Limiter,
    /// Descriptors from this number on are not used for lines.
    descriptors_max: rlim_t,
}

struct VmSockets {
    domain: Arc<Domain>,
    run: u32,
    sockets: Vec<VmSocket>,
}

impl Connector {
    /// Creates the connector of the watcher with this queue.
    pub(super) fn new(
        uri: &str,
        config: &SerialConfig,
        listener: SerialSink,
        queue: ChangeQueue,
        registry: SocketRegistry,
    ) -> Connector {
        registry.join(queue.clone());
        Connector {
            uri: uri.to_owned(),
            config: config.clone(),
            listener,
            vms: BTreeMap::new(),
            registry,
            conflicts: 0,
            queue,
            limiter: Limiter::new(100, Duration::from_secs(1), Instant::now()),
            descriptors_max: descriptors_for_lines(),
        }
    }

    fn close(&self, socket: &VmSocket) {
        if let Some(line) = socket.line() {
            (self.listener)(SerialEvent::Removed(line));
        }
    }

    /// Closes the lines on sockets that another VM has claimed since.
    fn close_conflicting(&mut self, now: Instant) {
        let conflicts = self.registry.conflicts();
        if std::mem::replace(&mut self.conflicts, conflicts) == conflicts {
            return;
        }
        for vm in self.vms.values_mut() {
            for socket in vm.sockets.iter_mut().filter(|socket| !socket.claim.is_sole()) {
                if let Some(line) = socket.line() {
                    warn!("serial: {}: {} is closed: {CONFLICT}", vm.domain, socket.path.display());
                    socket.put_off(now);
                    (self.listener)(SerialEvent::Removed(line));
                }
            }
        }
    }

    /// Connects to the sockets of one VM that are due.
    fn connect(&mut self, uuid: Uuid, query: &dyn DomainQuery, now: Instant) {
        let Some(vm) = self.vms.get_mut(&uuid) else { return };
        let limit = self.descriptors_max;
        let mut connected = Vec::new();
        for (at, socket) in vm.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.is_due(now)) {
            let is_sole = socket.claim.is_sole();
            let outcome = if is_sole { connect(&socket.path, limit) } else { Err(CONFLICT.to_owned()) };
            match outcome {
                Ok(stream) => connected.push((at, stream)),
                Err(reason) => socket.failed(&vm.domain, &reason, &mut self.limiter, now),
            }
        }
        if connected.is_empty() {
            return;
        }
        // Queried after connecting: this run had the socket at that time.
        let found = query.find(uuid).inspect_err(|error| trace!("serial: {}: {error}", vm.domain));
        let is_same_run = found.ok().flatten().is_some_and(|found| found.id == vm.run);
        for (at, stream) in connected {
            let Some(socket) = vm.sockets.get_mut(at) else { return };
            if !is_same_run || !socket.claim.is_sole() {
                socket.put_off(now);
                continue;
            }
            let id = self.registry.next_line();
            socket.opened(id, now);
            let queue = self.queue.clone();
            (self.listener)(SerialEvent::Connected(ConnectedLine {
                id,
                stream,
                domain: vm.domain.clone(),
                path: socket.path.clone(),
                on_lost: Box::new(move || queue.line_lost(id)),
            }));
        }
    }
}

impl DomainObserver for Connector {
    fn running(&mut self, vm: &DomainRun, devices: Devices, now: Instant) {
        let uuid = vm.domain.uuid;
        let wanted = wanted_sockets(&self.config, devices);
        let mut sockets = Vec::new();
        if let Some(known) = self.vms.remove(&uuid) {
            for socket in known.sockets {
                let is_kept = known.run == vm.id && wanted.contains(&socket.path);
                if is_kept { sockets.push(socket) } else { self.close(&socket) }
            }
        }
        for path in wanted {
            if !sockets.iter().any(|socket| socket.path == path) {
                let claim = self.registry.claim(&path);
                sockets.push(VmSocket::new(path, claim, now));
            }
        }
        self.vms.insert(uuid, VmSockets { domain: vm.domain.clone(), run: vm.id, sockets });
    }

    fn stopped(&mut self, uuid: Uuid) {
        for socket in self.vms.remove(&uuid).map_or(Vec::new(), |vm| vm.sockets) {
            self.close(&socket);
        }
    }

    fn synced(&mut self) {
        let sockets: usize = self.vms.values().map(|vm| vm.sockets.len()).sum();
        let kind = match self.config.mode {
            SerialMode::Serial => "serial ports",
            SerialMode::VmChannel => "channels",
        };
        let folder = self.config.path.iter().map(|path| format!(" in {}", path.display()));
        let folder: String = folder.collect();
        let Connector { uri, vms, .. } = self;
        let running = vms.len();
        info!("serial: {uri}: {running} running VMs with {sockets} {kind} (type unix, mode bind){folder}");
    }

    fn lost(&mut self) {
        // QEMU runs on without libvirtd, so the connected lines stay.
    }

    fn line_lost(&mut self, line: LineId, now: Instant) {
        let mut sockets = self.vms.values_mut().flat_map(|vm| &mut vm.sockets);
        if let Some(socket) = sockets.find(|socket| socket.line() == Some(line)) {
            socket.lost(now);
        }
    }

    fn turn(&mut self, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        self.close_conflicting(now);
        let is_due = |vm: &VmSockets| vm.sockets.iter().any(|socket| socket.is_due(now));
        let due: Vec<Uuid> = self.vms.iter().filter(|(_, vm)| is_due(vm)).map(|(&uuid, _)| uuid).collect();
        for uuid in due {
            // Without libvirt nobody knows which VM has a socket.
            query.check()?;
            self.connect(uuid, query, now);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.vms.values().flat_map(|vm| &vm.sockets).filter_map(VmSocket::retry_at).min()
    }
}

/// Connects to a socket, unless the descriptors for lines are used up.
fn connect(path: &Path, descriptors_max: rlim_t) -> Result<OwnedFd, String> {
    let stream = unix::connect(path).map_err(|error| explain(&error))?;
    // The kernel assigns the lowest free number, so it shows how many are in use.
    if rlim_t::try_from(stream.as_raw_fd()).is_ok_and(|number| number >= descriptors_max) {
        return Err(NO_DESCRIPTOR.to_owned());
    }
    Ok(stream)
}

fn descriptors_for_lines() -> rlim_t {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    soft - DESCRIPTORS_RESERVED.min(soft / 2)
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "another client is connected, and more are waiting".to_owned(),
        Some(libc::EACCES) => {
            format!("{}: the daemon may not use this socket", error_text(error))
        }
        _ => error_text(error),
    }
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
