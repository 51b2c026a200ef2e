//! Resolution of a request's target to a VM and its placements on the URIs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::libvirt::{DomainState, FoundDomain, Host, LibvirtResult, Link};
use fence_virt::fence::{Target, UriIndex};

/// A URI, with the VMs that were last seen on it.
pub(super) struct Uri<L> {
    pub(super) link: L,
    /// Names by UUID. Kept only if there are several URIs.
    seen: HashMap<String, String>,
}

/// Placement of a VM: a URI that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) uri: UriIndex,
    pub(super) state: DomainState,
}

/// A VM that a target names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResolvedVm {
    pub(super) name: String,
    pub(super) uuid: String,
    /// At least one.
    pub(super) placements: Vec<Placement>,
    /// Unreachable URIs, with the reasons: the VM may run there.
    pub(super) unreachable: Vec<String>,
    /// Unreachable URIs that had the VM when they were last queried.
    pub(super) last_seen: Vec<String>,
}

/// Result of resolving a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolution {
    Found(ResolvedVm),
    /// Every URI answers, and none has the VM.
    Unknown,
    /// Cannot be determined, with the reason.
    Failed(String),
}

impl ResolvedVm {
    /// Names of the URIs that have the VM, separated by commas.
    pub(super) fn uri_names<L: Link>(&self, uris: &[Uri<L>]) -> String {
        let names = self.placements.iter().map(|placement| uris[placement.uri.0].link.name());
        names.collect::<Vec<_>>().join(", ")
    }
}

impl<L: Link> Uri<L> {
    pub(super) fn new(link: L) -> Uri<L> {
        Uri { link, seen: HashMap::new() }
    }

    /// Returns the connection, after taking over the list of its connection manager.
    pub(super) fn host(&mut self, now: Instant) -> LibvirtResult<Arc<L::Host>> {
        if let Some(domains) = self.link.inventory() {
            self.remember_all(&domains);
        }
        self.link.host(now)
    }

    /// Requests a probe after a failed call, and returns the failure with the URI's name.
    pub(super) fn failed(&self, reason: &impl fmt::Display) -> String {
        self.link.probe();
        format!("{}: {reason}", self.link.name())
    }

    /// Remembers the domains that a target named, and forgets others of that name.
    fn remember(&mut self, target: &Target, found: &[FoundDomain]) {
        self.seen.retain(|uuid, name| !is_named(target, name, uuid));
        self.seen.extend(found.iter().map(|domain| (domain.uuid.clone(), domain.name.clone())));
    }

    /// Remembers a complete list.
    pub(super) fn remember_all(&mut self, found: &[FoundDomain]) {
        self.seen = found.iter().map(|domain| (domain.uuid.clone(), domain.name.clone())).collect();
    }
}

fn is_named(target: &Target, name: &str, uuid: &str) -> bool {
    let target = target.as_str();
    let hex = |text: &str| text.replace('-', "").to_ascii_lowercase();
    target == name || hex(target) == hex(uuid)
}

/// Resolves a target on all URIs.
pub(super) fn resolve<L: Link>(uris: &mut [Uri<L>], target: &Target, now: Instant) -> Resolution {
    let is_single = uris.len() == 1;
    let mut vm: Option<ResolvedVm> = None;
    let mut unreachable = Vec::new();
    for (at, uri) in uris.iter_mut().enumerate() {
        let found = match uri.host(now).and_then(|host| host.find(target)) {
            Ok(found) => found,
            Err(error) => {
                unreachable.push((UriIndex(at), uri.failed(&error)));
                continue;
            }
        };
        if !is_single {
            uri.remember(target, &found);
        }
        for FoundDomain { name, uuid, state } in found {
            let new = || ResolvedVm { name, uuid: uuid.clone(), ..ResolvedVm::default() };
            let vm = vm.get_or_insert_with(new);
            if vm.uuid != uuid {
                return ambiguous(target, &vm.uuid, &uuid);
            }
            vm.placements.push(Placement { uri: UriIndex(at), state });
        }
    }
    let Some(mut vm) = vm else {
        if unreachable.is_empty() {
            return Resolution::Unknown;
        }
        let reasons: Vec<String> = unreachable.into_iter().map(|(_, reason)| reason).collect();
        return Resolution::Failed(format!("not found, and not all URIs answer: {}", reasons.join("; ")));
    };
    for (at, reason) in unreachable {
        for (uuid, name) in &uris[at.0].seen {
            if *uuid == vm.uuid {
                vm.last_seen.push(reason.clone());
            } else if is_named(target, name, uuid) {
                return ambiguous(target, &vm.uuid, uuid);
            }
        }
        vm.unreachable.push(reason);
    }
    Resolution::Found(vm)
}

fn ambiguous(target: &Target, one: &str, other: &str) -> Resolution {
    let target = target.as_str();
    Resolution::Failed(format!(
        "{target:?} is ambiguous, it names the VMs {one} and {other}: use the UUID, or rename one of them"
    ))
}
