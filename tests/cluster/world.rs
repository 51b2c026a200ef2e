//! Nodes with routers on an ordered bus in memory, and the true state of their VMs, which routers see
//! only by their jobs.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ClientId, ClientRequest, JobId, LocalVm, Membership, OnBehalf, Peer, Router, Rules,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

use super::c_daemon::CDaemon;

/// Milliseconds of the world's clock.
pub type Time = u64;

/// xorshift64: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// An event of the group.
#[derive(Clone)]
pub enum Word {
    Message(Peer, Vec<u8>),
    Changed(Membership),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Ours,
    C,
    Hostile,
}

/// A daemon that runs.
pub struct Daemon {
    pub pid: u32,
    pub router: Option<Router>,
    pub c: CDaemon,
    pub is_frozen: bool,
    pub is_joined: bool,
    /// Time of the last change of its group.
    pub changed_at: Time,
    /// Time until which corosync accepts nothing from it.
    pub refused_until: Time,
    pub words: VecDeque<Word>,
    pub votes: VecDeque<(Time, bool, Vec<NodeId>)>,
    pub events: VecDeque<(Time, Uuid)>,
    pub view: BTreeSet<Peer>,
    /// VMs that were advertised to it since it joined, with the node.
    pub told: HashSet<(NodeId, Uuid)>,
    pub read_at: Time,
    pub is_old: bool,
    pub jobs: Vec<Job>,
    /// Requests that came while it was frozen.
    pub asked: Vec<(ClientId, Request, Time)>,
    pub clients: BTreeMap<ClientId, Client>,
}

pub struct Job {
    pub due: Time,
    pub number: JobId,
    pub operation: Operation,
    pub name: String,
    pub on_behalf: OnBehalf,
    pub expires: Instant,
}

/// A client that waits.
pub struct Client {
    pub vm: Option<usize>,
    pub operation: Operation,
    pub asked: Time,
    /// The runs of the VM at that time.
    pub runs: HashSet<u64>,
    /// True if its daemon was frozen meanwhile.
    pub was_frozen: bool,
}

pub struct Node {
    pub id: NodeId,
    pub kind: Kind,
    pub is_powered: bool,
    pub has_corosync: bool,
    /// Partition of the network.
    pub part: u64,
    pub alone_since: Option<Time>,
    pub daemon: Option<Daemon>,
}

/// A VM, and its true state.
pub struct Vm {
    pub name: String,
    pub uuid: Uuid,
    /// By node: its run there, if it runs.
    pub copies: BTreeMap<usize, Option<u64>>,
    /// Nodes where it is off because it moved away.
    pub moved: BTreeSet<usize>,
    /// True if it was started while it ran.
    pub is_double: bool,
    pub migration: Option<(usize, usize, Time)>,
    /// Time before which it does not move again.
    pub rests_until: Time,
    /// Time until which it may be destroyed for the last request.
    pub doomed_until: Time,
    /// Time until which only its status is requested.
    pub busy_until: Time,
}

pub struct World {
    pub seed: u64,
    pub now: Time,
    pub start: Instant,
    pub random: Random,
    pub rules: Rules,
    pub nodes: Vec<Node>,
    pub vms: Vec<Vm>,
    /// Runs that a reboot has started, and must not destroy too.
    pub started: HashSet<u64>,
    pub next_run: u64,
    pub next_pid: u32,
    next_client: u64,
    pub answers: BTreeMap<&'static str, usize>,
    pub is_traced: bool,
}

impl Vm {
    fn new(name: String, uuid: Uuid, copies: BTreeMap<usize, Option<u64>>) -> Vm {
        let (moved, migration, is_double) = (BTreeSet::new(), None, false);
        let (rests_until, doomed_until, busy_until) = (0, 0, 0);
        Vm { name, uuid, copies, moved, is_double, migration, rests_until, doomed_until, busy_until }
    }
}

impl World {
    pub fn new(seed: u64, kinds: &[Kind], rules: Rules, vms_each: usize) -> World {
        let node = |(at, &kind): (usize, &Kind)| Node {
            // One id is above 2^31, as in practice.
            id: NodeId(if at + 1 == kinds.len() { 3_000_000_000 } else { at as u32 + 1 }),
            kind,
            is_powered: true,
            has_corosync: true,
            part: 0,
            alone_since: None,
            daemon: None,
        };
        let mut world = World {
            seed,
            now: 0,
            start: Instant::now(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            rules,
            nodes: kinds.iter().enumerate().map(node).collect(),
            vms: Vec::new(),
            started: HashSet::new(),
            next_run: 1,
            next_pid: 100,
            next_client: 1,
            answers: BTreeMap::new(),
            is_traced: std::env::var_os("FENCE_TRACE").is_some(),
        };
        let hosts: Vec<usize> = (0..kinds.len()).filter(|&at| kinds[at] != Kind::Hostile).collect();
        // C daemons would take one VM for the other.
        let has_namesakes = !kinds.contains(&Kind::C);
        for number in 0..hosts.len() * vms_each {
            let uuid = Uuid::from_bytes([number as u8 + 1; 16]);
            let run = (!world.random.one_in(4)).then(|| world.new_run());
            let mut copies = BTreeMap::from([(hosts[number % hosts.len()], run)]);
            if world.random.one_in(4) {
                copies.entry(hosts[(number + 1) % hosts.len()]).or_insert(None);
            }
            let name = match number % 6 {
                1 if has_namesakes => world.vms[number - 1].uuid.to_string(),
                4 if has_namesakes => format!("VM{}", number - 1),
                _ => format!("vm{number}"),
            };
            world.vms.push(Vm::new(name, uuid, copies));
        }
        world
    }

    /// A transient VM ends, and is created anew under its name, with another UUID.
    pub fn create_anew(&mut self, at: usize, vm: usize) {
        let run = self.new_run();
        self.vms[vm].copies.clear();
        self.stir(vm);
        let uuid = Uuid::from_bytes([self.vms.len() as u8 + 1; 16]);
        let copies = BTreeMap::from([(at, Some(run))]);
        self.vms.push(Vm::new(self.vms[vm].name.clone(), uuid, copies));
        self.stir(self.vms.len() - 1);
    }

    pub fn new_run(&mut self) -> u64 {
        self.next_run += 1;
        self.next_run
    }

    pub fn instant(&self, time: Time) -> Instant {
        self.start + Duration::from_millis(time)
    }

    /// Shown with FENCE_TRACE set.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{} {}", self.now, what());
        }
    }

    #[track_caller]
    pub fn fail(&self, what: &str) -> ! {
        panic!("seed {}, at {} ms: {what}", self.seed, self.now);
    }

    // -------------------------------------------------------------- the VMs

    pub fn local_vms(&self, at: usize) -> Vec<LocalVm> {
        self.vms.iter().filter_map(|vm| self.local_vm(at, vm)).collect()
    }

    pub fn local_vm(&self, at: usize, vm: &Vm) -> Option<LocalVm> {
        let run = vm.copies.get(&at)?;
        let state = if run.is_some() { PowerState::Running } else { PowerState::Off };
        // A VM that is just coming in is paused.
        let is_active = run.is_some() && vm.migration.is_none_or(|(_, to, _)| to != at);
        Some(LocalVm { name: vm.name.clone(), uuid: vm.uuid, state, is_active, has_moved: false })
    }

    /// Queues events of a VM for the daemons.
    pub fn stir(&mut self, vm: usize) {
        self.trace(|| {
            format!("{}: {:?} {:?}", self.vms[vm].name, self.vms[vm].copies, self.vms[vm].migration)
        });
        let uuid = self.vms[vm].uuid;
        for at in 0..self.nodes.len() {
            let due = self.now + self.random.below(20);
            if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                daemon.events.push_back((due, uuid));
            }
        }
    }

    pub fn runs(&self, vm: usize) -> HashSet<u64> {
        self.vms[vm].copies.values().flatten().copied().collect()
    }

    /// Destroys a copy, which must have been requested, and lately.
    pub fn destroy(&mut self, at: usize, vm: usize) {
        let Some(run) = self.vms[vm].copies.get_mut(&at).and_then(Option::take) else { return };
        if self.now > self.vms[vm].doomed_until {
            self.fail(&format!("{} is destroyed when its caller has given up", self.vms[vm].name));
        }
        if self.started.contains(&run) {
            self.fail(&format!("{} is rebooted twice for one request", self.vms[vm].name));
        }
        if let Some((from, to, _)) = self.vms[vm].migration {
            if from == at {
                // The copy that was coming in from there ends too.
                self.vms[vm].copies.insert(to, None);
                self.vms[vm].migration = None;
            }
        }
        self.stir(vm);
    }

    /// Allows a VM to be destroyed for a request.
    pub fn doom(&mut self, vm: usize, how_long: Time) {
        self.vms[vm].doomed_until = self.now + how_long;
        for run in self.runs(vm) {
            self.started.remove(&run);
        }
    }

    /// Starts a VM again, in a reboot.
    pub fn boot_again(&mut self, at: usize, vm: usize) {
        self.boot(at, vm);
        self.started.extend(self.vms[vm].copies[&at]);
    }

    pub fn boot(&mut self, at: usize, vm: usize) {
        let run = self.new_run();
        self.vms[vm].moved.remove(&at);
        self.vms[vm].is_double = !self.runs(vm).is_empty();
        self.vms[vm].copies.insert(at, Some(run));
        self.stir(vm);
    }

    pub fn vm_of(&self, at: usize, name: &str) -> Option<usize> {
        let uuid = Uuid::parse(name);
        let find = |is_meant: &dyn Fn(&Vm) -> bool| {
            self.vms.iter().position(|vm| vm.copies.contains_key(&at) && is_meant(vm))
        };
        find(&|vm| uuid == Some(vm.uuid)).or_else(|| find(&|vm| vm.name == name))
    }

    /// Returns true if a VM can be asked for by its name.
    pub fn has_name(&self, vm: usize) -> bool {
        let Vm { name, copies, .. } = &self.vms[vm];
        !copies.is_empty() && Uuid::parse(name).is_none()
    }

    // ------------------------------------------------------------- requests

    pub fn ask(&mut self, at: usize, vm: Option<usize>, operation: Operation, by_uuid: bool) {
        let name = match vm {
            // The name may be another VM's UUID, or that of one that was created anew.
            Some(vm) if by_uuid || !self.has_name(vm) => self.vms[vm].uuid.to_string(),
            Some(vm) => self.vms[vm].name.clone(),
            None => "nosuch".to_owned(),
        };
        let runs = vm.map(|vm| self.runs(vm)).unwrap_or_default();
        if let Some(vm) = vm.filter(|_| matches!(operation, Operation::Off | Operation::Reboot)) {
            self.doom(vm, 30_000);
            self.vms[vm].busy_until = self.now + 60_000;
        }
        self.next_client += 1;
        let client = ClientId(self.next_client);
        self.trace(|| format!("node {} is asked for {operation} {name}", self.nodes[at].id));
        let target = Target::new(name.as_bytes()).unwrap();
        let (asked, was_frozen) = (self.now, false);
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        daemon.clients.insert(client, Client { vm, operation, asked, runs, was_frozen });
        daemon.asked.push((client, Request { operation, target, seqno: 7 }, asked));
    }

    /// Passes clients' requests to the router.
    pub fn take_requests(&mut self, at: usize) {
        let now = self.instant(self.now);
        let asked = self.nodes[at].daemon.as_mut().map(|daemon| std::mem::take(&mut daemon.asked));
        for (client, request, received) in asked.into_iter().flatten() {
            let received = self.instant(received);
            let name = request.target.as_str();
            let found = self.vm_of(at, name).and_then(|vm| self.local_vm(at, &self.vms[vm]));
            let Some(router) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut())
            else {
                return;
            };
            if router.not_joined().is_none() && !router.knows(name) {
                if let Some(found) = found {
                    router.find(UriIndex(0), found, now);
                }
            }
            router.ask(ClientRequest { client, request, permitted: PermittedNames::All, received }, now);
        }
    }

    pub fn answered(&mut self, at: usize, client: ClientId, verdict: Verdict, reason: &str) {
        let client = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.clients.remove(&client));
        let Some(client) = client else { self.fail("an answer to nobody") };
        self.trace(|| {
            let vm = client.vm.map(|vm| &self.vms[vm].name);
            format!("node {} answers {} {vm:?}: {verdict}: {reason}", self.nodes[at].id, client.operation)
        });
        let name = match (verdict, client.vm.is_some()) {
            (Verdict::Success, _) => "success",
            (Verdict::Off, _) => "off",
            (_, true) => "failure",
            (_, false) => "failure, unknown",
        };
        *self.answers.entry(name).or_default() += 1;
        let limit = if client.was_frozen { u64::MAX } else { 28_100 };
        if self.now - client.asked > limit {
            self.fail(&format!("{} was answered after {} ms", client.operation, self.now - client.asked));
        }
        let Some(vm) = client.vm else { return };
        let says_off = match client.operation {
            Operation::Off | Operation::Reboot => verdict == Verdict::Success,
            Operation::Status => verdict == Verdict::Off,
            _ => false,
        };
        // If it was started a second time because the first run could not be known, either may be meant.
        let says_off = says_off && !self.vms[vm].is_double;
        if says_off && self.runs(vm).intersection(&client.runs).next().is_some() && self.could_know(at, vm) {
            let copies = &self.vms[vm].copies;
            let name = &self.vms[vm].name;
            self.fail(&format!(
                "{} of {name} says off ({reason}), and it runs: {copies:?}",
                client.operation
            ));
        }
    }

    /// Returns true if a node that runs this VM has advertised it to a daemon, or is in its group and able
    /// to. A daemon that was just started cannot know of other VMs that are defined on its own host.
    pub fn could_know(&self, at: usize, vm: usize) -> bool {
        let Some(daemon) = &self.nodes[at].daemon else { return false };
        let runners = self.vms[vm].copies.iter().filter(|(_, run)| run.is_some());
        let could = |runner: usize| {
            let id = self.nodes[runner].id;
            let is_frozen = self.nodes[runner].daemon.as_ref().is_some_and(|daemon| daemon.is_frozen);
            // A VM that is just coming in is known to be where it comes from.
            let comes_in = self.vms[vm].migration.is_some_and(|(_, to, _)| to == runner);
            let is_there = daemon.view.iter().any(|peer| peer.node == id) && !is_frozen && !comes_in;
            daemon.told.contains(&(id, self.vms[vm].uuid)) || is_there
        };
        runners.map(|(&runner, _)| runner).any(could)
    }
}
