//! Permissions: the groups, and the identity of requesters that are VMs.

use std::sync::Arc;

use super::cids::{CidHolder, CidTable};
use crate::libvirt::{DomainRun, LibvirtResult};
use fence_virt::fence::{Domain, ListenerName, Operation, Source, UriIndex, Uuid};
use fence_virt::groups::{Groups, PermittedNames, listed_names};

/// Permission groups, and the table of CIDs if VMs send requests by vsock.
#[derive(Debug)]
pub(crate) struct Permissions {
    groups: Groups,
    cids: Option<CidTable>,
}

/// Copy of a VM that a request concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VmCopy {
    /// URI, or node of the cluster, for messages.
    pub(crate) place: String,
    /// Name that the VM has there.
    pub(crate) name: String,
    pub(crate) uuid: String,
}

/// Queries to libvirt that identify a VM.
pub(crate) trait DomainLookup {
    /// Returns true if this run of a VM still exists; then it had its CID all the time.
    fn still_runs(&mut self, uri: UriIndex, vm: &DomainRun) -> LibvirtResult<bool>;

    /// Returns true if the backend has this VM under its name. A VM on a URI that is not
    /// the backend's could have any name.
    fn has_name(&mut self, domain: &Domain) -> LibvirtResult<bool>;

    /// Returns what speaks against the name of this VM: copies of it that have another name, and VMs of
    /// other hosts that have its name.
    fn conflicts(&mut self, domain: &Domain) -> LibvirtResult<Vec<VmCopy>>;
}

/// VMs of other hosts that speak against the name of a VM.
pub(crate) type Conflicts<'a> = dyn Fn(&Domain) -> Vec<VmCopy> + 'a;

/// A requester with all that is known about it.
#[derive(Debug)]
pub(crate) struct Identified {
    listener: ListenerName,
    /// Identity that the transport proves, and the VM that has the requester's CID.
    sources: Vec<Source>,
    /// Name of the requesting VM, if the backend has it under that name, and all its copies.
    name: Option<String>,
    /// Reason why the requesting VM is not known by its name, though a group lists that.
    pub(crate) refused_name: Option<String>,
    /// Reason why the identity may be incomplete.
    pub(crate) doubt: Option<String>,
}

impl Identified {
    /// Identities that are proved, and the name of the requesting VM if it is known by that.
    pub(super) fn identities(&self) -> (&[Source], Option<&str>) {
        (&self.sources, self.name.as_deref())
    }

    /// Returns the listener by which the requester comes.
    pub(super) fn listener(&self) -> &ListenerName {
        &self.listener
    }
}

impl VmCopy {
    /// Names and places of copies, for messages.
    pub(crate) fn describe(copies: &[VmCopy]) -> String {
        let copy = |VmCopy { place, name, uuid }: &VmCopy| format!("{name:?} ({uuid}) on {place}");
        copies.iter().map(copy).collect::<Vec<_>>().join(", ")
    }
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

    /// Names by which the transport's proof alone permits the operation on a VM with these copies; none if
    /// it does not permit each of them by itself.
    pub(crate) fn permit_source(
        &self,
        listener: &ListenerName,
        source: &Source,
        operation: Operation,
        copies: &[VmCopy],
    ) -> Option<PermittedNames> {
        self.permit_each(copies, |name| self.groups.permit(listener, source, operation, &[name]))
    }

    /// Names by which the requester may have the operation on a VM with these copies; none if the groups do
    /// not permit each of them by itself.
    pub(crate) fn permit(
        &self,
        requester: &Identified,
        operation: Operation,
        copies: &[VmCopy],
    ) -> Option<PermittedNames> {
        self.permit_each(copies, |name| self.lists(requester, operation, name))
    }

    /// Returns true if a list for the requester shows a VM with this name and UUID.
    pub(crate) fn shows(&self, requester: &Identified, name: &str, uuid: &str) -> bool {
        let lists = |name| self.lists(requester, Operation::HostList, name);
        listed_names(name, uuid).into_iter().any(lists)
    }

    /// Returns true if the groups permit the requester the operation on a VM by this name or UUID.
    fn lists(&self, requester: &Identified, operation: Operation, name: &str) -> bool {
        let listener = &requester.listener;
        let names = [name];
        requester.sources.iter().any(|source| self.groups.permit(listener, source, operation, &names))
            || requester
                .name
                .as_ref()
                .is_some_and(|name| self.groups.permit_name(listener, name, operation, &names))
    }

    /// Returns the groups.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    fn permit_each(&self, copies: &[VmCopy], lists: impl Fn(&str) -> bool) -> Option<PermittedNames> {
        if self.groups.is_empty() {
            return Some(PermittedNames::All);
        }
        let mut permitted = Vec::new();
        for VmCopy { name, uuid, .. } in copies {
            let listed: Vec<&str> = listed_names(name, uuid).into_iter().filter(|name| lists(name)).collect();
            if listed.is_empty() {
                return None;
            }
            permitted.extend(listed.into_iter().map(str::to_owned));
        }
        permitted.sort();
        permitted.dedup();
        Some(PermittedNames::These(permitted))
    }

    /// VM of a requester, as the transport, its CID or its key proves it; none if that is unknown. What the
    /// configuration says of a key may be out of date: it counts if this host has the VM under both name and UUID.
    pub(crate) fn vm_of(&self, source: &Source, lookup: &mut impl DomainLookup) -> Option<Uuid> {
        if let Source::Key(keyed) = source {
            let of_cid = self.vm_of(&keyed.via, lookup);
            return of_cid.or_else(|| {
                let domain = Domain { name: keyed.holder.name.clone(), uuid: keyed.holder.uuid? };
                lookup.has_name(&domain).is_ok_and(|has_name| has_name).then_some(domain.uuid)
            });
        }
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
        let listener = listener.clone();
        let mut requester = Identified { listener, sources, name: None, refused_name: None, doubt: None };
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
        if self.groups.mention(&requester.listener, &domain.name) {
            let has_name = lookup.has_name(&domain);
            match has_name.and_then(|has_name| {
                let others = if has_name { lookup.conflicts(&domain)? } else { Vec::new() };
                Ok((has_name, others))
            }) {
                Ok((true, others)) if others.is_empty() => requester.name = Some(domain.name.clone()),
                Ok((true, others)) => {
                    let others = VmCopy::describe(&others);
                    let refused =
                        format!("the requester {domain} is not known by its name because of {others}");
                    requester.refused_name = Some(refused);
                }
                Ok((false, _)) => {}
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
