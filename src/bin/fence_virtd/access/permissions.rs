//! Permissions: the groups, and the identity of requesters that are VMs.

use std::sync::Arc;

use super::cids::{CidHolder, CidTable};
use crate::libvirt::{DomainRun, LibvirtResult};
use fence_virt::fence::{Domain, ListenerName, Source, UriIndex, Uuid};
use fence_virt::groups::Groups;

/// Permission groups, and the table of CIDs if VMs send requests by vsock.
#[derive(Debug)]
pub(crate) struct Permissions {
    groups: Groups,
    cids: Option<CidTable>,
}

/// Queries to libvirt that identify a VM.
pub(crate) trait DomainLookup {
    /// Returns true if this run of a VM still exists; then it had its CID all the time.
    fn still_runs(&mut self, uri: UriIndex, vm: &DomainRun) -> LibvirtResult<bool>;

    /// Returns true if the backend has this VM under its name. A VM on a URI that is not
    /// the backend's could have any name.
    fn has_name(&mut self, domain: &Domain) -> LibvirtResult<bool>;
}

/// A requester with all that is known about it.
#[derive(Debug)]
pub(crate) struct Identified {
    listener: ListenerName,
    /// Identity that the transport proves, and the VM that has the requester's CID.
    sources: Vec<Source>,
    /// Name of the requesting VM, if the backend has it under that name.
    name: Option<String>,
    /// Reason why the identity may be incomplete.
    pub(crate) doubt: Option<String>,
}

impl Permissions {
    pub(crate) fn new(groups: Groups, cids: Option<CidTable>) -> Permissions {
        Permissions { groups, cids }
    }

    /// Returns true if VMs are identified by their CIDs.
    #[cfg(test)]
    pub(crate) fn knows_cids(&self) -> bool {
        self.cids.is_some()
    }

    /// Returns true if the transport's proof alone permits access to the VM with these names.
    pub(crate) fn permit_source(&self, listener: &ListenerName, source: &Source, names: &[&str]) -> bool {
        self.groups.permit(listener, source, names)
    }

    /// Returns true if the requester has access to the VM with these names.
    pub(crate) fn permit(&self, requester: &Identified, names: &[&str]) -> bool {
        let listener = &requester.listener;
        requester.sources.iter().any(|source| self.groups.permit(listener, source, names))
            || requester.name.as_ref().is_some_and(|name| self.groups.permit_name(listener, name, names))
    }

    /// VM of a requester, as the transport or its CID proves it; none if that is unknown.
    pub(crate) fn vm_of(&self, source: &Source, lookup: &mut impl DomainLookup) -> Option<Uuid> {
        match (source, &self.cids) {
            (Source::Domain(domain), _) => Some(domain.uuid),
            (Source::Cid(cid), Some(cids)) => {
                let domain = vm_of(cids.holder(*cid), lookup).ok().flatten();
                domain.map(|domain| domain.uuid)
            }
            _ => None,
        }
    }

    /// Identifies a requester.
    pub(crate) fn identify(
        &self,
        listener: &ListenerName,
        source: &Source,
        lookup: &mut impl DomainLookup,
    ) -> Identified {
        let sources = vec![source.clone()];
        let mut requester = Identified { listener: listener.clone(), sources, name: None, doubt: None };
        if self.groups.is_empty() {
            return requester;
        }
        let domain = match (source, &self.cids) {
            (Source::Domain(domain), _) => domain.clone(),
            (Source::Cid(cid), Some(cids)) => match vm_of(cids.holder(*cid), lookup) {
                Ok(Some(domain)) => domain,
                Ok(None) => return requester,
                Err(reason) => {
                    requester.doubt = Some(format!("cannot determine which VM has the CID: {reason}"));
                    return requester;
                }
            },
            _ => return requester,
        };
        if self.groups.mention(listener, &domain.name) {
            match lookup.has_name(&domain) {
                Ok(true) => requester.name = Some(domain.name.clone()),
                Ok(false) => {}
                Err(error) => {
                    let doubt = format!("cannot determine whether {domain} is the VM of that name: {error}");
                    requester.doubt = Some(doubt);
                }
            }
        }
        requester.sources.push(Source::Domain(domain));
        requester
    }
}

fn vm_of(holder: CidHolder, lookup: &mut impl DomainLookup) -> Result<Option<Arc<Domain>>, String> {
    match holder {
        CidHolder::Nobody => Ok(None),
        CidHolder::Unknown(reason) => Err(reason.to_owned()),
        CidHolder::Vm { uri, vm } => match lookup.still_runs(uri, &vm) {
            Ok(true) => Ok(Some(vm.domain)),
            Ok(false) => Err(format!("{} had it, but has just stopped", vm.domain)),
            Err(error) => Err(error.to_string()),
        },
    }
}
