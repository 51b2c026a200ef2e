//! Nodes with routers on an ordered bus in memory, and the truth about their
//! VMs, which no router can look at but by its jobs.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use fence_virt::fence::{Operation, PowerState, Request, Target, Uuid, Verdict};
use fence_virt::routing::{Action, Departure, LocalVm, Membership, OnBehalf, Peer, Router, Rules};

use fence_virt::wire::cluster::Message;

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

/// What the group tells a daemon.
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
    /// Until when corosync takes nothing from it.
    pub refused_until: Time,
    pub words: VecDeque<Word>,
    pub votes: VecDeque<(Time, bool, Vec<u32>)>,
    pub events: VecDeque<(Time, Uuid)>,
    pub view: BTreeSet<Peer>,
    /// Which VMs it was ever told of, by which node.
    told: HashSet<(u32, Uuid)>,
    read_at: Time,
    is_old: bool,
    jobs: Vec<Job>,
    /// Requests that came while it was frozen.
    asked: Vec<(u64, Request, Time)>,
    pub clients: BTreeMap<u64, Client>,
}

struct Job {
    due: Time,
    number: u64,
    operation: Operation,
    name: String,
    on_behalf: OnBehalf,
    expires: Instant,
    is_alone: bool,
}

/// A client that waits.
pub struct Client {
    pub vm: Option<usize>,
    pub operation: Operation,
    pub asked: Time,
    /// The runs of the VM at that time.
    pub runs: HashSet<u64>,
    /// Its daemon was frozen meanwhile.
    pub was_frozen: bool,
}

pub struct Node {
    pub id: u32,
    pub kind: Kind,
    pub is_powered: bool,
    pub has_corosync: bool,
    /// Which part of the network it is in.
    pub part: u64,
    pub alone_since: Option<Time>,
    pub daemon: Option<Daemon>,
}

/// A VM, and what is true of it.
pub struct Vm {
    pub name: String,
    pub uuid: Uuid,
    /// By node: its run there, if it runs.
    pub copies: BTreeMap<usize, Option<u64>>,
    /// Nodes where it is off because it moved away.
    pub moved: BTreeSet<usize>,
    pub migration: Option<(usize, usize, Time)>,
    /// It does not move again before that.
    pub rests_until: Time,
    /// Until when it may be destroyed for the last request.
    pub doomed_until: Time,
    /// Until when nothing more is asked of it than its status.
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
    /// Runs that a reboot has started: it must not destroy them too.
    pub started: HashSet<u64>,
    pub next_run: u64,
    next_pid: u32,
    next_client: u64,
    pub answers: BTreeMap<&'static str, usize>,
    is_traced: bool,
}

impl World {
    pub fn new(seed: u64, kinds: &[Kind], rules: Rules, vms_each: usize) -> World {
        let node = |(at, &kind): (usize, &Kind)| Node {
            // One of them is above 2^31, as they occur.
            id: if at + 1 == kinds.len() { 3_000_000_000 } else { at as u32 + 1 },
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
        for number in 0..hosts.len() * vms_each {
            let uuid = Uuid::from_bytes([number as u8 + 1; 16]);
            let run = (!world.random.one_in(4)).then(|| world.new_run());
            let mut copies = BTreeMap::from([(hosts[number % hosts.len()], run)]);
            if world.random.one_in(4) {
                copies.entry(hosts[(number + 1) % hosts.len()]).or_insert(None);
            }
            let (moved, migration, rests_until) = (BTreeSet::new(), None, 0);
            world.vms.push(Vm {
                name: format!("vm{number}"),
                uuid,
                copies,
                moved,
                migration,
                rests_until,
                doomed_until: 0,
                busy_until: 0,
            });
        }
        world
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

    // ------------------------------------------------------------ the group

    pub fn start_daemon(&mut self, at: usize) {
        self.next_pid += 1;
        let kind = self.nodes[at].kind;
        let first = self.random.next() as u32;
        let mut router = (kind == Kind::Ours).then(|| Router::new(self.rules, 1, first));
        if let Some(router) = &mut router {
            router.listed(0, self.local_vms(at), self.instant(self.now));
        }
        self.nodes[at].daemon = Some(Daemon {
            pid: self.next_pid,
            router,
            c: CDaemon::default(),
            is_frozen: false,
            is_joined: false,
            refused_until: 0,
            words: VecDeque::new(),
            votes: VecDeque::new(),
            events: VecDeque::new(),
            view: BTreeSet::new(),
            told: HashSet::new(),
            read_at: self.now,
            is_old: false,
            jobs: Vec::new(),
            asked: Vec::new(),
            clients: BTreeMap::new(),
        });
        self.join(at);
    }

    /// Joins the group if corosync is there.
    pub fn join(&mut self, at: usize) {
        let (now, node) = (self.instant(self.now), &mut self.nodes[at]);
        let Some(daemon) = node.daemon.as_mut().filter(|_| node.has_corosync && node.is_powered) else {
            return;
        };
        let me = Peer { node: node.id, pid: daemon.pid };
        daemon.is_joined = true;
        daemon.read_at = self.now;
        if let Some(router) = &mut daemon.router {
            router.joined(me, now);
        }
        self.sync_views();
        self.sync_votes();
    }

    /// Its connection with corosync is lost.
    pub fn lose(&mut self, at: usize) {
        if let Some(daemon) = self.nodes[at].daemon.as_mut() {
            daemon.is_joined = false;
            daemon.words.clear();
            daemon.votes.clear();
            daemon.view.clear();
            if let Some(router) = &mut daemon.router {
                router.lost("corosync has ended");
            }
        }
        self.sync_views();
    }

    fn is_in_group(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.is_powered && node.has_corosync && node.daemon.as_ref().is_some_and(|daemon| daemon.is_joined)
    }

    /// Everybody is told, in the order of the group, who is there now.
    pub fn sync_views(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.is_in_group(at) {
                continue;
            }
            let part = self.nodes[at].part;
            let peer = |node: &Node| Peer { node: node.id, pid: node.daemon.as_ref().map_or(0, |d| d.pid) };
            let there: BTreeSet<Peer> = (0..self.nodes.len())
                .filter(|&other| self.nodes[other].part == part && self.is_in_group(other))
                .map(|other| peer(&self.nodes[other]))
                .collect();
            let up: Vec<u32> = self.up_in(part);
            let Some(daemon) = self.nodes[at].daemon.as_mut() else { continue };
            let how = |peer: &Peer| match up.contains(&peer.node) {
                true => Departure::Process,
                false => Departure::Node,
            };
            let left: Vec<_> = daemon.view.difference(&there).map(|peer| (*peer, how(peer))).collect();
            let joined: Vec<_> = there.difference(&daemon.view).copied().collect();
            if !left.is_empty() || !joined.is_empty() {
                let members = there.iter().copied().collect();
                daemon.words.push_back(Word::Changed(Membership { members, left, joined }));
                daemon.view = there;
            }
        }
    }

    fn up_in(&self, part: u64) -> Vec<u32> {
        let is_up = |node: &&Node| node.part == part && node.is_powered && node.has_corosync;
        self.nodes.iter().filter(is_up).map(|node| node.id).collect()
    }

    pub fn is_quorate(&self, part: u64) -> bool {
        self.up_in(part).len() * 2 > self.nodes.len()
    }

    /// The quorum service tells in its own time.
    pub fn sync_votes(&mut self) {
        for at in 0..self.nodes.len() {
            let part = self.nodes[at].part;
            let (up, is_quorate) = (self.up_in(part), self.is_quorate(part));
            let due = self.now + self.random.below(400);
            if let Some(daemon) = self.nodes[at].daemon.as_mut().filter(|daemon| daemon.is_joined) {
                let due = daemon.votes.back().map_or(due, |(last, ..)| due.max(*last));
                daemon.votes.push_back((due, is_quorate, up));
            }
        }
    }

    pub fn cast(&mut self, from: usize, bytes: &[u8]) {
        if !self.is_in_group(from) {
            return;
        }
        let (part, id) = (self.nodes[from].part, self.nodes[from].id);
        let pid = self.nodes[from].daemon.as_ref().map_or(0, |daemon| daemon.pid);
        for at in 0..self.nodes.len() {
            if self.nodes[at].part == part && self.is_in_group(at) {
                if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                    daemon.words.push_back(Word::Message(Peer { node: id, pid }, bytes.to_vec()));
                }
            }
        }
    }

    // -------------------------------------------------------------- the VMs

    pub fn local_vms(&self, at: usize) -> Vec<LocalVm> {
        self.vms.iter().filter_map(|vm| self.local_vm(at, vm)).collect()
    }

    fn local_vm(&self, at: usize, vm: &Vm) -> Option<LocalVm> {
        let run = vm.copies.get(&at)?;
        let state = if run.is_some() { PowerState::Running } else { PowerState::Off };
        // What is just coming in is paused.
        let is_active = run.is_some() && vm.migration.is_none_or(|(_, to, _)| to != at);
        Some(LocalVm { name: vm.name.clone(), uuid: vm.uuid, state, is_active })
    }

    /// Something happened to a VM: its host's daemon hears of it soon.
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

    /// A daemon destroys a copy: it must have been asked for, and lately.
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
                // What was coming in from there ends too.
                self.vms[vm].copies.insert(to, None);
                self.vms[vm].migration = None;
            }
        }
        self.stir(vm);
    }

    /// A request allows that it be destroyed.
    pub fn doom(&mut self, vm: usize, how_long: Time) {
        self.vms[vm].doomed_until = self.now + how_long;
        for run in self.runs(vm) {
            self.started.remove(&run);
        }
    }

    /// A reboot starts it again.
    pub fn boot_again(&mut self, at: usize, vm: usize) {
        self.boot(at, vm);
        self.started.extend(self.vms[vm].copies[&at]);
    }

    pub fn boot(&mut self, at: usize, vm: usize) {
        let run = self.new_run();
        self.vms[vm].moved.remove(&at);
        self.vms[vm].copies.insert(at, Some(run));
        self.stir(vm);
    }

    pub fn vm_of(&self, at: usize, name: &str) -> Option<usize> {
        self.vms.iter().position(|vm| {
            vm.copies.contains_key(&at) && (vm.name == name || Uuid::parse(name) == Some(vm.uuid))
        })
    }

    // ------------------------------------------------------------- requests

    pub fn ask(&mut self, at: usize, vm: Option<usize>, operation: Operation, by_uuid: bool) {
        let name = match vm {
            Some(vm) if by_uuid => self.vms[vm].uuid.to_string(),
            Some(vm) => self.vms[vm].name.clone(),
            None => "nosuch".to_owned(),
        };
        let runs = vm.map(|vm| self.runs(vm)).unwrap_or_default();
        if let Some(vm) = vm.filter(|_| matches!(operation, Operation::Off | Operation::Reboot)) {
            self.doom(vm, 30_000);
            self.vms[vm].busy_until = self.now + 60_000;
        }
        self.next_client += 1;
        let client = self.next_client;
        self.trace(|| format!("node {} is asked for {operation} {name}", self.nodes[at].id));
        let target = Target::new(name.as_bytes()).unwrap();
        let (asked, was_frozen) = (self.now, false);
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        daemon.clients.insert(client, Client { vm, operation, asked, runs, was_frozen });
        daemon.asked.push((client, Request { operation, target, seqno: 7 }, asked));
    }

    /// Takes up what clients have asked.
    fn take_requests(&mut self, at: usize) {
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
            if router.alone().is_none() && !router.knows(name) {
                if let Some(found) = found {
                    router.find(0, found, now);
                }
            }
            router.ask(client, &request, received, now);
        }
    }

    fn answered(&mut self, at: usize, client: u64, verdict: Verdict, reason: &str) {
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
        if says_off && self.runs(vm).intersection(&client.runs).next().is_some() && self.could_know(at, vm) {
            let copies = &self.vms[vm].copies;
            let name = &self.vms[vm].name;
            self.fail(&format!(
                "{} of {name} says off ({reason}), and it runs: {copies:?}",
                client.operation
            ));
        }
    }

    /// Whether a daemon was told that some node has this VM which runs it, or
    /// has that node in its group. Of others that are defined on its own host
    /// too, a daemon that was just started cannot know.
    fn could_know(&self, at: usize, vm: usize) -> bool {
        let Some(daemon) = &self.nodes[at].daemon else { return false };
        let runners = self.vms[vm].copies.iter().filter(|(_, run)| run.is_some());
        let could = |id: u32| {
            daemon.told.contains(&(id, self.vms[vm].uuid)) || daemon.view.iter().any(|peer| peer.node == id)
        };
        runners.map(|(&runner, _)| self.nodes[runner].id).any(could)
    }

    // ------------------------------------------------------------- the turn

    /// Lets a daemon read up to so many words, and do what is due.
    pub fn turn(&mut self, at: usize, words: usize) {
        let now = self.instant(self.now);
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        if daemon.is_frozen {
            daemon.clients.values_mut().for_each(|client| client.was_frozen = true);
            return;
        }
        daemon.is_old |= self.now - daemon.read_at > 1000;
        daemon.read_at = self.now;
        if let Some(router) = &mut daemon.router {
            router.behind(daemon.is_old, now);
        }
        self.take_requests(at);
        for _ in 0..words {
            let Some(word) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.words.pop_front())
            else {
                break;
            };
            self.hear(at, word);
        }
        let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
        daemon.is_old &= !daemon.words.is_empty();
        if let Some(router) = &mut daemon.router {
            router.behind(daemon.is_old, now);
        }
        while daemon.votes.front().is_some_and(|(due, ..)| *due <= self.now) {
            let Some((_, is_quorate, nodes)) = daemon.votes.pop_front() else { break };
            if let Some(router) = &mut daemon.router {
                router.votes(is_quorate, &nodes, now);
            }
        }
        if daemon.router.is_some() {
            self.take_events(at);
            self.run_jobs(at);
            if let Some(router) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut()) {
                router.turn(now);
            }
            self.settle(at);
        }
    }

    fn hear(&mut self, at: usize, word: Word) {
        self.trace(|| match &word {
            Word::Message(from, bytes) => format!(
                "    node {} hears from {} {:?}",
                self.nodes[at].id,
                from.node,
                Message::decode(bytes)
            ),
            Word::Changed(change) => format!("    node {} hears {change:?}", self.nodes[at].id),
        });
        let (now, is_old) =
            (self.instant(self.now), self.nodes[at].daemon.as_ref().is_some_and(|d| d.is_old));
        if let Word::Message(from, bytes) = &word {
            if let (Ok(Message::Store(told)), Some(daemon)) =
                (Message::decode(bytes), self.nodes[at].daemon.as_mut())
            {
                daemon.told.insert((from.node, told.domain.uuid));
            }
        }
        match self.nodes[at].kind {
            Kind::Ours => {
                let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
                match (router, word) {
                    (Some(router), Word::Message(from, bytes)) => {
                        router.heard(from, &bytes, now, is_old, now)
                    }
                    (Some(router), Word::Changed(change)) => router.changed(&change, now),
                    (None, _) => {}
                }
            }
            Kind::C => self.c_hears(at, word),
            Kind::Hostile => self.hostile_hears(at, word),
        }
    }

    fn take_events(&mut self, at: usize) {
        let now = self.instant(self.now);
        let due = |daemon: &Daemon, time| daemon.events.front().is_some_and(|(due, _)| *due <= time);
        while self.nodes[at].daemon.as_ref().is_some_and(|daemon| due(daemon, self.now)) {
            let event = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.events.pop_front());
            let Some((_, uuid)) = event else { return };
            let found = self.vms.iter().find(|vm| vm.uuid == uuid).and_then(|vm| self.local_vm(at, vm));
            let Some(router) = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut())
            else {
                return;
            };
            match found {
                Some(vm) => router.seen(0, vm, now),
                None => router.vanished(0, uuid, now),
            }
        }
    }

    fn run_jobs(&mut self, at: usize) {
        let now = self.instant(self.now);
        loop {
            let Some(daemon) = self.nodes[at].daemon.as_mut() else { return };
            let Some(place) = daemon.jobs.iter().position(|job| job.due <= self.now) else { return };
            let job = daemon.jobs.swap_remove(place);
            let verdict = if now >= job.expires { Verdict::Failure } else { self.carry_out(at, &job) };
            let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
            if let Some(router) = router {
                router.done(job.number, verdict, "so it is".to_owned(), now);
            }
        }
    }

    fn carry_out(&mut self, at: usize, job: &Job) -> Verdict {
        let Some(vm) = self.vm_of(at, &job.name) else { return Verdict::Failure };
        let runs = self.vms[vm].copies.get(&at).copied().flatten().is_some();
        let comes_in = self.vms[vm].migration.is_some_and(|(_, to, _)| to == at);
        let moves = job.is_alone && (comes_in || self.vms[vm].moved.contains(&at));
        match job.operation {
            _ if self.random.one_in(50) => Verdict::Failure,
            Operation::Status if runs => Verdict::Success,
            _ if moves && job.operation != Operation::On => Verdict::Failure,
            Operation::Status => Verdict::Off,
            Operation::On => {
                if !runs {
                    self.boot(at, vm);
                }
                Verdict::Success
            }
            Operation::Off => {
                self.destroy(at, vm);
                Verdict::Success
            }
            Operation::Reboot => {
                if runs {
                    self.destroy(at, vm);
                    self.boot_again(at, vm);
                }
                Verdict::Success
            }
            other => self.fail(&format!("{other} is no job")),
        }
    }

    /// What the router wants done, and says.
    fn settle(&mut self, at: usize) {
        let now = self.instant(self.now);
        loop {
            let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
            let Some(action) = router.and_then(Router::act) else { break };
            let pause = match self.random.below(20) {
                0 => self.random.below(20_000),
                _ => self.random.below(30),
            };
            match action {
                Action::Begin { job: number, operation, name, on_behalf, expires, is_alone } => {
                    let job =
                        Job { due: self.now + pause, number, operation, name, on_behalf, expires, is_alone };
                    if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                        daemon.jobs.push(job);
                    }
                }
                Action::Find { job, name } => {
                    let found = self.vm_of(at, &name).and_then(|vm| self.local_vm(at, &self.vms[vm]));
                    let found = found.map(|vm| (0, vm)).into_iter().collect();
                    if let Some(router) = self.nodes[at].daemon.as_mut().and_then(|d| d.router.as_mut()) {
                        router.found(job, Ok(found), now);
                    }
                }
                Action::HangUp { job } => {
                    let now = self.now;
                    if let Some(daemon) = self.nodes[at].daemon.as_mut() {
                        for job in daemon.jobs.iter_mut().filter(|known| known.number == job) {
                            (job.expires, job.due) = (self.start, now);
                        }
                    }
                }
                Action::Answer { client, verdict, reason, .. } => self.answered(at, client, verdict, &reason),
                Action::Note(_) => {}
            }
        }
        let is_refused = |daemon: &Daemon, now| daemon.refused_until > now;
        let mut room = 64;
        while room > 0 && self.nodes[at].daemon.as_ref().is_some_and(|daemon| !is_refused(daemon, self.now)) {
            room -= 1;
            let router = self.nodes[at].daemon.as_mut().and_then(|daemon| daemon.router.as_mut());
            let Some(message) = router.and_then(Router::send) else { break };
            self.cast(at, &message);
        }
    }

    /// Whether its libvirt has said something that it has not heard yet.
    pub fn has_news(&self, at: usize) -> bool {
        self.nodes[at].daemon.as_ref().is_some_and(|daemon| !daemon.events.is_empty())
    }

    /// Whether a job is for a client here that is not there any more, or for another node.
    pub fn owes_nothing(&self, at: usize) -> bool {
        let Some(daemon) = &self.nodes[at].daemon else { return true };
        let is_owed = |job: &Job| matches!(job.on_behalf, OnBehalf::Client(client) if daemon.clients.contains_key(&client));
        !daemon.jobs.iter().any(is_owed)
    }
}
