//! Verdicts on status and on, from the placements of a VM.

use super::resolve::{Placement, ResolvedVm, Uri};
use crate::libvirt::{DomainState, LibvirtResult, Link, MOVED};
use fence_virt::fence::{PowerState, UriIndex, Verdict};
use fence_virt::routing::{Evidence, JobOutcome};

/// Facts that decide what a VM which has migrated away counts as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// No other host is known to have the VM.
    pub(super) is_sole_known_owner: bool,
    /// URI on which it ran last, if that is known.
    pub(super) ran_last: Option<UriIndex>,
}

/// Power state of a VM on all URIs.
pub(super) fn status<L: Link>(uris: &[Uri<L>], vm: &ResolvedVm, migration: Migration) -> JobOutcome {
    running_or_unsure(uris, vm, migration).unwrap_or_else(|| JobOutcome {
        verdict: Verdict::Off,
        evidence: if has_moved(vm, migration) { Evidence::Moved } else { Evidence::None },
        reason: format!("off on {}", vm.uri_names(uris)),
    })
}

/// URI on which a VM that is off is to be started.
/// Errors: the answer, if it is not to be started.
pub(super) fn start_on<L: Link>(
    uris: &[Uri<L>],
    vm: &ResolvedVm,
    migration: Migration,
) -> Result<UriIndex, JobOutcome> {
    if let Some(answer) = running_or_unsure(uris, vm, migration) {
        return Err(answer);
    }
    match vm.placements.as_slice() {
        [placement] => Ok(placement.uri),
        _ => {
            let reason = format!("off, and could be started on any of {}", vm.uri_names(uris));
            Err(JobOutcome { verdict: Verdict::Failure, evidence: Evidence::None, reason })
        }
    }
}

/// Verdict on a start, from the state after it.
pub(super) fn started<L: Link>(
    uri: &Uri<L>,
    outcome: LibvirtResult<Option<DomainState>>,
) -> (Verdict, String) {
    match outcome {
        Ok(Some(DomainState { power: PowerState::Running, .. })) => {
            (Verdict::Success, format!("started on {}", uri.link.name()))
        }
        Ok(_) => (Verdict::Failure, format!("started on {}, but it does not run", uri.link.name())),
        Err(error) => (Verdict::Failure, uri.failed(&error)),
    }
}

/// Success if a placement runs, failure if the VM may run elsewhere, none if it is off.
fn running_or_unsure<L: Link>(uris: &[Uri<L>], vm: &ResolvedVm, migration: Migration) -> Option<JobOutcome> {
    let outcome = |verdict, evidence, reason| Some(JobOutcome { verdict, evidence, reason });
    let mut placements = vm.placements.iter();
    if let Some(placement) = placements.find(|placement| placement.state.power == PowerState::Running) {
        let reason = format!("running on {}", uris[placement.uri.0].link.name());
        return outcome(Verdict::Success, Evidence::None, reason);
    }
    if !vm.unreachable.is_empty() {
        let unreachable = vm.unreachable.join(", ");
        let reason = format!("the VM may run at a place that does not answer: {unreachable}");
        return outcome(Verdict::Failure, Evidence::None, reason);
    }
    match migration.is_sole_known_owner && has_moved(vm, migration) {
        true => outcome(Verdict::Failure, Evidence::Moved, MOVED.to_owned()),
        false => None,
    }
}

/// True if a VM that is off has migrated away, and is not off where it ran last.
fn has_moved(vm: &ResolvedVm, migration: Migration) -> bool {
    let has_moved = |placement: &Placement| placement.state.is_migrating;
    let is_off_where_it_ran =
        |placement: &Placement| Some(placement.uri) == migration.ran_last && !has_moved(placement);
    vm.placements.iter().any(has_moved) && !vm.placements.iter().any(is_off_where_it_ran)
}
