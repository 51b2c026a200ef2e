//! Requests by a name, while a member that has just been met may have another VM of the name.

use fence_virt::fence::Operation::Off;
use fence_virt::fence::Verdict;
use fence_virt::routing::TELL_LIMIT;
use fence_virt::wire::cluster::ClusterMessage;

use crate::names::{tells, uuid};
use crate::node::{Node, RULES};

/// A node that has joined a group where node 1 has told its VM, "db", and node 3 is telling its VMs.
fn joined_while_told() -> Node {
    let mut node = Node::joining(RULES, Vec::new());
    node.hears(1, ClusterMessage::Hello { is_complete: false });
    tells(&mut node, 1, 9, "db");
    node.hears(1, ClusterMessage::Hello { is_complete: true });
    node.hears(3, ClusterMessage::Hello { is_complete: false });
    node.said.clear();
    node
}

#[test]
fn a_name_has_to_wait_for_the_members_that_are_telling_their_vms() {
    let mut node = joined_while_told();
    node.asks(Off, "db");
    node.waits();
    assert_eq!(node.request_to(1), None);
    tells(&mut node, 3, 10, "db");
    node.hears(3, ClusterMessage::Hello { is_complete: true });
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("matches several VMs"), "{reason}");

    // A UUID means one VM.
    let mut node = joined_while_told();
    node.asks(Off, &uuid(9));
    assert_eq!(node.asked(1).name, uuid(9));

    // One that hangs is not waited for any longer.
    let mut node = joined_while_told();
    node.asks(Off, "db");
    node.passes(TELL_LIMIT);
    assert_eq!(node.asked(1).name, uuid(9));
}

#[test]
fn a_name_that_another_vm_has_too_is_denied_to_who_may_fence_one_of_them() {
    let requested = |names: &[&str]| {
        let mut node = joined_while_told();
        node.asks_with(Off, "db", names);
        tells(&mut node, 3, 10, "db");
        node.hears(3, ClusterMessage::Hello { is_complete: true });
        assert_eq!([node.request_to(1), node.request_to(3)], [None, None]);
        node.answer().0
    };
    assert_eq!(requested(&[&uuid(9)]), Verdict::Denied);
    assert_eq!(requested(&[&uuid(9), &uuid(10)]), Verdict::Failure);
    assert_eq!(requested(&["db"]), Verdict::Failure);
}
