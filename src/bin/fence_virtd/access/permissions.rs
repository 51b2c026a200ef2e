//! Who may do what: the groups, which VM is behind a vsock CID, and whether a name is its own.

use std::sync::Arc;

use super::cids::{CidHolder, CidTable};
use crate::libvirt::{DomainRun, Failed};
use fence_virt::fence::{Domain, ListenerName, Source};
use fence_virt::groups::Groups;

/// The groups, and the cids of CIDs where VMs ask by vsock.
#[derive(Debug)]
pub(crate) struct Permissions {
    groups: Groups,
    cids: Option<CidTable>,
}

/// A requester, and what is known of it.
#[derive(Debug)]
pub(crate) struct Identified {
    /// Whose client it is.
    listener: ListenerName,
    /// What the transport proves, and the VM that has the CID which asks.
    sources: Vec<Source>,
    /// The name of the VM that asks, if it is known by it.
    name: Option<String>,
    /// What could not be told, if anything.
    pub(crate) doubt: Option<String>,
}

impl Permissions {
    pub(crate) fn new(groups: Groups, cids: Option<CidTable>) -> Permissions {
        Permissions { groups, cids }
    }

    /// Whether VMs are known by their CIDs.
    #[cfg(test)]
    pub(crate) fn knows_cids(&self) -> bool {
        self.cids.is_some()
    }

    /// Whether a requester may do something to the VM with these names, by what the transport proves.
    pub(crate) fn permit_source(&self, listener: &ListenerName, source: &Source, names: &[&str]) -> bool {
        self.groups.permit(listener, source, names)
    }

    /// Whether it may by all that is known of it.
    pub(crate) fn permit(&self, asker: &Identified, names: &[&str]) -> bool {
        let listener = &asker.listener;
        asker.sources.iter().any(|source| self.groups.permit(listener, source, names))
            || asker.name.as_ref().is_some_and(|name| self.groups.permit_name(listener, name, names))
    }

    /// Finds out who asks. `still_runs` asks the URI at this place whether this
    /// run of a VM is there: if it is, it had its CID all the time. `has_name`
    /// asks whether a VM is the one that its name means: a VM at a URI that is
    /// not the backend's could have any name.
    pub(crate) fn identify<H>(
        &self,
        listener: &ListenerName,
        source: &Source,
        hosts: &mut H,
        still_runs: impl FnOnce(&mut H, usize, &DomainRun) -> Result<bool, Failed>,
        has_name: impl FnOnce(&mut H, &Domain) -> Result<bool, Failed>,
    ) -> Identified {
        let mut asker =
            Identified { listener: listener.clone(), sources: vec![source.clone()], name: None, doubt: None };
        if self.groups.is_empty() {
            return asker;
        }
        let domain = match (source, &self.cids) {
            (Source::Domain(domain), _) => domain.clone(),
            (Source::Cid(cid), Some(cids)) => {
                match vm_behind(cids.holder(*cid), |uri, vm| still_runs(hosts, uri, vm)) {
                    Ok(Some(domain)) => domain,
                    Ok(None) => return asker,
                    Err(reason) => {
                        asker.doubt = Some(format!("which VM has the CID cannot be told: {reason}"));
                        return asker;
                    }
                }
            }
            _ => return asker,
        };
        if self.groups.mention(listener, &domain.name) {
            match has_name(hosts, &domain) {
                Ok(true) => asker.name = Some(domain.name.clone()),
                Ok(false) => {}
                Err(Failed(reason)) => {
                    asker.doubt =
                        Some(format!("whether {domain} is the VM of that name cannot be told: {reason}"));
                }
            }
        }
        asker.sources.push(Source::Domain(domain));
        asker
    }
}

fn vm_behind(
    holder: CidHolder,
    still_runs: impl FnOnce(usize, &DomainRun) -> Result<bool, Failed>,
) -> Result<Option<Arc<Domain>>, String> {
    match holder {
        CidHolder::Nobody => Ok(None),
        CidHolder::Unknown(reason) => Err(reason.to_owned()),
        CidHolder::Vm { uri, vm } => match still_runs(uri, &vm) {
            Ok(true) => Ok(Some(vm.domain)),
            Ok(false) => Err(format!("{} had it, and has just been stopped", vm.domain)),
            Err(Failed(reason)) => Err(reason),
        },
    }
}
