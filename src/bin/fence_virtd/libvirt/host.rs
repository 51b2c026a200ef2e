//! What the backend asks of one libvirt URI.

use std::sync::Arc;
use std::time::Instant;

use crate::libvirt::Failed;
use fence_virt::fence::{PowerState, Target};

/// A VM that libvirt did not destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undestroyed {
    /// It was killed, but its process has not ended yet (disk sleep).
    Dying(String),
    /// Something else holds it for now: try again.
    Busy(String),
    /// Trying again does not help.
    Refused(String),
}

/// What a VM does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) power: PowerState,
    /// libvirt's number for this run of it; each start gives a new one.
    pub(crate) id: Option<u32>,
    /// It is neither off nor paused, nor otherwise in between, as far as that was asked for.
    pub(crate) is_active: bool,
    /// It is off because it moved to another host, or paused because it is just
    /// moving, as far as that was asked for.
    pub(crate) moves: bool,
}

/// A VM as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// In lower case, as libvirt writes it.
    pub(crate) uuid: String,
    pub(crate) condition: Condition,
}

/// How a VM is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Definition {
    /// libvirt keeps it.
    Persistent,
    /// This XML has to be given back to it.
    Transient(String),
}

/// One libvirt connection. Every call may take as long as the keepalive lets it.
pub(crate) trait Host {
    /// The VMs that the target means: by name, and by UUID if it is one.
    fn find(&self, target: &Target) -> Result<Vec<Found>, Failed>;

    /// What the VM does; none if there is no such VM.
    fn observe(&self, uuid: &str) -> Result<Option<Condition>, Failed>;

    /// How to start it again.
    fn definition(&self, uuid: &str) -> Result<Definition, Failed>;

    /// Powers it off.
    fn destroy(&self, uuid: &str) -> Result<(), Undestroyed>;

    /// Starts it.
    fn start(&self, uuid: &str, definition: &Definition) -> Result<(), Failed>;

    /// All VMs.
    fn list(&self) -> Result<Vec<Found>, Failed>;
}

/// The way to one URI, which may be closed.
pub(crate) trait Link {
    /// Its connection.
    type Host: Host;

    /// The URI.
    fn name(&self) -> &str;

    /// The connection, if there is one that answers.
    fn host(&self, now: Instant) -> Result<Arc<Self::Host>, Failed>;

    /// The VMs that its keeper saw when it last looked: UUID and name. Each look is given once.
    fn inventory(&self) -> Option<Vec<(String, String)>>;

    /// Asks its keeper to look whether it answers; an event will tell.
    fn probe(&self);
}
