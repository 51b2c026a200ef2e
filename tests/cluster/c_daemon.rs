//! Model of the C daemon, as measured.

use std::collections::{BTreeSet, HashMap};

use fence_virt::fence::{Domain, Operation};
use fence_virt::routing::Peer;
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId, RequestNumber,
};

use super::vm::{Starter, Vm};
use super::world::{Kind, Time, Word, World};

/// State of a C daemon.
#[derive(Default)]
pub struct CDaemon {
    /// Node that advertised a VM last, by name: C daemons look for names unless `name_mode` says otherwise.
    owners: HashMap<String, NodeId>,
    members: Vec<Peer>,
    next_number: u32,
    /// Its one request in flight.
    pub asking: Option<Asking>,
    /// Messages that a hostile member has received.
    pub heard: Vec<Vec<u8>>,
}

/// Request of a C daemon.
pub struct Asking {
    number: RequestNumber,
    vm: Option<usize>,
    operation: Operation,
    pub asked: Time,
    /// Members of this suite that have received it, and have not left since: without one, no reply is due.
    pub receivers: BTreeSet<Peer>,
}

impl World {
    /// Requests an operation at a C daemon.
    pub fn c_asks(&mut self, at: usize, vm: Option<usize>, operation: Operation) {
        if vm.is_some_and(|vm| !self.has_name(vm)) {
            return;
        }
        let name = vm.map_or("nosuch".to_owned(), |vm| self.vms[vm].name.clone());
        if let Some(vm) = vm.filter(|_| operation != Operation::Status) {
            // A C daemon's callers wait for as long as it does.
            self.doom(vm, 120_000);
            self.vms[vm].busy_until = self.now + 150_000;
        }
        let now = self.now;
        let ours = self.nodes_that(|node| node.kind == Kind::Ours);
        let ours: Vec<NodeId> = ours.into_iter().map(|at| self.nodes[at].id).collect();
        let Some(daemon) = self.daemon(at).filter(|daemon| daemon.c.asking.is_none()) else { return };
        daemon.c.next_number += 1;
        let number = RequestNumber(daemon.c.next_number);
        let receivers = daemon.view.iter().filter(|peer| ours.contains(&peer.node)).copied().collect();
        daemon.c.asking = Some(Asking { number, vm, operation, asked: now, receivers });
        let call = ClusterCall { number, target: EVERY_NODE, name, operation, client_number: 3 };
        self.cast(at, &ClusterMessage::Request(call).encode());
    }

    fn c_tells_all(&mut self, at: usize) {
        let id = self.nodes[at].id;
        for vm in self.local_vms(at) {
            let domain = Domain { name: vm.name, uuid: vm.uuid };
            let told = Advertisement { domain, owner: id, state: vm.state, is_active: vm.is_active };
            self.cast(at, &ClusterMessage::Store(told).encode());
        }
    }

    pub fn c_hears(&mut self, at: usize, word: Word) {
        let id = self.nodes[at].id;
        let (from, message) = match word {
            Word::Changed(change) => {
                if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                    let is_there = |node: &NodeId| change.members.iter().any(|peer| peer.node == *node);
                    daemon.c.owners.retain(|_, owner| is_there(owner));
                    daemon.c.members = change.members;
                }
                return self.c_tells_all(at);
            }
            Word::Message(from, bytes, _) => (from, ClusterMessage::decode(&bytes)),
        };
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        match message {
            Ok(ClusterMessage::Store(told)) => {
                daemon.c.owners.insert(told.domain.name, told.owner);
            }
            Ok(ClusterMessage::Reply { call, response }) if call.target == id => {
                if let Some(asking) = daemon.c.asking.take_if(|asking| asking.number == call.number) {
                    self.judge_reply(from.node, response, &asking);
                }
            }
            Ok(ClusterMessage::Request(call)) => {
                let is_known = daemon.c.owners.contains_key(&call.name);
                let is_highest = daemon.c.members.iter().all(|peer| peer.node <= id);
                self.c_tells_all(at);
                let is_meant = |vm: &Vm| vm.copies.contains_key(&at) && vm.name == call.name;
                let response = match self.vms.iter().position(is_meant) {
                    Some(vm) => Some(self.c_acts(at, vm, call.operation)),
                    None if !is_known && is_highest => Some(match call.operation {
                        Operation::Off | Operation::Reboot => 0,
                        Operation::Status => 2,
                        _ => 1,
                    }),
                    None => None,
                };
                if let Some(response) = response {
                    let call = ClusterCall { target: from.node, ..call };
                    self.cast(at, &ClusterMessage::Reply { call, response }.encode());
                }
            }
            _ => {}
        }
    }

    /// Has a reply of this suite checked: a C daemon takes the first one.
    fn judge_reply(&mut self, from: NodeId, response: u32, asking: &Asking) {
        let by = self.nodes_that(|node| node.id == from && node.kind == Kind::Ours);
        if let (Some(&at), Some(vm)) = (by.first(), asking.vm) {
            self.check_reply_to_c(at, vm, asking.operation, asking.asked, response);
        }
    }

    fn c_acts(&mut self, at: usize, vm: usize, operation: Operation) -> u32 {
        let runs = self.vms[vm].runs_at(at);
        match operation {
            Operation::Status => return if runs { 0 } else { 2 },
            Operation::On if !runs => self.boot(at, vm, Starter::C),
            Operation::Off => self.destroy(at, vm),
            Operation::Reboot if runs => {
                // Several C daemons that have the VM do this at the same time.
                self.destroy(at, vm);
                self.boot(at, vm, Starter::C);
            }
            _ => {}
        }
        0
    }
}
