//! libvirt in memory, with faults on request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::inbox::{Event, Message};
use crate::libvirt::{
    Call, CallId, Definition, DomainState, FoundDomain, Host, Lane, LibvirtError, LibvirtResult, Link,
};
use crate::status::LaneReport;
use fence_virt::fence::{PowerState, Target, UriIndex, Uuid};
use fence_virt::time::Instant;

/// A VM of a fake.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(super) runs: Option<u32>,
    pub(super) is_transient: bool,
    pub(super) has_migrated: bool,
    pub(super) is_starting: bool,
}

/// Fault of one destroy.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Fails; the VM runs on.
    Fails(LibvirtError),
    /// Fails, and the VM is gone: it has migrated.
    FailsAndGone,
    /// Succeeds, but the VM runs on.
    NoEffect,
    /// Succeeds, and somebody restarts the VM at once.
    Restarted,
    /// Succeeds, then the connection is lost.
    LostAfter,
    /// The connection is lost during the call; the VM runs on.
    Lost,
}

/// Job that libvirt tells of the VMs that run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Outgoing {
    #[default]
    None,
    Active,
    /// The migration hands over after the answer.
    HandsOver,
    /// It ends after the answer: the VM has moved.
    Ends,
    /// libvirt does not tell.
    Fails,
}

/// A fake libvirt.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) domains: RefCell<BTreeMap<String, Domain>>,
    pub(super) faults: RefCell<Vec<Fault>>,
    /// Error of every call.
    pub(super) broken: RefCell<Option<String>>,
    pub(super) starts_fail: Cell<bool>,
    pub(super) outgoing: Cell<Outgoing>,
    /// Number of queries for jobs.
    pub(super) job_queries: Cell<usize>,
    pub(super) destroys: Cell<usize>,
    /// Number of lists.
    pub(super) lists: Cell<usize>,
    /// Number of lookups.
    finds: Cell<usize>,
    pub(super) log: RefCell<Vec<String>>,
    next_id: Cell<u32>,
    /// Labels of the calls on lanes that are to be held, such as `power-off UUID`.
    holds: RefCell<Vec<String>>,
    /// Calls that are held.
    held: RefCell<Vec<HeldCall>>,
}

/// Call that a lane holds.
#[derive(Debug)]
pub(super) struct HeldCall {
    lane: FakeLane,
    id: CallId,
    call: Call,
}

impl HeldCall {
    /// Makes the call now.
    pub(super) fn make(self) {
        self.lane.execute(self.id, self.call);
    }
}

impl Fake {
    pub(crate) fn with(domains: &[(&str, &str, bool)]) -> Arc<Fake> {
        let fake = Fake::default();
        for (name, uuid, runs) in domains {
            let runs = runs.then(|| fake.id());
            let domain = Domain {
                name: name.to_string(),
                runs,
                is_transient: false,
                has_migrated: false,
                is_starting: false,
            };
            fake.domains.borrow_mut().insert(uuid.to_string(), domain);
        }
        Arc::new(fake)
    }

    fn id(&self) -> u32 {
        self.next_id.set(self.next_id.get() + 1);
        self.next_id.get()
    }

    fn vm_operations(&self) -> LibvirtResult {
        self.broken.borrow().clone().map_or(Ok(()), |reason| Err(LibvirtError::Other(reason)))
    }

    fn all(&self) -> LibvirtResult<Vec<FoundDomain>> {
        self.vm_operations()?;
        let found = |(uuid, domain): (&String, &Domain)| FoundDomain {
            name: domain.name.clone(),
            uuid: uuid.clone(),
            state: state(domain),
        };
        Ok(self.domains.borrow().iter().map(found).collect())
    }

    fn power_off(&self, uuid: &str) {
        let mut domains = self.domains.borrow_mut();
        if domains.get(uuid).is_some_and(|domain| domain.is_transient) {
            domains.remove(uuid);
        } else if let Some(domain) = domains.get_mut(uuid) {
            (domain.runs, domain.has_migrated, domain.is_starting) = (None, false, false);
        }
    }

    /// Holds the calls on lanes with this label from now on.
    pub(crate) fn hold(&self, label: &str) {
        self.holds.borrow_mut().push(label.to_owned());
    }

    /// Holds no more calls; those that are held stay so.
    pub(super) fn hold_no_more(&self) {
        self.holds.take();
    }

    /// Number of calls that are held on lanes.
    pub(super) fn held(&self) -> usize {
        self.held.borrow().len()
    }

    /// Makes the calls that are held, and holds no more.
    pub(crate) fn release(&self) {
        self.holds.take();
        self.take_held().into_iter().for_each(HeldCall::make);
    }

    /// Takes the calls that are held, in the order in which they came.
    pub(super) fn take_held(&self) -> Vec<HeldCall> {
        self.held.take()
    }

    pub(crate) fn finds(&self) -> usize {
        self.finds.get()
    }

    pub(crate) fn runs(&self, uuid: &str) -> Option<bool> {
        self.domains.borrow().get(uuid).map(|domain| domain.runs.is_some())
    }
}

fn state(domain: &Domain) -> DomainState {
    let power = if domain.runs.is_some() { PowerState::Running } else { PowerState::Off };
    DomainState {
        power,
        id: domain.runs,
        is_active: domain.runs.is_some(),
        is_migrating: domain.has_migrated,
        is_starting: domain.is_starting,
    }
}

/// A domain that a call returned; it is off.
pub(super) fn found(name: &str, uuid: &str) -> FoundDomain {
    let state = DomainState {
        power: PowerState::Off,
        id: None,
        is_active: false,
        is_migrating: false,
        is_starting: false,
    };
    FoundDomain { name: name.to_owned(), uuid: uuid.to_owned(), state }
}

impl Host for Fake {
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>> {
        self.finds.set(self.finds.get() + 1);
        let all = self.all()?;
        let is_named = |vm: &FoundDomain| match Uuid::parse(target.as_str()) {
            Some(uuid) => Uuid::parse(&vm.uuid) == Some(uuid),
            None => vm.name == target.as_str(),
        };
        Ok(all.into_iter().filter(is_named).collect())
    }

    fn observe(&self, uuid: &str) -> LibvirtResult<Option<DomainState>> {
        self.vm_operations()?;
        Ok(self.domains.borrow().get(uuid).map(state))
    }

    fn definition(&self, uuid: &str) -> LibvirtResult<Definition> {
        self.vm_operations()?;
        match self.domains.borrow().get(uuid) {
            Some(Domain { name, is_transient: true, .. }) => {
                Ok(Definition::Transient(format!("xml of {name}")))
            }
            Some(_) => Ok(Definition::Persistent),
            None => Err(LibvirtError::Other("gone".to_owned())),
        }
    }

    fn is_leaving(&self, uuid: &str) -> LibvirtResult<bool> {
        self.job_queries.set(self.job_queries.get() + 1);
        let outgoing = self.outgoing.get();
        let mut domains = self.domains.borrow_mut();
        if let Some(domain) = domains.get_mut(uuid) {
            domain.has_migrated |= matches!(outgoing, Outgoing::HandsOver | Outgoing::Ends);
            domain.runs = domain.runs.filter(|_| outgoing != Outgoing::Ends);
        }
        match outgoing {
            Outgoing::Fails => Err(LibvirtError::Busy("cannot acquire state change lock".to_owned())),
            outgoing => Ok(outgoing != Outgoing::None),
        }
    }

    fn destroy(&self, uuid: &str) -> LibvirtResult {
        self.vm_operations()?;
        self.destroys.set(self.destroys.get() + 1);
        let mut faults = self.faults.borrow_mut();
        let fault = (!faults.is_empty()).then(|| faults.remove(0));
        match fault {
            None => self.power_off(uuid),
            Some(Fault::Fails(error)) => return Err(error),
            Some(Fault::FailsAndGone) => {
                self.domains.borrow_mut().remove(uuid);
                return Err(LibvirtError::Other("migration".to_owned()));
            }
            Some(Fault::NoEffect) => {}
            Some(Fault::Restarted) => {
                let id = self.id();
                self.domains.borrow_mut().entry(uuid.to_string()).and_modify(|domain| domain.runs = Some(id));
            }
            Some(Fault::Lost) => {
                *self.broken.borrow_mut() = Some("connection lost".into());
                return Err(LibvirtError::ConnectionLost("connection lost".to_owned()));
            }
            Some(Fault::LostAfter) => {
                self.power_off(uuid);
                *self.broken.borrow_mut() = Some("connection lost".into());
            }
        }
        Ok(())
    }

    fn start(&self, uuid: &str, definition: &Definition) -> LibvirtResult {
        self.vm_operations()?;
        if self.starts_fail.get() {
            return Err(LibvirtError::Other("no memory".to_owned()));
        }
        self.log.borrow_mut().push(format!("start {definition:?}"));
        let created = || Domain {
            name: "created".into(),
            runs: None,
            is_transient: true,
            has_migrated: false,
            is_starting: false,
        };
        self.domains.borrow_mut().entry(uuid.to_string()).or_insert_with(created).runs = Some(self.id());
        Ok(())
    }

    fn list(&self) -> LibvirtResult<Vec<FoundDomain>> {
        self.lists.set(self.lists.get() + 1);
        self.all()
    }
}

fn label(call: &Call) -> String {
    match call {
        Call::Find(target) => format!("lookup {}", target.as_str()),
        Call::PowerOff(power_off) => format!("power-off {}", power_off.uuid),
        Call::Start { uuid, .. } => format!("start {uuid}"),
        Call::List => "list".to_owned(),
    }
}

/// A lane to a fake: it makes its calls at once, unless they are held.
#[derive(Debug, Clone)]
pub(crate) struct FakeLane {
    fake: Arc<Fake>,
    at: UriIndex,
    worker: Sender<Message>,
}

impl Lane for FakeLane {
    fn make(&self, id: CallId, call: Call) {
        if self.fake.holds.borrow().contains(&label(&call)) {
            return self.fake.held.borrow_mut().push(HeldCall { lane: self.clone(), id, call });
        }
        self.execute(id, call);
    }
}

impl FakeLane {
    fn execute(&self, id: CallId, call: Call) {
        let outcome = call.execute(self.fake.as_ref());
        self.worker.send(Message::Event(Event::CallEnded { uri: self.at, call: id, outcome })).unwrap();
    }
}

/// A link to a fake.
pub(crate) struct FakeLink {
    pub(super) name: String,
    pub(super) lane: FakeLane,
    pub(super) closed: Cell<bool>,
    pub(super) probes: Cell<usize>,
    /// Domains that the connection manager listed.
    pub(super) inventory: RefCell<Option<Vec<FoundDomain>>>,
    pub(super) lanes: RefCell<LaneReport>,
}

impl FakeLink {
    /// Makes a link whose lanes report to this worker.
    pub(crate) fn new(at: usize, fake: &Arc<Fake>, worker: &Sender<Message>) -> FakeLink {
        FakeLink {
            name: format!("uri{at}"),
            lane: FakeLane { fake: fake.clone(), at: UriIndex(at), worker: worker.clone() },
            closed: Cell::new(false),
            probes: Cell::new(0),
            inventory: RefCell::new(None),
            lanes: RefCell::default(),
        }
    }
}

impl Link for FakeLink {
    type Host = Fake;
    type Lane = FakeLane;

    fn name(&self) -> &str {
        &self.name
    }

    fn host(&self, _now: Instant) -> LibvirtResult<Arc<Fake>> {
        self.check_open().map(|()| self.lane.fake.clone())
    }

    fn check_open(&self) -> LibvirtResult {
        let closed = || LibvirtError::ConnectionLost("closed".to_owned());
        if self.closed.get() { Err(closed()) } else { Ok(()) }
    }

    fn open_lane(&self) -> Result<FakeLane, String> {
        Ok(self.lane.clone())
    }

    fn report_lanes(&self, report: LaneReport) {
        *self.lanes.borrow_mut() = report;
    }

    fn inventory(&self) -> Option<Vec<FoundDomain>> {
        self.inventory.borrow_mut().take()
    }

    fn probe(&self) {
        self.probes.set(self.probes.get() + 1);
    }
}
