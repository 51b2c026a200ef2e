//! The race guard across hosts at one router: whose requests wait, for what, and what becomes of them.

use fence_virt::fence::{Operation, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, CallerQuestion, ClientId, Departure, RouterAction, SERVE_LIMIT};
use fence_virt::wire::cluster::{ClusterCall, ClusterMessage, EVERY_NODE, NodeId, RequestNumber};

use super::node::{Node, RULES, SECOND, domain, local, peer};

use Operation::{Off, On, Reboot, Status};
use fence_virt::fence::PowerState::Running;

impl Node {
    /// A node asks another one for a VM of that, under this number.
    fn fenced_by(&mut self, from: u32, number: u32, operation: Operation, target: u32) {
        let name = domain(target as u8).uuid.to_string();
        let (number, target) = (RequestNumber(number), NodeId(target));
        let call = ClusterCall { number, target, name, operation, client_number: 7 };
        self.hears(from, ClusterMessage::Request(call));
    }

    /// Returns the number of jobs to do here.
    fn begun(&self) -> usize {
        self.to_do.iter().filter(|action| matches!(action, RouterAction::Begin { .. })).count()
    }

    /// Returns the questions that were sent to a node, by the number of its request.
    fn questions_to(&self, node: u32) -> Vec<u32> {
        let number = |said: &ClusterMessage| match said {
            ClusterMessage::ProveCaller { to, number } if *to == NodeId(node) => Some(number.0),
            _ => None,
        };
        self.said.iter().filter_map(number).collect()
    }

    fn proves(&mut self, node: u32, number: u32, lives: bool) {
        let proof = ClusterMessage::CallerProof { to: NodeId(2), number: RequestNumber(number), lives };
        self.hears(node, proof);
    }

    /// Returns the responses to the requests of other nodes, by number.
    fn responses(&self) -> Vec<(u32, u8)> {
        let report = |said: &ClusterMessage| match said {
            ClusterMessage::Report(report) => Some((report.call.number.0, report.response)),
            _ => None,
        };
        self.said.iter().filter_map(report).collect()
    }
}

/// Node 2 has asked node 1 for vm1 to be fenced, which has begun, and then node 1 asks for vm2.
fn contested() -> Node {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.asks(Off, "vm1");
    node.asked(1);
    node.fenced_by(1, 7, Off, 2);
    assert_eq!((node.questions_to(1), node.begun()), (vec![7], 0));
    node
}

#[test]
fn a_later_request_waits_until_its_caller_has_shown_that_it_lives() {
    let mut node = contested();
    node.proves(1, 7, true);
    node.does(Off, Verdict::Success);
    assert_eq!(node.responses(), [(7, 0)]);
}

#[test]
fn a_request_whose_caller_does_not_live_is_not_carried_out() {
    let mut node = contested();
    node.proves(1, 7, false);
    assert_eq!((node.begun(), node.responses()), (0, vec![(7, 1)]));
    node.proves(1, 7, true);
    assert_eq!(node.begun(), 0, "there is one answer");
}

#[test]
fn the_proof_is_of_that_node_and_that_request() {
    let mut node = contested();
    node.proves(3, 7, true);
    node.proves(1, 8, true);
    assert_eq!((node.begun(), node.responses()), (0, vec![]));
    node.proves(1, 7, true);
    assert_eq!(node.begun(), 1);
}

#[test]
fn without_an_answer_it_fails_in_time() {
    let mut node = contested();
    node.passes(SERVE_LIMIT - SECOND);
    assert_eq!(node.responses(), []);
    assert!(node.router.deadline(node.now).is_some_and(|at| at <= node.now + SECOND));
    node.passes(SECOND);
    assert_eq!((node.begun(), node.responses()), (0, vec![(7, 1)]));
    node.proves(1, 7, true);
    assert_eq!(node.begun(), 0, "it is too late");
}

#[test]
fn a_proof_after_the_time_limit_is_too_late() {
    let mut node = contested();
    // The proof is heard before the turn.
    node.now += SERVE_LIMIT;
    node.proves(1, 7, true);
    assert_eq!((node.begun(), node.responses()), (0, vec![(7, 1)]));
}

#[test]
fn a_request_of_a_node_that_leaves_is_dropped() {
    for how in [Departure::Process, Departure::Node] {
        let mut node = contested();
        node.leaves(1, how);
        node.passes(SERVE_LIMIT);
        assert_eq!((node.begun(), node.responses()), (0, vec![]));
        node.passes(ANSWER_LIMIT);
        assert_eq!(node.router.under_way(), 0);
    }
}

#[test]
fn a_daemon_that_stops_refuses_it() {
    let mut node = contested();
    node.router.stop();
    node.settle();
    assert_eq!((node.begun(), node.responses()), (0, vec![(7, 1)]));
}

#[test]
fn the_first_does_not_wait() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.fenced_by(1, 7, Off, 2);
    node.asks(Off, "vm1");
    assert_eq!((node.questions_to(1), node.begun()), (vec![], 1));
}

#[test]
fn a_storm_by_one_host_goes_in_parallel() {
    let mut node = Node::settled(RULES, (10..20).map(|vm| local(vm, Running)).collect());
    // VMs of other hosts are fenced meanwhile, and none of the host that asks.
    node.fenced_by(1, 1, Off, 3);
    node.fenced_by(3, 1, Off, 2);
    for vm in 10..20 {
        let name = domain(vm).uuid.to_string();
        let (number, target) = (RequestNumber(u32::from(vm)), NodeId(2));
        let call = ClusterCall { number, target, name, operation: Reboot, client_number: 0 };
        node.hears(1, ClusterMessage::Request(call));
    }
    assert_eq!((node.questions_to(1), node.begun()), (vec![], 10));
    assert_eq!(node.questions_to(3), [1], "node 3 was asked to fence before");
}

#[test]
fn a_third_host_contests_and_a_question_powers_nothing_off() {
    for (operation, is_contested) in [(Off, true), (Reboot, true), (On, false), (Status, false)] {
        let mut node = Node::settled(RULES, vec![local(2, Running)]);
        node.fenced_by(3, 9, operation, 1);
        node.fenced_by(1, 7, Off, 2);
        assert_eq!(node.questions_to(1).len(), usize::from(is_contested), "{operation}");
        // Nor does what powers nothing off wait.
        node.fenced_by(1, 8, Status, 2);
        assert_eq!(node.begun(), 2 - usize::from(is_contested), "{operation}");
    }
}

#[test]
fn what_ended_before_the_caller_could_ask_contests_nothing() {
    let limit = SERVE_LIMIT + ANSWER_LIMIT;
    for (age, is_contested) in [(limit - SECOND, true), (limit, false)] {
        let mut node = Node::settled(RULES, vec![local(2, Running)]);
        node.fenced_by(3, 9, Off, 1);
        node.passes(age);
        node.fenced_by(1, 7, Off, 2);
        assert_eq!(node.questions_to(1).len(), usize::from(is_contested));
    }
}

/// Node 1 has asked this one for vm2, which has begun; then a client here asks for vm1. Returns the number of
/// that request.
fn contesting() -> (Node, RequestNumber) {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.fenced_by(1, 7, Off, 2);
    node.asks(Off, "vm1");
    let number = node.asked(1).number;
    (node, number)
}

fn asks_for_proof(number: RequestNumber) -> ClusterMessage {
    ClusterMessage::ProveCaller { to: NodeId(2), number }
}

fn proof(number: RequestNumber, lives: bool) -> ClusterMessage {
    ClusterMessage::CallerProof { to: NodeId(1), number, lives }
}

#[test]
fn a_caller_is_asked_once_what_was_asked_before_is_done() {
    for lives in [true, false] {
        let (mut node, number) = contesting();
        node.hears(1, asks_for_proof(number));
        assert_eq!(node.to_do.len(), 1, "the off is under way");
        node.does(Off, Verdict::Success);
        let Some(RouterAction::ProveCaller { client, question, vm, .. }) = node.to_do.pop_front() else {
            panic!("the caller is asked")
        };
        assert_eq!((client, vm), (ClientId(1), domain(1).uuid));
        assert_eq!(question, CallerQuestion { node: NodeId(1), number });
        assert!(!node.said.contains(&proof(number, lives)));
        node.router.caller_proved(question, lives);
        node.settle();
        assert!(node.said.contains(&proof(number, lives)));
    }
}

#[test]
fn what_was_asked_later_is_not_waited_for() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.asks(Off, "vm1");
    let number = node.asked(1).number;
    node.fenced_by(3, 7, Off, 2);
    node.hears(1, asks_for_proof(number));
    assert!(node.to_do.iter().any(|action| matches!(action, RouterAction::ProveCaller { .. })));
}

#[test]
fn nobody_lives_who_does_not_wait() {
    let (mut node, number) = contesting();
    node.does(Off, Verdict::Success);
    node.hears(1, asks_for_proof(RequestNumber(number.0 + 1)));
    assert!(node.said.contains(&proof(RequestNumber(number.0 + 1), false)), "it is not known");
    // Another node was not asked.
    node.hears(3, asks_for_proof(number));
    assert!(node.said.contains(&ClusterMessage::CallerProof { to: NodeId(3), number, lives: false }));
    // Its request is answered while it is asked.
    node.hears(1, asks_for_proof(number));
    let question = CallerQuestion { node: NodeId(1), number };
    node.passes(ANSWER_LIMIT);
    node.router.caller_proved(question, true);
    node.settle();
    assert!(node.said.contains(&proof(number, false)));
}

#[test]
fn the_requests_of_c_daemons_contest_and_are_not_contested() {
    let mut node = Node::beside_c(RULES, vec![local(2, Running)]);
    node.asks(Off, "vm1");
    // A C daemon answers no questions.
    let call = |number: u32, name: &str| {
        let (number, name) = (RequestNumber(number), name.to_owned());
        ClusterMessage::Request(ClusterCall {
            number,
            target: EVERY_NODE,
            name,
            operation: Off,
            client_number: 0,
        })
    };
    node.hears_from(peer(1), call(5, "vm2"));
    assert_eq!((node.questions_to(1), node.begun()), (vec![], 1));
    node.hears_from(peer(1), call(6, "vm3"));
    node.fenced_by(3, 7, Off, 2);
    assert_eq!((node.questions_to(3), node.begun()), (vec![7], 1));
}

#[test]
fn a_question_that_is_repeated_is_one_question() {
    let (mut node, number) = contesting();
    for _ in 0..3 {
        node.hears(1, asks_for_proof(number));
    }
    node.does(Off, Verdict::Success);
    let is_proof = |action: &&RouterAction| matches!(action, RouterAction::ProveCaller { .. });
    assert_eq!(node.to_do.iter().filter(is_proof).count(), 1);
}
