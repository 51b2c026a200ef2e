//! The restraints in force, shared by the worker, its lanes, the main thread and the status thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::power_journal::wall_time;
use fence_virt::fence::counted;
use fence_virt::restraints::{HoldSubject, HoldTable, NamedVm, PowerHold, RestrainedGroup, Restraints};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Restraints in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedRestraints(Arc<RestraintState>);

#[derive(Debug, Default)]
struct RestraintState {
    restraints: Mutex<Restraints>,
    /// Power operations that a hold has refused.
    refused_by_hold: AtomicU64,
    /// Power operations that a cap has refused.
    refused_by_cap: AtomicU64,
}

/// Restraints for the status report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RestraintReport {
    /// Holds in force, in the order of their subjects.
    pub(crate) holds: Vec<PowerHold>,
    /// Groups with a cap.
    pub(crate) caps: Vec<String>,
    /// Power operations that a hold has refused since the start.
    pub(crate) refused_by_hold: u64,
    /// Power operations that a cap has refused since the start.
    pub(crate) refused_by_cap: u64,
}

impl SharedRestraints {
    /// Replaces the groups. Returns what is held and was the name of a group before, and is none now.
    pub(crate) fn set_groups(&self, groups: Vec<RestrainedGroup>) -> Vec<String> {
        lock(&self.0.restraints).set_groups(groups).into_iter().map(str::to_owned).collect()
    }

    /// Reason not to carry out a power operation on a VM with these copies: a hold. Counts the refusal.
    pub(crate) fn refusal_by_hold(&self, copies: &[NamedVm<'_>]) -> Option<String> {
        let refusal = self.reason_of_hold(copies)?;
        self.0.refused_by_hold.fetch_add(1, Ordering::Relaxed);
        Some(refusal)
    }

    fn reason_of_hold(&self, copies: &[NamedVm<'_>]) -> Option<String> {
        lock(&self.0.restraints).holding(copies, wall_time()).map(PowerHold::refusal)
    }

    /// True if a group with a cap lists a VM with these copies.
    pub(crate) fn is_capped(&self, copies: &[NamedVm<'_>]) -> bool {
        let restraints = lock(&self.0.restraints);
        restraints.groups().iter().any(|group| group.cap().is_some() && group.lists(copies))
    }

    /// Counts a power-off of a VM with these copies, which begins now.
    /// Errors: the reason not to begin it, a cap. Counts the refusal.
    pub(crate) fn begin_power_off(&self, copies: &[NamedVm<'_>], now: Instant) -> Result<(), String> {
        lock(&self.0.restraints).begin_power_off(copies, now).map_err(|reached| {
            self.0.refused_by_cap.fetch_add(1, Ordering::Relaxed);
            reached.to_string()
        })
    }

    /// Guard of an operation on a VM with these copies, each a name and a UUID.
    pub(crate) fn guard(&self, copies: Vec<(String, String)>) -> HoldGuard {
        HoldGuard { restraints: self.clone(), copies: copies.into(), is_counted: Arc::default() }
    }

    /// Holds in the table, also those that have just ended.
    pub(super) fn holds(&self) -> HoldTable {
        lock(&self.0.restraints).holds.clone()
    }

    /// Replaces the holds.
    pub(super) fn set_holds(&self, holds: HoldTable) {
        lock(&self.0.restraints).holds = holds;
    }

    /// Sentences about the groups that have this name.
    pub(super) fn groups_named(&self, subject: &HoldSubject) -> Vec<String> {
        let restraints = lock(&self.0.restraints);
        let key = subject.key();
        let named = restraints.groups().iter().filter(|group| group.is_named(&key));
        named
            .map(|group| format!("the group {} lists {}", group.label(), counted(group.len(), "VM")))
            .collect()
    }

    /// Subjects of the holds on groups that list this VM.
    pub(super) fn holds_on_groups_with(&self, subject: &HoldSubject) -> Vec<String> {
        let restraints = lock(&self.0.restraints);
        let vm = [NamedVm { name: subject.as_str(), uuid: subject.as_str() }];
        let is_by_group = |hold: &&PowerHold| {
            let key = hold.subject.key();
            restraints.groups().iter().any(|group| group.is_named(&key) && group.lists(&vm))
        };
        restraints
            .holds
            .iter()
            .filter(is_by_group)
            .map(|hold| format!("{:?}", hold.subject.as_str()))
            .collect()
    }

    /// State at present.
    pub(crate) fn report(&self) -> RestraintReport {
        let restraints = lock(&self.0.restraints);
        let now = wall_time();
        let cap = |group: &RestrainedGroup| Some(format!("{} {}", group.label(), group.cap()?));
        RestraintReport {
            holds: restraints.holds.iter().filter(|hold| hold.is_in_force(now)).cloned().collect(),
            caps: restraints.groups().iter().filter_map(cap).collect(),
            refused_by_hold: self.0.refused_by_hold.load(Ordering::Relaxed),
            refused_by_cap: self.0.refused_by_cap.load(Ordering::Relaxed),
        }
    }
}

/// Last check of an operation that has begun, for the lane that is about to destroy or start its VM. One
/// operation counts once, however many calls it makes. By default there is nothing to check.
#[derive(Debug, Clone, Default)]
pub(crate) struct HoldGuard {
    restraints: SharedRestraints,
    /// Names and UUIDs of the VM's copies.
    copies: Arc<[(String, String)]>,
    is_counted: Arc<AtomicBool>,
}

impl HoldGuard {
    /// Reason not to go on: a hold that began after the operation.
    pub(crate) fn refusal(&self) -> Option<String> {
        let copies: Vec<NamedVm<'_>> =
            self.copies.iter().map(|(name, uuid)| NamedVm { name, uuid }).collect();
        let refusal = self.restraints.reason_of_hold(&copies)?;
        if !self.is_counted.swap(true, Ordering::Relaxed) {
            self.restraints.0.refused_by_hold.fetch_add(1, Ordering::Relaxed);
        }
        Some(refusal)
    }
}
