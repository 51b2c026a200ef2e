//! Many routers in one group: each message is delivered to all members at once. What they send is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ClientId, ClientRequest, Departure, Evidence, JobOutcome, LocalVm, Membership, Names, Peer, Router,
    RouterAction, Rules, Unknown,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{ClusterMessage, NodeId, RequestNumber};
use nix::time::{ClockId, clock_gettime};

/// Time after which members have told what newcomers have asked for.
pub const SETTLED: Duration = Duration::from_secs(2);

const RULES: Rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };

/// Nodes of a cluster, some of which form a group, while the others are cut off.
pub struct Group {
    routers: Vec<Router>,
    /// The first nodes, which are members.
    members: usize,
    vms_each: usize,
    now: Instant,
    last_client: u64,
    pub cost: Cost,
}

/// Cost since it was last taken.
#[derive(Debug, Default, Clone)]
pub struct Cost {
    pub messages: BTreeMap<&'static str, usize>,
    pub answers: usize,
    /// CPU time of the longest call of a router.
    pub longest: Duration,
}

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

impl Cost {
    /// Number of messages.
    pub fn total(&self) -> usize {
        self.messages.values().sum()
    }
}

fn peer(at: usize) -> Peer {
    Peer { node: NodeId(at as u32 + 1), pid: 7 }
}

fn name(at: usize, vm: usize) -> String {
    format!("vm-{at}-{vm}")
}

fn uuid(at: usize, vm: usize) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(at as u32 + 1).to_be_bytes());
    bytes[4..8].copy_from_slice(&(vm as u32 + 1).to_be_bytes());
    Uuid::from_bytes(bytes)
}

fn kind(message: &ClusterMessage) -> &'static str {
    match message {
        ClusterMessage::Request(_) => "request",
        ClusterMessage::Reply { .. } => "reply",
        ClusterMessage::Store(_) => "store",
        ClusterMessage::Gone { .. } => "gone",
        ClusterMessage::Hello { .. } => "hello",
        ClusterMessage::Locate { .. } => "locate",
        ClusterMessage::Located { .. } => "located",
        ClusterMessage::Report(_) => "report",
        ClusterMessage::Host(_) | ClusterMessage::HostFenced { .. } => "host",
        ClusterMessage::Copy { .. } => "copy",
        ClusterMessage::ProveCaller { .. } => "prove caller",
        ClusterMessage::CallerProof { .. } => "caller proof",
        ClusterMessage::Table(_) => "digest",
        ClusterMessage::TellAll { .. } => "tell all",
    }
}

fn new_router(at: usize, nodes: usize, vms_each: usize, now: Instant) -> Router {
    let mut router = Router::new(RULES, 1, RequestNumber(at as u32 * 1000));
    let vm = |vm| LocalVm {
        name: name(at, vm),
        uuid: uuid(at, vm),
        state: PowerState::Running,
        is_active: true,
        may_run_elsewhere: false,
    };
    router.configured(Some((0..nodes).map(|at| peer(at).node).collect()), now);
    router.listed(UriIndex(0), (0..vms_each).map(vm).collect(), now);
    router
}

impl Group {
    /// Nodes with this number of running VMs each, none of them in the group.
    pub fn new(nodes: usize, vms_each: usize) -> Group {
        let now = Instant::now();
        let routers = (0..nodes).map(|at| new_router(at, nodes, vms_each, now)).collect();
        Group { routers, members: 0, vms_each, now, last_client: 0, cost: Cost::default() }
    }

    fn call<T>(&mut self, at: usize, body: impl FnOnce(&mut Router) -> T) -> T {
        let began = cpu_time();
        let result = body(&mut self.routers[at]);
        self.cost.longest = self.cost.longest.max(cpu_time() - began);
        result
    }

    /// Node `at` as a new process, with the same VMs.
    fn start(&mut self, at: usize) {
        let nodes = self.routers.len();
        self.routers[at] = new_router(at, nodes, self.vms_each, self.now);
    }

    /// The next node joins, and all advertise what they advertise then.
    pub fn join_next(&mut self) {
        let at = self.members;
        self.members += 1;
        self.join(at);
    }

    fn join(&mut self, at: usize) {
        let now = self.now;
        self.call(at, |router| router.joined(peer(at), now));
        let members: Vec<Peer> = (0..self.members).map(peer).collect();
        for node in 0..self.members {
            self.change(node, members.clone(), Vec::new(), vec![peer(at)]);
        }
        self.settle();
    }

    /// The daemon of the first node ends, and another one starts.
    pub fn restart_first(&mut self) {
        let rest: Vec<Peer> = (1..self.members).map(peer).collect();
        for node in 1..self.members {
            self.change(node, rest.clone(), vec![(peer(0), Departure::Process)], Vec::new());
        }
        self.start(0);
        self.join(0);
        self.pass(SETTLED);
    }

    fn change(&mut self, at: usize, members: Vec<Peer>, left: Vec<(Peer, Departure)>, joined: Vec<Peer>) {
        let now = self.now;
        let nodes: Vec<NodeId> = members.iter().map(|peer| peer.node).collect();
        let is_quorate = members.len() * 2 >= self.routers.len();
        self.call(at, |router| {
            router.changed(&Membership { members, left, joined }, now);
            router.votes(is_quorate, &nodes, now);
        });
    }

    /// The second half of the nodes is cut off.
    pub fn lose_half(&mut self) {
        let half = self.routers.len() / 2;
        let lost: Vec<_> = (half..self.members).map(|at| (peer(at), Departure::Node)).collect();
        self.members = half;
        for at in 0..half {
            self.change(at, (0..half).map(peer).collect(), lost.clone(), Vec::new());
        }
        self.settle();
    }

    /// The halves meet again; each half has formed a group of its own meanwhile.
    pub fn heal(&mut self) {
        let (half, all) = (self.members, self.routers.len());
        let (first, second): (Vec<_>, Vec<_>) =
            ((0..half).map(peer).collect(), (half..all).map(peer).collect());
        let lost: Vec<_> = first.iter().map(|&peer| (peer, Departure::Node)).collect();
        for at in half..all {
            self.change(at, second.clone(), lost.clone(), Vec::new());
        }
        self.members = all;
        for at in 0..all {
            let joined = if at < half { second.clone() } else { first.clone() };
            self.change(at, (0..all).map(peer).collect(), Vec::new(), joined);
        }
        self.settle();
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    /// Asks a node for an operation on a VM of another one.
    pub fn ask(&mut self, at: usize, operation: Operation, owner: usize, vm: usize) {
        self.last_client += 1;
        let (now, client) = (self.now, ClientId(self.last_client));
        let name = name(owner, vm % self.vms_each);
        let request = Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno: 1 };
        let asked = ClientRequest { client, request, permitted: PermittedNames::All, received: now };
        self.call(at, |router| router.ask(asked, now));
    }

    /// A VM of each node vanishes.
    pub fn remove_one_each(&mut self) {
        let now = self.now;
        for at in 0..self.members {
            self.call(at, |router| router.vanished(UriIndex(0), uuid(at, 0), now));
        }
        self.settle();
    }

    /// Delivers messages and carries out actions until there are no more.
    pub fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for at in 0..self.members {
                is_quiet &= !self.take_turn(at);
            }
            if is_quiet {
                return;
            }
        }
    }

    /// Lets a node send a few messages; false if it has none.
    fn take_turn(&mut self, at: usize) -> bool {
        let (now, mut has_sent) = (self.now, false);
        for _ in 0..64 {
            self.call(at, |router| router.turn(now));
            self.act(at);
            let Some(message) = self.call(at, |router| router.next_message(now)) else { break };
            has_sent = true;
            let decoded = ClusterMessage::decode(&message.bytes).expect("routers send what can be read");
            *self.cost.messages.entry(kind(&decoded)).or_default() += 1;
            for other in 0..self.members {
                self.call(other, |router| router.heard(peer(at), &message.bytes, now, false, now));
            }
        }
        has_sent
    }

    fn act(&mut self, at: usize) {
        let now = self.now;
        while let Some(action) = self.call(at, Router::next_action) {
            match action {
                RouterAction::Begin { job, .. } => {
                    let (verdict, evidence, reason) = (Verdict::Success, Evidence::None, String::new());
                    let outcome = JobOutcome { verdict, evidence, reason };
                    self.call(at, |router| router.done(job, outcome, now));
                }
                RouterAction::Find { job, .. } => {
                    self.call(at, |router| router.found(job, Ok(Vec::new()), now));
                }
                RouterAction::ProveCaller { question, .. } => {
                    self.call(at, |router| router.caller_proved(question, true));
                }
                RouterAction::Answer { .. } => self.cost.answers += 1,
                RouterAction::HangUp { .. } | RouterAction::Replied { .. } | RouterAction::Note(_) => {}
            }
        }
    }
}
