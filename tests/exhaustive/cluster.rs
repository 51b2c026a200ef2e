//! Three nodes with routers, and one VM.

use std::collections::VecDeque;
use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ANSWER_LIMIT, ClientId, ClientRequest, JobId, LocalVm, Membership, Names, Peer, Router, RouterAction,
    Rules, TELL_LIMIT, Unknown,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{NodeId, RequestNumber};

pub const NODES: usize = 3;
const NAME: &str = "vm";
const SECOND: Duration = Duration::from_secs(1);
const RULES: Rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };

/// Initial state of the VM, which runs on the first node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is transient: a migration leaves no definition behind.
    Transient,
    /// It is persistent where it runs, and where it has run.
    Persistent,
    /// It is also defined on the second node.
    Shared,
}

/// Copy of the VM on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    None,
    /// libvirt tells whether it is off because it has migrated away.
    Off {
        has_moved: bool,
    },
    /// A migration brings it in.
    Paused,
    Active,
}

/// An event of the group.
#[derive(Debug, Clone)]
pub enum Word {
    Message(Peer, Vec<u8>),
    Changed(Membership),
    Votes(bool, Vec<NodeId>),
}

#[derive(Clone)]
pub struct Node {
    /// None once the host is off.
    pub router: Option<Router>,
    pub pid: u32,
    /// Partition of the network.
    pub part: u8,
    /// libvirt does not answer.
    pub is_away: bool,
    pub words: VecDeque<Word>,
    pub view: Vec<Peer>,
}

/// A request for an off that is not answered.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: usize,
    pub time: Instant,
    /// The VM was off at some instant since.
    pub was_off: bool,
}

#[derive(Clone)]
pub struct Cluster {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub copies: [Copy; NODES],
    pub is_transient: bool,
    /// Source and target of the migration in progress, and what the target had before.
    pub migration: Option<(usize, usize, Copy)>,
    pub asked: Option<Asked>,
    pub was_answered: bool,
    /// Description of an answer that was wrong.
    pub violation: Option<String>,
}

fn uuid() -> Uuid {
    Uuid::from_bytes([7; 16])
}

impl Start {
    pub const ALL: [Start; 3] = [Start::Transient, Start::Persistent, Start::Shared];
}

impl Node {
    pub fn new(at: usize) -> Node {
        let pid = (at as u32 + 1) * 100;
        Node { router: None, pid, part: 0, is_away: false, words: VecDeque::new(), view: Vec::new() }
    }
}

impl Cluster {
    /// A cluster in which all nodes are members and have advertised all their VMs.
    pub fn new(start: Start) -> Cluster {
        let elsewhere = if start == Start::Shared { Copy::Off { has_moved: false } } else { Copy::None };
        let mut cluster = Cluster {
            now: Instant::from_boot(Duration::from_secs(1_000_000)),
            nodes: (0..NODES).map(Node::new).collect(),
            copies: [Copy::Active, elsewhere, Copy::None],
            is_transient: start == Start::Transient,
            migration: None,
            asked: None,
            was_answered: false,
            violation: None,
        };
        (0..NODES).for_each(|at| cluster.start_daemon(at));
        cluster.pass(TELL_LIMIT + SECOND);
        cluster
    }

    pub fn start_daemon(&mut self, at: usize) {
        self.nodes[at].pid += 1;
        let node = NodeId(at as u32 + 1);
        let me = Peer { node, pid: self.nodes[at].pid };
        let mut router = Router::new(RULES, 1, RequestNumber(me.pid * 1000));
        if !self.nodes[at].is_away {
            router.listed(UriIndex(0), self.local(at).into_iter().collect(), self.now);
        }
        router.joined(me, self.now);
        let node = &mut self.nodes[at];
        (node.router, node.words, node.view) = (Some(router), VecDeque::new(), Vec::new());
        self.sync_views();
    }

    // ------------------------------------------------------------------ VM

    pub fn local(&self, at: usize) -> Option<LocalVm> {
        let (state, is_active) = match self.copies[at] {
            Copy::None => return None,
            Copy::Off { .. } => (PowerState::Off, false),
            Copy::Paused => (PowerState::Running, false),
            Copy::Active => (PowerState::Running, true),
        };
        Some(LocalVm { name: NAME.to_owned(), uuid: uuid(), state, is_active })
    }

    pub fn runner(&self) -> Option<usize> {
        self.copies.iter().position(|&copy| copy == Copy::Active)
    }

    /// Returns true if no answer can be wrong any more: the VM has ended, or the request was answered.
    pub fn is_over(&self) -> bool {
        self.was_answered || self.runner().is_none()
    }

    /// Changes a copy, which libvirt reports.
    pub fn set(&mut self, at: usize, copy: Copy) {
        self.copies[at] = copy;
        if self.runner().is_none() {
            self.asked.iter_mut().for_each(|asked| asked.was_off = true);
        }
        let (now, vm, node) = (self.now, self.local(at), &mut self.nodes[at]);
        let Some(router) = node.router.as_mut().filter(|_| !node.is_away) else { return };
        match vm {
            Some(vm) => router.seen(UriIndex(0), vm, now),
            None => router.vanished(UriIndex(0), uuid(), now),
        }
    }

    /// The copy of a node ends, and a migration from there with it.
    pub fn end(&mut self, at: usize) {
        if let Some((from, to, before)) = self.migration.filter(|(from, to, _)| *from == at || *to == at) {
            self.migration = None;
            if from == at {
                self.set(to, before);
            }
        }
        let rest = if self.is_transient { Copy::None } else { Copy::Off { has_moved: false } };
        self.set(at, rest);
    }

    // ------------------------------------------------------------ requests

    pub fn ask(&mut self, at: usize) {
        let was_off = self.runner().is_none();
        self.asked = Some(Asked { at, time: self.now, was_off });
        let (now, vm, is_away) = (self.now, self.local(at), self.nodes[at].is_away);
        let Some(router) = self.nodes[at].router.as_mut() else { return };
        // As the backend does for a VM that was not announced.
        if router.not_joined().is_none() && !router.knows(NAME) {
            match vm {
                _ if is_away => return self.answered(Verdict::Failure, "libvirt is away"),
                Some(vm) => router.find(UriIndex(0), vm, now),
                None => {}
            }
        }
        let request =
            Request { operation: Operation::Off, target: Target::new(NAME.as_bytes()).unwrap(), seqno: 1 };
        let (client, permitted) = (ClientId(1), PermittedNames::All);
        router.ask(ClientRequest { client, request, permitted, received: now }, now);
    }

    fn answered(&mut self, verdict: Verdict, reason: &str) {
        let Some(asked) = self.asked.take() else { return };
        self.was_answered = true;
        if verdict == Verdict::Success && !asked.was_off {
            let (node, copies) = (asked.at + 1, self.copies);
            self.violation = Some(format!("node {node} says that it is off ({reason}): {copies:?}"));
        }
    }

    fn carry_out(&mut self, at: usize, job: JobId, operation: Operation) {
        let (now, copy) = (self.now, self.copies[at]);
        let is_away = self.nodes[at].is_away;
        let Some(router) = self.nodes[at].router.as_mut() else { return };
        let is_moved = matches!(copy, Copy::Paused | Copy::Off { has_moved: true });
        let may_run_elsewhere = is_moved && router.is_sole_known_owner(NAME, now);
        let verdict = match (operation, copy) {
            _ if is_away => Verdict::Failure,
            (_, Copy::None) => Verdict::Failure,
            (Operation::Status, Copy::Active | Copy::Paused) => Verdict::Success,
            _ if may_run_elsewhere => Verdict::Failure,
            (Operation::Status, Copy::Off { .. }) => Verdict::Off,
            (_, Copy::Off { .. }) => Verdict::Success,
            (_, Copy::Active | Copy::Paused) => {
                self.end(at);
                Verdict::Success
            }
        };
        if let Some(router) = self.nodes[at].router.as_mut() {
            router.done(job, verdict, format!("node {}: {verdict}", at + 1), now);
        }
    }

    /// Takes what a router has to be done; false if there is nothing.
    pub fn act(&mut self, at: usize) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.nodes[at].router.as_mut().and_then(Router::next_action) {
            has_acted = true;
            match action {
                RouterAction::Begin { job, operation, .. } => self.carry_out(at, job, operation),
                RouterAction::Find { job, .. } => {
                    let (now, is_away) = (self.now, self.nodes[at].is_away);
                    let vms = self.local(at).map(|vm| (UriIndex(0), vm)).into_iter().collect();
                    let found = if is_away { Err("libvirt is away".to_owned()) } else { Ok(vms) };
                    if let Some(router) = self.nodes[at].router.as_mut() {
                        router.found(job, found, now);
                    }
                }
                RouterAction::Answer { verdict, reason, .. } => self.answered(verdict, &reason),
                RouterAction::HangUp { .. } | RouterAction::Replied { .. } | RouterAction::Note(_) => {}
            }
        }
        has_acted
    }

    // ---------------------------------------------------------------- time

    /// Lets this time pass, in which all messages are delivered.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.deliver_all();
        while self.now < end {
            self.turn_at(self.next_deadline().min(end));
        }
    }

    /// Lets time pass until the request is answered.
    pub fn await_answer(&mut self) {
        let end = self.asked.map_or(self.now, |asked| asked.time + ANSWER_LIMIT + SECOND);
        self.deliver_all();
        while self.now < end && self.asked.is_some() {
            self.turn_at(self.next_deadline().min(end));
        }
        if let Some(asked) = self.asked {
            self.violation = Some(format!("node {} does not answer", asked.at + 1));
        }
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
