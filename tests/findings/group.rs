//! Several routers in a group that partitions and heals, each message delivered at once.

use std::collections::BTreeMap;
use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ANSWER_LIMIT, ClientId, ClientRequest, Departure, Evidence, JobOutcome, LocalVm, Membership, Peer,
    Router, RouterAction,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{NodeId, RequestNumber};

use crate::node::{RULES, SECOND, peer};

/// The nodes of a cluster, their VMs all off but on the other side of a partition.
pub struct Group {
    routers: BTreeMap<u32, Router>,
    parts: Vec<Vec<u32>>,
    answers: BTreeMap<ClientId, Verdict>,
    last_client: u64,
    now: Instant,
}

impl Group {
    /// Nodes that have joined no group yet, each with these VMs.
    pub fn new(nodes: Vec<(u32, Vec<LocalVm>)>) -> Group {
        let now = Instant::now();
        let mut routers = BTreeMap::new();
        let all: Vec<NodeId> = nodes.iter().map(|(node, _)| NodeId(*node)).collect();
        for (node, vms) in nodes {
            let mut router = Router::new(RULES, 1, RequestNumber(node * 1000));
            router.listed(UriIndex(0), vms, now);
            router.configured(Some(all.clone()), now);
            routers.insert(node, router);
        }
        Group { routers, parts: Vec::new(), answers: BTreeMap::new(), last_client: 0, now }
    }

    fn router(&mut self, node: u32) -> &mut Router {
        self.routers.get_mut(&node).expect("the node exists")
    }

    /// Partitions the cluster into these parts.
    pub fn form(&mut self, parts: &[&[u32]]) {
        let (now, total) = (self.now, self.routers.len());
        for &part in parts {
            for &node in part {
                let before = self.parts.iter().find(|part| part.contains(&node)).cloned();
                let router = self.router(node);
                if before.is_none() {
                    router.joined(peer(node), now);
                }
                let before = before.unwrap_or_default();
                let members: Vec<Peer> = part.iter().map(|&node| peer(node)).collect();
                let left = before.iter().filter(|node| !part.contains(node));
                let left = left.map(|&node| (peer(node), Departure::Node)).collect();
                let joined = part.iter().filter(|node| !before.contains(node));
                let joined = joined.map(|&node| peer(node)).collect();
                router.changed(&Membership { members, left, joined }, now);
                let votes: Vec<NodeId> = part.iter().map(|&node| NodeId(node)).collect();
                router.votes(part.len() * 2 > total, &votes, now);
            }
        }
        self.parts = parts.iter().map(|part| part.to_vec()).collect();
        self.settle();
    }

    /// libvirt reports this VM on a node.
    pub fn seen(&mut self, node: u32, vm: LocalVm) {
        let now = self.now;
        self.router(node).seen(UriIndex(0), vm, now);
        self.settle();
    }

    pub fn passes(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.routers.values_mut().for_each(|router| router.turn(now));
        self.settle();
    }

    /// Asks one node, and returns the answer, whenever it comes.
    pub fn outcome(&mut self, node: u32, operation: Operation, name: &str) -> Verdict {
        self.last_client += 1;
        let (now, client) = (self.now, ClientId(self.last_client));
        let request = Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno: 1 };
        let permitted = PermittedNames::All;
        self.router(node).ask(ClientRequest { client, request, permitted, received: now }, now);
        self.settle();
        let end = now + ANSWER_LIMIT + SECOND;
        loop {
            if let Some(verdict) = self.answers.remove(&client) {
                return verdict;
            }
            assert!(self.now < end, "there is no answer");
            self.passes(SECOND / 4);
        }
    }

    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for part in self.parts.clone() {
                for &node in &part {
                    is_quiet &= !self.sends(node, &part);
                    is_quiet &= !self.acts(node);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn sends(&mut self, node: u32, part: &[u32]) -> bool {
        let (now, mut has_sent) = (self.now, false);
        while let Some(message) = self.router(node).next_message(now) {
            has_sent = true;
            for &member in part {
                self.router(member).heard(peer(node), &message.bytes, now, false, now);
            }
        }
        has_sent
    }

    fn acts(&mut self, node: u32) -> bool {
        let (now, mut has_acted) = (self.now, false);
        while let Some(action) = self.router(node).next_action() {
            has_acted = true;
            match action {
                RouterAction::Begin { job, operation, name, .. } => {
                    let router = self.router(node);
                    // libvirt reports the VM as off because it has migrated away.
                    let verdict = match (router.is_sole_known_owner(&name), operation) {
                        (true, _) => Verdict::Failure,
                        (false, Operation::Status) => Verdict::Off,
                        (false, _) => Verdict::Success,
                    };
                    let (evidence, reason) = (Evidence::Moved, format!("node {node}: it has moved away"));
                    router.done(job, JobOutcome { verdict, evidence, reason }, now);
                }
                RouterAction::Find { job, .. } => self.router(node).found(job, Ok(Vec::new()), now),
                RouterAction::ProveCaller { question, .. } => self.router(node).caller_proved(question, true),
                RouterAction::Answer { client, verdict, .. } => {
                    self.answers.insert(client, verdict);
                }
                RouterAction::HangUp { .. } | RouterAction::Replied { .. } | RouterAction::Note(_) => {}
            }
        }
        has_acted
    }

    /// Moves a VM that runs on one node to another, and leaves its definition behind.
    pub fn migrate(&mut self, vm: &LocalVm, from: u32, to: u32) {
        self.seen(to, LocalVm { state: PowerState::Running, is_active: false, ..vm.clone() });
        self.seen(to, LocalVm { state: PowerState::Running, is_active: true, ..vm.clone() });
        self.seen(from, LocalVm { state: PowerState::Off, is_active: false, ..vm.clone() });
        self.passes(SECOND);
    }
}
