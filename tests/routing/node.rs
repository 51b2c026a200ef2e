//! A router in a group whose messages a test determines.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fence_virt::fence::{Domain, Operation, PowerState, Request, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ClientId, ClientRequest, Departure, Evidence, JobId, JobOutcome, LocalVm, Membership, Names, Peer,
    Router, RouterAction, Rules, TELL_LIMIT, Unknown,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{Advertisement, ClusterCall, ClusterMessage, NodeId, Report, RequestNumber};

use PowerState::Running;

pub const RULES: Rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };
pub const SECOND: Duration = Duration::from_secs(1);

pub fn peer(node: u32) -> Peer {
    Peer { node: NodeId(node), pid: node * 10 }
}

pub fn domain(number: u8) -> Domain {
    Domain { name: format!("vm{number}"), uuid: Uuid::from_bytes([number; 16]) }
}

pub fn local(number: u8, state: PowerState) -> LocalVm {
    let Domain { name, uuid } = domain(number);
    LocalVm { name, uuid, state, is_active: state == Running, may_run_elsewhere: false }
}

/// Node 2 of the nodes 1, 2 and 3, and its group.
pub struct Node {
    pub router: Router,
    pub now: Instant,
    pub members: Vec<Peer>,
    pub said: VecDeque<ClusterMessage>,
    pub to_do: VecDeque<RouterAction>,
    pub answers: VecDeque<(ClientId, Verdict, String)>,
    next_client: u64,
    /// VMs here, as libvirt would report them.
    pub vms: Vec<LocalVm>,
    /// Members of this suite.
    ours: BTreeSet<u32>,
    /// Members of this suite answer queries for VMs at once.
    pub answers_queries: bool,
}

impl Node {
    /// A node that joins a group which has advertised nothing.
    pub fn joining(rules: Rules, vms: Vec<LocalVm>) -> Node {
        let mut node = Node::joining_members(rules, vms, vec![peer(1), peer(2), peer(3)]);
        node.votes(true, &[1, 2, 3]);
        node
    }

    /// A node that joins a group of these members.
    pub fn joining_members(rules: Rules, vms: Vec<LocalVm>, members: Vec<Peer>) -> Node {
        let (now, (said, to_do, answers)) = (Instant::now(), Default::default());
        let router = Router::new(rules, 1, RequestNumber(100));
        let mut node = Node {
            router,
            now,
            members,
            said,
            to_do,
            answers,
            next_client: 0,
            vms: vms.clone(),
            ours: BTreeSet::new(),
            answers_queries: true,
        };
        node.router.configured(Some([1, 2, 3].map(NodeId).into()), now);
        node.router.listed(UriIndex(0), vms, now);
        node.router.joined(peer(2), now);
        let members = node.members.clone();
        node.changed(Membership { members, left: Vec::new(), joined: vec![peer(2)] });
        node
    }

    /// A node in a group of this suite, where vm1 runs on node 1, vm3 on node 3, and all was advertised.
    pub fn settled(rules: Rules, vms: Vec<LocalVm>) -> Node {
        let mut node = Node::joining(rules, vms);
        for other in [1, 3] {
            node.hears(other, ClusterMessage::Hello { is_complete: false });
            node.tells(other, other as u8, Running);
            node.hears(other, ClusterMessage::Hello { is_complete: true });
        }
        node.settle();
        node.said.clear();
        node
    }

    /// The same group with a C daemon on node 1.
    pub fn beside_c(rules: Rules, vms: Vec<LocalVm>) -> Node {
        let mut node = Node::joining(rules, vms);
        node.tells(1, 1, Running);
        node.hears(3, ClusterMessage::Hello { is_complete: false });
        node.tells(3, 3, Running);
        node.hears(3, ClusterMessage::Hello { is_complete: true });
        node.passes(TELL_LIMIT);
        node.said.clear();
        node
    }

    pub fn changed(&mut self, change: Membership) {
        self.router.changed(&change, self.now);
        self.settle();
    }

    /// A node joins, and says nothing yet.
    pub fn joins_in_silence(&mut self, node: u32) {
        let joined = vec![peer(node)];
        self.members.extend(&joined);
        self.changed(Membership { members: self.members.clone(), left: Vec::new(), joined });
    }

    /// A node of this suite joins, which has no VMs, or a C daemon.
    pub fn joins(&mut self, node: u32, is_ours: bool) {
        self.joins_in_silence(node);
        for is_complete in [false, true] {
            if is_ours {
                self.hears(node, ClusterMessage::Hello { is_complete });
            }
        }
    }

    /// Takes the first request to this node out of the sent messages.
    pub fn request_to(&mut self, target: u32) -> Option<ClusterCall> {
        let place = self.said.iter().position(
            |said| matches!(said, ClusterMessage::Request(call) if call.target == NodeId(target)),
        )?;
        match self.said.remove(place) {
            Some(ClusterMessage::Request(call)) => Some(call),
            _ => None,
        }
    }

    pub fn leaves(&mut self, node: u32, how: Departure) {
        self.members.retain(|member| member.node != NodeId(node));
        let (members, left) = (self.members.clone(), vec![(peer(node), how)]);
        self.changed(Membership { members, left, joined: Vec::new() });
    }

    pub fn votes(&mut self, is_quorate: bool, nodes: &[u32]) {
        let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
        self.router.votes(is_quorate, &nodes, self.now);
        self.settle();
    }

    pub fn hears(&mut self, from: u32, message: ClusterMessage) {
        self.hears_from(peer(from), message);
    }

    pub fn hears_from(&mut self, from: Peer, message: ClusterMessage) {
        if matches!(message, ClusterMessage::Hello { .. }) {
            self.ours.insert(from.node.0);
        }
        self.router.heard(from, &message.encode(), self.now, false, self.now);
        self.settle();
    }

    pub fn tells(&mut self, node: u32, vm: u8, state: PowerState) {
        let told =
            Advertisement { domain: domain(vm), owner: NodeId(node), state, is_active: state == Running };
        self.hears(node, ClusterMessage::Store(told));
    }

    pub fn passes(&mut self, time: Duration) {
        self.now += time;
        self.router.turn(self.now);
        self.settle();
    }

    /// Fetches messages and actions; messages are delivered here too, as everywhere.
    pub fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(message) = self.router.next_message(self.now) {
                is_quiet = false;
                self.router.heard(peer(2), &message.bytes, self.now, false, self.now);
                let message = ClusterMessage::decode(&message.bytes).unwrap();
                if let ClusterMessage::Locate { number, .. } = message {
                    self.answer_query(number);
                }
                self.said.push_back(message);
            }
            while let Some(action) = self.router.next_action() {
                is_quiet = false;
                match action {
                    RouterAction::Answer { client, verdict, reason, .. } => {
                        self.answers.push_back((client, verdict, reason));
                    }
                    RouterAction::Find { job, name } => self.finds(job, &name),
                    RouterAction::Note(_) | RouterAction::Replied { .. } => {}
                    other => self.to_do.push_back(other),
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    /// Members of this suite have no VM that they have not told.
    fn answer_query(&mut self, number: RequestNumber) {
        let members = self.members.iter().filter(|member| self.ours.contains(&member.node.0));
        for member in members.filter(|_| self.answers_queries) {
            let located = ClusterMessage::Located { to: NodeId(2), number };
            self.router.heard(*member, &located.encode(), self.now, false, self.now);
        }
    }

    fn finds(&mut self, job: JobId, name: &str) {
        let is_meant = |vm: &&LocalVm| match Uuid::parse(name) {
            Some(uuid) => vm.uuid == uuid,
            None => vm.name == name,
        };
        let found = self.vms.iter().filter(is_meant).map(|vm| (UriIndex(0), vm.clone())).collect();
        self.router.found(job, Ok(found), self.now);
    }

    /// libvirt reports a VM here.
    pub fn seen(&mut self, vm: LocalVm) {
        self.vms.retain(|known| known.uuid != vm.uuid);
        self.vms.push(vm.clone());
        self.router.seen(UriIndex(0), vm, self.now);
        self.settle();
    }

    /// libvirt reports that a VM is no longer here.
    pub fn vanished(&mut self, number: u8) {
        let uuid = domain(number).uuid;
        self.vms.retain(|known| known.uuid != uuid);
        self.router.vanished(UriIndex(0), uuid, self.now);
        self.settle();
    }

    pub fn asks(&mut self, operation: Operation, name: &str) {
        self.asks_late(operation, name, Duration::ZERO);
    }

    pub fn asks_late(&mut self, operation: Operation, name: &str, age: Duration) {
        self.asks_permitted(operation, name, PermittedNames::All, age);
    }

    /// A client asks that may fence VMs of these names and UUIDs.
    pub fn asks_with(&mut self, operation: Operation, name: &str, permitted: &[&str]) {
        let permitted = PermittedNames::These(permitted.iter().map(|&name| name.to_owned()).collect());
        self.asks_permitted(operation, name, permitted, Duration::ZERO);
    }

    fn asks_permitted(&mut self, operation: Operation, name: &str, permitted: PermittedNames, age: Duration) {
        self.next_client += 1;
        let request = Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno: 7 };
        let client = ClientId(self.next_client);
        let received = self.now - age;
        self.router.ask(ClientRequest { client, request, permitted, received }, self.now);
        self.settle();
    }

    /// Takes the next answer, with its reason.
    #[track_caller]
    pub fn answer(&mut self) -> (Verdict, String) {
        let (_, verdict, reason) = self.answers.pop_front().expect("there is no answer");
        (verdict, reason)
    }

    #[track_caller]
    pub fn answers_for(&mut self, operation: Operation, name: &str) -> Verdict {
        self.asks(operation, name);
        self.answer().0
    }

    #[track_caller]
    pub fn waits(&self) {
        assert_eq!(self.answers, [], "it does not wait");
    }

    /// Takes the request that was sent, which must be the only one, to this node.
    #[track_caller]
    pub fn asked(&mut self, target: u32) -> ClusterCall {
        let requests: Vec<ClusterMessage> = std::mem::take(&mut self.said).into();
        let mut calls = requests.into_iter().filter_map(|message| match message {
            ClusterMessage::Request(call) => Some(call),
            _ => None,
        });
        let call = calls.next().expect("nobody is asked");
        assert_eq!(calls.next(), None, "somebody else is asked too");
        assert_eq!(call.target, NodeId(target));
        call
    }

    /// A node answers a request: one of ours with evidence, by which success is that the VM ended.
    pub fn replies(&mut self, from: u32, call: &ClusterCall, response: u32) {
        let call = ClusterCall { target: NodeId(2), ..call.clone() };
        let message = match (self.ours.contains(&from), u8::try_from(response)) {
            (true, Ok(response)) => {
                let is_power = matches!(call.operation, Operation::Off | Operation::Reboot);
                let evidence = u8::from(is_power && response == 0);
                ClusterMessage::Report(Report { call, response, evidence, moved_to: None })
            }
            _ => ClusterMessage::Reply { call, response },
        };
        self.hears(from, message);
    }

    /// A member no longer has a VM.
    pub fn loses(&mut self, node: u32, vm: u8) {
        let vm =
            Advertisement { domain: domain(vm), owner: NodeId(0), state: PowerState::Off, is_active: false };
        self.hears(node, ClusterMessage::Gone { vm, has_ended: false });
    }

    /// Returns the number of the last query for a VM that was sent.
    #[track_caller]
    pub fn query(&self) -> RequestNumber {
        let number = |said: &ClusterMessage| match said {
            ClusterMessage::Locate { number, .. } => Some(*number),
            _ => None,
        };
        self.said.iter().rev().find_map(number).expect("the members are asked where the VM is")
    }

    /// A member answers a query.
    pub fn located(&mut self, from: u32, number: RequestNumber) {
        self.hears(from, ClusterMessage::Located { to: NodeId(2), number });
    }

    /// Completes the next job with this outcome.
    #[track_caller]
    pub fn does(&mut self, expected: Operation, verdict: Verdict) {
        let Some(RouterAction::Begin { job, operation, name, .. }) = self.to_do.pop_front() else {
            panic!("nothing is to be done here")
        };
        assert_eq!(operation, expected);
        let is_running =
            |vm: &LocalVm| vm.state == Running && (vm.name == name || vm.uuid.to_string() == name);
        let is_done = matches!(operation, Operation::Off | Operation::Reboot) && verdict == Verdict::Success;
        let has_ended = is_done && self.vms.iter().any(is_running);
        let evidence = if has_ended { Evidence::Ended } else { Evidence::None };
        let outcome = JobOutcome { verdict, evidence, reason: "so it is".to_owned() };
        self.router.done(job, outcome, self.now);
        self.settle();
    }
}
