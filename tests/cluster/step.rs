//! A random step of the simulation.

use fence_virt::fence::Operation;

use super::vm::Starter;
use super::world::{Daemon, Kind, World};

use Kind::{C, Hostile};

/// Frequency of faults.
#[derive(Clone, Copy)]
pub struct Weather {
    /// One step in this number has a fault; 0: none.
    pub faults: u64,
    pub migrations: bool,
}

impl World {
    pub fn step(&mut self, weather: Weather) {
        self.now += self.random.below(20);
        self.end_migrations();
        self.fence_hosts();
        if weather.faults > 0 && self.random.one_in(weather.faults) {
            self.some_fault();
        }
        match self.random.below(6) {
            0 if self.quirks.duels && self.random.one_in(2) => self.begin_duel(),
            0 => self.some_request(),
            1 if weather.faults > 0 && self.random.one_in(4) => self.some_change_of_a_vm(weather.migrations),
            2 if self.random.one_in(10) => {
                for at in self.nodes_that(|node| node.kind == Hostile && node.daemon.is_some()) {
                    self.hostile_speaks(at);
                }
            }
            _ => {}
        }
        for at in 0..self.nodes.len() {
            let words = 1 + self.random.below(40) as usize;
            self.turn(at, words);
        }
        self.look_for_late_answers();
    }

    /// Looks for clients that have waited for too long.
    fn look_for_late_answers(&mut self) {
        let is_awake = |daemon: &Daemon| !daemon.is_frozen && daemon.blocked_until <= self.now;
        for at in self.nodes_that(|node| node.daemon.as_ref().is_some_and(is_awake)) {
            let clients = self.nodes[at].daemon.iter().flat_map(|daemon| daemon.clients.values());
            let waiting = clients.filter(|client| !client.was_frozen);
            let oldest =
                waiting.map(|client| (client.asked, client.operation)).min_by_key(|(asked, _)| *asked);
            if let Some((asked, operation)) = oldest {
                // It is answered in the next turn, at the latest.
                self.check_age(at, operation, (self.now - asked).saturating_sub(100));
            }
        }
    }

    fn some_request(&mut self) {
        let vm = self.random.below(self.vms.len() as u64) as usize;
        let vm = (!self.random.one_in(12)).then_some(vm);
        // Others would fence the VMs of duels.
        let is_busy = self.quirks.duels || vm.is_some_and(|vm| self.vms[vm].busy_until > self.now);
        let operation = match self.random.below(6) {
            0 if !is_busy => Operation::Off,
            1 if !is_busy => Operation::Reboot,
            2 if !is_busy => Operation::On,
            _ => Operation::Status,
        };
        let with_daemon = self.nodes_that(|node| node.daemon.is_some() && node.kind != Hostile);
        let Some(at) = self.random.pick(&with_daemon) else { return };
        match self.nodes[at].kind {
            // This occupies a VM for a long time, since a C daemon's callers never give up.
            C if operation == Operation::Status || self.random.one_in(4) => self.c_asks(at, vm, operation),
            C => {}
            _ => {
                let by_uuid = self.random.one_in(2);
                self.ask(at, vm, operation, by_uuid);
            }
        }
    }

    fn some_change_of_a_vm(&mut self, migrations: bool) {
        let vm = self.random.below(self.vms.len() as u64) as usize;
        if self.vms[vm].migration.is_some() {
            return;
        }
        let runner = self.vms[vm].active().next().map(|(at, _)| at);
        let seen = self.seen_hosts();
        match (runner, self.random.below(4)) {
            // A transient VM is created anew, where its name is known to be free.
            (Some(at), 0) if self.can_be_created_anew(at, vm) && seen.contains(&at) => {
                self.create_anew(at, vm);
            }
            // The VM stops by itself.
            (Some(at), 0) => {
                self.vms[vm].copies.insert(at, None);
                self.stir(vm);
            }
            // The VM is started where the cluster can see it.
            (None, 1) => {
                let copies = self.vms[vm].copies.keys().copied();
                let there: Vec<usize> =
                    copies.filter(|&at| self.nodes[at].is_powered && seen.contains(&at)).collect();
                if let Some(at) = self.random.pick(&there) {
                    self.boot(at, vm, Starter::Admin);
                }
            }
            (Some(from), _) if migrations && self.vms[vm].rests_until < self.now => {
                if let Some(to) = self.random.pick(&self.targets(from, &seen)).filter(|&to| to != from) {
                    self.begin_migration(vm, from, to);
                }
            }
            _ => {}
        }
    }

    /// Returns the hosts whose daemons report events to the quorate part of the group.
    fn seen_hosts(&self) -> Vec<usize> {
        let is_awake = |daemon: &Daemon| daemon.is_joined && !daemon.is_frozen;
        self.nodes_that(|node| self.is_quorate(node.part) && node.daemon.as_ref().is_some_and(is_awake))
    }

    /// Returns the hosts to which a VM may move from this one.
    fn targets(&self, from: usize, seen: &[usize]) -> Vec<usize> {
        let is_of_c = self.nodes[from].kind == C;
        // No administrator moves a VM between partitions, or out of the cluster.
        let side = |at: usize| (self.nodes[at].part, self.nodes[at].has_corosync);
        let hosts = self.nodes_that(|node| {
            // The cluster cannot know of arrivals at a frozen daemon.
            let is_frozen = node.daemon.as_ref().is_some_and(|daemon| daemon.is_frozen);
            node.is_powered && node.kind != Hostile && !is_frozen
        });
        // A C daemon does not advertise arrivals and departures until it is asked.
        let is_target = |&at: &usize| (!is_of_c || seen.contains(&at)) && side(at) == side(from);
        hosts.into_iter().filter(is_target).collect()
    }
}
