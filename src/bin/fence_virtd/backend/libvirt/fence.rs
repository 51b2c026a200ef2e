//! Off and reboot of one VM with all its placements: a state machine without calls of its own.

use super::resolve::{ResolvedVm, Uri};
use crate::job::Stale;
use crate::libvirt::{
    Definition, LibvirtError, Link, MOVED, MigrationSigns, NotOff, PowerOffProgress, PowerOffResult,
};
use fence_virt::fence::{UriIndex, Verdict};
use fence_virt::routing::{Evidence, JobOutcome};
use fence_virt::time::Instant;

/// Progress of a fence after a round of calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done(JobOutcome),
    /// The requests that the round served are stale.
    Stale(Stale),
    /// The VM is not off yet, with the reason: another round is due.
    Retry(String),
}

/// An off or reboot in progress. It proceeds by rounds of calls, one for each placement
/// that is not off.
#[derive(Debug)]
pub(super) struct Fence {
    /// In the order of the VM's placements.
    placements: Vec<FencedPlacement>,
}

#[derive(Debug)]
struct FencedPlacement {
    uri: UriIndex,
    progress: PowerOffProgress,
    signs: MigrationSigns,
    /// Means of starting the VM again there.
    definition: Option<Definition>,
    /// True if libvirt was called to destroy the VM, unless it refused and the VM runs on.
    was_destroyed: bool,
    /// Outcome of the last round.
    outcome: Result<(), NotOff>,
}

/// Call of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FenceCall {
    /// Index of the placement.
    pub(super) placement: usize,
    pub(super) uri: UriIndex,
    pub(super) progress: PowerOffProgress,
    pub(super) signs: MigrationSigns,
    /// True if the placement's definition is not known.
    pub(super) lacks_definition: bool,
    /// True if the VM was destroyed on another URI: if it has migrated away from this one, it is off.
    pub(super) is_destroyed_elsewhere: bool,
}

/// Effect of a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// No VM was powered off.
    None,
    /// A VM was powered off, and all destroys have taken effect.
    PoweredOff,
    /// A destroy may still take effect.
    Unresolved,
}

/// Start after a reboot, on the first URI that ran the VM.
#[derive(Debug, Clone)]
pub(super) struct Restart {
    pub(super) uri: UriIndex,
    pub(super) definition: Definition,
}

impl Fence {
    pub(super) fn new(vm: &ResolvedVm) -> Fence {
        let placement = |uri| FencedPlacement {
            uri,
            progress: PowerOffProgress::Untouched,
            signs: MigrationSigns::default(),
            definition: None,
            was_destroyed: false,
            outcome: Ok(()),
        };
        Fence { placements: vm.placements.iter().map(|at| placement(at.uri)).collect() }
    }

    /// Fence of a VM whose start on a URI is in progress, with the means of that start.
    pub(super) fn of_start(vm: &ResolvedVm, uri: UriIndex, definition: &Definition) -> Fence {
        let mut fence = Fence::new(vm);
        for placement in fence.placements.iter_mut().filter(|placement| placement.uri == uri) {
            placement.definition = Some(definition.clone());
        }
        fence
    }

    /// Makes the next round observe all placements again, those too that were seen off.
    pub(super) fn reopen(&mut self, now: Instant) {
        for placement in &mut self.placements {
            match placement.progress {
                PowerOffProgress::Off { by_us: true } => {
                    placement.progress = PowerOffProgress::Killed { run: None, at: now, was_starting: false };
                }
                PowerOffProgress::Off { by_us: false } => placement.progress = PowerOffProgress::Untouched,
                PowerOffProgress::Untouched
                | PowerOffProgress::StartingUp { .. }
                | PowerOffProgress::Killed { .. } => {}
            }
        }
    }

    /// Begins a round: the calls to make.
    pub(super) fn round(&self) -> Vec<FenceCall> {
        let is_off = |placement: &FencedPlacement| matches!(placement.progress, PowerOffProgress::Off { .. });
        let placements = self.placements.iter().enumerate().filter(|(_, placement)| !is_off(placement));
        let call = |(at, placement): (usize, &FencedPlacement)| FenceCall {
            placement: at,
            uri: placement.uri,
            progress: placement.progress,
            signs: placement.signs,
            lacks_definition: placement.definition.is_none(),
            is_destroyed_elsewhere: self.is_destroyed(),
        };
        placements.map(call).collect()
    }

    /// Records the result of a call.
    pub(super) fn record(&mut self, placement: usize, result: PowerOffResult) {
        let Some(fenced) = self.placements.get_mut(placement) else { return };
        fenced.progress = result.progress;
        fenced.signs = result.signs;
        fenced.definition = fenced.definition.take().or(result.definition);
        fenced.was_destroyed |= result.was_destroyed;
        fenced.outcome = result.outcome;
    }

    /// Records that the result of a call is lost: it may still destroy the VM.
    pub(super) fn lose(&mut self, placement: usize, error: &LibvirtError) {
        if let Some(fenced) = self.placements.get_mut(placement) {
            fenced.was_destroyed = true;
            fenced.outcome = Err(NotOff::Failed(error.to_string()));
        }
    }

    /// Ends a round, once all its results are recorded. `ran_last` is the URI where the VM ran last, if
    /// that is known.
    pub(super) fn conclude<L: Link>(
        &self,
        vm: &ResolvedVm,
        uris: &[Uri<L>],
        ran_last: Option<UriIndex>,
    ) -> Step {
        let mut failures = Vec::new();
        let mut retries = Vec::new();
        let mut moved = Vec::new();
        let mut are_moved_off = true;
        for FencedPlacement { uri, outcome, .. } in &self.placements {
            let uri = &uris[uri.0];
            match outcome {
                Ok(()) => {}
                Err(NotOff::Stale(stale)) => return Step::Stale(*stale),
                Err(NotOff::Retry(reason)) => retries.push(format!("{}: {reason}", uri.link.name())),
                Err(NotOff::Moved { is_off }) => {
                    moved.push(uri.link.name());
                    are_moved_off &= is_off;
                }
                Err(NotOff::Failed(reason)) => failures.push(uri.failed(reason)),
            }
        }
        failures.extend(vm.last_seen.iter().map(|uri| format!("the VM was seen to run also on {uri}")));
        if self.is_destroyed() || !retries.is_empty() {
            // The copy that the others came from, or went to, may be the one that is destroyed here.
            retries.extend(moved.iter().map(|name| format!("{name}: {MOVED}")));
        } else {
            // The verdict may be too strict for one who knows where the VM runs now.
            let is_all = failures.is_empty() && are_moved_off && vm.unreachable.is_empty();
            failures.extend(moved.iter().map(|name| format!("{name}: {MOVED}")));
            if is_all && !failures.is_empty() {
                return failed(Evidence::Moved, failures.join(", "));
            }
        }
        if !failures.is_empty() {
            return failed(Evidence::None, failures.join(", "));
        }
        if !retries.is_empty() {
            return Step::Retry(retries.join(", "));
        }
        let was_off =
            |placement: &FencedPlacement| placement.progress == PowerOffProgress::Off { by_us: false };
        if self.placements.iter().all(was_off) && !vm.unreachable.is_empty() {
            // A VM that ran here and was destroyed did not run elsewhere; one that was off here may.
            let unreachable = vm.unreachable.join(", ");
            let reason =
                format!("the VM was already off, but may run at a place that does not answer: {unreachable}");
            return failed(Evidence::None, reason);
        }
        let (verdict, evidence) = (Verdict::Success, self.evidence(ran_last));
        Step::Done(JobOutcome { verdict, evidence, reason: self.summary(uris) })
    }

    /// Evidence once all placements are off.
    fn evidence(&self, ran_last: Option<UriIndex>) -> Evidence {
        let mut destroyed = self.destroyed().peekable();
        if destroyed.peek().is_some() {
            return match destroyed.all(|placement| placement.signs.was_migrating) {
                true => Evidence::EndedWhileMigrating,
                false => Evidence::Ended,
            };
        }
        let has_moved = |placement: &FencedPlacement| placement.signs.has_moved;
        let is_off_where_it_ran =
            |placement: &FencedPlacement| Some(placement.uri) == ran_last && !has_moved(placement);
        match self.placements.iter().any(has_moved) && !self.placements.iter().any(is_off_where_it_ran) {
            true => Evidence::Moved,
            false => Evidence::None,
        }
    }

    /// True if a placement ran, and was destroyed and seen off.
    fn is_destroyed(&self) -> bool {
        self.destroyed().next().is_some()
    }

    /// Placements that ran, and were destroyed and seen off.
    fn destroyed(&self) -> impl Iterator<Item = &FencedPlacement> {
        let by_us =
            |placement: &&FencedPlacement| placement.progress == PowerOffProgress::Off { by_us: true };
        self.placements.iter().filter(by_us)
    }

    fn summary<L: Link>(&self, uris: &[Uri<L>]) -> String {
        let names: Vec<&str> = self.destroyed().map(|placement| uris[placement.uri.0].link.name()).collect();
        if names.is_empty() {
            return "already off".to_owned();
        }
        let was_migrating = self.destroyed().any(|placement| placement.signs.was_migrating);
        let remark = if was_migrating { ", perhaps during a migration" } else { "" };
        format!("destroyed on {}, verified off{remark}", names.join(", "))
    }

    /// Effect so far.
    pub(super) fn effect(&self) -> Effect {
        let mut effect = Effect::None;
        for placement in self.placements.iter().filter(|placement| placement.was_destroyed) {
            // A VM whose process was killed runs no more code, even while the process does not end.
            match placement.progress {
                PowerOffProgress::Untouched | PowerOffProgress::StartingUp { .. } => {
                    return Effect::Unresolved;
                }
                PowerOffProgress::Killed { .. } | PowerOffProgress::Off { .. } => effect = Effect::PoweredOff,
            }
        }
        effect
    }

    /// Means of starting the VM again; none if it did not run.
    pub(super) fn restart(&self) -> Option<Restart> {
        let with_definition = |placement: &FencedPlacement| {
            let definition = placement.definition.clone()?;
            Some(Restart { uri: placement.uri, definition })
        };
        self.placements.iter().find_map(with_definition)
    }
}

fn failed(evidence: Evidence, reason: String) -> Step {
    Step::Done(JobOutcome { verdict: Verdict::Failure, evidence, reason })
}
