use std::collections::{HashMap, HashSet};

use fence_virt::fence::{Target, Uuid};
use fence_virt::fence_agent::AgentVm;
use fence_virt::time::Instant;

/// Maximum of plugs that are remembered, besides those of the last list.
const PLUGS_MAX: usize = 20_000;

/// VMs of an agent, by its last list.
#[derive(Debug, Default)]
pub(super) struct ListedVms {
    vms: Vec<AgentVm>,
    /// VMs of earlier lists that the last one leaves out.
    missing: Vec<AgentVm>,
    /// VMs whose states power operations have changed since the last list was begun, with the times.
    changed: Vec<(Uuid, Instant)>,
    /// Time at which the last list was begun.
    listed: Option<Instant>,
    /// Plug of each VM that was ever found: a VM that a list leaves out is not off for that.
    plugs: HashMap<Uuid, String>,
}

impl ListedVms {
    /// Records a list that was begun at this time.
    pub(super) fn set(&mut self, mut vms: Vec<AgentVm>, began: Instant) {
        self.changed.retain(|(_, at)| *at >= began);
        for vm in vms.iter_mut().filter(|vm| self.changed.iter().any(|(uuid, _)| *uuid == vm.uuid)) {
            vm.state = None;
        }
        if self.plugs.len() > PLUGS_MAX {
            self.plugs.clear();
        }
        self.plugs.extend(vms.iter().map(|vm| (vm.uuid, vm.plug.clone())));
        let plugs: HashSet<&str> = vms.iter().map(|vm| vm.plug.as_str()).collect();
        let is_left_out = |vm: &AgentVm| !plugs.contains(vm.plug.as_str());
        self.missing.retain(is_left_out);
        self.missing.extend(self.vms.drain(..).filter(is_left_out));
        if self.missing.len() > PLUGS_MAX {
            self.missing.clear();
        }
        (self.vms, self.listed) = (vms, Some(began));
    }

    /// Forgets the state of a VM that a power operation has changed.
    pub(super) fn forget_state(&mut self, uuid: &str, now: Instant) {
        let Some(uuid) = Uuid::parse(uuid) else { return };
        self.changed.retain(|(other, _)| *other != uuid);
        self.changed.push((uuid, now));
        for vm in self.vms.iter_mut().filter(|vm| vm.uuid == uuid) {
            vm.state = None;
        }
    }

    /// Records a VM that the agent knows, listed or not.
    pub(super) fn found(&mut self, uuid: Uuid, plug: &str) {
        if self.plugs.len() > PLUGS_MAX {
            self.plugs.clear();
        }
        self.plugs.insert(uuid, plug.to_owned());
    }

    /// Time at which the last list was begun.
    pub(super) fn listed(&self) -> Option<Instant> {
        self.listed
    }

    /// VMs of the last list.
    pub(super) fn all(&self) -> &[AgentVm] {
        &self.vms
    }

    /// VMs of the last list that a target names, by name, plug or UUID. Without one, those of earlier lists: no VM is
    /// off since a list leaves it out.
    pub(super) fn named(&self, target: &Target) -> Vec<AgentVm> {
        let text = target.as_str();
        let uuid = Uuid::parse(text);
        let is_it = |vm: &&AgentVm| match uuid {
            Some(uuid) => vm.uuid == uuid,
            None => vm.name == text || vm.plug == text,
        };
        let named: Vec<AgentVm> = self.vms.iter().filter(is_it).cloned().collect();
        if named.is_empty() { self.missing.iter().filter(is_it).cloned().collect() } else { named }
    }

    /// Plug of a VM that was found before.
    pub(super) fn plug(&self, uuid: &str) -> Option<String> {
        self.plugs.get(&Uuid::parse(uuid)?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::fence_agent::parse_list;

    #[test]
    fn a_vm_is_found_by_each_of_its_names_and_its_plug_is_kept() {
        let mut known = ListedVms::default();
        let list = |text| parse_list(text, "agent", false).unwrap().0;
        known.set(list("100,web\n101,100\n"), Instant::now());
        let plugs = |known: &ListedVms, text: &str| {
            let target = Target::new(text.as_bytes()).unwrap();
            known.named(&target).into_iter().map(|vm| vm.plug).collect::<Vec<_>>()
        };
        assert_eq!(plugs(&known, "web"), ["100"]);
        assert_eq!(plugs(&known, "100"), ["100", "101"], "ambiguous");
        let uuid = known.all()[0].uuid.to_string();
        assert_eq!(plugs(&known, &uuid), ["100"]);
        known.set(list("101,db\n"), Instant::now());
        assert_eq!(known.all().len(), 1);
        assert_eq!(
            (plugs(&known, &uuid), plugs(&known, "web")),
            (vec!["100".to_owned()], vec!["100".to_owned()])
        );
        assert_eq!(known.plug(&uuid).as_deref(), Some("100"));
        known.set(list("100,other\n"), Instant::now());
        assert_eq!(plugs(&known, "web"), [""; 0], "it has another name now");
        assert_eq!(
            (plugs(&known, "other"), plugs(&known, "db")),
            (vec!["100".to_owned()], vec!["101".to_owned()])
        );
        assert_eq!(known.plug("none"), None);
    }

    #[test]
    fn a_list_that_began_before_the_end_of_an_operation_does_not_tell_its_result() {
        let mut known = ListedVms::default();
        let list = || parse_list("1,a,on\n2,b,on\n", "agent", true).unwrap().0;
        let (before, after) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        known.set(list(), before);
        let uuid = known.all()[0].uuid.to_string();
        let states = |known: &ListedVms| known.all().iter().map(|vm| vm.state.is_some()).collect::<Vec<_>>();
        known.forget_state(&uuid, after);
        assert_eq!(states(&known), [false, true]);
        known.set(list(), before);
        assert_eq!(states(&known), [false, true]);
        known.set(list(), after + std::time::Duration::from_secs(1));
        assert_eq!(states(&known), [true, true]);
    }
}
