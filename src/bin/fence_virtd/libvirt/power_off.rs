//! Power-off of one placement of a VM, each step verified.
#![forbid(unsafe_code)]

use std::time::Duration;

use log::trace;

use super::error::LibvirtError;
use super::host::{Definition, DomainState, Host};
use crate::job::{CancelToken, Stale, Waiter};
use crate::restraints::HoldGuard;
use fence_virt::fence::PowerState;
use fence_virt::time::Instant;

/// Time after libvirt killed a VM for which its state is only observed: libvirt has
/// waited 15 s for the process already, and another destroy would wait as long.
pub(crate) const DYING: Duration = Duration::from_secs(10);

/// Time for which a start by somebody else is only observed: it may be the beginning of a migration
/// to this host, which libvirt shows as such once the process of the VM has started.
pub(crate) const STARTING_UP: Duration = Duration::from_secs(10);

/// Reason for a VM that no longer exists although nobody destroyed it.
pub(crate) const GONE: &str = "the VM is gone from this host, perhaps by migration";
/// Reason for a VM that a migration has moved, or is moving, and that is not known to be off elsewhere.
pub(crate) const MOVED: &str =
    "the VM has migrated away from this host, or is migrating: it may run on another host";

/// Progress of a placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerOffProgress {
    /// Not destroyed by us, nor seen off.
    Untouched,
    /// Seen while its process was being started by somebody else, and not destroyed by us.
    StartingUp { since: Instant },
    /// libvirt accepted our destroy of a run: that run is over or dying.
    Killed {
        run: Option<u32>,
        at: Instant,
        /// The run may have been the beginning of a migration to this host.
        was_starting: bool,
    },
    /// Seen off, after our destroy or without it.
    Off { by_us: bool },
}

/// Reason why a placement is not off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotOff {
    /// Nobody waits for it any more.
    Stale(Stale),
    /// It may be off later: repeat the call.
    Retry(String),
    /// It may run where it has migrated to, or comes from.
    Moved {
        /// libvirt shows it off here; if not, it is paused here.
        is_off: bool,
    },
    Failed(String),
}

impl From<LibvirtError> for NotOff {
    fn from(error: LibvirtError) -> NotOff {
        NotOff::Failed(error.to_string())
    }
}

/// Signs of a migration that a placement has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MigrationSigns {
    /// The run that was destroyed may go on at another host, or may have come from one: it was
    /// migrating, or perhaps it was.
    pub(crate) was_migrating: bool,
    /// libvirt shows the placement off since the VM has migrated away.
    pub(crate) has_moved: bool,
}

/// Call that powers one placement of a VM off, unless it is off.
#[derive(Debug)]
pub(crate) struct PowerOff {
    pub(crate) uuid: String,
    pub(crate) progress: PowerOffProgress,
    /// Signs of earlier calls.
    pub(crate) signs: MigrationSigns,
    /// Time of the request for this call.
    pub(crate) requested: Instant,
    /// No other placement or host accounts for the VM, so that "migrated away" is not "off".
    pub(crate) is_sole_known_owner: bool,
    /// The VM ran last on another URI of this daemon: if it has migrated away from here, it is there.
    pub(crate) ran_last_elsewhere: bool,
    /// This daemon is starting the VM here.
    pub(crate) is_own_start: bool,
    /// True for a reboot that does not have the VM's definition yet.
    pub(crate) wants_definition: bool,
    /// The wait of the request that the call serves: it destroys nothing once that is stale.
    pub(crate) waiter: Waiter,
    /// Holds that have begun since the request was accepted.
    pub(crate) guard: HoldGuard,
    /// Cancelled once the worker has given the call up.
    pub(crate) given_up: CancelToken,
}

/// Result of a [`PowerOff`].
#[derive(Debug)]
pub(crate) struct PowerOffResult {
    pub(crate) progress: PowerOffProgress,
    pub(crate) signs: MigrationSigns,
    /// Means of starting the VM again, if they were wanted and it ran.
    pub(crate) definition: Option<Definition>,
    /// True if libvirt was called to destroy the VM, unless it refused and the VM runs on.
    pub(crate) was_destroyed: bool,
    pub(crate) outcome: Result<(), NotOff>,
}

impl PowerOff {
    /// Result without a connection.
    pub(crate) fn fail(self, error: LibvirtError) -> PowerOffResult {
        PowerOffResult { outcome: Err(error.into()), ..self.begin() }
    }

    /// Result before the first libvirt call.
    fn begin(&self) -> PowerOffResult {
        PowerOffResult {
            progress: self.progress,
            signs: self.signs,
            definition: None,
            was_destroyed: false,
            outcome: Ok(()),
        }
    }

    /// Makes the libvirt calls, one after the other.
    pub(crate) fn execute(self, host: &dyn Host) -> PowerOffResult {
        let mut result = self.begin();
        result.outcome = self.power_off(host, &mut result);
        result
    }

    fn now(&self) -> Instant {
        Instant::now().max(self.requested)
    }

    fn power_off(&self, host: &dyn Host, result: &mut PowerOffResult) -> Result<(), NotOff> {
        let Observed::Running(run) = self.observe(host, result)? else { return Ok(()) };
        let may_be_migration = run.is_starting && self.is_sole_known_owner && !self.is_own_start;
        if may_be_migration {
            self.observe_start(result)?;
        }
        if self.wants_definition {
            // Before the destroy: a transient VM is gone after it.
            result.definition = Some(host.definition(&self.uuid)?);
        }
        if let PowerOffProgress::Killed { at, .. } = result.progress {
            if self.now().saturating_duration_since(at) < DYING {
                return Err(NotOff::Retry("its process has not ended yet".to_owned()));
            }
        }
        let Observed::Running(run) = self.note_migration(run, host, result)? else { return Ok(()) };
        // The calls above, and the wait for a lane, may have taken a while.
        let stale = self.waiter.stale(self.now());
        if let Some(stale) = stale.or(self.given_up.is_cancelled().then_some(Stale::TooOld)) {
            return Err(NotOff::Stale(stale));
        }
        // An operation whose VM was killed already goes on.
        let is_killed = matches!(result.progress, PowerOffProgress::Killed { .. });
        if let Some(reason) = if is_killed { None } else { self.guard.refusal() } {
            return Err(NotOff::Failed(reason));
        }
        result.was_destroyed = true;
        let destroyed = host.destroy(&self.uuid);
        if matches!(destroyed, Ok(()) | Err(LibvirtError::Dying(_))) {
            let was_starting = may_be_migration;
            result.progress = PowerOffProgress::Killed { run: run.id, at: self.now(), was_starting };
        }
        let observed = self.observe(host, result)?;
        // The connection works, so an error is libvirt's answer and not the loss of one.
        let is_refused = !matches!(destroyed, Ok(()) | Err(LibvirtError::Dying(_)));
        result.was_destroyed = !(is_refused && matches!(observed, Observed::Running(_)));
        match (observed, destroyed) {
            (Observed::Off, _) => Ok(()),
            (Observed::Running(_), Ok(())) => Err(NotOff::Retry("destroyed, but it still runs".to_owned())),
            (_, Err(LibvirtError::Dying(reason) | LibvirtError::Busy(reason))) => Err(NotOff::Retry(reason)),
            (_, Err(error)) => Err(NotOff::Failed(error.to_string())),
        }
    }

    /// Records whether another host may have the run that is about to be destroyed. Observes it again if so:
    /// it may have gone meanwhile.
    fn note_migration(
        &self,
        run: Run,
        host: &dyn Host,
        result: &mut PowerOffResult,
    ) -> Result<Observed, NotOff> {
        // libvirt begins a migration to this host as it begins a start.
        result.signs.was_migrating |= run.is_migrating || (run.is_starting && !self.is_own_start);
        let is_killed = matches!(result.progress, PowerOffProgress::Killed { .. });
        if result.signs.was_migrating || run.is_starting || is_killed || !self.is_leaving(host) {
            return Ok(Observed::Running(run));
        }
        result.signs.was_migrating = true;
        self.observe(host, result)
    }

    /// True if the VM is migrating to another host, or may be: without an answer it is destroyed too.
    fn is_leaving(&self, host: &dyn Host) -> bool {
        host.is_leaving(&self.uuid).unwrap_or_else(|error| {
            trace!("{}: it may be migrating to another host: {error}", self.uuid);
            true
        })
    }

    /// Error as long as a start is only observed.
    fn observe_start(&self, result: &mut PowerOffResult) -> Result<(), NotOff> {
        let since = match result.progress {
            PowerOffProgress::StartingUp { since } => since,
            // Destroyed before.
            PowerOffProgress::Killed { .. } => return Ok(()),
            PowerOffProgress::Untouched | PowerOffProgress::Off { .. } => self.now(),
        };
        result.progress = PowerOffProgress::StartingUp { since };
        if self.now().saturating_duration_since(since) < STARTING_UP {
            return Err(NotOff::Retry("it is being started, or is about to migrate to this host".to_owned()));
        }
        Ok(())
    }

    /// Observes the placement, and records it if it is off.
    ///
    /// Off is libvirt's SHUTOFF, unless the VM has migrated away. After our own destroy, off is also
    /// a VM that is gone (a transient one) or runs under another ID (somebody has started it): the run
    /// that we destroyed is over. Without our destroy, a VM that is gone may have migrated.
    fn observe(&self, host: &dyn Host, result: &mut PowerOffResult) -> Result<Observed, NotOff> {
        let progress = result.progress;
        let observed = host.observe(&self.uuid)?;
        let has_moved = |state: DomainState| state.power == PowerState::Off && state.is_migrating;
        result.signs.has_moved = observed.is_some_and(has_moved);
        match (observed, progress) {
            (
                Some(DomainState { power: PowerState::Running, id: now, .. }),
                PowerOffProgress::Killed { run: then, .. },
            ) if now.is_some() && then.is_some() && now != then => {}
            (Some(DomainState { power, is_migrating: true, .. }), _)
                if self.is_sole_known_owner && !(power == PowerState::Off && self.ran_last_elsewhere) =>
            {
                return Err(NotOff::Moved { is_off: power == PowerState::Off });
            }
            (Some(DomainState { power: PowerState::Running, id, is_starting, is_migrating, .. }), _) => {
                return Ok(Observed::Running(Run { id, is_starting, is_migrating }));
            }
            (Some(DomainState { power: PowerState::Off, .. }), _)
            | (None, PowerOffProgress::Killed { was_starting: false, .. }) => {}
            (None, _) => return Err(NotOff::Failed(GONE.to_owned())),
        }
        let by_us = matches!(progress, PowerOffProgress::Killed { .. });
        // The migration has ended before the destroy that libvirt accepted.
        result.signs.was_migrating |= by_us && result.signs.has_moved;
        result.progress = PowerOffProgress::Off { by_us };
        Ok(Observed::Off)
    }
}

/// Observed power state of a placement.
enum Observed {
    Off,
    Running(Run),
}

/// Run of a placement.
struct Run {
    /// libvirt's ID of it.
    id: Option<u32>,
    is_starting: bool,
    /// Paused by a migration, in either direction.
    is_migrating: bool,
}
