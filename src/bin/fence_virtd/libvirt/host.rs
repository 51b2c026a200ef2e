//! Interface to one libvirt connection; a trait, so that tests can inject faults.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::error::LibvirtResult;
use fence_virt::fence::{Domain, PowerState, Target};

/// State of a domain at the time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DomainState {
    pub(crate) power: PowerState,
    /// libvirt's domain ID of this run; each start gives a new one.
    pub(crate) id: Option<u32>,
    /// True if running, neither paused nor in transition. Lists leave it false.
    pub(crate) is_active: bool,
    /// True if another host may run it: off because it has migrated away, or paused by a
    /// migration in either direction. Lists leave it false.
    pub(crate) is_migrating: bool,
    /// True while its process is being started, for a start here or for a migration to this host:
    /// libvirt does not tell which. Lists leave it false.
    pub(crate) is_starting: bool,
}

/// A domain that a call returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundDomain {
    pub(crate) name: String,
    /// In lower case, as libvirt writes it.
    pub(crate) uuid: String,
    pub(crate) state: DomainState,
}

/// One run of a domain, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainRun {
    pub(crate) domain: Arc<Domain>,
    /// libvirt's domain ID; each start gives a new one.
    pub(crate) id: u32,
}

/// Means of starting a domain again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Definition {
    /// libvirt keeps the definition.
    Persistent,
    /// XML from which the domain has to be created.
    Transient(String),
}

/// One libvirt connection. Any call may take as long as the keepalive allows.
pub(crate) trait Host {
    /// Returns the domains with this name; with this UUID, whatever their names, if the target is one.
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>>;

    /// Returns the state of a domain, or none if it does not exist.
    fn observe(&self, uuid: &str) -> LibvirtResult<Option<DomainState>>;

    /// Returns the means of starting a domain again.
    fn definition(&self, uuid: &str) -> LibvirtResult<Definition>;

    /// Returns true if a domain is migrating to another host, or may be. The answer takes a second at most,
    /// whatever holds the domain.
    fn is_leaving(&self, uuid: &str) -> LibvirtResult<bool>;

    /// Powers a domain off. `Busy` and `Dying` are failures of the call itself, which
    /// may be repeated; a failed lookup is `Other`.
    fn destroy(&self, uuid: &str) -> LibvirtResult;

    /// Starts a domain.
    fn start(&self, uuid: &str, definition: &Definition) -> LibvirtResult;

    /// Returns all domains.
    fn list(&self) -> LibvirtResult<Vec<FoundDomain>>;
}
