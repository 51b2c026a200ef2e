//! Nodes with routers on an ordered bus in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::DefaultHasher;
use std::time::Duration;

use fence_virt::fence::{Operation, Request, Uuid, Verdict};
use fence_virt::routing::{ClientId, JobId, Membership, OnBehalf, Peer, Router, Rules};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

use super::c_daemon::CDaemon;
use super::duels::Duel;
use super::oracle::Violation;
use super::quirks::Quirks;
use super::random::Random;
use super::vm::{Run, Starter, Vm};

/// Milliseconds of the world's clock.
pub type Time = u64;

/// An event of the group.
#[derive(Clone)]
pub enum Word {
    /// A message, with the time of its delivery to the node.
    Message(Peer, Vec<u8>, Time),
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
    /// End of a call in which the worker, or the C daemon, is blocked.
    pub blocked_until: Time,
    /// The worker was blocked, and has not read all events of the group since.
    pub catches_up: bool,
    /// End of the last pause of the whole daemon.
    pub thawed_at: Time,
    /// End of the absence of its libvirt.
    pub away_until: Option<Time>,
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
    /// Digest of all events of the group since all nodes were members and had told their VMs; none before.
    pub history: Option<DefaultHasher>,
    /// While it is awaited that they tell them: those of this suite that have not.
    pub untold: BTreeSet<NodeId>,
    pub has_votes: bool,
    /// Voters that were not members when it heard of their votes, each time.
    pub absent_voters: Vec<Vec<NodeId>>,
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

pub struct World {
    pub seed: u64,
    pub quirks: Quirks,
    pub now: Time,
    pub start: Instant,
    pub random: Random,
    pub rules: Rules,
    pub nodes: Vec<Node>,
    pub vms: Vec<Vm>,
    pub runs: HashMap<u64, Run>,
    /// Runs that a reboot has started, and must not destroy too.
    pub started: HashSet<u64>,
    /// Hosts that pacemaker says it has fenced.
    pub fenced: BTreeSet<NodeId>,
    pub next_pid: u32,
    pub next_client: u64,
    /// libvirt and corosync do at once what they are asked, and nothing fails.
    pub is_calm: bool,
    pub violation: Option<Violation>,
    pub duels: Vec<Duel>,
    pub answers: BTreeMap<&'static str, usize>,
    /// Answers while it is calm.
    pub verdicts: BTreeMap<ClientId, Verdict>,
    /// Number of times that parts of the model were used.
    pub counts: BTreeMap<&'static str, usize>,
    is_traced: bool,
}

impl Daemon {
    pub fn new(pid: u32, router: Option<Router>, now: Time) -> Daemon {
        Daemon {
            pid,
            router,
            c: CDaemon::default(),
            is_frozen: false,
            blocked_until: 0,
            catches_up: false,
            thawed_at: now,
            away_until: None,
            is_joined: false,
            changed_at: now,
            refused_until: 0,
            words: VecDeque::new(),
            votes: VecDeque::new(),
            events: VecDeque::new(),
            view: BTreeSet::new(),
            told: HashSet::new(),
            history: None,
            untold: BTreeSet::new(),
            has_votes: false,
            absent_voters: Vec::new(),
            read_at: now,
            is_old: false,
            jobs: Vec::new(),
            asked: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    pub fn is_away(&self, now: Time) -> bool {
        self.away_until.is_some_and(|until| until > now)
    }
}

impl World {
    pub fn new(seed: u64, kinds: &[Kind], rules: Rules, quirks: Quirks) -> World {
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
            quirks,
            now: 0,
            start: Instant::now(),
            random: Random::new(seed),
            rules,
            nodes: kinds.iter().enumerate().map(node).collect(),
            vms: Vec::new(),
            runs: HashMap::new(),
            started: HashSet::new(),
            fenced: BTreeSet::new(),
            next_pid: 100,
            next_client: 1,
            is_calm: false,
            violation: None,
            duels: Vec::new(),
            answers: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            counts: BTreeMap::new(),
            is_traced: std::env::var_os("FENCE_TRACE").is_some(),
        };
        world.add_vms(3);
        (0..kinds.len()).for_each(|at| world.start_daemon(at));
        world
    }

    fn add_vms(&mut self, each: usize) {
        let hosts = self.nodes_that(|node| node.kind != Kind::Hostile);
        // C daemons would take one VM for the other.
        let has_namesakes = self.nodes.iter().all(|node| node.kind != Kind::C);
        for number in 0..hosts.len() * each {
            let uuid = Uuid::from_bytes([number as u8 + 1; 16]);
            let run = (!self.random.one_in(4)).then(|| self.new_run(Starter::Admin, false));
            let mut copies = BTreeMap::from([(hosts[number % hosts.len()], run)]);
            if self.random.one_in(4) {
                copies.entry(hosts[(number + 1) % hosts.len()]).or_insert(None);
            }
            let name = match number % 6 {
                1 if has_namesakes => self.vms[number - 1].uuid.to_string(),
                4 if has_namesakes => format!("VM{}", number - 1),
                _ => format!("vm{number}"),
            };
            self.vms.push(Vm::new(name, uuid, copies));
        }
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

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn nodes_that(&self, is_wanted: impl Fn(&Node) -> bool) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&at| is_wanted(&self.nodes[at])).collect()
    }

    pub fn daemon(&mut self, at: usize) -> Option<&mut Daemon> {
        self.nodes[at].daemon.as_mut()
    }

    pub fn router(&mut self, at: usize) -> Option<&mut Router> {
        self.daemon(at)?.router.as_mut()
    }
}
