//! Three nodes with routers, and one VM.

use std::collections::VecDeque;
use std::time::Duration;

use fence_virt::fence::{Operation, UriIndex, Verdict};
use fence_virt::routing::{JobId, Membership, Names, Peer, Router, Rules, TELL_LIMIT, Unknown};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{NodeId, RequestNumber};

use crate::event::Family;
use crate::vm::{Copy, Migration, Origin, Start};

pub const NODES: usize = 3;
pub const SECOND: Duration = Duration::from_secs(1);
/// Time of the event [`Pass`](crate::event::Event::Pass): longer than members are waited for, so that it
/// ends every wait but that for an answer.
pub const PASS: Duration = Duration::from_secs(TELL_LIMIT.as_secs() + 1);
const RULES: Rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };

/// An event of the group.
#[derive(Debug, Clone)]
pub enum Word {
    Message(Peer, Vec<u8>),
    Changed(Membership),
    Votes(bool, Vec<NodeId>),
}

/// A job that libvirt has not done yet.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub number: JobId,
    pub operation: Operation,
    pub expires: Instant,
    /// What the router said when it began.
    pub is_sole_known_owner: bool,
    pub may_start: bool,
    pub must_run: bool,
}

#[derive(Clone)]
pub struct Node {
    /// None while the daemon does not run.
    pub router: Option<Router>,
    pub pid: u32,
    pub is_powered: bool,
    /// The cluster has fenced it since it was last up.
    pub is_fenced: bool,
    /// Partition of the network.
    pub part: u8,
    /// libvirt does not answer, and the daemon knows that.
    pub is_away: bool,
    /// Jobs hang in libvirt.
    pub hangs: bool,
    pub jobs: Vec<Job>,
    pub words: VecDeque<Word>,
    pub view: Vec<Peer>,
    /// Nodes that the quorum service sees, by its last report.
    pub voters: Vec<usize>,
    /// Digest of all that the daemon has heard, while all nodes were members from its start.
    pub history: Option<u64>,
    /// All nodes have told their VMs since that began.
    pub is_settled: bool,
}

/// A request, until its answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: usize,
    pub operation: Operation,
    pub time: Instant,
    /// The VM was off at some instant since.
    pub was_off: bool,
    /// None until it is answered.
    pub answer: Option<Verdict>,
}

#[derive(Clone)]
pub struct Cluster {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub copies: [Copy; NODES],
    pub is_transient: bool,
    pub migration: Option<Migration>,
    pub asked: Option<Asked>,
    /// Time has passed, and nothing has happened since.
    pub has_rested: bool,
    /// Messages wait for events of their own.
    pub has_delays: bool,
    /// A VM that is off may be started.
    pub has_starts: bool,
    /// pacemaker's fencer is asked which hosts it has fenced.
    pub awaits_fencing: bool,
    /// Rule that was broken, with what happened.
    pub violation: Option<String>,
}

impl Node {
    fn new(at: usize) -> Node {
        Node {
            router: None,
            pid: (at as u32 + 1) * 100,
            is_powered: true,
            is_fenced: false,
            part: 0,
            is_away: false,
            hangs: false,
            jobs: Vec::new(),
            words: VecDeque::new(),
            view: Vec::new(),
            voters: Vec::new(),
            history: None,
            is_settled: false,
        }
    }
}

impl Cluster {
    /// A cluster in which all nodes are members and have advertised all their VMs.
    pub fn new(start: Start, families: &[Family]) -> Cluster {
        let elsewhere = if start == Start::Shared { Copy::Off { has_moved: false } } else { Copy::None };
        let has = |family| families.contains(&family);
        let mut cluster = Cluster {
            now: Instant::from_boot(Duration::from_secs(1_000_000)),
            nodes: (0..NODES).map(Node::new).collect(),
            copies: [Copy::Active(Origin::Earlier), elsewhere, Copy::None],
            is_transient: start == Start::Transient,
            migration: None,
            asked: None,
            has_rested: false,
            has_delays: has(Family::Delays),
            has_starts: has(Family::Starts) || has(Family::Returns),
            awaits_fencing: has(Family::Fencing),
            violation: None,
        };
        (0..NODES).for_each(|at| cluster.start_daemon(at));
        cluster.pass(PASS);
        cluster.has_rested = true;
        cluster
    }

    pub fn start_daemon(&mut self, at: usize) {
        self.nodes[at].pid += 1;
        let me = self.peer(at);
        let mut router = Router::new(RULES, 1, RequestNumber(me.pid * 1000));
        router.configured(Some((0..NODES).map(id).collect()), self.now);
        if !self.nodes[at].is_away {
            router.listed(UriIndex(0), self.listed(at), self.now);
        }
        router.set_awaits_fencing(self.awaits_fencing, self.now);
        router.joined(me, self.now);
        let node = &mut self.nodes[at];
        (node.router, node.history, node.is_settled) = (Some(router), None, false);
        (node.words, node.view, node.voters) = Default::default();
        self.sync_views();
    }

    /// Ends a daemon, with what its clients and jobs wait for.
    pub fn end_daemon(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.router = None;
        node.jobs.clear();
        self.fail_request_of(at);
        self.sync_views();
    }

    pub fn peer(&self, at: usize) -> Peer {
        Peer { node: id(at), pid: self.nodes[at].pid }
    }

    // ---------------------------------------------------------------- time

    /// Lets this time pass, in which all messages are delivered.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.deliver_all();
        while self.now < end {
            self.turn_at(self.next_deadline().min(end));
        }
        self.settle();
    }

    /// Lets time pass until the request is answered; then the calls that hang go on.
    pub fn finish(&mut self) {
        self.deliver_all();
        while let Some(end) = self.answer_is_due() {
            if self.now >= end {
                self.violate(|asked| format!("node {} does not answer {}", asked.at + 1, asked.operation));
                return;
            }
            self.turn_at(self.next_deadline().min(end));
        }
        if self.nodes.iter().any(|node| !node.jobs.is_empty()) {
            self.pass(SECOND);
        }
        (0..NODES).for_each(|at| self.nodes[at].hangs = false);
        self.deliver_all();
    }

    fn next_deadline(&self) -> Instant {
        let routers = self.nodes.iter().filter_map(|node| node.router.as_ref());
        let next = routers.filter_map(|router| router.deadline(self.now)).min();
        next.unwrap_or(self.now + SECOND).max(self.now + Duration::from_millis(250))
    }

    fn turn_at(&mut self, now: Instant) {
        self.now = now;
        self.nodes.iter_mut().filter_map(|node| node.router.as_mut()).for_each(|router| router.turn(now));
        self.deliver_all();
    }
}

/// Returns the id of a node.
pub fn id(at: usize) -> NodeId {
    NodeId(at as u32 + 1)
}
