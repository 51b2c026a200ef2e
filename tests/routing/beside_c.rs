//! Rules for a group with C daemons.

use std::time::Duration;

use fence_virt::fence::{Operation, PowerState, UriIndex, Uuid, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, Departure, LocalVm, Membership, TELL_LIMIT};
use fence_virt::wire::cluster::{
    ClusterCall, ClusterMessage, EVERY_NODE, HostNotice, HostStanding, NodeId, RequestNumber,
};

use crate::node::{Node, RULES, SECOND, local, peer};

use Operation::{Off, Reboot, Status};
use PowerState::Running;

#[test]
fn a_request_of_a_c_daemon_is_answered_by_one_of_ours() {
    let call = |name: &str, number| {
        let (number, target, name, operation) = (RequestNumber(number), EVERY_NODE, name.to_owned(), Off);
        ClusterCall { number, target, name, operation, client_number: 0 }
    };
    let mut node = Node::beside_c(RULES, vec![local(2, Running)]);
    node.hears(1, ClusterMessage::Request(call("vm2", 1)));
    node.does(Off, Verdict::Success);
    assert!(matches!(node.said.pop_back(), Some(ClusterMessage::Reply { response: 0, .. })));
    node.said.clear();
    node.hears(1, ClusterMessage::Request(call("vm3", 2)));
    node.hears(1, ClusterMessage::Request(call("nosuch", 3)));
    assert!(
        !node.said.iter().any(|message| matches!(message, ClusterMessage::Reply { .. })),
        "that is for node 3"
    );
    // Node 3 hangs: after a while another node has to reply.
    node.passes(ANSWER_LIMIT);
    node.passes(SECOND);
    let failed = |message: &&ClusterMessage| matches!(message, ClusterMessage::Reply { response: 1, .. });
    assert_eq!(node.said.iter().filter(failed).count(), 2);
}

/// The C daemon of node 1 replies to node 3 that it has switched vm1 off, and advertises that.
fn c_has_done_an_off(node: &mut Node) {
    let call = ClusterCall {
        number: RequestNumber(9),
        target: NodeId(3),
        name: "vm1".to_owned(),
        operation: Off,
        client_number: 0,
    };
    node.hears(1, ClusterMessage::Reply { call, response: 0 });
    node.tells(1, 1, PowerState::Off);
}

/// The C daemon is asked for the status of vm1, which is off.
fn c_says_off(node: &mut Node) {
    node.asks(Status, "vm1");
    let call = node.asked(1);
    node.tells(1, 1, PowerState::Off);
    node.replies(1, &call, 2);
}

#[test]
fn a_c_daemon_does_not_report_where_a_vm_went() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(1, 1, PowerState::Off);
    c_says_off(&mut node);
    node.waits();
    node.passes(5 * SECOND);
    assert_eq!(node.answer().0, Verdict::Failure, "node 3 has not said that it is not there");

    // Its reply that it destroyed the VM was delivered.
    let mut node = Node::beside_c(RULES, Vec::new());
    c_has_done_an_off(&mut node);
    c_says_off(&mut node);
    assert_eq!(node.answer().0, Verdict::Off);
}

#[test]
fn a_c_daemon_that_replies_for_a_vm_that_it_does_not_have_is_not_believed() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.asks(Off, "vm1");
    let call = node.asked(1);
    // It is the highest node, and has not advertised the VM again: it means "unknown".
    node.replies(1, &call, 0);
    node.passes(5 * SECOND);
    assert_eq!(node.answer().0, Verdict::Failure);
}

#[test]
fn a_c_daemon_that_switches_off_a_vm_that_was_off_has_destroyed_nothing() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(1, 1, PowerState::Off);
    c_has_done_an_off(&mut node);
    c_says_off(&mut node);
    node.waits();
}

#[test]
fn a_c_daemon_that_no_longer_has_a_vm_is_not_asked_again() {
    let mut node = Node::beside_c(RULES, vec![local(1, Running)]);
    node.asks(Off, "vm1");
    node.asked(1);
    node.passes(Duration::from_millis(10));
    node.does(Off, Verdict::Success);
    node.seen(local(1, PowerState::Off));
    // It advertises all its VMs, and not this one.
    for _ in 0..4 {
        node.tells(1, 5, Running);
        node.passes(SECOND);
    }
    assert!(
        !node
            .said
            .iter()
            .any(|message| matches!(message, ClusterMessage::Request(call) if call.target == NodeId(1)))
    );
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn an_old_request_of_a_c_daemon_stays_old_while_a_node_joins() {
    let mut node = Node::beside_c(RULES, vec![local(2, Running)]);
    let joined = vec![peer(4)];
    node.members.extend(&joined);
    node.changed(Membership { members: node.members.clone(), left: Vec::new(), joined });
    node.said.clear();
    let (target, name) = (EVERY_NODE, "vm2".to_owned());
    let call = ClusterCall { number: RequestNumber(1), target, name, operation: Off, client_number: 0 };
    node.router.heard(peer(1), &ClusterMessage::Request(call).encode(), node.now, true, node.now);
    node.passes(SECOND);
    assert_eq!(node.to_do, []);
    assert!(node.said.iter().any(|message| matches!(message, ClusterMessage::Reply { response: 1, .. })));
}

#[test]
fn a_vm_that_has_left_a_c_daemon_without_vms_is_off_without_its_reply() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(3, 1, Running);
    node.asks(Off, "vm1");
    let call = node.asked(3);
    assert_eq!(call.operation, Status, "first, whether it runs there");
    node.replies(3, &call, 0);
    let call = node.asked(3);
    assert_eq!(call.operation, Off);
    node.replies(3, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);

    // The VM does not run there after all: then the other node has to reply.
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(3, 1, Running);
    node.asks(Off, "vm1");
    let call = node.asked(3);
    node.replies(3, &call, 2);
    let targets = node.said.iter().filter_map(|message| match message {
        ClusterMessage::Request(call) => Some((call.target, call.operation)),
        _ => None,
    });
    assert_eq!(targets.collect::<Vec<_>>(), [(NodeId(1), Off), (NodeId(3), Off)]);
    node.waits();
}

#[test]
fn a_vm_that_moved_away_before_its_daemon_was_stopped_can_be_fenced() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(3, 1, Running);
    node.leaves(1, Departure::Process);
    node.said.clear();
    node.asks(Off, "vm1");
    let call = node.asked(3);
    node.replies(3, &call, 1);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("whose daemon has left"), "{reason}");
    node.asks(Reboot, "vm1");
    let call = node.asked(3);
    node.replies(3, &call, 0);
    let call = node.asked(3);
    assert_eq!(call.operation, Reboot);
    node.replies(3, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn an_absent_host_does_not_keep_vms_of_c_daemons_from_being_off() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(1, 4, PowerState::Off);
    node.leaves(3, Departure::Process);
    node.said.clear();
    node.asks(Status, "vm4");
    let call = node.asked(1);
    node.tells(1, 4, PowerState::Off);
    node.replies(1, &call, 2);
    assert_eq!(node.answer().0, Verdict::Off, "it never ran");

    c_has_done_an_off(&mut node);
    c_says_off(&mut node);
    assert_eq!(node.answer().0, Verdict::Off, "it was destroyed");

    node.tells(1, 4, Running);
    node.said.clear();
    node.asks(Status, "vm4");
    let call = node.asked(1);
    node.tells(1, 4, PowerState::Off);
    node.replies(1, &call, 2);
    assert_eq!(node.answer().0, Verdict::Failure, "it may have moved to the host that is away");
}

#[test]
fn removed_vms_are_answered_for_and_the_oldest_is_forgotten() {
    let vm = |number: u32| LocalVm { name: format!("VM-{number}"), ..local(0, PowerState::Off) };
    let vm = |number: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        LocalVm { uuid: Uuid::from_bytes(bytes), ..vm(number) }
    };
    let mut node = Node::beside_c(RULES, (0..16_385).map(vm).collect());
    node.router.listed(UriIndex(0), Vec::new(), node.now);
    node.settle();
    node.said.clear();
    let call = |name: &str, number| {
        let (number, target, name, operation) = (RequestNumber(number), EVERY_NODE, name.to_owned(), Off);
        ClusterCall { number, target, name, operation, client_number: 0 }
    };
    for (number, name) in (1..).zip(["vm-0", "vm-16384", "VM-1"]) {
        node.hears(1, ClusterMessage::Request(call(name, number)));
    }
    let answered = node.said.iter().filter_map(|message| match message {
        ClusterMessage::Reply { call, response: 1 } => Some(call.name.as_str()),
        _ => None,
    });
    assert_eq!(answered.collect::<Vec<_>>(), ["vm-16384", "VM-1"]);
}

#[test]
fn a_c_daemon_that_tells_a_vm_later_has_told_all() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.tells(1, 1, Running);
    // vm1 ends with its host, which starts again; its C daemon has no VMs, and says nothing.
    node.leaves(1, Departure::Process);
    node.joins(1, false);
    node.passes(TELL_LIMIT);
    node.asks(Status, "vm1");
    node.passes(ANSWER_LIMIT);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("has not told it again"), "{reason}");
    node.tells(1, 7, Running);
    node.passes(SECOND);
    node.asks(Status, "vm1");
    for _ in 0..ANSWER_LIMIT.as_secs() {
        node.tells(1, 7, Running);
        node.passes(SECOND);
    }
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && !reason.contains("has not told it again"), "{reason}");
}

#[test]
fn a_c_daemon_that_has_vms_and_tells_none_hangs() {
    for (is_told_of, verdict) in [(false, Verdict::Off), (true, Verdict::Failure)] {
        let mut node = Node::joining(RULES, vec![local(4, PowerState::Off)]);
        if is_told_of {
            let notice = HostNotice { node: NodeId(1), standing: HostStanding::HasVms, age_ms: 0 };
            node.hears(3, ClusterMessage::Host(notice));
        }
        for is_complete in [false, true] {
            node.hears(3, ClusterMessage::Hello { is_complete });
        }
        node.passes(TELL_LIMIT);
        let answer = |node: &mut Node| {
            node.asks(Status, "vm4");
            node.does(Status, Verdict::Off);
            node.answer().0
        };
        assert_eq!(answer(&mut node), verdict, "the C daemon of node 1 has told none");
        node.tells(1, 1, Running);
        assert_eq!(answer(&mut node), Verdict::Off);
    }
}
