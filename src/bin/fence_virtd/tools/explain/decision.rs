//! The decision about a requester and a VM, by the daemon's own code.

use super::known_vms::KnownVms;
use crate::access::{GroupMembership, Permissions, VmCopy, policies};
use fence_virt::config::{BackendConfig, Config};
use fence_virt::fence::{Domain, ListenerName, Operation, Rights, Source};

/// Target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetVm {
    /// Copies, as the daemon asks the groups for them.
    pub(super) copies: Vec<VmCopy>,
    /// Reason why the VM may have another name.
    pub(super) doubt: Option<String>,
    /// Sentence about the VM.
    pub(super) description: String,
}

impl TargetVm {
    /// Finds the VM of a name or UUID. Errors: the name is ambiguous.
    pub(super) fn find(config: &Config, known: &KnownVms, text: &str) -> Result<TargetVm, String> {
        let found: Vec<_> = known.named(text).collect();
        let Some((_, first)) = found.first() else {
            let unknown = VmCopy { place: String::new(), name: text.to_owned(), uuid: text.to_owned() };
            let failed = known.failure().map(str::to_owned);
            let elsewhere = matches!(config.backend, BackendConfig::Cpg(_))
                .then(|| "another host of the cluster may have it".to_owned());
            let doubt = failed.or(elsewhere);
            let reason = doubt.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            let description = format!("this host has no VM {text:?}, as far as is known{reason}");
            return Ok(TargetVm { copies: vec![unknown], doubt, description });
        };
        let uuid = first.domain.uuid;
        if found.iter().any(|(_, vm)| vm.domain.uuid != uuid) {
            return Err(format!("several VMs have the name {text:?}: requests with it fail; use the UUID"));
        }
        let uuid = uuid.to_string();
        let copy = |place: &str, domain: &Domain| VmCopy {
            place: place.to_owned(),
            name: domain.name.clone(),
            uuid: domain.uuid.to_string(),
        };
        let copies: Vec<VmCopy> = known.named(&uuid).map(|(place, vm)| copy(place, &vm.domain)).collect();
        // Each copy must be permitted, so further ones make no denial doubtful.
        let description = VmCopy::describe(&copies);
        Ok(TargetVm { copies, doubt: None, description })
    }

    /// UUID, or the name that was given if no VM is known.
    pub(super) fn best_name(&self) -> &str {
        self.copies.first().map_or("", |copy| &copy.uuid)
    }
}

/// Decision at one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The groups permit it.
    Allowed,
    /// The groups do not permit it; the reason if it is another than the groups.
    Denied(Option<String>),
    /// The reason why that is not known.
    Unknown(String),
}

/// Decision about each operation, and the groups that they are made by.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) decisions: Vec<(Operation, Decision)>,
    pub(super) groups: Vec<GroupMembership>,
}

/// Decides about each of these operations as the daemon does.
pub(super) fn judge(
    config: &Config,
    known: &KnownVms,
    (listener, source): (&ListenerName, &Source),
    target: &TargetVm,
    operations: Rights,
) -> Judged {
    let permissions = Permissions::new(policies::groups(config), Some(known.cids()));
    let copies = &target.copies;
    let requester = permissions.identify(listener, source, &mut &*known);
    let groups = permissions.memberships(&requester, copies);
    let is_permitted = |operation: Operation| match operation {
        // A list shows what it may of the copies of a VM.
        Operation::HostList => {
            copies.iter().any(|copy| permissions.shows(&requester, &copy.name, &copy.uuid))
        }
        _ => {
            permissions.permit_source(listener, source, operation, copies).is_some()
                || permissions.permit(&requester, operation, copies).is_some()
        }
    };
    let decide = |operation: Operation| match (is_permitted(operation), &requester.doubt, &target.doubt) {
        (true, ..) => Decision::Allowed,
        (false, Some(doubt), _) => Decision::Unknown(doubt.clone()),
        (false, None, Some(doubt)) => {
            Decision::Unknown(format!("a group may list the VM by another name, or by its UUID: {doubt}"))
        }
        (false, None, None) => match known.failure().filter(|_| is_nameless(source)) {
            Some(reason) => {
                Decision::Unknown(format!("a group may list the requester by its name: {reason}"))
            }
            None => Decision::Denied(requester.refused_name.clone()),
        },
    };
    let decisions = operations.iter().map(|operation| (operation, decide(operation))).collect();
    Judged { decisions, groups }
}

/// True for a VM of which the UUID alone is known.
fn is_nameless(source: &Source) -> bool {
    matches!(source, Source::Domain(domain) if domain.name == domain.uuid.to_string())
}
