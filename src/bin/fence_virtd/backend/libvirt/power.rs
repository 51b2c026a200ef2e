//! Off, on, reboot and status of one VM with all its placements, each step verified.

use std::time::{Duration, Instant};

use super::resolve::{ResolvedVm, Uri};
use crate::job::{Job, Stale};
use crate::libvirt::{Definition, DomainState, Host, LibvirtError, Link};
use fence_virt::fence::{Operation, PowerState, UriIndex, Verdict};

/// Time after libvirt killed a VM for which its state is only observed: another destroy
/// would block the worker for the 15 s that libvirt waits for the process to end.
pub(super) const DYING: Duration = Duration::from_secs(10);

/// Reason for a VM that no longer exists although nobody destroyed it.
pub(super) const GONE: &str = "the VM is gone from this host, perhaps by migration";
/// Reason for a VM that no host reports to have.
const MOVED: &str = "the VM has migrated away, or is migrating to this host, and no other host reports it";

/// Progress of a power operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done(Verdict, String),
    /// The job is stale.
    Stale(Stale),
    /// The VM is not off yet, with the reason: call again.
    Retry(String),
}

/// An off or reboot in progress: a state machine that `step` drives.
#[derive(Debug)]
pub(super) struct Fence {
    vm: ResolvedVm,
    /// In the order of `vm.placements`.
    progress: Vec<FenceProgress>,
    restart: Option<Restart>,
}

/// Start after a reboot, on the first URI that ran the VM.
#[derive(Debug)]
struct Restart {
    uri: UriIndex,
    definition: Definition,
}

/// Progress of a placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FenceProgress {
    /// Not destroyed by us, nor seen off.
    Untouched,
    /// libvirt accepted our destroy of a run: that run is over or dying.
    Killed { run: Option<u32>, at: Instant },
    /// Seen off, after our destroy or without it.
    Off { by_us: bool },
}

impl Fence {
    pub(super) fn new(vm: ResolvedVm) -> Fence {
        let progress = vec![FenceProgress::Untouched; vm.placements.len()];
        Fence { vm, progress, restart: None }
    }

    /// Destroys every placement that runs, and verifies that it is off.
    pub(super) fn step<L: Link>(&mut self, uris: &mut [Uri<L>], job: &Job, now: Instant) -> Step {
        let mut failures = Vec::new();
        let mut retries = Vec::new();
        for at in 0..self.progress.len() {
            let uri = &mut uris[self.vm.placements[at].uri.0];
            let host = uri.host(now).map_err(NotOff::from);
            match host.and_then(|host| self.power_off(at, host.as_ref(), job, now)) {
                Ok(()) => {}
                Err(NotOff::Stale(stale)) => return Step::Stale(stale),
                Err(NotOff::Retry(reason)) => retries.push(format!("{}: {reason}", uri.link.name())),
                Err(NotOff::Failed(reason)) => failures.push(uri.failed(&reason)),
            }
        }
        failures.extend(self.vm.last_seen.iter().map(|uri| format!("the VM was last seen also on {uri}")));
        if !failures.is_empty() {
            return Step::Done(Verdict::Failure, failures.join(", "));
        }
        if !retries.is_empty() {
            return Step::Retry(retries.join(", "));
        }
        let was_off = self.progress.iter().all(|progress| *progress == FenceProgress::Off { by_us: false });
        if was_off && !self.vm.unreachable.is_empty() {
            // A VM that ran here and was destroyed did not run elsewhere; one that was off here may.
            let unreachable = self.vm.unreachable.join(", ");
            let reason =
                format!("the VM was already off, but may run where libvirt does not answer: {unreachable}");
            return Step::Done(Verdict::Failure, reason);
        }
        let mut reason = self.summary(uris);
        if let Some(restart) = &self.restart {
            reason = format!("{reason}, {}", self.start_again(uris, restart, now));
        }
        Step::Done(Verdict::Success, reason)
    }

    fn summary<L: Link>(&self, uris: &[Uri<L>]) -> String {
        let placements = self.vm.placements.iter().zip(&self.progress);
        let by_us = placements.filter(|(_, progress)| **progress == FenceProgress::Off { by_us: true });
        let names: Vec<&str> = by_us.map(|(placement, _)| uris[placement.uri.0].link.name()).collect();
        if names.is_empty() {
            return "already off".to_owned();
        }
        format!("destroyed on {}, verified off", names.join(", "))
    }

    /// Powers one placement off, unless it is off.
    fn power_off(&mut self, at: usize, host: &impl Host, job: &Job, now: Instant) -> Result<(), NotOff> {
        let Observed::Running(run) = self.observe(at, host, job)? else { return Ok(()) };
        if job.request.operation == Operation::Reboot && self.restart.is_none() {
            // Before the destroy: a transient VM is gone after it.
            let definition = host.definition(&self.vm.uuid)?;
            self.restart = Some(Restart { uri: self.vm.placements[at].uri, definition });
        }
        if let FenceProgress::Killed { at, .. } = self.progress[at] {
            if now.saturating_duration_since(at) < DYING {
                return Err(NotOff::Retry("its process has not ended yet".to_owned()));
            }
        }
        // The calls above may have taken a while.
        if let Some(stale) = job.stale(Instant::now().max(now)) {
            return Err(NotOff::Stale(stale));
        }
        let destroyed = host.destroy(&self.vm.uuid);
        if matches!(destroyed, Ok(()) | Err(LibvirtError::Dying(_))) {
            self.progress[at] = FenceProgress::Killed { run, at: Instant::now().max(now) };
        }
        match (self.observe(at, host, job)?, destroyed) {
            (Observed::Off, _) => Ok(()),
            (Observed::Running(_), Ok(())) => Err(NotOff::Retry("destroyed, but it still runs".to_owned())),
            (_, Err(LibvirtError::Dying(reason) | LibvirtError::Busy(reason))) => Err(NotOff::Retry(reason)),
            (_, Err(error)) => Err(NotOff::Failed(error.to_string())),
        }
    }

    /// Observes a placement, and records it if it is off.
    ///
    /// Off is libvirt's SHUTOFF. After our own destroy, off is also a VM that is gone (a
    /// transient one) or runs under another ID (somebody has started it): the run that
    /// we destroyed is over. Without our destroy, a VM that is gone may have migrated.
    fn observe(&mut self, at: usize, host: &impl Host, job: &Job) -> Result<Observed, NotOff> {
        let progress = self.progress[at];
        if matches!(progress, FenceProgress::Off { .. }) {
            return Ok(Observed::Off);
        }
        match (host.observe(&self.vm.uuid)?, progress) {
            (
                Some(DomainState { power: PowerState::Running, id: now, .. }),
                FenceProgress::Killed { run: then, .. },
            ) if now.is_some() && then.is_some() && now != then => {}
            (Some(DomainState { is_migrating: true, .. }), FenceProgress::Untouched)
                if job.is_sole_known_owner() =>
            {
                return Err(NotOff::Failed(MOVED.to_owned()));
            }
            (Some(DomainState { power: PowerState::Running, id, .. }), _) => {
                return Ok(Observed::Running(id));
            }
            (Some(DomainState { power: PowerState::Off, .. }), _) | (None, FenceProgress::Killed { .. }) => {}
            (None, _) => return Err(NotOff::Failed(GONE.to_owned())),
        }
        self.progress[at] = FenceProgress::Off { by_us: matches!(progress, FenceProgress::Killed { .. }) };
        Ok(Observed::Off)
    }

    fn start_again<L: Link>(&self, uris: &mut [Uri<L>], restart: &Restart, now: Instant) -> String {
        let host = uris[restart.uri.0].host(now);
        match host.and_then(|host| host.start(&self.vm.uuid, &restart.definition)) {
            Ok(()) => "restarted".to_owned(),
            // The VM was off, which is all that fencing needs.
            Err(error) => {
                log::error!("{:?} was fenced, but cannot be restarted: {error}", self.vm.name);
                format!("but not restarted: {error}")
            }
        }
    }
}

/// Observed power state of a placement.
enum Observed {
    Off,
    /// Running, with libvirt's ID of the run.
    Running(Option<u32>),
}

/// Reason why a placement is not off.
enum NotOff {
    Stale(Stale),
    Retry(String),
    Failed(String),
}

impl From<LibvirtError> for NotOff {
    fn from(error: LibvirtError) -> NotOff {
        NotOff::Failed(error.to_string())
    }
}

/// Starts a VM that is off, and verifies that it runs.
pub(super) fn on<L: Link>(
    uris: &mut [Uri<L>],
    vm: &ResolvedVm,
    job: &Job,
    now: Instant,
) -> (Verdict, String) {
    if let Some(verdict) = running_or_unsure(uris, vm, job) {
        return verdict;
    }
    let [placement] = vm.placements.as_slice() else {
        let reason = format!("off, and could be started on any of {}", vm.uri_names(uris));
        return (Verdict::Failure, reason);
    };
    let uri = &mut uris[placement.uri.0];
    let outcome = uri.host(now).and_then(|host| {
        host.start(&vm.uuid, &Definition::Persistent)?;
        host.observe(&vm.uuid)
    });
    match outcome {
        Ok(Some(DomainState { power: PowerState::Running, .. })) => {
            (Verdict::Success, format!("started on {}", uri.link.name()))
        }
        Ok(_) => (Verdict::Failure, format!("started on {}, but it does not run", uri.link.name())),
        Err(error) => (Verdict::Failure, uri.failed(&error)),
    }
}

/// Power state of a VM on all URIs.
pub(super) fn status<L: Link>(uris: &[Uri<L>], vm: &ResolvedVm, job: &Job) -> (Verdict, String) {
    running_or_unsure(uris, vm, job)
        .unwrap_or_else(|| (Verdict::Off, format!("off on {}", vm.uri_names(uris))))
}

/// Success if a placement runs, failure if the VM may run elsewhere, none if it is off.
fn running_or_unsure<L: Link>(uris: &[Uri<L>], vm: &ResolvedVm, job: &Job) -> Option<(Verdict, String)> {
    let mut placements = vm.placements.iter();
    if let Some(placement) = placements.find(|placement| placement.state.power == PowerState::Running) {
        return Some((Verdict::Success, format!("running on {}", uris[placement.uri.0].link.name())));
    }
    if !vm.unreachable.is_empty() {
        let unreachable = vm.unreachable.join(", ");
        let reason = format!("the VM may run where libvirt does not answer: {unreachable}");
        return Some((Verdict::Failure, reason));
    }
    let has_moved =
        job.is_sole_known_owner() && vm.placements.iter().any(|placement| placement.state.is_migrating);
    has_moved.then(|| (Verdict::Failure, MOVED.to_owned()))
}
