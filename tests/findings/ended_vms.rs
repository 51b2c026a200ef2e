//! VMs that have ended or are moving.

use fence_virt::fence::{Operation, PowerState, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, TELL_LIMIT};
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId, RequestNumber,
};

use crate::node::{Node, RULES, SECOND, domain, local, peer};

use Operation::{Off, Reboot, Status};
use PowerState::Running;

#[test]
fn a_transient_vm_that_was_fenced_stays_off() {
    for operation in [Status, Off, Reboot] {
        let mut node = Node::settled(RULES, Vec::new());
        node.asks(Off, "vm1");
        let call = node.asked(1);
        node.replies(1, &call, 0);
        assert_eq!(node.answer().0, Verdict::Success);
        let (owner, state) = (NodeId(0), PowerState::Off);
        let gone = Advertisement { domain: domain(1), owner, state, is_active: false };
        node.hears(1, ClusterMessage::Gone(gone));
        let verdict = node.outcome(operation, "vm1", &[peer(1), peer(3)]);
        let expected = if operation == Status { Verdict::Off } else { Verdict::Success };
        assert_eq!(verdict, expected, "{operation}");
    }
}

#[test]
fn a_reboot_during_a_migration_starts_the_vm_where_it_is_active() {
    let mut node = Node::settled(RULES, Vec::new());
    // vm1 is active on node 1, and on its way to node 3.
    let incoming = Advertisement { domain: domain(1), owner: NodeId(3), state: Running, is_active: false };
    node.hears(3, ClusterMessage::Store(incoming));
    node.said.clear();
    node.asks(Reboot, "vm1");
    let mut to_source = Vec::new();
    for _ in 0..4 {
        if let Some(call) = node.request_to(1) {
            to_source.push(call.operation);
            node.replies(1, &call, 0);
        }
        if let Some(call) = node.request_to(3) {
            node.replies(3, &call, 0);
        }
        node.passes(SECOND / 4);
    }
    assert_eq!(node.answer().0, Verdict::Success);
    assert_eq!(to_source.last(), Some(&Reboot), "an off ends it: {to_source:?}");
}

#[test]
fn a_copy_that_is_off_here_is_no_answer_while_a_c_daemon_runs_the_vm() {
    for (operation, response) in [(Off, 0), (Reboot, 0), (Status, 2)] {
        let mut node = Node::beside_c(RULES, vec![local(1, PowerState::Off)]);
        node.joins(4, false);
        node.tells(4, 44, Running);
        node.passes(TELL_LIMIT);
        // It runs at the C daemon of node 1, which hangs; that of node 4 asks, and takes the first reply.
        node.tells(1, 1, Running);
        node.said.clear();
        let (number, target, name) = (RequestNumber(9), EVERY_NODE, "vm1".to_owned());
        let call = ClusterCall { number, target, name, operation, client_number: 3 };
        node.hears(4, ClusterMessage::Request(call));
        for _ in 0..=ANSWER_LIMIT.as_secs() {
            node.finds_it_off();
            node.passes(SECOND);
        }
        let says_off = |said: &ClusterMessage| {
            matches!(said, ClusterMessage::Reply { call, response: sent }
                if call.number == number && *sent == response)
        };
        assert!(!node.said.iter().any(says_off), "{operation}");
    }
}
