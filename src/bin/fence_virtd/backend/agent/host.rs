use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::calls::AgentCalls;
use super::list_turns::ListTurns;
use super::listed_vms::ListedVms;
use crate::libvirt::{Definition, DomainState, FoundDomain, Host, LibvirtError, LibvirtResult};
use fence_virt::fence::{PowerState, Target};
use fence_virt::fence_agent::{AgentVm, ApiAction, place_uuid, plug_problem};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Age of a list at which a VM that it does not name is looked for in a new one.
const RECENT: Duration = Duration::from_secs(5);
/// Maximum of VMs whose states are asked for one by one, since the list does not tell them.
const ASKED_MAX: usize = 64;

/// An agent as a host of VMs. Its calls block; lanes and the manager make them.
pub(super) struct AgentHost {
    calls: AgentCalls,
    list_interval: Duration,
    known: Mutex<ListedVms>,
    turns: ListTurns,
}

/// State that an agent tells. It tells nothing of runs, pauses and migrations.
fn state(power: PowerState) -> DomainState {
    let is_active = power == PowerState::Running;
    DomainState { power, id: None, is_active, is_migrating: false, is_starting: false }
}

fn found(vm: &AgentVm, power: PowerState) -> FoundDomain {
    FoundDomain { name: vm.name.clone(), uuid: vm.uuid.to_string(), state: state(power) }
}

impl AgentHost {
    /// Makes the host. `only_vm` names the VM of an agent that takes no plug.
    pub(super) fn new(calls: AgentCalls, list_interval: Duration, only_vm: Option<String>) -> AgentHost {
        let mut known = ListedVms::default();
        if let Some(name) = only_vm.filter(|_| !calls.has_plugs()) {
            let uuid = place_uuid(&calls.place, &name);
            known.set(vec![AgentVm { plug: name.clone(), name, uuid, state: None }], Instant::now());
        }
        AgentHost { calls, list_interval, known: Mutex::new(known), turns: ListTurns::default() }
    }

    /// Name of the place.
    pub(super) fn place(&self) -> &str {
        &self.calls.place
    }

    /// Interval between lists.
    pub(super) fn list_interval(&self) -> Duration {
        self.list_interval
    }

    /// Asks the agent's monitor.
    pub(super) fn monitor(&self) -> LibvirtResult {
        self.calls.monitor()
    }

    /// Lists the VMs, unless the last list is younger than `age`; returns false if the agent has no list.
    pub(super) fn refresh(&self, age: Duration) -> LibvirtResult<bool> {
        if !self.calls.has_list() {
            return Ok(!self.calls.has_plugs());
        }
        let asked = Instant::now();
        // One that has begun meanwhile counts, however long it takes.
        let is_recent = || {
            let listed = lock(&self.known).listed();
            listed.is_some_and(|at| at >= asked || asked.saturating_duration_since(at) < age)
        };
        let list = || {
            let began = Instant::now();
            let vms = self.calls.list()?;
            lock(&self.known).set(vms, began);
            Ok(())
        };
        self.turns.take(is_recent, list).map(|()| true)
    }

    /// VMs of the last list, with what it tells of their states.
    pub(super) fn listed(&self) -> Vec<FoundDomain> {
        let known = lock(&self.known);
        // One of an unknown state may run.
        let vms = known.all().iter().map(|vm| found(vm, vm.state.unwrap_or(PowerState::Running)));
        vms.collect()
    }

    fn named(&self, target: &Target) -> LibvirtResult<Vec<AgentVm>> {
        let refreshed = self.refresh(self.list_interval);
        if let Err(error) = refreshed {
            // The agent may tell the state of a VM though it cannot list all.
            let named = lock(&self.known).named(target);
            return if named.is_empty() { Err(error) } else { Ok(named) };
        }
        if refreshed == Ok(false) {
            // The agent knows whether there is such a VM.
            let plug = target.as_str();
            if let Some(problem) = plug_problem(plug) {
                let text = format!("the agent cannot be asked for {plug:?}: {problem}");
                return Err(LibvirtError::Other(text));
            }
            let uuid = place_uuid(&self.calls.place, plug);
            return Ok(vec![AgentVm { name: plug.to_owned(), uuid, plug: plug.to_owned(), state: None }]);
        }
        let named = lock(&self.known).named(target);
        if !named.is_empty() {
            return Ok(named);
        }
        self.refresh(RECENT)?;
        Ok(lock(&self.known).named(target))
    }

    /// Makes a call that changes the state of a VM, whatever its result. A list may have begun before its end.
    fn power(&self, action: ApiAction, uuid: &str) -> LibvirtResult {
        let result = self.calls.power(action, &self.plug(uuid)?);
        lock(&self.known).forget_state(uuid, Instant::now());
        result
    }

    /// True if the agent makes lists.
    pub(super) fn makes_lists(&self) -> bool {
        self.calls.has_list()
    }

    /// True if the agent lists its VMs, or has one only.
    pub(super) fn has_list(&self) -> bool {
        self.calls.has_list() || !self.calls.has_plugs()
    }

    fn plug(&self, uuid: &str) -> LibvirtResult<String> {
        let unknown = || LibvirtError::Other(format!("the agent has named no VM {uuid}"));
        lock(&self.known).plug(uuid).ok_or_else(unknown)
    }
}

impl Host for AgentHost {
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>> {
        let find_one = |vm: &AgentVm| {
            let power = self.calls.status(&vm.plug)?;
            lock(&self.known).found(vm.uuid, &vm.plug);
            Ok(found(vm, power))
        };
        self.named(target)?.iter().map(find_one).collect()
    }

    /// Errors: also if the agent does not know: no VM is off since a list leaves it out.
    fn observe(&self, uuid: &str) -> LibvirtResult<Option<DomainState>> {
        Ok(Some(state(self.calls.status(&self.plug(uuid)?)?)))
    }

    fn definition(&self, _uuid: &str) -> LibvirtResult<Definition> {
        Ok(Definition::Persistent)
    }

    /// The agent looks for the VM on all hosts of its hypervisor.
    fn is_leaving(&self, _uuid: &str) -> LibvirtResult<bool> {
        Ok(false)
    }

    fn destroy(&self, uuid: &str) -> LibvirtResult {
        self.power(ApiAction::Off, uuid)
    }

    fn start(&self, uuid: &str, _definition: &Definition) -> LibvirtResult {
        self.power(ApiAction::On, uuid)
    }

    fn list(&self) -> LibvirtResult<Vec<FoundDomain>> {
        // A list with states is out of date at once; one without is asked for the states below.
        if !self.refresh(RECENT)? {
            return Err(LibvirtError::Other("the agent has no list of VMs".to_owned()));
        }
        let vms = lock(&self.known).all().to_vec();
        let unknown = vms.iter().filter(|vm| vm.state.is_none()).count();
        if unknown > ASKED_MAX {
            let text = format!("the agent's list does not tell the states of {unknown} VMs");
            return Err(LibvirtError::Other(text));
        }
        let found_one = |vm: &AgentVm| {
            let power = vm.state.map_or_else(|| self.calls.status(&vm.plug), Ok)?;
            Ok(found(vm, power))
        };
        vms.iter().map(found_one).collect()
    }
}

/// What the worker knows of an agent without a call: its VMs by the last list.
#[derive(Clone)]
pub(crate) struct AgentView(pub(super) Arc<AgentHost>);

fn needs_call<T>() -> LibvirtResult<T> {
    Err(LibvirtError::Other("the agent has to be asked".to_owned()))
}

impl Host for AgentView {
    fn find(&self, target: &Target) -> LibvirtResult<Vec<FoundDomain>> {
        let known = lock(&self.0.known);
        // Only an agent without a list never has one: its VMs have UUIDs of its own.
        if known.listed().is_none() && self.0.has_list() {
            return needs_call();
        }
        Ok(known.named(target).iter().map(|vm| found(vm, vm.state.unwrap_or(PowerState::Running))).collect())
    }

    fn observe(&self, _uuid: &str) -> LibvirtResult<Option<DomainState>> {
        needs_call()
    }

    fn definition(&self, _uuid: &str) -> LibvirtResult<Definition> {
        needs_call()
    }

    fn is_leaving(&self, _uuid: &str) -> LibvirtResult<bool> {
        needs_call()
    }

    fn destroy(&self, _uuid: &str) -> LibvirtResult {
        needs_call()
    }

    fn start(&self, _uuid: &str, _definition: &Definition) -> LibvirtResult {
        needs_call()
    }

    fn list(&self) -> LibvirtResult<Vec<FoundDomain>> {
        needs_call()
    }
}
