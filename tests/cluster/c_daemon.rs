//! Models of the C daemon, as measured, and of a hostile member.

use std::collections::HashMap;

use fence_virt::fence::{Domain, Operation, PowerState, Uuid};
use fence_virt::routing::Peer;
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId, RequestNumber,
};

use super::world::{Daemon, Node, Time, Vm, Word, World};

/// State of a C daemon.
#[derive(Default)]
pub struct CDaemon {
    /// Node that advertised a VM last, by name: C daemons look for names unless `name_mode` says otherwise.
    owners: HashMap<String, NodeId>,
    members: Vec<Peer>,
    next_number: u32,
    /// Its one request in flight: number, time, and true if all nodes that received it may be gone.
    pub asking: Option<(RequestNumber, Time, bool)>,
    /// Messages that a hostile member has received.
    heard: Vec<Vec<u8>>,
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
        let (now, part) = (self.now, self.nodes[at].part);
        let is_ours = |node: &Node| {
            let is_there = |daemon: &Daemon| daemon.is_joined && daemon.router.is_some();
            node.part == part && node.daemon.as_ref().is_some_and(is_there)
        };
        let is_alone = !self.nodes.iter().any(is_ours);
        let Some(daemon) = self.nodes[at].daemon.as_mut().filter(|daemon| daemon.c.asking.is_none()) else {
            return;
        };
        daemon.c.next_number += 1;
        let number = RequestNumber(daemon.c.next_number);
        daemon.c.asking = Some((number, now, is_alone));
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
            Word::Message(from, bytes) => (from, ClusterMessage::decode(&bytes)),
        };
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        match message {
            Ok(ClusterMessage::Store(told)) => {
                daemon.c.owners.insert(told.domain.name, told.owner);
            }
            Ok(ClusterMessage::Reply { call, .. })
                if call.target == id && daemon.c.asking.is_some_and(|(number, ..)| number == call.number) =>
            {
                daemon.c.asking = None;
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

    fn c_acts(&mut self, at: usize, vm: usize, operation: Operation) -> u32 {
        let runs = self.vms[vm].copies.get(&at).copied().flatten().is_some();
        match operation {
            Operation::Status => return if runs { 0 } else { 2 },
            Operation::On if !runs => self.boot(at, vm),
            Operation::Off => self.destroy(at, vm),
            Operation::Reboot if runs => {
                // Several C daemons that have the VM do this at the same time.
                self.destroy(at, vm);
                self.boot(at, vm);
            }
            _ => {}
        }
        0
    }

    // ------------------------------------------------------ a hostile member

    pub fn hostile_hears(&mut self, at: usize, word: Word) {
        if let Word::Message(from, bytes) = &word {
            if let Ok(ClusterMessage::AdvertiseAll { number }) = ClusterMessage::decode(bytes) {
                for number in [RequestNumber(number.0.wrapping_add(1)), number] {
                    self.cast(at, &ClusterMessage::AllAdvertised { to: from.node, number }.encode());
                }
            }
        }
        if let (Word::Message(_, bytes), Some(daemon)) = (word, self.nodes[at].daemon.as_mut()) {
            if daemon.c.heard.len() < 64 {
                daemon.c.heard.push(bytes);
            }
        }
    }

    /// Sends anything but advertisements of VMs that others have, and requests to fence one.
    pub fn hostile_speaks(&mut self, at: usize) {
        let heard = self.nodes[at].daemon.as_mut().map(|daemon| std::mem::take(&mut daemon.c.heard));
        for bytes in heard.unwrap_or_default() {
            match ClusterMessage::decode(&bytes) {
                Ok(ClusterMessage::Request(call)) => {
                    // The reply, before and instead of the node that owes it.
                    for response in [0, 2, 256, 1] {
                        for target in self.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
                            let call = ClusterCall { target, ..call.clone() };
                            self.cast(at, &ClusterMessage::Reply { call, response }.encode());
                        }
                    }
                    let call = ClusterCall { operation: Operation::Status, ..call };
                    self.cast(at, &ClusterMessage::Request(call).encode());
                }
                Ok(ClusterMessage::Reply { .. }) => (0..3).for_each(|_| self.cast(at, &bytes)),
                Ok(ClusterMessage::Store(told) | ClusterMessage::Gone(told)) => {
                    let domain = told.domain.clone();
                    let told = Advertisement { domain, state: PowerState::Off, is_active: false, ..told };
                    self.cast(at, &ClusterMessage::Store(told.clone()).encode());
                    self.cast(at, &ClusterMessage::Gone(told).encode());
                }
                _ => {}
            }
        }
        let mut junk: Vec<u8> = (0..self.random.below(200)).map(|_| self.random.next() as u8).collect();
        if self.random.one_in(2) {
            junk.resize(156, 7);
            junk[..4].copy_from_slice(&(self.random.below(3) as u32).to_le_bytes());
        }
        self.cast(at, &junk);
        let number = self.random.below(40) as u8;
        let domain = Domain { name: format!("phantom{number}"), uuid: Uuid::from_bytes([200 + number; 16]) };
        let owner = self.nodes[at].id;
        let told = Advertisement { domain, owner, state: PowerState::Running, is_active: true };
        self.cast(at, &ClusterMessage::Store(told).encode());
        let is_complete = self.random.one_in(2);
        self.cast(at, &ClusterMessage::Hello { is_complete }.encode());
    }
}
