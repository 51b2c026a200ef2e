//! Hypervisors in memory, with faults on order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::libvirt::Failed;
use crate::libvirt::{Condition, Definition, Found, Host, Link, Undestroyed};
use fence_virt::fence::{PowerState, Target};

/// A VM of a fake hypervisor.
#[derive(Debug, Clone)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) runs: Option<u32>,
    pub(super) is_transient: bool,
}

/// What happens at the next destroys, one after the other.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It is refused, the VM runs on.
    Destroy(Undestroyed),
    /// It is refused, and the VM is gone (it moved away).
    RefusedAndGone,
    /// It says yes, but the VM runs on.
    SaysYes,
    /// It says yes and somebody starts the VM anew at once.
    StartedAnew,
    /// It says yes, and then the connection is lost.
    LostAfter,
}

/// A fake hypervisor.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(super) domains: RefCell<BTreeMap<String, Domain>>,
    pub(super) faults: RefCell<Vec<Fault>>,
    /// Every call fails with this.
    pub(super) broken: RefCell<Option<String>>,
    pub(super) starts_fail: Cell<bool>,
    pub(super) destroys: Cell<usize>,
    /// How often all VMs were listed.
    pub(super) lists: Cell<usize>,
    /// How often one was looked for.
    finds: Cell<usize>,
    pub(super) log: RefCell<Vec<String>>,
    next_id: Cell<u32>,
}

impl Fake {
    pub(crate) fn with(domains: &[(&str, &str, bool)]) -> Arc<Fake> {
        let fake = Fake::default();
        for (name, uuid, runs) in domains {
            let runs = runs.then(|| fake.id());
            let domain = Domain { name: name.to_string(), runs, is_transient: false };
            fake.domains.borrow_mut().insert(uuid.to_string(), domain);
        }
        Arc::new(fake)
    }

    fn id(&self) -> u32 {
        self.next_id.set(self.next_id.get() + 1);
        self.next_id.get()
    }

    fn works(&self) -> Result<(), Failed> {
        self.broken.borrow().clone().map_or(Ok(()), |reason| Err(Failed(reason)))
    }

    fn all(&self) -> Result<Vec<Found>, Failed> {
        self.works()?;
        let found = |(uuid, domain): (&String, &Domain)| Found {
            name: domain.name.clone(),
            uuid: uuid.clone(),
            condition: condition(domain),
        };
        Ok(self.domains.borrow().iter().map(found).collect())
    }

    fn power_off(&self, uuid: &str) {
        let mut domains = self.domains.borrow_mut();
        if domains.get(uuid).is_some_and(|domain| domain.is_transient) {
            domains.remove(uuid);
        } else if let Some(domain) = domains.get_mut(uuid) {
            domain.runs = None;
        }
    }

    pub(crate) fn finds(&self) -> usize {
        self.finds.get()
    }

    pub(crate) fn runs(&self, uuid: &str) -> Option<bool> {
        self.domains.borrow().get(uuid).map(|domain| domain.runs.is_some())
    }
}

fn condition(domain: &Domain) -> Condition {
    let power = if domain.runs.is_some() { PowerState::Running } else { PowerState::Off };
    Condition { power, id: domain.runs, is_active: domain.runs.is_some(), moves: false }
}

impl Host for Fake {
    fn find(&self, target: &Target) -> Result<Vec<Found>, Failed> {
        self.finds.set(self.finds.get() + 1);
        let all = self.all()?;
        Ok(all.into_iter().filter(|vm| vm.name == target.as_str() || vm.uuid == target.as_str()).collect())
    }

    fn observe(&self, uuid: &str) -> Result<Option<Condition>, Failed> {
        self.works()?;
        Ok(self.domains.borrow().get(uuid).map(condition))
    }

    fn definition(&self, uuid: &str) -> Result<Definition, Failed> {
        self.works()?;
        match self.domains.borrow().get(uuid) {
            Some(domain) if domain.is_transient => {
                Ok(Definition::Transient(format!("xml of {}", domain.name)))
            }
            Some(_) => Ok(Definition::Persistent),
            None => Err(Failed("gone".into())),
        }
    }

    fn destroy(&self, uuid: &str) -> Result<(), Undestroyed> {
        self.works().map_err(|Failed(reason)| Undestroyed::Refused(reason))?;
        self.destroys.set(self.destroys.get() + 1);
        let mut faults = self.faults.borrow_mut();
        let fault = (!faults.is_empty()).then(|| faults.remove(0));
        match fault {
            None => self.power_off(uuid),
            Some(Fault::Destroy(refusal)) => return Err(refusal),
            Some(Fault::RefusedAndGone) => {
                self.domains.borrow_mut().remove(uuid);
                return Err(Undestroyed::Refused("migration".into()));
            }
            Some(Fault::SaysYes) => {}
            Some(Fault::StartedAnew) => {
                let id = self.id();
                self.domains.borrow_mut().entry(uuid.to_string()).and_modify(|domain| domain.runs = Some(id));
            }
            Some(Fault::LostAfter) => {
                self.power_off(uuid);
                *self.broken.borrow_mut() = Some("connection lost".into());
            }
        }
        Ok(())
    }

    fn start(&self, uuid: &str, definition: &Definition) -> Result<(), Failed> {
        self.works()?;
        if self.starts_fail.get() {
            return Err(Failed("no memory".into()));
        }
        self.log.borrow_mut().push(format!("start {definition:?}"));
        let domain = Domain { name: "created".into(), runs: Some(self.id()), is_transient: true };
        let id = self.id();
        self.domains
            .borrow_mut()
            .entry(uuid.to_string())
            .and_modify(|domain| domain.runs = Some(id))
            .or_insert(domain);
        Ok(())
    }

    fn list(&self) -> Result<Vec<Found>, Failed> {
        self.lists.set(self.lists.get() + 1);
        self.all()
    }
}

/// A link to a fake hypervisor.
pub(crate) struct FakeLink {
    pub(super) name: String,
    pub(super) fake: Arc<Fake>,
    pub(super) closed: Cell<bool>,
    pub(super) probes: Cell<usize>,
    /// What its keeper saw when it connected.
    pub(super) inventory: RefCell<Option<Vec<(String, String)>>>,
}

impl FakeLink {
    pub(crate) fn new(name: &str, fake: &Arc<Fake>) -> FakeLink {
        FakeLink {
            name: name.to_owned(),
            fake: fake.clone(),
            closed: Cell::new(false),
            probes: Cell::new(0),
            inventory: RefCell::new(None),
        }
    }
}

impl Link for FakeLink {
    type Host = Fake;

    fn name(&self) -> &str {
        &self.name
    }

    fn host(&self, _now: Instant) -> Result<Arc<Fake>, Failed> {
        if self.closed.get() { Err(Failed("closed".into())) } else { Ok(self.fake.clone()) }
    }

    fn inventory(&self) -> Option<Vec<(String, String)>> {
        self.inventory.borrow_mut().take()
    }

    fn probe(&self) {
        self.probes.set(self.probes.get() + 1);
    }
}
