//! A libvirt connection and an observer for tests.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::change_handler::DomainObserver;
use super::domain_query::DomainQuery;
use crate::libvirt::{DomainRun, LibvirtError, LibvirtResult};
use crate::serial_event::LineId;
use fence_virt::domain_xml::{Devices, XmlError};
use fence_virt::fence::{Domain, PowerState, Uuid};
use fence_virt::routing::LocalVm;
use fence_virt::time::Instant;

pub(super) fn uuid(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

pub(super) fn running(number: u8, run: u32) -> DomainRun {
    DomainRun { domain: Arc::new(Domain { name: format!("vm{number}"), uuid: uuid(number) }), id: run }
}

/// VMs that run, by number: their runs and devices.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) vms: RefCell<BTreeMap<u8, (u32, Devices)>>,
    /// Those of them that a migration has paused.
    pub(super) paused: RefCell<BTreeSet<u8>>,
    /// VMs that are off, by number: true for those that have migrated away.
    pub(super) shut_off: RefCell<BTreeMap<u8, bool>>,
    /// The run that the XML of all VMs shows instead of theirs.
    pub(super) xml_run: Cell<Option<u32>>,
    /// True if the XML of VMs is garbage.
    pub(super) garbled: Cell<bool>,
    /// True if queries of single VMs fail.
    pub(super) failing: Cell<bool>,
    /// True if the connection ends with the next query of a single VM.
    pub(super) dies: Cell<bool>,
    /// True if the connection is gone.
    pub(super) dead: Cell<bool>,
    /// Number of queries of single VMs, running or not.
    pub(super) queries: Cell<usize>,
    /// Number of queries for devices.
    pub(super) reads: Cell<usize>,
}

impl Fake {
    pub(super) fn start(&self, number: u8, run: u32, devices: Devices) {
        self.shut_off.borrow_mut().remove(&number);
        self.paused.borrow_mut().remove(&number);
        self.vms.borrow_mut().insert(number, (run, devices));
    }

    /// Ends a transient VM.
    pub(super) fn stop(&self, number: u8) {
        self.vms.borrow_mut().remove(&number);
    }

    /// A migration pauses a VM that runs.
    pub(super) fn pause(&self, number: u8) {
        self.paused.borrow_mut().insert(number);
    }

    /// Ends a VM that stays defined.
    pub(super) fn shut_off(&self, number: u8, has_moved: bool) {
        self.stop(number);
        self.shut_off.borrow_mut().insert(number, has_moved);
    }

    fn by_uuid(&self, wanted: Uuid) -> Option<(u8, u32, Devices)> {
        let vms = self.vms.borrow();
        let mut found = vms.iter().filter(|(number, _)| uuid(**number) == wanted);
        found.next().map(|(&number, (run, devices))| (number, *run, devices.clone()))
    }

    /// A VM as a list shows it.
    fn local(&self, number: u8) -> LocalVm {
        let runs = self.vms.borrow().contains_key(&number);
        let state = if runs { PowerState::Running } else { PowerState::Off };
        let (name, is_active) = (format!("vm{number}"), runs && !self.paused.borrow().contains(&number));
        LocalVm { name, uuid: uuid(number), state, is_active, may_run_elsewhere: false }
    }

    fn fail(&self) -> LibvirtResult {
        self.dead.set(self.dead.get() || self.dies.get());
        if self.failing.get() || self.dead.get() {
            Err(LibvirtError::Other("broken".to_owned()))
        } else {
            Ok(())
        }
    }
}

impl DomainQuery for Fake {
    fn running(&self) -> LibvirtResult<Vec<DomainRun>> {
        self.check()?;
        Ok(self.vms.borrow().iter().map(|(&number, &(run, _))| running(number, run)).collect())
    }

    fn find(&self, wanted: Uuid) -> LibvirtResult<Option<DomainRun>> {
        self.fail()?;
        Ok(self.by_uuid(wanted).map(|(number, run, _)| running(number, run)))
    }

    fn all(&self) -> LibvirtResult<Vec<LocalVm>> {
        self.check()?;
        let all = self.vms.borrow().keys().chain(self.shut_off.borrow().keys()).copied().collect::<Vec<_>>();
        Ok(all.into_iter().map(|number| self.local(number)).collect())
    }

    fn vm(&self, wanted: Uuid) -> LibvirtResult<Option<LocalVm>> {
        self.queries.set(self.queries.get() + 1);
        self.fail()?;
        let shut_off = self.shut_off.borrow();
        let off = shut_off.iter().find(|(number, _)| uuid(**number) == wanted);
        let off =
            off.map(|(&number, &has_moved)| LocalVm { may_run_elsewhere: has_moved, ..self.local(number) });
        let runs = |(number, ..): (u8, u32, Devices)| {
            let may_run_elsewhere = self.paused.borrow().contains(&number);
            LocalVm { may_run_elsewhere, ..self.local(number) }
        };
        Ok(off.or_else(|| self.by_uuid(wanted).map(runs)))
    }

    fn devices(&self, wanted: Uuid) -> LibvirtResult<Option<Result<Devices, XmlError>>> {
        self.fail()?;
        self.reads.set(self.reads.get() + 1);
        if self.garbled.get() {
            return Ok(Some(Devices::parse("<domain")));
        }
        let found = self.by_uuid(wanted);
        Ok(found.map(|(_, run, devices)| Ok(Devices { run: self.xml_run.get().or(Some(run)), ..devices })))
    }

    fn check(&self) -> LibvirtResult {
        if self.dead.get() { Err(LibvirtError::Other("dead".to_owned())) } else { Ok(()) }
    }
}

/// Calls of an observer, in words.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed(Arc<Mutex<Vec<String>>>);

impl Observed {
    fn push(&self, words: String) {
        self.0.lock().unwrap().push(words);
    }

    /// Calls since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl DomainObserver for Observed {
    fn running(&mut self, vm: &DomainRun, devices: Devices, _now: Instant) {
        self.push(format!("{} runs as {} with {}", vm.domain.name, vm.id, devices.serials.len()));
    }

    fn stopped(&mut self, uuid: Uuid) {
        self.push(format!("{} is gone", &uuid.to_string()[..2]));
    }

    fn synced(&mut self) {
        self.push("synced".to_owned());
    }

    fn lost(&mut self) {
        self.push("lost".to_owned());
    }

    fn line_lost(&mut self, line: LineId, _now: Instant) {
        self.push(format!("line {} lost", line.0));
    }
}
