//! VMs that migrate while they are fenced, and what a migration leaves behind.

use fence_virt::fence::{Operation, PowerState, Request, Target, UriIndex, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{ANSWER_LIMIT, ClientId, ClientRequest, Departure};
use fence_virt::wire::cluster::{Advertisement, ClusterCall, ClusterMessage, NodeId, Report};

use crate::node::{Node, RULES, domain, local};

use Operation::{Off, On, Reboot, Status};
use PowerState::Running;

/// Number of a report by which the VM ended while it was migrating.
const ENDED_WHILE_MIGRATING: u8 = 2;

impl Node {
    fn reports(&mut self, from: u32, call: &ClusterCall, response: u8, evidence: u8) {
        let call = ClusterCall { target: NodeId(2), ..call.clone() };
        self.hears(from, ClusterMessage::Report(Report { call, response, evidence, moved_to: None }));
    }

    /// vm1 is coming in on a node, by a migration from node 1.
    fn comes_in(&mut self, node: u32) {
        let owner = NodeId(node);
        let incoming = Advertisement { domain: domain(1), owner, state: Running, is_active: false };
        self.hears(node, ClusterMessage::Store(incoming));
    }

    /// A client has vm1 rebooted, which ends while it is migrating, and all members search for it.
    fn reboots_a_migrating_vm() -> Node {
        let mut node = Node::settled(RULES, Vec::new());
        node.answers_queries = false;
        node.asks(Reboot, "vm1");
        let call = node.asked(1);
        node.reports(1, &call, 0, ENDED_WHILE_MIGRATING);
        node.waits();
        node
    }
}

#[test]
fn a_vm_that_ended_while_migrating_is_started_again_once_no_host_runs_it() {
    for (response, words) in [(0, "has started it again"), (1, "has not started it again")] {
        let mut node = Node::reboots_a_migrating_vm();
        assert_eq!(node.request_to(1), None, "it may run at the target");
        let query = node.query();
        node.said.clear();
        [1, 3].into_iter().for_each(|member| node.located(member, query));
        let call = node.asked(1);
        assert_eq!(call.operation, On);
        node.waits();
        node.reports(1, &call, response, 0);
        let (verdict, reason) = node.answer();
        assert!(verdict == Verdict::Success && reason.contains(words), "{reason}");
    }
}

#[test]
fn a_reboot_whose_vm_was_off_succeeds_whatever_becomes_of_the_start() {
    let started = || {
        let mut node = Node::reboots_a_migrating_vm();
        let query = node.query();
        node.said.clear();
        [1, 3].into_iter().for_each(|member| node.located(member, query));
        assert_eq!(node.asked(1).operation, On);
        node
    };
    let mut node = started();
    node.leaves(1, Departure::Process);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Success && reason.contains("has left the group"), "{reason}");
    let mut node = started();
    node.passes(ANSWER_LIMIT);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Success && reason.contains("has not said"), "{reason}");
}

#[test]
fn a_vm_that_went_on_at_the_target_is_destroyed_there_before_it_is_started() {
    let mut node = Node::reboots_a_migrating_vm();
    let query = node.query();
    node.said.clear();
    node.tells(3, 1, Running);
    [1, 3].into_iter().for_each(|member| node.located(member, query));
    let call = node.request_to(3).expect("the target is asked");
    assert_eq!((call.operation, node.request_to(1)), (Off, None));
    node.reports(3, &call, 0, 1);
    assert_eq!(node.request_to(1).map(|call| call.operation), Some(On));
}

#[test]
fn a_copy_that_only_came_in_does_not_explain_where_a_vm_went() {
    let mut node = Node::settled(RULES, Vec::new());
    // A migration to node 3 that fails, whose end node 3 does not tell: it was off there before, and is.
    node.tells(3, 1, PowerState::Off);
    node.asks(Status, "vm1");
    let to_source = node.request_to(1).unwrap();
    let to_target = node.request_to(3).unwrap();
    node.replies(3, &to_target, 0);
    node.replies(1, &to_source, 0);
    assert_eq!(node.answer().0, Verdict::Success);
    // Then the VM moves to a host whose daemon is stopped.
    node.joins(4, true);
    node.leaves(4, Departure::Process);
    node.loses(1, 1);
    node.said.clear();
    node.asks(Status, "vm1");
    if let Some(call) = node.request_to(3) {
        node.replies(3, &call, 2);
    }
    node.passes(ANSWER_LIMIT);
    assert_eq!(node.answer().0, Verdict::Failure, "it may run on node 4");
}

#[test]
fn a_copy_that_comes_in_is_not_taken_for_the_vm() {
    let mut node = Node::settled(RULES, Vec::new());
    node.comes_in(3);
    node.loses(1, 1);
    node.said.clear();
    node.asks(Off, "vm1");
    let call = node.asked(3);
    assert_eq!(call.operation, Off);
    node.reports(3, &call, 0, 1);
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn a_vm_that_has_left_this_node_is_judged_as_at_the_others() {
    // Node 1, which is away, may run it unless node 3 was seen to run it since.
    for (is_seen_elsewhere, expected) in [(true, Verdict::Off), (false, Verdict::Failure)] {
        let mut node = Node::settled(RULES, vec![local(4, Running)]);
        node.tells(3, 4, if is_seen_elsewhere { Running } else { PowerState::Off });
        node.vanished(4);
        node.tells(3, 4, PowerState::Off);
        node.leaves(1, Departure::Process);
        node.said.clear();
        node.asks(Status, "vm4");
        let call = node.asked(3);
        node.replies(3, &call, 2);
        node.passes(ANSWER_LIMIT);
        assert_eq!(node.answer().0, expected, "{is_seen_elsewhere}");
    }
}

#[test]
fn a_vm_that_has_left_this_node_unheard_is_gone_until_the_group_hears_it() {
    let mut node = Node::settled(RULES, vec![local(4, Running)]);
    node.tells(3, 4, PowerState::Off);
    node.leaves(1, Departure::Process);
    let uuid = domain(4).uuid;
    node.vms.clear();
    node.router.vanished(UriIndex(0), uuid, node.now);
    // Its message is not delivered yet.
    let target = Target::new(b"vm4").unwrap();
    let request = Request { operation: Status, target, seqno: 7 };
    let (client, permitted, received) = (ClientId(99), PermittedNames::All, node.now);
    node.router.ask(ClientRequest { client, request, permitted, received }, node.now);
    while let Some(message) = node.router.next_message(node.now) {
        node.said.push_back(ClusterMessage::decode(&message.bytes).unwrap());
    }
    if let Some(call) = node.request_to(3) {
        node.replies(3, &call, 2);
    }
    node.settle();
    assert_eq!(node.answer().0, Verdict::Failure);
}

#[test]
fn a_vm_that_was_here_for_a_moment_is_told_before_it_is_gone() {
    let mut node = Node::settled(RULES, Vec::new());
    node.router.seen(UriIndex(0), local(9, Running), node.now);
    node.router.vanished(UriIndex(0), domain(9).uuid, node.now);
    node.settle();
    let is_about = |said: &&ClusterMessage| match said {
        ClusterMessage::Store(vm) | ClusterMessage::Gone { vm, .. } => vm.domain == domain(9),
        _ => false,
    };
    let about: Vec<_> = node.said.iter().filter(is_about).collect();
    assert!(
        matches!(about[..], [ClusterMessage::Store(vm), ClusterMessage::Gone { .. }] if vm.state == Running),
        "{about:?}"
    );
}
