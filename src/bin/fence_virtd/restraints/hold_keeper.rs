//! Begin, release and end of holds.

use std::path::Path;
use std::time::Duration;

use log::{info, warn};

use super::hold_file::HoldFile;
use super::shared::SharedRestraints;
use crate::power_journal::wall_time;
use crate::problem::Problem;
use fence_virt::restraints::{HoldReason, HoldSubject, HoldTime, PowerHold};
use fence_virt::time::Instant;

/// Order of an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HoldChange {
    /// Place a hold; it replaces the one on the same subject.
    Place { subject: HoldSubject, reason: HoldReason, time: HoldTime },
    /// End a hold.
    Release(HoldSubject),
}

/// Keeper of the holds: the main thread's part. A change is in force once it is in the file.
#[derive(Debug)]
pub(crate) struct HoldKeeper {
    file: HoldFile,
    restraints: SharedRestraints,
    /// True if the file has holds that have ended, and could not be written.
    is_stale: bool,
}

impl HoldKeeper {
    /// Puts the holds into force that a daemon with this status socket has kept.
    /// Errors: a sentence if the file has no holds that can be read.
    pub(crate) fn load(status_socket: &Path, restraints: SharedRestraints) -> Result<HoldKeeper, String> {
        let file = HoldFile::beside(status_socket);
        let holds = file.load().map_err(|problem| problem.to_string())?;
        let now = wall_time();
        for hold in holds.iter().filter(|hold| hold.is_in_force(now)) {
            info!("hold goes on: {}", describe(hold));
        }
        restraints.set_holds(holds);
        Ok(HoldKeeper { file, restraints, is_stale: false })
    }

    /// Carries an order out. Returns lines for the client.
    /// Errors: the reason why nothing has changed.
    pub(crate) fn change(&mut self, change: HoldChange) -> Result<String, String> {
        self.end_due();
        match change {
            HoldChange::Place { subject, reason, time } => self.place(subject, reason, time),
            HoldChange::Release(subject) => self.release(&subject),
        }
    }

    fn place(&mut self, subject: HoldSubject, reason: HoldReason, time: HoldTime) -> Result<String, String> {
        let hold = PowerHold::begin(subject, reason, time, wall_time());
        let mut holds = self.restraints.holds();
        let replaced = holds.insert(hold.clone())?;
        self.file.store(&holds)?;
        self.restraints.set_holds(holds);
        let mut lines = describe(&hold);
        info!("hold begins: {lines}");
        if let Some(replaced) = replaced {
            lines.push_str(&format!("\nit replaces the hold {}", describe(&replaced)));
        }
        let groups = self.restraints.groups_named(&hold.subject);
        lines.extend(groups.iter().map(|group| format!("\n{group}")));
        Ok(lines)
    }

    fn release(&mut self, subject: &HoldSubject) -> Result<String, String> {
        let mut holds = self.restraints.holds();
        let Some(hold) = holds.remove(subject) else {
            let by_group = self.restraints.holds_on_groups_with(subject);
            let hint = match by_group.is_empty() {
                true => String::new(),
                false => format!("; its groups are held: release {}", by_group.join(", ")),
            };
            return Err(format!("there is no hold on {:?}{hint}", subject.as_str()));
        };
        self.file.store(&holds)?;
        self.restraints.set_holds(holds);
        let description = describe(&hold);
        info!("hold released: {description}");
        Ok(format!("released: {description}"))
    }

    /// Removes the holds that have ended.
    pub(crate) fn end_due(&mut self) {
        let mut holds = self.restraints.holds();
        let ended = holds.take_ended(wall_time());
        if ended.is_empty() && !self.is_stale {
            return;
        }
        ended.iter().for_each(|hold| info!("hold ended: {}", describe(hold)));
        // They are not in force, whatever becomes of the file.
        let stored = self.file.store(&holds);
        self.restraints.set_holds(holds);
        if let (Err(reason), false) = (&stored, self.is_stale) {
            warn!("{reason}");
        }
        self.is_stale = stored.is_err();
    }

    /// Time at which the next hold ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let millis = self.restraints.holds().next_end()?.millis().saturating_sub(wall_time().millis());
        Some(Instant::now() + Duration::from_millis(millis))
    }

    /// Returns true if a group has this name.
    pub(crate) fn is_group(&self, subject: &HoldSubject) -> bool {
        !self.restraints.groups_named(subject).is_empty()
    }
}

/// Returns the holds in force that a daemon with this status socket has kept, as far as this user may read them.
/// Errors: the daemon would not start with its file.
pub(crate) fn kept_holds(status_socket: &Path) -> Result<Vec<PowerHold>, Problem> {
    let now = wall_time();
    let mut holds = HoldFile::beside(status_socket).examine()?;
    drop(holds.take_ended(now));
    Ok(holds.iter().cloned().collect())
}

fn describe(PowerHold { subject, reason, ends, .. }: &PowerHold) -> String {
    format!("on {:?} until {ends}: {}", subject.as_str(), reason.as_str())
}

#[cfg(test)]
#[path = "hold_keeper_tests.rs"]
mod tests;
