//! Migrations of VMs.

use super::vm::{Migration, Phase};
use super::world::{Time, World};

/// Time for which a VM does not move again.
const REST: Time = 1000;

impl World {
    pub fn begin_migration(&mut self, vm: usize, from: usize, to: usize) {
        let run = self.vms[vm].copies[&from];
        let was_defined = self.vms[vm].copies.insert(to, run).is_some();
        self.vms[vm].moved.remove(&to);
        let due = self.now + 500 + self.random.below(2000);
        self.vms[vm].migration = Some(Migration { from, to, due, phase: Phase::Copying, was_defined });
        self.stir(vm);
    }

    pub fn end_migrations(&mut self) {
        for vm in 0..self.vms.len() {
            let due = self.vms[vm].migration.filter(|migration| migration.due <= self.now);
            let Some(migration) = due else { continue };
            self.vms[vm].migration = None;
            self.vms[vm].rests_until = self.now + REST;
            match migration.phase {
                // It was destroyed on the target.
                Phase::Copying if !self.vms[vm].runs_at(migration.to) => continue,
                Phase::Copying if self.quirks.phases => self.switch_over(vm, migration),
                Phase::Copying | Phase::Confirming => self.leave_source(vm, migration.from),
            }
            self.stir(vm);
        }
    }

    /// The VM runs on the target, while the source is paused until it is told so; or the migration fails.
    fn switch_over(&mut self, vm: usize, migration: Migration) {
        if self.random.one_in(3) {
            self.count("migrations that failed");
            return self.roll_back(vm, migration);
        }
        self.count("migrations in two phases");
        let pause = if self.random.one_in(10) { 3000 } else { 300 };
        let due = self.now + self.random.below(pause);
        self.vms[vm].migration = Some(Migration { due, phase: Phase::Confirming, ..migration });
    }

    fn leave_source(&mut self, vm: usize, from: usize) {
        // A transient VM leaves no definition behind.
        if self.random.one_in(2) {
            self.vms[vm].copies.remove(&from);
        } else {
            self.vms[vm].copies.insert(from, None);
            self.vms[vm].moved.insert(from);
            self.vms[vm].left.insert(from);
        }
    }

    /// The copy that was coming in ends.
    pub fn roll_back(&mut self, vm: usize, migration: Migration) {
        // libvirt defines it there in the end only.
        if migration.was_defined {
            self.vms[vm].copies.insert(migration.to, None);
        } else {
            self.vms[vm].copies.remove(&migration.to);
        }
    }

    /// A host has lost its power: what it ran has ended, and so have its migrations.
    pub fn end_runs(&mut self, at: usize) {
        for vm in 0..self.vms.len() {
            let ended = |migration: &Migration| migration.from == at || migration.to == at;
            if let Some(migration) = self.vms[vm].migration.take_if(|migration| ended(migration)) {
                if migration.phase == Phase::Copying && migration.from == at {
                    // Otherwise it goes on where it was.
                    self.roll_back(vm, migration);
                }
                self.stir(vm);
            }
            if let Some(run) = self.vms[vm].copies.get_mut(&at) {
                *run = None;
            }
            self.vms[vm].moved.remove(&at);
        }
    }
}
