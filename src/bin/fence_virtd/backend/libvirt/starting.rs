//! A start in progress.

use std::time::Duration;

use crate::job::{CancelToken, Job};
use crate::libvirt::Definition;
use crate::restraints::HoldGuard;
use fence_virt::fence::{UriIndex, Verdict};
use fence_virt::time::Instant;

/// Time for which a power-off waits for the end of a start. Most starts take less. A QEMU that hangs
/// while it starts is ended only by a destroy: libvirt itself sets a start no time limit.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(2);
/// Start in progress, with the requests that it answers.
pub(super) struct Starting {
    pub(super) uri: UriIndex,
    pub(super) jobs: Vec<Job>,
    /// True for the start that ends a reboot.
    pub(super) is_restart: bool,
    /// Cancelled once nobody waits for the start, unless it ends a reboot, or once it is interrupted.
    pub(super) given_up: CancelToken,
    pub(super) definition: Definition,
    /// Holds that may begin until the start; none count for the end of a reboot, which goes on.
    pub(super) guard: HoldGuard,
    /// No other host is known to have the VM: it is not started if it has migrated away.
    pub(super) is_sole_known_owner: bool,
    began: Instant,
    pub(super) attempts: usize,
    /// Time of the next attempt, between two attempts.
    pub(super) retry_at: Option<Instant>,
}

/// Start that a power-off interrupts.
pub(super) enum InterruptedStart {
    None,
    InProgress(Starting),
    /// It has ended since the round of calls began, whose results are therefore out of date.
    EndedDuringRound,
}

impl InterruptedStart {
    /// URI of the start that is in progress.
    pub(super) fn uri(&self) -> Option<UriIndex> {
        match self {
            InterruptedStart::InProgress(starting) => Some(starting.uri),
            InterruptedStart::None | InterruptedStart::EndedDuringRound => None,
        }
    }
}

impl Starting {
    /// Makes the start that a request asks for, or that ends a reboot.
    pub(super) fn new(
        uri: UriIndex,
        on: Option<(Job, HoldGuard)>,
        definition: Definition,
        now: Instant,
    ) -> Starting {
        let (on, guard) = on.map_or((None, HoldGuard::default()), |(job, guard)| (Some(job), guard));
        Starting {
            uri,
            is_restart: on.is_none(),
            is_sole_known_owner: on.as_ref().is_none_or(Job::is_sole_known_owner),
            jobs: Vec::from_iter(on),
            given_up: CancelToken::default(),
            definition,
            guard,
            began: now,
            attempts: 0,
            retry_at: None,
        }
    }

    /// Time from which a power-off does not wait for the end.
    pub(super) fn interruptible_at(&self) -> Instant {
        self.began + START_PATIENCE
    }

    /// Answers the requests.
    pub(super) fn finish(self, verdict: Verdict, reason: &str) {
        self.jobs.into_iter().for_each(|job| job.finish(verdict, reason));
    }
}
