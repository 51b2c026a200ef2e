//! Copies of a VM that have different names.

use super::*;

/// Node 3 has a VM of this name, which has the UUID of vm1, and is off.
fn borrows(node: &mut Node, name: &str) {
    let domain = Domain { name: name.to_owned(), ..domain(1) };
    let (owner, state) = (NodeId(3), PowerState::Off);
    node.hears(3, ClusterMessage::Store(Advertisement { domain, owner, state, is_active: false }));
}

#[test]
fn a_copy_of_another_name_that_is_told_later_is_not_asked() {
    for (permitted, is_asked) in [(vec!["VM1"], false), (vec!["vm1", "mine"], true)] {
        let mut node = Node::settled(RULES, Vec::new());
        node.asks_with(Off, "vm1", &permitted);
        let call = node.asked(1);
        borrows(&mut node, "mine");
        if is_asked {
            node.replies(1, &call, 0);
            let other = node.asked(3);
            node.replies(3, &other, 0);
            assert_eq!(node.answer().0, Verdict::Success);
            continue;
        }
        let (verdict, reason) = node.answer();
        assert_eq!(verdict, Verdict::Failure, "node 1 was asked before");
        assert!(reason.ends_with("\"vm1\" on node 1, \"mine\" on node 3"), "{reason}");
        node.waits();
    }
}

#[test]
fn a_vm_here_is_known_by_the_name_that_each_uri_has_for_it() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    let other = LocalVm { name: "Other".to_owned(), ..local(2, PowerState::Off) };
    node.router.seen(UriIndex(1), other.clone(), node.now);
    assert!(node.router.knows("vm2") && node.router.knows("other"));
    let places: Vec<_> =
        node.router.copies_of("other", node.now).into_iter().map(|copy| copy.place()).collect();
    assert_eq!(places, ["node 2, URI 1", "node 2, URI 2"]);
    node.router.vanished(UriIndex(0), other.uuid, node.now);
    node.said.clear();
    node.settle();
    assert!(!node.router.knows("vm2") && node.router.knows("other"));
    let told = |message: &ClusterMessage| matches!(message, ClusterMessage::Store(told) if told.domain.name == "Other");
    assert!(node.said.iter().any(told), "{:?}", node.said);
    node.router.vanished(UriIndex(1), other.uuid, node.now);
    assert!(!node.router.knows("other"));
}
