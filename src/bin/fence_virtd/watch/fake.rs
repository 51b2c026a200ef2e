//! A libvirt connection and a follower for tests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Follower;
use super::census::Census;
use crate::libvirt::DomainRun;
use crate::libvirt::Failed;
use crate::serial_event::LineId;
use fence_virt::domain_xml::{Devices, XmlError};
use fence_virt::fence::{Domain, PowerState, Uuid};
use fence_virt::routing::LocalVm;

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
    /// The run that the XML of all VMs shows in place of theirs.
    pub(super) xml_run: Cell<Option<u32>>,
    /// Whether the XML of VMs is garbage.
    pub(super) garbled: Cell<bool>,
    /// Whether calls about single VMs fail, and whether the connection is gone.
    pub(super) failing: Cell<bool>,
    pub(super) dead: Cell<bool>,
    /// How often devices were asked for.
    pub(super) reads: Cell<usize>,
}

impl Fake {
    pub(super) fn start(&self, number: u8, run: u32, devices: Devices) {
        self.vms.borrow_mut().insert(number, (run, devices));
    }

    pub(super) fn stop(&self, number: u8) {
        self.vms.borrow_mut().remove(&number);
    }

    fn by_uuid(&self, wanted: Uuid) -> Option<(u8, u32, Devices)> {
        let vms = self.vms.borrow();
        let mut found = vms.iter().filter(|(number, _)| uuid(**number) == wanted);
        found.next().map(|(&number, (run, devices))| (number, *run, devices.clone()))
    }

    fn local(&self, number: u8) -> LocalVm {
        let (name, state) = (format!("vm{number}"), PowerState::Running);
        LocalVm { name, uuid: uuid(number), state, is_active: true }
    }

    fn fail(&self) -> Result<(), Failed> {
        if self.failing.get() { Err(Failed("broken".to_owned())) } else { Ok(()) }
    }
}

impl Census for Fake {
    fn running(&self) -> Result<Vec<DomainRun>, Failed> {
        self.check()?;
        Ok(self.vms.borrow().iter().map(|(&number, &(run, _))| running(number, run)).collect())
    }

    fn find(&self, wanted: Uuid) -> Result<Option<DomainRun>, Failed> {
        self.fail()?;
        Ok(self.by_uuid(wanted).map(|(number, run, _)| running(number, run)))
    }

    fn all(&self) -> Result<Vec<LocalVm>, Failed> {
        self.check()?;
        Ok(self.vms.borrow().keys().map(|&number| self.local(number)).collect())
    }

    fn vm(&self, wanted: Uuid) -> Result<Option<LocalVm>, Failed> {
        self.fail()?;
        Ok(self.by_uuid(wanted).map(|(number, ..)| self.local(number)))
    }

    fn devices(&self, wanted: Uuid) -> Result<Option<Result<Devices, XmlError>>, Failed> {
        self.fail()?;
        self.reads.set(self.reads.get() + 1);
        if self.garbled.get() {
            return Ok(Some(Devices::parse("<domain")));
        }
        let found = self.by_uuid(wanted);
        Ok(found.map(|(_, run, devices)| Ok(Devices { run: self.xml_run.get().or(Some(run)), ..devices })))
    }

    fn check(&self) -> Result<(), Failed> {
        if self.dead.get() { Err(Failed("dead".to_owned())) } else { Ok(()) }
    }
}

/// What a follower was told, in words.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn push(&self, words: String) {
        self.0.lock().unwrap().push(words);
    }

    /// All since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Follower for Told {
    fn name(&self) -> &'static str {
        "test"
    }

    fn runs(&mut self, vm: &DomainRun, devices: Devices, _now: Instant) {
        self.push(format!("{} runs as {} with {}", vm.domain.name, vm.id, devices.serials.len()));
    }

    fn gone(&mut self, uuid: Uuid) {
        self.push(format!("{} is gone", &uuid.to_string()[..2]));
    }

    fn synced(&mut self, uri: &str) {
        self.push(format!("{uri} synced"));
    }

    fn lost(&mut self) {
        self.push("lost".to_owned());
    }

    fn closed(&mut self, line: LineId, _now: Instant) {
        self.push(format!("line {} closed", line.0));
    }
}
