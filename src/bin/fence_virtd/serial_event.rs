//! Events about the serial lines of VMs, from the watchers to the serial listener.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use fence_virt::fence::Domain;

/// Number of a connected line; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LineId(pub(crate) u64);

/// Connection to the unix socket of a VM's serial port or channel.
pub(crate) struct ConnectedLine {
    pub(crate) id: LineId,
    pub(crate) stream: OwnedFd,
    pub(crate) domain: Arc<Domain>,
    /// Path of the socket.
    pub(crate) path: PathBuf,
    /// Called if the connection breaks.
    pub(crate) on_lost: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for ConnectedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectedLine {:?} of {} at {:?}", self.id, self.domain, self.path)
    }
}

/// Event about a line.
#[derive(Debug)]
pub(crate) enum SerialEvent {
    /// The watcher has connected to the line.
    Connected(ConnectedLine),
    /// The VM has stopped or lost the device: close the line.
    Removed(LineId),
}

/// Receiver of the events.
pub(crate) type SerialSink = Arc<dyn Fn(SerialEvent) + Send + Sync>;
