//! Runs of domains.
#![forbid(unsafe_code)]

use std::sync::Arc;

use fence_virt::fence::Domain;

/// One run of a domain, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainRun {
    pub(crate) domain: Arc<Domain>,
    /// libvirt's domain ID; each start gives a new one.
    pub(crate) id: u32,
}
