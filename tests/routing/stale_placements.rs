//! Stale copies, and copies that must not be taken for stale.

use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, Verdict};
use fence_virt::routing::Departure;
use fence_virt::wire::cluster::{ClusterCall, ClusterMessage, EVERY_NODE, NodeId, Report, RequestNumber};

use crate::node::{Node, RULES, SECOND, domain, local, peer};

use Operation::{Off, Status};
use PowerState::Running;

/// Node 3 carries out every request.
fn node_3_obeys(node: &mut Node) {
    node.asks(Off, "vm9");
    while let Some(call) = node.request_to(3) {
        node.replies(3, &call, 0);
    }
}

#[test]
fn a_copy_that_was_advertised_last_is_not_stale() {
    let mut node = Node::settled(RULES, Vec::new());
    node.joins(4, true);
    for teller in [1, 3, 4] {
        node.tells(teller, 9, Running);
    }
    node.leaves(1, Departure::Process);
    node.leaves(4, Departure::Process);
    node.said.clear();
    node_3_obeys(&mut node);
    assert_eq!(node.answer().0, Verdict::Failure, "node 4 was the last that was seen to run it");
}

#[test]
fn a_repeated_advertisement_makes_no_copy_stale() {
    let mut node = Node::settled(RULES, Vec::new());
    for teller in [3, 1, 3] {
        node.tells(teller, 9, Running);
    }
    node.leaves(1, Departure::Process);
    node.said.clear();
    node_3_obeys(&mut node);
    assert_eq!(node.answer().0, Verdict::Failure, "it was started on node 1 later");

    // The same with a C daemon that hangs.
    let mut node = Node::beside_c(RULES, Vec::new());
    for teller in [3, 1, 3] {
        node.tells(teller, 9, Running);
    }
    node.said.clear();
    node_3_obeys(&mut node);
    node.waits();
}

#[test]
fn a_confirming_node_that_no_longer_has_the_vm_is_not_waited_for() {
    let mut node = Node::settled(RULES, Vec::new());
    let tell_all = |node: &mut Node, also: &[(u32, u8)]| {
        for &(c, vm) in [(4, 14), (5, 15), (6, 16)].iter().chain(also) {
            node.tells(c, vm, Running);
        }
    };
    for c in [4, 5, 6] {
        node.joins(c, false);
    }
    tell_all(&mut node, &[]);
    node.passes(5 * SECOND);
    // The VM ran at C daemon 4, moved to 5, and then to 6, which was not advertised.
    for c in [4, 5] {
        node.tells(c, 9, Running);
        node.passes(SECOND);
    }
    node.said.clear();
    node.asks(Off, "vm9");
    node.passes(Duration::from_millis(10));
    tell_all(&mut node, &[(6, 9)]);
    for _ in 0..20 {
        node.passes(SECOND / 4);
        while let Some(call) = node.request_to(6) {
            tell_all(&mut node, &[(6, 9)]);
            node.replies(6, &call, 0);
        }
    }
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn a_vm_that_ended_here_ran_here_however_long_it_is_off_at_a_c_daemon() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.joins(4, true);
    node.leaves(4, Departure::Process);
    node.passes(5 * SECOND);
    // The VM moves from the C daemon, which keeps its definition.
    node.tells(3, 1, Running);
    node.tells(1, 1, PowerState::Off);
    node.said.clear();
    for (operation, expected) in [(Off, Verdict::Success), (Status, Verdict::Off)] {
        node.asks(operation, "vm1");
        let response = if operation == Off { 0 } else { 2 };
        for _ in 0..4 {
            if let Some(call) = node.request_to(1) {
                node.tells(1, 1, PowerState::Off);
                node.replies(1, &call, response);
            }
            if let Some(call) = node.request_to(3) {
                node.replies(
                    3,
                    &call,
                    if call.operation == Status && operation == Off { 0 } else { response },
                );
                if call.operation == Off {
                    node.tells(3, 1, PowerState::Off);
                }
            }
        }
        let (verdict, reason) = node.answer();
        assert_eq!(verdict, expected, "{reason}");
    }
}

#[test]
fn where_a_c_daemon_sent_a_vm_before_this_daemon_began_is_unknown() {
    let mut node = Node::joining(RULES, Vec::new());
    // Host 4 is up, without its daemon.
    node.votes(true, &[1, 2, 3, 4]);
    node.tells(1, 1, PowerState::Off);
    for is_complete in [false, true] {
        node.hears(3, ClusterMessage::Hello { is_complete });
    }
    node.passes(5 * SECOND);
    node.said.clear();
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure);
    assert_eq!(node.request_to(1), None);
}

#[test]
fn a_fence_for_another_daemon_is_noted_by_all() {
    let mut node = Node::settled(RULES, Vec::new());
    node.joins(4, true);
    node.tells(3, 4, Running);
    node.tells(1, 4, PowerState::Off);
    node.leaves(1, Departure::Process);
    let name = domain(4).uuid.to_string();
    let call =
        ClusterCall { number: RequestNumber(9), target: NodeId(3), name, operation: Off, client_number: 0 };
    node.hears(4, ClusterMessage::Request(call.clone()));
    let call = ClusterCall { target: NodeId(4), ..call };
    node.hears(3, ClusterMessage::Report(Report { call, response: 0, evidence: 1, moved_to: None }));
    node.tells(3, 4, PowerState::Off);
    node.said.clear();
    node.asks(Status, "vm4");
    let call = node.asked(3);
    node.replies(3, &call, 2);
    assert_eq!(node.answer().0, Verdict::Off);
}

#[test]
fn requests_of_nodes_are_bounded_even_if_they_seem_to_be_answered() {
    let mut node = Node::beside_c(RULES, vec![local(2, Running)]);
    for number in (1..=20_000).map(RequestNumber) {
        let (target, name) = (EVERY_NODE, "vm2".to_owned());
        let call = ClusterCall { number, target, name, operation: Status, client_number: 0 };
        let reply =
            ClusterMessage::Reply { call: ClusterCall { target: NodeId(1), ..call.clone() }, response: 1 };
        for message in [ClusterMessage::Request(call), reply] {
            node.router.heard(peer(1), &message.encode(), node.now, false, node.now);
        }
    }
    // Each counts as a request, as a job, and as one that is not answered.
    assert!(node.router.under_way() <= 3 * 8192, "{}", node.router.under_way());
}

#[test]
fn a_vm_that_ended_here_before_that_was_advertised_may_have_moved() {
    let mut node = Node::settled(RULES, vec![local(1, Running)]);
    node.tells(1, 1, PowerState::Off);
    let uuid = domain(1).uuid.to_string();
    assert!(node.router.is_sole_known_owner(&uuid), "libvirt may know more than the router");
}
