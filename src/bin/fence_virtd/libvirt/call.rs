//! Calls that may take long, for a lane.
#![forbid(unsafe_code)]

use super::error::{LibvirtError, LibvirtResult};
use super::host::{Definition, DomainState, FoundDomain, Host};
use super::power_off::{MOVED, PowerOff, PowerOffResult};
use crate::job::CancelToken;
use crate::restraints::HoldGuard;
use fence_virt::fence::{PowerState, Target, Uuid};

/// Number of a call; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// Call that may take long.
#[derive(Debug)]
pub(crate) enum Call {
    /// Finds the domains that a target names.
    Find(Target),
    PowerOff(PowerOff),
    /// Starts a domain unless it runs, and observes it.
    Start {
        uuid: String,
        definition: Definition,
        /// True if the VM is started even if it has migrated away.
        may_have_moved: bool,
        /// Holds that have begun since the request was accepted.
        guard: HoldGuard,
        /// Cancelled once nobody waits for the start, or the worker has given the call up.
        given_up: CancelToken,
    },
    /// Lists all domains.
    List,
}

/// Outcome of a [`Call`].
#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// Of `Find` and `List`.
    Domains(LibvirtResult<Vec<FoundDomain>>),
    PoweredOff(PowerOffResult),
    /// State after the start; none if the domain has vanished.
    Started(LibvirtResult<Option<DomainState>>),
}

impl Call {
    /// Makes the call.
    pub(crate) fn execute(self, host: &dyn Host) -> CallOutcome {
        match self {
            Call::Find(target) => CallOutcome::Domains(host.find(&target)),
            Call::PowerOff(power_off) => CallOutcome::PoweredOff(power_off.execute(host)),
            Call::Start { given_up, .. } if given_up.is_cancelled() => {
                CallOutcome::Started(Err(LibvirtError::Other("not begun: given up before".to_owned())))
            }
            Call::Start { uuid, definition, may_have_moved, guard, .. } => {
                CallOutcome::Started(start(host, &uuid, &definition, may_have_moved, &guard))
            }
            Call::List => CallOutcome::Domains(host.list()),
        }
    }

    /// Outcome of a call that cannot be made.
    pub(crate) fn fail(self, error: LibvirtError) -> CallOutcome {
        match self {
            Call::Find(_) | Call::List => CallOutcome::Domains(Err(error)),
            Call::PowerOff(power_off) => CallOutcome::PoweredOff(power_off.fail(error)),
            Call::Start { .. } => CallOutcome::Started(Err(error)),
        }
    }

    /// True for a start: libvirt sets it no time limit.
    pub(crate) fn is_start(&self) -> bool {
        matches!(self, Call::Start { .. })
    }

    /// True for a query, which libvirt mostly answers at once.
    pub(crate) fn is_query(&self) -> bool {
        matches!(self, Call::Find(_) | Call::List)
    }

    /// VM about which libvirt may answer no question during the call.
    pub(crate) fn held_vm(&self) -> Option<Uuid> {
        match self {
            Call::PowerOff(PowerOff { uuid, .. }) | Call::Start { uuid, .. } => Uuid::parse(uuid),
            Call::Find(_) | Call::List => None,
        }
    }

    /// Name of the call for the status report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Call::Find(_) => "lookup",
            Call::PowerOff(_) => "power-off",
            Call::Start { .. } => "start",
            Call::List => "list",
        }
    }
}

fn start(
    host: &dyn Host,
    uuid: &str,
    definition: &Definition,
    may_have_moved: bool,
    guard: &HoldGuard,
) -> LibvirtResult<Option<DomainState>> {
    let before = host.observe(uuid)?;
    // Somebody else may have started it since the last look.
    if before.is_some_and(|state| state.power == PowerState::Running) {
        return Ok(before);
    }
    if before.is_some_and(|state| state.is_migrating) && !may_have_moved {
        return Err(LibvirtError::Other(MOVED.to_owned()));
    }
    if let Some(reason) = guard.refusal() {
        return Err(LibvirtError::Other(reason));
    }
    host.start(uuid, definition)?;
    host.observe(uuid)
}
