//! Connects to the sockets of the VMs that run, and hands the connections to
//! the serial listener.
//!
//! Who is at the other end of a socket is what libvirt says: its path stands
//! in the XML of a VM that runs. A connection counts only if the same run of
//! that VM is still there after it was made, and only as long as no other VM
//! that runs has the socket; else it could be another's by now.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use nix::sys::resource::{Resource, getrlimit, rlim_t};

use super::census::Census;
use super::claims::{Claim, Claims};
use super::{Follower, Inbox};
use crate::libvirt::DomainRun;
use crate::libvirt::Failed;
use crate::logging::{Limiter, Suppressed};
use crate::serial_event::{ConnectedLine, LineId, SerialEvent, SerialSink};
use fence_virt::config::{SerialConfig, SerialMode};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{Domain, Uuid};
use fence_virt::sys::unix;

/// The first and the longest interval between attempts to connect to a socket.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// So many descriptors are left for libvirt and for other listeners.
const DESCRIPTORS_LEFT: rlim_t = 64;
/// Why a socket is not used though it is there.
const CONFLICT: &str = "another VM that runs, or the same at another URI, has the same socket";
/// A socket that refuses for so long is worth a line in the log.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Connector {
    mode: SerialMode,
    path: Option<PathBuf>,
    listener: SerialSink,
    vms: BTreeMap<Uuid, Vm>,
    /// The sockets of all VMs that run, shared by all watchers of the listener.
    claims: Claims,
    /// The conflicts among them that were seen.
    conflicts: u64,
    inbox: Inbox,
    /// Keeps sockets that cannot be connected to from filling the log.
    notes: Limiter,
    /// Descriptors from this number on are not for lines.
    descriptors: rlim_t,
    /// Numbers for lines, of all watchers of the listener.
    numbers: Arc<AtomicU64>,
}

struct Vm {
    domain: Arc<Domain>,
    run: u32,
    sockets: Vec<Socket>,
}

struct Socket {
    path: PathBuf,
    claim: Claim,
    state: State,
    /// How long it waits before the next attempt.
    backoff: Duration,
    /// What was said in the log of why it is not connected.
    said: Option<String>,
}

enum State {
    Waiting(Instant),
    Open { line: LineId, since: Instant },
}

impl Socket {
    fn new(path: PathBuf, claim: Claim, now: Instant) -> Socket {
        Socket { path, claim, state: State::Waiting(now), backoff: BACKOFF.0, said: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting(at) if now >= at)
    }

    fn put_off(&mut self, now: Instant) {
        self.state = State::Waiting(now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    /// The attempt to connect failed.
    fn failed(&mut self, domain: &Domain, reason: String, notes: &mut Limiter, now: Instant) {
        if self.backoff >= PATIENCE && self.said.as_ref() != Some(&reason) {
            if let Some(left_out) = notes.allow(now) {
                let (path, left_out) = (self.path.display(), Suppressed(left_out));
                warn!("serial: {domain}: cannot connect to {path}: {reason}: trying again{left_out}");
            }
            self.said = Some(reason);
        } else {
            debug!("serial: {domain}: cannot connect to {}: {reason}", self.path.display());
        }
        self.put_off(now);
    }
}

impl Connector {
    /// `inbox` is the watcher's own, `claims` and `numbers` are shared by all watchers of the listener.
    pub(super) fn new(
        config: &SerialConfig,
        listener: SerialSink,
        inbox: Inbox,
        claims: Claims,
        numbers: Arc<AtomicU64>,
    ) -> Connector {
        claims.join(inbox.clone());
        Connector {
            mode: config.mode,
            path: config.path.clone(),
            listener,
            vms: BTreeMap::new(),
            claims,
            conflicts: 0,
            notes: Limiter::new(100, Duration::from_secs(1), Instant::now()),
            descriptors: descriptors_for_lines(),
            inbox,
            numbers,
        }
    }

    fn close(&self, socket: &Socket) {
        if let State::Open { line, .. } = socket.state {
            self.tell(SerialEvent::Removed(line));
        }
    }

    /// Closes the lines on sockets that another VM has as well by now.
    fn close_doubtful(&mut self, now: Instant) {
        let conflicts = self.claims.conflicts();
        if std::mem::replace(&mut self.conflicts, conflicts) == conflicts {
            return;
        }
        let mut closed = Vec::new();
        for vm in self.vms.values_mut() {
            for socket in vm.sockets.iter_mut().filter(|socket| !socket.claim.is_sole()) {
                if let State::Open { line, .. } = socket.state {
                    closed.push(line);
                    warn!("serial: {}: {} is closed: {CONFLICT}", vm.domain, socket.path.display());
                    socket.put_off(now);
                }
            }
        }
        for line in closed {
            self.tell(SerialEvent::Removed(line));
        }
    }

    fn tell(&self, event: SerialEvent) {
        (self.listener)(event);
    }

    /// Connects to the sockets of one VM that are due.
    fn connect(&mut self, uuid: Uuid, census: &dyn Census, now: Instant) {
        let Some(vm) = self.vms.get_mut(&uuid) else { return };
        let mut connected = Vec::new();
        for (at, socket) in vm.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.is_due(now)) {
            if !socket.claim.is_sole() {
                socket.failed(&vm.domain, CONFLICT.to_owned(), &mut self.notes, now);
                continue;
            }
            match unix::connect(&socket.path) {
                Ok(stream) if rlim_t::try_from(stream.as_raw_fd()).is_ok_and(|fd| fd >= self.descriptors) => {
                    let reason = "almost all open files of the daemon are in use (LimitNOFILE, ulimit -n)";
                    socket.failed(&vm.domain, reason.to_owned(), &mut self.notes, now);
                }
                Ok(stream) => connected.push((at, stream)),
                Err(error) => socket.failed(&vm.domain, explain(&error), &mut self.notes, now),
            }
        }
        if connected.is_empty() {
            return;
        }
        // Asked after the connection was made: this run had the socket at that time.
        let is_same = match census.find(uuid) {
            Ok(found) => found.is_some_and(|found| found.id == vm.run),
            Err(failed) => {
                debug!("serial: {}: {failed}", vm.domain);
                false
            }
        };
        for (at, stream) in connected {
            let Some(socket) = self.vms.get_mut(&uuid).and_then(|vm| vm.sockets.get_mut(at)) else { return };
            match is_same && socket.claim.is_sole() {
                true => self.open(uuid, at, stream, now),
                false => socket.put_off(now),
            }
        }
    }

    fn open(&mut self, uuid: Uuid, at: usize, stream: OwnedFd, now: Instant) {
        let line = LineId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let Some(vm) = self.vms.get_mut(&uuid) else { return };
        let Some(socket) = vm.sockets.get_mut(at) else { return };
        socket.state = State::Open { line, since: now };
        socket.said = None;
        let domain = vm.domain.clone();
        let path = socket.path.clone();
        let inbox = self.inbox.clone();
        let on_lost = Box::new(move || inbox.closed(line));
        self.tell(SerialEvent::Connected(ConnectedLine { id: line, stream, domain, path, on_lost }));
    }
}

impl Follower for Connector {
    fn name(&self) -> &'static str {
        "serial"
    }

    fn runs(&mut self, vm: &DomainRun, devices: Devices, now: Instant) {
        let uuid = vm.domain.uuid;
        let wanted = wanted(self.mode, self.path.as_deref(), devices);
        let mut kept = Vec::new();
        if let Some(known) = self.vms.remove(&uuid) {
            for socket in known.sockets {
                match known.run == vm.id && wanted.contains(&socket.path) {
                    true => kept.push(socket),
                    false => self.close(&socket),
                }
            }
        }
        for path in wanted {
            if !kept.iter().any(|socket| socket.path == path) {
                let claim = self.claims.claim(&path);
                kept.push(Socket::new(path, claim, now));
            }
        }
        self.vms.insert(uuid, Vm { domain: vm.domain.clone(), run: vm.id, sockets: kept });
    }

    fn gone(&mut self, uuid: Uuid) {
        for socket in self.vms.remove(&uuid).map_or(Vec::new(), |vm| vm.sockets) {
            self.close(&socket);
        }
    }

    fn synced(&mut self, uri: &str) {
        let sockets: usize = self.vms.values().map(|vm| vm.sockets.len()).sum();
        let kind = match self.mode {
            SerialMode::Serial => "serial ports",
            SerialMode::VmChannel => "channels",
        };
        let place = self.path.as_ref().map_or(String::new(), |path| format!(" in {}", path.display()));
        let running = self.vms.len();
        info!("serial: {uri}: {running} VMs run, with {sockets} {kind} (type unix, mode bind){place}");
    }

    fn lost(&mut self) {
        // QEMU goes on without libvirtd, and what was connected stays.
    }

    fn closed(&mut self, line: LineId, now: Instant) {
        let is_it =
            |socket: &&mut Socket| matches!(socket.state, State::Open { line: open, .. } if open == line);
        let Some(socket) = self.vms.values_mut().flat_map(|vm| &mut vm.sockets).find(is_it) else { return };
        if let State::Open { since, .. } = socket.state {
            if now.saturating_duration_since(since) >= BACKOFF.1 {
                socket.backoff = BACKOFF.0;
            }
        }
        socket.put_off(now);
    }

    fn attend(&mut self, census: &dyn Census, now: Instant) -> Result<(), Failed> {
        self.close_doubtful(now);
        let is_due = |vm: &Vm| vm.sockets.iter().any(|socket| socket.is_due(now));
        let due: Vec<Uuid> = self.vms.iter().filter(|(_, vm)| is_due(vm)).map(|(&uuid, _)| uuid).collect();
        for uuid in due {
            // Without libvirt nobody says whose a socket is.
            census.check()?;
            self.connect(uuid, census, now);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let waiting = |socket: &Socket| match socket.state {
            State::Waiting(at) => Some(at),
            State::Open { .. } => None,
        };
        self.vms.values().flat_map(|vm| &vm.sockets).filter_map(waiting).min()
    }
}

/// The lowest free one is always taken, so its number says how many are in use.
fn descriptors_for_lines() -> rlim_t {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    soft - DESCRIPTORS_LEFT.min(soft / 2)
}

/// The sockets of a VM that are to be served.
pub(super) fn wanted(mode: SerialMode, folder: Option<&Path>, devices: Devices) -> Vec<PathBuf> {
    let mut paths = match mode {
        SerialMode::Serial => devices.serials,
        SerialMode::VmChannel => devices.channels,
    };
    paths.retain(|path| folder.is_none_or(|folder| is_directly_in(path, folder)));
    paths
}

/// Whether a socket stands in this folder and not deeper; /var/run is /run
/// also where the one name stands in the configuration and the other in the XML.
fn is_directly_in(path: &Path, folder: &Path) -> bool {
    let Some(parent) = path.parent() else { return false };
    // Path's comparison passes over `//`, `/./` and a `/` at the end.
    parent == folder
        || fs::canonicalize(parent)
            .is_ok_and(|parent| fs::canonicalize(folder).is_ok_and(|folder| parent == folder))
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "somebody else is connected to it, and others wait".to_owned(),
        Some(libc::EACCES) => format!("{error}: the daemon may not use this socket"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
