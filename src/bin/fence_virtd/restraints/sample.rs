//! Restraints for tests.

use super::shared::SharedRestraints;
use crate::power_journal::wall_time;
use fence_virt::restraints::{
    HoldReason, HoldSubject, HoldTable, HoldTime, PowerHold, PowerOffCap, RestrainedGroup,
};

impl SharedRestraints {
    /// Places a hold of an hour, beside no other.
    pub(crate) fn hold(&self, subject: &str) {
        let (subject, reason) = (HoldSubject::new(subject).unwrap(), HoldReason::new("new kernel").unwrap());
        let hold = PowerHold::begin(subject, reason, HoldTime::parse("1h").unwrap(), wall_time());
        let mut holds = HoldTable::default();
        holds.insert(hold).unwrap();
        self.set_holds(holds);
    }

    /// Ends all holds.
    pub(crate) fn release(&self) {
        self.set_holds(HoldTable::default());
    }

    /// Sets one group, of the name web, with these VMs and this cap.
    pub(crate) fn cap(&self, vms: &[&str], cap: &str) {
        let cap = Some(PowerOffCap::parse(cap).unwrap());
        let vms = vms.iter().copied();
        self.set_groups(vec![RestrainedGroup::new(Some("web"), "\"web\"".to_owned(), vms, cap)]);
    }

    /// Numbers of power operations that holds and caps have refused.
    pub(crate) fn refused(&self) -> (u64, u64) {
        let report = self.report();
        (report.refused_by_hold, report.refused_by_cap)
    }
}
