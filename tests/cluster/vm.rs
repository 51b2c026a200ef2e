//! The true state of the VMs, which routers see only by events and jobs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fence_virt::fence::{PowerState, Uuid};
use fence_virt::routing::LocalVm;

use super::world::{Kind, Time, World};

/// A VM, and its true state.
pub struct Vm {
    pub name: String,
    pub uuid: Uuid,
    /// By node: its run there, if it runs.
    pub copies: BTreeMap<usize, Option<u64>>,
    /// Nodes where it is off because it moved away.
    pub moved: BTreeSet<usize>,
    /// Nodes from where it has ever moved away, which their daemons remember until they see it run again.
    pub left: BTreeSet<usize>,
    pub migration: Option<Migration>,
    /// The last time at which it was off, before it was started.
    pub was_off_at: Option<Time>,
    /// Time before which it does not move again.
    pub rests_until: Time,
    /// Time until which it may be destroyed for the last request.
    pub doomed_until: Time,
    /// Time until which only its status is requested.
    pub busy_until: Time,
}

/// A migration in progress.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub from: usize,
    pub to: usize,
    /// End of its phase.
    pub due: Time,
    pub phase: Phase,
    /// The target had a definition of the VM before.
    pub was_defined: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The VM is active on the source, and paused on the target.
    Copying,
    /// The VM is active on the target, and paused on the source until that is told.
    Confirming,
}

/// Starter of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter {
    /// A daemon of this suite, by a job.
    Ours,
    /// A C daemon, by a request.
    C,
    /// An administrator.
    Admin,
}

/// Run of a VM.
pub struct Run {
    pub began: Time,
    pub by: Starter,
    /// The VM was active when it began.
    pub is_second: bool,
}

impl Vm {
    pub fn new(name: String, uuid: Uuid, copies: BTreeMap<usize, Option<u64>>) -> Vm {
        let (moved, left, migration, was_off_at) = (BTreeSet::new(), BTreeSet::new(), None, None);
        let (rests_until, doomed_until, busy_until) = (0, 0, 0);
        Vm { name, uuid, copies, moved, left, migration, was_off_at, rests_until, doomed_until, busy_until }
    }

    /// Returns true if a migration has paused it on this node.
    pub fn is_paused(&self, at: usize) -> bool {
        self.migration.is_some_and(|migration| match migration.phase {
            Phase::Copying => migration.to == at,
            Phase::Confirming => migration.from == at,
        })
    }

    /// Returns the nodes where it is active, with its runs.
    pub fn active(&self) -> impl Iterator<Item = (usize, u64)> {
        let running = self.copies.iter().filter_map(|(&at, run)| Some((at, (*run)?)));
        running.filter(|(at, _)| !self.is_paused(*at))
    }

    pub fn runs_at(&self, at: usize) -> bool {
        self.copies.get(&at).copied().flatten().is_some()
    }
}

impl World {
    pub fn local_vms(&self, at: usize) -> Vec<LocalVm> {
        // A list of libvirt does not tell why a VM is off.
        let listed = |vm| {
            let vm = self.local_vm(at, vm)?;
            let may_run_elsewhere = vm.may_run_elsewhere && vm.state == PowerState::Running;
            Some(LocalVm { may_run_elsewhere, ..vm })
        };
        self.vms.iter().filter_map(listed).collect()
    }

    pub fn local_vm(&self, at: usize, vm: &Vm) -> Option<LocalVm> {
        let is_running = vm.copies.get(&at)?.is_some();
        let state = if is_running { PowerState::Running } else { PowerState::Off };
        let is_active = is_running && !vm.is_paused(at);
        let may_run_elsewhere = if is_running { vm.is_paused(at) } else { vm.moved.contains(&at) };
        Some(LocalVm { name: vm.name.clone(), uuid: vm.uuid, state, is_active, may_run_elsewhere })
    }

    pub fn vm_of(&self, at: usize, name: &str) -> Option<usize> {
        let uuid = Uuid::parse(name);
        let find = |is_meant: &dyn Fn(&Vm) -> bool| {
            self.vms.iter().position(|vm| vm.copies.contains_key(&at) && is_meant(vm))
        };
        // For ours, what reads as a UUID is no name.
        let is_name = uuid.is_none() || self.nodes[at].kind == Kind::C;
        find(&|vm| uuid == Some(vm.uuid)).or_else(|| find(&|vm| is_name && vm.name == name))
    }

    /// Returns true if a VM can be asked for by its name.
    pub fn has_name(&self, vm: usize) -> bool {
        let Vm { name, copies, .. } = &self.vms[vm];
        !copies.is_empty() && Uuid::parse(name).is_none()
    }

    pub fn new_run(&mut self, by: Starter, is_second: bool) -> u64 {
        let number = self.runs.len() as u64 + 1;
        self.runs.insert(number, Run { began: self.now, by, is_second });
        number
    }

    /// Queues events of a VM for the daemons.
    pub fn stir(&mut self, vm: usize) {
        self.trace(|| {
            format!("{}: {:?} {:?}", self.vms[vm].name, self.vms[vm].copies, self.vms[vm].migration)
        });
        let uuid = self.vms[vm].uuid;
        for at in 0..self.nodes.len() {
            let mut due = self.now + self.random.below(20);
            if self.quirks.late > 0 && self.random.one_in(10) {
                due += self.random.below(self.quirks.late);
                self.count("late events");
            }
            if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                daemon.events.push_back((due, uuid));
            }
        }
    }

    /// A daemon destroys a copy.
    pub fn destroy(&mut self, at: usize, vm: usize) {
        let Some(run) = self.vms[vm].copies.get_mut(&at).and_then(Option::take) else { return };
        self.check_destroy(vm, run);
        self.check_duels(run);
        if let Some(migration) = self.vms[vm].migration.filter(|migration| migration.from == at) {
            if migration.phase == Phase::Copying {
                // The copy that was coming in from there ends too.
                self.roll_back(vm, migration);
            }
            self.vms[vm].migration = None;
        }
        self.stir(vm);
    }

    /// Allows a VM to be destroyed for a request.
    pub fn doom(&mut self, vm: usize, how_long: Time) {
        self.vms[vm].doomed_until = self.now + how_long;
        let runs: HashSet<u64> = self.vms[vm].copies.values().flatten().copied().collect();
        self.started.retain(|run| !runs.contains(run));
    }

    /// Starts a VM again, in a reboot.
    pub fn boot_again(&mut self, at: usize, vm: usize) {
        self.boot(at, vm, Starter::Ours);
        self.started.extend(self.vms[vm].copies[&at]);
    }

    pub fn boot(&mut self, at: usize, vm: usize, by: Starter) {
        let is_second = self.vms[vm].active().next().is_some();
        if !is_second {
            self.vms[vm].was_off_at = Some(self.now);
        }
        let run = self.new_run(by, is_second);
        self.vms[vm].moved.remove(&at);
        self.vms[vm].copies.insert(at, Some(run));
        self.stir(vm);
    }

    /// A transient VM ends, and is created anew under its name, with another UUID.
    pub fn create_anew(&mut self, at: usize, vm: usize) {
        let run = self.new_run(Starter::Admin, false);
        self.vms[vm].copies.clear();
        self.stir(vm);
        let uuid = Uuid::from_bytes([self.vms.len() as u8 + 1; 16]);
        let copies = BTreeMap::from([(at, Some(run))]);
        self.vms.push(Vm::new(self.vms[vm].name.clone(), uuid, copies));
        self.stir(self.vms.len() - 1);
    }

    /// Returns true if a transient VM can be created anew: its name is known to be free.
    pub fn can_be_created_anew(&mut self, at: usize, vm: usize) -> bool {
        let Vm { copies, busy_until, moved, .. } = &self.vms[vm];
        let is_alone = copies.len() == 1 && moved.is_empty() && *busy_until < self.now;
        self.nodes[at].kind == Kind::Ours
            && is_alone
            && self.has_name(vm)
            && self.vms.len() < 100
            && self.random.one_in(2)
    }
}
