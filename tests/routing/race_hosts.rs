//! VMs that fence each other, each at its own host: three routers, and messages in the order that a test says.

use std::collections::{BTreeSet, VecDeque};

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ClientId, ClientRequest, Evidence, JobId, JobOutcome, Membership, Router, RouterAction,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{ClusterMessage, NodeId, RequestNumber};

use super::node::{RULES, SECOND, domain, local, peer};

use Operation::{Off, Reboot};

const HOSTS: [u32; 3] = [1, 2, 3];

/// The hosts 1, 2 and 3 with one VM each, which has the same number.
struct Hosts {
    routers: Vec<Router>,
    now: Instant,
    /// Messages that the group has ordered, and has not delivered.
    ordered: VecDeque<(u32, Vec<u8>)>,
    /// Jobs that are not done: the host, and the VM that is destroyed.
    jobs: VecDeque<(u32, JobId, u32)>,
    /// VMs that were never destroyed.
    alive: BTreeSet<u32>,
    answers: Vec<(ClientId, Verdict)>,
    questions: usize,
}

impl Hosts {
    fn new() -> Hosts {
        let now = Instant::now();
        let router = |node: u32| {
            let mut router = Router::new(RULES, 1, RequestNumber(node * 1000));
            router.configured(Some(HOSTS.map(NodeId).into()), now);
            router.listed(UriIndex(0), vec![local(node as u8, PowerState::Running)], now);
            router.joined(peer(node), now);
            let members: Vec<_> = HOSTS.map(peer).into();
            router.changed(&Membership { joined: members.clone(), left: Vec::new(), members }, now);
            router.votes(true, &HOSTS.map(NodeId), now);
            router
        };
        let routers = HOSTS.map(router).into();
        let (ordered, jobs, answers) = Default::default();
        let mut hosts = Hosts { routers, now, ordered, jobs, alive: HOSTS.into(), answers, questions: 0 };
        hosts.settle();
        hosts
    }

    fn router(&mut self, host: u32) -> &mut Router {
        &mut self.routers[host as usize - 1]
    }

    /// The VM of a host asks there for another VM to be fenced, and the group orders what the host sends.
    fn fences(&mut self, vm: u32, operation: Operation, victim: u32) {
        let now = self.now;
        let target = Target::new(domain(victim as u8).name.as_bytes()).unwrap();
        let request = Request { operation, target, seqno: vm };
        let (client, permitted) = (ClientId(u64::from(vm)), PermittedNames::All);
        self.router(vm).ask(ClientRequest { client, request, permitted, received: now }, now);
        self.take_messages(vm);
    }

    fn take_messages(&mut self, host: u32) {
        let now = self.now;
        while let Some(message) = self.router(host).next_message(now) {
            self.ordered.push_back((host, message.bytes.into()));
        }
    }

    /// Delivers the next message to all hosts.
    fn deliver(&mut self) {
        let now = self.now;
        let Some((from, bytes)) = self.ordered.pop_front() else { return };
        if matches!(ClusterMessage::decode(&bytes), Ok(ClusterMessage::ProveCaller { .. })) {
            self.questions += 1;
        }
        for host in HOSTS {
            self.router(host).heard(peer(from), &bytes, now, false, now);
        }
        HOSTS.into_iter().for_each(|host| self.act(host));
    }

    fn act(&mut self, host: u32) {
        let now = self.now;
        while let Some(action) = self.router(host).next_action() {
            match action {
                RouterAction::Begin { job, name, .. } => {
                    let uuid = Uuid::parse(&name).unwrap();
                    let vm = HOSTS.into_iter().find(|vm| domain(*vm as u8).uuid == uuid).unwrap();
                    self.jobs.push_back((host, job, vm));
                }
                RouterAction::ProveCaller { client, question, .. } => {
                    let lives = self.alive.contains(&(client.0 as u32));
                    self.router(host).caller_proved(question, lives);
                }
                RouterAction::Find { job, .. } => self.router(host).found(job, Ok(Vec::new()), now),
                RouterAction::Answer { client, verdict, .. } => self.answers.push((client, verdict)),
                RouterAction::HangUp { .. } | RouterAction::Replied { .. } | RouterAction::Note(_) => {}
            }
        }
        self.take_messages(host);
    }

    /// Carries out the next job.
    fn carry_out(&mut self) {
        let now = self.now;
        let Some((host, job, vm)) = self.jobs.pop_front() else { return };
        self.alive.remove(&vm);
        let (verdict, evidence, reason) = (Verdict::Success, Evidence::Ended, "destroyed".to_owned());
        self.router(host).done(job, JobOutcome { verdict, evidence, reason }, now);
        self.act(host);
    }

    /// Delivers and carries out all that there is, a job as soon as it can be, or as late.
    fn settle_with(&mut self, is_late: bool) {
        for _ in 0..10_000 {
            match (self.ordered.is_empty(), self.jobs.is_empty()) {
                (true, true) => {
                    HOSTS.into_iter().for_each(|host| self.act(host));
                    if self.ordered.is_empty() && self.jobs.is_empty() {
                        return;
                    }
                }
                (false, true) => self.deliver(),
                (true, false) => self.carry_out(),
                (false, false) if is_late => self.deliver(),
                (false, false) => self.carry_out(),
            }
        }
        panic!("it does not end");
    }

    fn settle(&mut self) {
        HOSTS.into_iter().for_each(|host| self.act(host));
        self.settle_with(false);
    }

    fn passes_seconds(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now += SECOND;
            let now = self.now;
            self.routers.iter_mut().for_each(|router| router.turn(now));
            self.settle();
        }
    }

    /// The VMs fence each other in this order of the group. Returns those that stay.
    fn contest(order: &[(u32, u32)], operation: Operation, is_late: bool) -> (Hosts, Vec<u32>) {
        let mut hosts = Hosts::new();
        order.iter().for_each(|&(vm, victim)| hosts.fences(vm, operation, victim));
        hosts.settle_with(is_late);
        let alive = hosts.alive.iter().copied().collect();
        (hosts, alive)
    }
}

#[test]
fn of_two_that_fence_each_other_the_first_in_the_group_stays() {
    for operation in [Off, Reboot] {
        for is_late in [false, true] {
            for (first, second) in [(1, 2), (2, 1), (3, 1)] {
                let (mut hosts, mut alive) =
                    Hosts::contest(&[(first, second), (second, first)], operation, is_late);
                alive.retain(|vm| [first, second].contains(vm));
                assert_eq!(alive, [first], "late: {is_late}");
                assert!(hosts.answers.contains(&(ClientId(u64::from(first)), Verdict::Success)));
                assert!(hosts.answers.contains(&(ClientId(u64::from(second)), Verdict::Failure)));
                hosts.passes_seconds(30);
                assert!(hosts.routers.iter().all(|router| router.under_way() == 0), "nothing is left over");
            }
        }
    }
}

#[test]
fn a_ring_of_three_leaves_somebody_in_every_order() {
    let edges = [(1, 2), (2, 3), (3, 1)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for is_late in [false, true] {
            let order = order.map(|at: usize| edges[at]);
            let (hosts, alive) = Hosts::contest(&order, Off, is_late);
            let (first, _) = order[0];
            assert!(!alive.is_empty() && alive.len() < 3, "{order:?}: {alive:?} stay");
            // Whoever stays has its answer, and who is first in the group is never held up.
            assert!(hosts.answers.contains(&(ClientId(first.into()), Verdict::Success)), "{order:?}");
            assert_eq!(hosts.answers.len(), 3, "{order:?}");
        }
    }
}

#[test]
fn who_is_not_contested_is_not_asked() {
    // A chain: nobody fences the first, and who asks later than its fencer is asked for a proof.
    let (hosts, alive) = Hosts::contest(&[(2, 3), (1, 2)], Off, true);
    assert_eq!((hosts.questions, alive), (0, vec![1]));
    let (hosts, alive) = Hosts::contest(&[(1, 2), (2, 3)], Off, true);
    assert_eq!((hosts.questions, alive), (1, vec![1, 3]));
}
