use std::collections::HashMap;

use fence_virt::fence::{Target, Uuid};
use fence_virt::fence_agent::AgentVm;
use fence_virt::time::Instant;

/// Maximum of plugs that are remembered, besides those of the last list.
const PLUGS_MAX: usize = 20_000;

/// VMs of an agent, by its last list.
#[derive(Debug, Default)]
pub(super) struct ListedVms {
    vms: Vec<AgentVm>,
    /// Time at which the last list was begun.
    listed: Option<Instant>,
    /// Plug of each VM that was ever found: a VM that a list leaves out is not off for that.
    plugs: HashMap<Uuid, String>,
}

impl ListedVms {
    /// Records a list that was begun at this time.
    pub(super) fn set(&mut self, vms: Vec<AgentVm>, began: Instant) {
        if self.plugs.len() > PLUGS_MAX {
            self.plugs.clear();
        }
        self.plugs.extend(vms.iter().map(|vm| (vm.uuid, vm.plug.clone())));
        (self.vms, self.listed) = (vms, Some(began));
    }

    /// Forgets the state of a VM, which a power operation may have changed.
    pub(super) fn outdate(&mut self, plug: &str) {
        self.vms.iter_mut().filter(|vm| vm.plug == plug).for_each(|vm| vm.state = None);
    }

    /// Records a VM that was found without a list.
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

    /// VMs of the last list that a target names, by name, plug or UUID.
    pub(super) fn named(&self, target: &Target) -> Vec<AgentVm> {
        let text = target.as_str();
        let uuid = Uuid::parse(text);
        let is_it = |vm: &&AgentVm| match uuid {
            Some(uuid) => vm.uuid == uuid,
            None => vm.name == text || vm.plug == text,
        };
        self.vms.iter().filter(is_it).cloned().collect()
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
        let states = parse_list("100,web,ON\n101,db,ON\n", "agent", true).unwrap().0;
        known.set(states, Instant::now());
        known.outdate("101");
        assert_eq!(known.all().iter().map(|vm| vm.state.is_some()).collect::<Vec<_>>(), [true, false]);
        known.set(list("101,db\n"), Instant::now());
        assert_eq!(plugs(&known, &uuid), [""; 0]);
        assert_eq!(known.plug(&uuid).as_deref(), Some("100"));
        assert_eq!(known.plug("none"), None);
    }
}
