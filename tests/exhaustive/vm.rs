//! The VM: its copies, and its migration.

use fence_virt::fence::{PowerState, UriIndex, Uuid};
use fence_virt::routing::LocalVm;

use crate::cluster::Cluster;

pub const NAME: &str = "vm";

/// Initial state of the VM, which runs on the first node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is transient: a migration leaves no definition behind.
    Transient,
    /// It is persistent where it runs, and where it has run.
    Persistent,
    /// It is also defined on the second node.
    Shared,
}

impl Start {
    pub const ALL: [Start; 3] = [Start::Shared, Start::Persistent, Start::Transient];
}

/// Copy of the VM on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    None,
    /// libvirt tells whether it is off because it has migrated away.
    Off {
        has_moved: bool,
    },
    /// A migration brings it in.
    Paused,
    Active(Origin),
}

/// Origin of a run of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It began before the request.
    Earlier,
    /// An administrator started it since.
    Meanwhile,
    /// The request has started it.
    Request,
}

/// A migration in progress.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub from: usize,
    pub to: usize,
    /// What the target had before.
    pub before: Copy,
}

fn uuid() -> Uuid {
    Uuid::from_bytes([7; 16])
}

impl Copy {
    pub fn is_active(self) -> bool {
        matches!(self, Copy::Active(_))
    }

    pub fn runs(self) -> bool {
        self == Copy::Paused || self.is_active()
    }
}

impl Cluster {
    /// Returns the copy of a node, as libvirt reports it.
    pub fn local(&self, at: usize) -> Option<LocalVm> {
        let copy = self.copies[at];
        if copy == Copy::None {
            return None;
        }
        let state = if copy.runs() { PowerState::Running } else { PowerState::Off };
        let may_run_elsewhere = matches!(copy, Copy::Off { has_moved: true } | Copy::Paused);
        let (name, uuid, is_active) = (NAME.to_owned(), uuid(), copy.is_active());
        Some(LocalVm { name, uuid, state, is_active, may_run_elsewhere })
    }

    /// Returns the list of VMs of a node, in which libvirt does not tell why a VM is off.
    pub fn listed(&self, at: usize) -> Vec<LocalVm> {
        let listed = |vm: LocalVm| {
            let may_run_elsewhere = vm.may_run_elsewhere && vm.state == PowerState::Running;
            LocalVm { may_run_elsewhere, ..vm }
        };
        self.local(at).into_iter().map(listed).collect()
    }

    /// Returns the node where the VM is active.
    pub fn runner(&self) -> Option<usize> {
        self.copies.iter().position(|copy| copy.is_active())
    }

    /// Changes a copy, which libvirt reports.
    pub fn set(&mut self, at: usize, copy: Copy) {
        self.copies[at] = copy;
        if self.runner().is_none() {
            self.asked.iter_mut().for_each(|asked| asked.was_off = true);
        }
        let (now, vm, node) = (self.now, self.local(at), &mut self.nodes[at]);
        let Some(router) = node.router.as_mut().filter(|_| !node.is_away) else { return };
        match vm {
            Some(vm) => router.seen(UriIndex(0), vm, now),
            None => router.vanished(UriIndex(0), uuid(), now),
        }
    }

    /// The copy of a node ends, and its migration with it.
    pub fn end(&mut self, at: usize) {
        let migration = if self.is_migrating(at) { self.migration.take() } else { None };
        let mut is_defined = !self.is_transient;
        match migration {
            Some(Migration { from, to, before }) if from == at => self.set(to, before),
            Some(Migration { before, .. }) => is_defined = before != Copy::None,
            None => {}
        }
        self.set(at, if is_defined { Copy::Off { has_moved: false } } else { Copy::None });
    }

    /// Returns true if a copy is the source or the target of a migration.
    pub fn is_migrating(&self, at: usize) -> bool {
        self.migration.is_some_and(|migration| migration.from == at || migration.to == at)
    }

    pub fn begin_migration(&mut self, to: usize) {
        if let Some(from) = self.runner() {
            self.migration = Some(Migration { from, to, before: self.copies[to] });
            self.set(to, Copy::Paused);
        }
    }

    pub fn end_migration(&mut self) {
        if let Some(Migration { from, to, .. }) = self.migration.take() {
            self.set(to, self.copies[from]);
            let rest = if self.is_transient { Copy::None } else { Copy::Off { has_moved: true } };
            self.set(from, rest);
        }
    }

    pub fn roll_back(&mut self) {
        if let Some(Migration { to, before, .. }) = self.migration.take() {
            self.set(to, before);
        }
    }
}
