use std::collections::{HashSet, VecDeque};
use std::fmt;

use super::cap::PowerOffCap;
use super::hold::PowerHold;
use super::table::HoldTable;
use crate::groups::{listed_names, listed_text};
use crate::power_log::WallTime;
use crate::time::Instant;

/// Name and UUID of a copy of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedVm<'a> {
    /// Name that it has at its place.
    pub name: &'a str,
    /// UUID, or the name where that is all that is known.
    pub uuid: &'a str,
}

/// Group, as far as restraints are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestrainedGroup {
    /// Name as holds are compared with it; none if it has no name.
    key: Option<String>,
    /// Name for messages.
    label: String,
    /// VMs that it lists, as [`listed_text`] writes them.
    vms: HashSet<String>,
    cap: Option<PowerOffCap>,
}

impl RestrainedGroup {
    /// Group with this name, this name for messages, these VMs and this cap.
    pub fn new<'a>(
        name: Option<&str>,
        label: String,
        vms: impl Iterator<Item = &'a str>,
        cap: Option<PowerOffCap>,
    ) -> RestrainedGroup {
        RestrainedGroup {
            key: name.map(|name| listed_text(name.trim())),
            label,
            vms: vms.map(listed_text).collect(),
            cap,
        }
    }

    /// Name for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Cap of the power-offs of its VMs.
    pub fn cap(&self) -> Option<PowerOffCap> {
        self.cap
    }

    /// Number of names and UUIDs that it lists.
    pub fn len(&self) -> usize {
        self.vms.len()
    }

    /// True if it lists no VM.
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty()
    }

    /// Returns true if it lists one of these copies of a VM.
    pub fn lists(&self, copies: &[NamedVm<'_>]) -> bool {
        let mut names = copies.iter().flat_map(|copy| listed_names(copy.name, copy.uuid));
        names.any(|name| self.vms.contains(&listed_text(name)))
    }

    /// Returns true if this word, as holds compare it, is its name.
    pub fn is_named(&self, key: &str) -> bool {
        self.key.as_deref() == Some(key)
    }
}

/// Reason why a power-off does not begin: the cap of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapReached {
    label: String,
    cap: PowerOffCap,
}

impl fmt::Display for CapReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapReached { label, cap } = self;
        write!(f, "max_power_off {cap} of group {label} is reached")
    }
}

/// Power-off that has begun, of a VM in a group with a cap.
#[derive(Debug)]
struct BegunPowerOff {
    at: Instant,
    /// Names and UUIDs of the VM's copies.
    names: Vec<(String, String)>,
}

impl BegunPowerOff {
    fn counts_for(&self, group: &RestrainedGroup, now: Instant) -> bool {
        let is_recent = group.cap.is_some_and(|cap| now.saturating_duration_since(self.at) < cap.time());
        let copies: Vec<NamedVm<'_>> = self.names.iter().map(|(name, uuid)| NamedVm { name, uuid }).collect();
        is_recent && group.lists(&copies)
    }
}

/// Holds and caps in force, with the power-offs that count.
///
/// A power-off is counted by its VM, and a cap looks for those of the VMs that its group lists now. So what
/// was counted stays so when the groups change.
#[derive(Debug, Default)]
pub struct Restraints {
    /// Holds.
    pub holds: HoldTable,
    groups: Vec<RestrainedGroup>,
    /// Oldest first.
    begun: VecDeque<BegunPowerOff>,
}

impl Restraints {
    /// Replaces the groups. Returns what is held and was the name of a group before, and is none now.
    pub fn set_groups(&mut self, groups: Vec<RestrainedGroup>) -> Vec<&str> {
        let before = std::mem::replace(&mut self.groups, groups);
        let names = |groups: &[RestrainedGroup], subject: &str| {
            groups.iter().any(|group| group.key.as_deref() == Some(listed_text(subject).as_str()))
        };
        let subjects = self.holds.iter().map(|hold| hold.subject.as_str());
        subjects.filter(|subject| names(&before, subject) && !names(&self.groups, subject)).collect()
    }

    /// Returns the groups, in the order of the configuration.
    pub fn groups(&self) -> &[RestrainedGroup] {
        &self.groups
    }

    /// Hold on a VM with these copies, or on a group that lists it. Of several, the one that ends last.
    ///
    /// A name counts as it is, also one that reads as a UUID: at worst, a hold is on one VM too many.
    pub fn holding(&self, copies: &[NamedVm<'_>], now: WallTime) -> Option<&PowerHold> {
        if self.holds.is_empty() {
            return None;
        }
        let names = copies.iter().flat_map(|copy| [copy.name, copy.uuid]);
        let on_vm = names.filter_map(|name| self.holds.of_key(&listed_text(name)));
        let on_groups = self.groups.iter().filter_map(|group| {
            let hold = self.holds.of_key(group.key.as_deref()?)?;
            group.lists(copies).then_some(hold)
        });
        on_vm.chain(on_groups).filter(|hold| hold.is_in_force(now)).max_by_key(|hold| hold.ends)
    }

    /// Counts a power-off of a VM with these copies, which begins now.
    ///
    /// # Errors
    ///
    /// The cap of one of its groups is reached: the power-off must not begin, and is not counted.
    pub fn begin_power_off(&mut self, copies: &[NamedVm<'_>], now: Instant) -> Result<(), CapReached> {
        let groups = &self.groups;
        self.begun.retain(|begun| groups.iter().any(|group| begun.counts_for(group, now)));
        let mut is_capped = false;
        for group in groups.iter().filter(|group| group.lists(copies)) {
            let Some(cap) = group.cap else { continue };
            is_capped = true;
            if self.begun.iter().filter(|begun| begun.counts_for(group, now)).count() >= cap.count() {
                return Err(CapReached { label: group.label.clone(), cap });
            }
        }
        if is_capped {
            let names = copies.iter().map(|copy| (copy.name.to_owned(), copy.uuid.to_owned())).collect();
            self.begun.push_back(BegunPowerOff { at: now, names });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
