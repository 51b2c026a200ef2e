//! Searches of this node's libvirt for a VM that a C daemon asks for and nobody has advertised.

use fence_virt::fence::{Operation, PowerState, UriIndex};
use fence_virt::routing::{Names, RouterAction, Rules};
use fence_virt::wire::cluster::{ClusterCall, ClusterMessage, EVERY_NODE, RequestNumber};

use crate::node::{Node, RULES, local, peer};

#[test]
fn a_vm_that_is_found_by_a_name_which_the_rules_exclude_is_searched_for_once() {
    let rules = Rules { names: Names::Uuid, ..RULES };
    let mut node = Node::beside_c(rules, vec![local(2, PowerState::Running)]);
    // The C daemon of node 1 uses names, this node UUIDs only.
    let (number, target, name) = (RequestNumber(1), EVERY_NODE, "vm2".to_owned());
    let call = ClusterCall { number, target, name, operation: Operation::Off, client_number: 0 };
    node.router.heard(peer(1), &ClusterMessage::Request(call).encode(), node.now, false, node.now);
    let mut searches = 0;
    while let Some(action) = node.router.next_action() {
        if let RouterAction::Find { job, .. } = action {
            searches += 1;
            assert_eq!(searches, 1, "the search never ends");
            let found = vec![(UriIndex(0), local(2, PowerState::Running))];
            node.router.found(job, Ok(found), node.now);
        }
    }
    assert_eq!(searches, 1);
}
