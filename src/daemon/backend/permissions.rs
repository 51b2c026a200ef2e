//! Who may do what: the groups, and which VM is behind a vsock CID.

use std::fmt;

use crate::daemon::hypervisor::Failed;
use crate::daemon::watch::{Holder, Roster, Running};
use crate::fence::Source;
use crate::groups::Groups;

/// The groups, and the roster of CIDs where VMs ask by vsock.
#[derive(Debug)]
pub(crate) struct Permissions {
    groups: Groups,
    roster: Option<Roster>,
}

/// Why it cannot be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unidentified(String);

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no group lists the CID that asks, and which VM it is cannot be told: {}", self.0)
    }
}

impl Permissions {
    pub(crate) fn new(groups: Groups, roster: Option<Roster>) -> Permissions {
        Permissions { groups, roster }
    }

    /// Whether one of those who ask may do something to the VM with these names.
    pub(super) fn permit<'a>(&self, askers: impl IntoIterator<Item = &'a Source>, names: &[&str]) -> bool {
        self.groups.is_empty() || askers.into_iter().any(|asker| self.groups.permit(asker, names))
    }

    /// The VM that has the CID which asks, if it is a CID that asks.
    /// `still_runs` asks the URI at this place whether this run of the VM is
    /// there: if it is, it had the CID all the time.
    ///
    /// # Errors
    ///
    /// [`Unidentified`] if it cannot be told now.
    pub(super) fn vm_behind(
        &self,
        source: &Source,
        still_runs: impl FnOnce(usize, &Running) -> Result<bool, Failed>,
    ) -> Result<Option<Source>, Unidentified> {
        let (Source::Cid(cid), Some(roster)) = (source, &self.roster) else { return Ok(None) };
        match roster.holder(*cid) {
            Holder::Nobody => Ok(None),
            Holder::Unknown(reason) => Err(Unidentified(reason.to_owned())),
            Holder::Vm { uri, vm } => match still_runs(uri, &vm) {
                Ok(true) => Ok(Some(Source::Domain(vm.domain))),
                Ok(false) => Err(Unidentified(format!("{} had it, and has just been stopped", vm.domain))),
                Err(Failed(reason)) => Err(Unidentified(reason)),
            },
        }
    }
}
