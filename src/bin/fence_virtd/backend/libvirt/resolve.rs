//! Resolution of a request's target to a VM and its placements on the URIs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::lanes::Lanes;
use crate::access::VmCopy;
use crate::inbox::DomainChange;
use crate::libvirt::{DomainState, FoundDomain, Host, LibvirtError, LibvirtResult, Link};
use fence_virt::fence::{PowerState, Target, UriIndex, Uuid};
use fence_virt::routing::LocalVm;
use fence_virt::time::Instant;

/// A URI, with the VMs that were last seen on it.
pub(super) struct Uri<L: Link> {
    pub(super) link: L,
    pub(super) lanes: Lanes<L>,
    /// By UUID. Kept only if there are several URIs.
    seen: HashMap<String, SeenVm>,
    /// Time at which the connection was found closed.
    lost_at: Option<Instant>,
}

/// A VM that a URI had when it was last asked, or by its events.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SeenVm {
    name: String,
    /// True if it was ever seen to run there, since it came there.
    has_run: bool,
}

/// Placement of a VM: a URI that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) uri: UriIndex,
    /// Name that the VM has there.
    pub(super) name: String,
    pub(super) state: DomainState,
}

/// A VM that a target names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResolvedVm {
    /// Name on the first URI that has it, for messages.
    pub(super) name: String,
    pub(super) uuid: String,
    /// At least one.
    pub(super) placements: Vec<Placement>,
    /// True if copies under other names would be among the placements.
    pub(super) has_all_copies: bool,
    /// Unreachable URIs, with the reasons: the VM may run there.
    pub(super) unreachable: Vec<String>,
    /// Unreachable URIs that were seen to run the VM.
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
    /// Placements as the cluster knows VMs, in the given state or in that which was found.
    /// Errors: if libvirt's UUID is none.
    pub(super) fn local_vms(&self, state: Option<PowerState>) -> Result<Vec<(UriIndex, LocalVm)>, String> {
        let uuid = Uuid::parse(&self.uuid).ok_or_else(|| format!("{} is not a UUID", self.uuid))?;
        let local = |placement: &Placement| {
            let power = state.unwrap_or(placement.state.power);
            let DomainState { power: found, is_active, is_migrating, .. } = placement.state;
            let has_started = (found, power) == (PowerState::Off, PowerState::Running);
            let may_run_elsewhere = !has_started && is_migrating;
            let name = placement.name.clone();
            (placement.uri, LocalVm { name, uuid, state: power, is_active, may_run_elsewhere })
        };
        Ok(self.placements.iter().map(local).collect())
    }

    /// Copies that an operation on the VM touches.
    pub(super) fn copies<L: Link>(&self, uris: &[Uri<L>]) -> Vec<VmCopy> {
        let copy = |placement: &Placement| VmCopy {
            place: uris[placement.uri.0].link.name().to_owned(),
            name: placement.name.clone(),
            uuid: self.uuid.clone(),
        };
        self.placements.iter().map(copy).collect()
    }

    /// True if a URI has the VM under this name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.placements.iter().any(|placement| placement.name == name)
    }

    /// True if an operation on this VM concerns all copies that a target names.
    pub(super) fn covers(&self, target: &Target) -> bool {
        let has_its_name = |placement: &Placement| placement.name == target.as_str();
        self.has_all_copies
            || (Uuid::parse(target.as_str()).is_none() && self.placements.iter().all(has_its_name))
    }

    /// The VM with the placements of an operation in progress on it too.
    pub(super) fn merged_with(mut self, other: ResolvedVm) -> ResolvedVm {
        for placement in other.placements {
            if self.placements.iter().all(|own| own.uri != placement.uri) {
                self.placements.push(placement);
            }
        }
        self
    }

    /// Names of the URIs that have the VM, separated by commas.
    pub(super) fn uri_names<L: Link>(&self, uris: &[Uri<L>]) -> String {
        let names = self.placements.iter().map(|placement| uris[placement.uri.0].link.name());
        names.collect::<Vec<_>>().join(", ")
    }
}

impl<L: Link> Uri<L> {
    pub(super) fn new(link: L, max_parallel: usize) -> Uri<L> {
        let mut lanes = Lanes::new(link.max_lanes().unwrap_or(max_parallel));
        lanes.prepare(&link);
        Uri { link, lanes, seen: HashMap::new(), lost_at: None }
    }

    /// Returns the connection of the worker.
    pub(super) fn host(&self, now: Instant) -> LibvirtResult<Arc<L::Host>> {
        self.link.host(now)
    }

    /// Error if libvirtd is connected, but late with the answer to a probe.
    pub(super) fn check_late(&self, now: Instant) -> LibvirtResult {
        self.link.check_open().map_or(Ok(()), |()| self.link.host(now).map(drop))
    }

    /// True if a call of the worker may block.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        self.link.is_queried_on_lanes() || self.check_late(now).is_err() || self.lanes.is_query_slow(now)
    }

    /// Error of the connection, if there has been none for that long. To be called regularly.
    pub(super) fn lost_for(&mut self, time: Duration, now: Instant) -> Option<LibvirtError> {
        let error = self.link.check_open().err();
        let lost_at = error.is_some().then(|| self.lost_at.unwrap_or(now));
        self.lost_at = lost_at;
        error.filter(|_| lost_at.is_some_and(|at| now >= at + time))
    }

    /// True if another VM than this one was seen here that a target names as well.
    pub(super) fn has_other(&self, target: &Target, uuid: &str) -> bool {
        self.seen.iter().any(|(seen, vm)| seen != uuid && is_named(target, &vm.name, seen))
    }

    /// Copy of a VM that was last seen here.
    pub(super) fn seen_copy(&self, uuid: &str) -> Option<VmCopy> {
        let SeenVm { name, .. } = self.seen.get(uuid)?;
        let place = self.link.name().to_owned();
        Some(VmCopy { place, name: name.clone(), uuid: uuid.to_owned() })
    }

    /// Takes over the list of the connection manager.
    pub(super) fn take_inventory(&mut self) {
        if let Some(domains) = self.link.inventory() {
            self.remember_all(&domains);
        }
    }

    /// Requests a probe after a failed call, and returns the failure with the URI's name.
    pub(super) fn failed(&self, reason: &impl fmt::Display) -> String {
        self.link.probe();
        format!("{}: {reason}", self.link.name())
    }

    /// Remembers the domains that a target named, and forgets others of that name.
    fn remember(&mut self, target: &Target, found: &[FoundDomain]) {
        let (before, kept) = self.seen.drain().partition(|(uuid, seen)| is_named(target, &seen.name, uuid));
        self.seen = kept;
        self.note_all(found, &before);
    }

    /// Remembers a complete list.
    pub(super) fn remember_all(&mut self, found: &[FoundDomain]) {
        let before = std::mem::take(&mut self.seen);
        self.note_all(found, &before);
    }

    fn note_all(&mut self, found: &[FoundDomain], before: &HashMap<String, SeenVm>) {
        for FoundDomain { name, uuid, state } in found {
            let has_run = before.get(uuid).or(self.seen.get(uuid)).is_some_and(|seen| seen.has_run);
            self.note(uuid.clone(), name, state.power, has_run);
        }
    }

    fn note(&mut self, uuid: String, name: &str, power: PowerState, has_run: bool) {
        let has_run = has_run || power == PowerState::Running;
        self.seen.insert(uuid, SeenVm { name: name.to_owned(), has_run });
    }

    /// Remembers what a watcher saw.
    pub(super) fn watched(&mut self, change: &DomainChange) {
        match change {
            DomainChange::All(vms) => {
                let before = std::mem::take(&mut self.seen);
                vms.iter().for_each(|vm| self.note_watched(vm, &before));
            }
            DomainChange::One(vm) => {
                let before = self.seen.remove_entry(&vm.uuid.to_string());
                self.note_watched(vm, &before.into_iter().collect());
            }
            DomainChange::Gone(uuid) => drop(self.seen.remove(&uuid.to_string())),
            DomainChange::Lost => {}
        }
    }

    fn note_watched(&mut self, vm: &LocalVm, before: &HashMap<String, SeenVm>) {
        let uuid = vm.uuid.to_string();
        let has_run = before.get(&uuid).is_some_and(|seen| seen.has_run);
        self.note(uuid, &vm.name, vm.state, has_run);
    }
}

/// True if a target names a VM. A UUID names no VM by its name.
fn is_named(target: &Target, name: &str, uuid: &str) -> bool {
    match Uuid::parse(target.as_str()) {
        Some(named) => Uuid::parse(uuid) == Some(named),
        None => target.as_str() == name,
    }
}

/// Returns the UUID of the VM that a name refers to, if it is known that a URI has that VM under another name:
/// by the UUID, all its copies are found.
pub(super) fn uuid_for<L: Link>(uris: &[Uri<L>], target: &Target) -> Option<Target> {
    let is_named = |vm: &SeenVm| vm.name == target.as_str();
    let mut named = uris.iter().flat_map(|uri| uri.seen.iter().filter(|(_, vm)| is_named(vm)));
    let (uuid, _) = named.next().filter(|_| Uuid::parse(target.as_str()).is_none())?;
    let is_unique = named.all(|(other, _)| other == uuid);
    let has_other_name = uris.iter().filter_map(|uri| uri.seen.get(uuid)).any(|vm| !is_named(vm));
    Target::new(uuid.as_bytes()).ok().filter(|_| is_unique && has_other_name)
}

/// Returns the domains that a target names on each URI, by calls on the worker's connections.
pub(super) fn find<L: Link>(
    uris: &[Uri<L>],
    target: &Target,
    now: Instant,
) -> Vec<LibvirtResult<Vec<FoundDomain>>> {
    uris.iter().map(|uri| uri.host(now).and_then(|host| host.find(target))).collect()
}

/// Resolves a target from the domains that it names on each URI, and remembers these.
pub(super) fn resolve<L: Link>(
    uris: &mut [Uri<L>],
    target: &Target,
    found: Vec<LibvirtResult<Vec<FoundDomain>>>,
) -> Resolution {
    let is_single = uris.len() == 1;
    for (uri, found) in uris.iter_mut().zip(&found) {
        uri.take_inventory();
        if let (Ok(found), false) = (found, is_single) {
            uri.remember(target, found);
        }
    }
    combine(uris, target, found)
}

/// Resolves a target from the domains that it names on each URI.
pub(super) fn combine<L: Link>(
    uris: &[Uri<L>],
    target: &Target,
    found: Vec<LibvirtResult<Vec<FoundDomain>>>,
) -> Resolution {
    let mut vm: Option<ResolvedVm> = None;
    let mut unreachable = Vec::new();
    for (at, (uri, found)) in uris.iter().zip(found).enumerate() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                unreachable.push((UriIndex(at), uri.failed(&error)));
                continue;
            }
        };
        for FoundDomain { name, uuid, state } in found {
            let new = || ResolvedVm {
                name: name.clone(),
                uuid: uuid.clone(),
                has_all_copies: uris.len() == 1 || Uuid::parse(target.as_str()) == Uuid::parse(&uuid),
                ..ResolvedVm::default()
            };
            let vm = vm.get_or_insert_with(new);
            if vm.uuid != uuid {
                return ambiguous(uris, target, vm, (&uuid, UriIndex(at)));
            }
            vm.placements.push(Placement { uri: UriIndex(at), name, state });
        }
    }
    let Some(mut vm) = vm else {
        if unreachable.is_empty() {
            return Resolution::Unknown;
        }
        let reasons: Vec<String> = unreachable.into_iter().map(|(_, reason)| reason).collect();
        let known = match reasons.len() {
            silent if silent < uris.len() => "no place that answers has the VM, and it may be at another",
            _ => "nothing is known of the VM",
        };
        return Resolution::Failed(format!("{known}: {}", reasons.join("; ")));
    };
    for (at, reason) in unreachable {
        for (uuid, SeenVm { name, has_run }) in &uris[at.0].seen {
            if *uuid == vm.uuid {
                vm.last_seen.extend(has_run.then(|| reason.clone()));
            } else if is_named(target, name, uuid) {
                return ambiguous(uris, target, &vm, (uuid, at));
            }
        }
        vm.unreachable.push(reason);
    }
    Resolution::Found(vm)
}

fn ambiguous<L: Link>(
    uris: &[Uri<L>],
    target: &Target,
    one: &ResolvedVm,
    (other, at): (&str, UriIndex),
) -> Resolution {
    let target = target.as_str();
    let (uuid, places, place) = (&one.uuid, one.uri_names(uris), uris[at.0].link.name());
    Resolution::Failed(format!(
        "{target:?} is ambiguous, it names the VMs {uuid} on {places} and {other} on {place}: use the UUID, or \
         rename one of them"
    ))
}
