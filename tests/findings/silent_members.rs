//! Members and hosts that have not advertised their VMs may run any VM.

use fence_virt::fence::{Domain, Operation, PowerState, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, Departure, Membership, Peer, RouterAction, TELL_LIMIT};
use fence_virt::wire::cluster::{Advertisement, ClusterMessage, NodeId};

use crate::node::{Node, RULES, SECOND, domain, local, peer};

use Operation::{Off, On, Reboot, Status};
use PowerState::Running;

const POWER_AND_STATUS: [Operation; 3] = [Status, Off, Reboot];

/// A member of this suite advertises all its VMs, which are none.
fn advertises_none(node: &mut Node, member: Peer) {
    for is_complete in [false, true] {
        node.hears_from(member, ClusterMessage::Hello { is_complete });
    }
}

/// This node has just started, and has vm9, which is off here. Node 3 has advertised all its VMs. The
/// daemon of node 1 is a member, but hangs, or waits for its libvirt.
fn beside_a_silent_member() -> Node {
    let mut node = Node::joining(RULES, vec![local(9, PowerState::Off)]);
    advertises_none(&mut node, peer(3));
    node.hears(1, ClusterMessage::Hello { is_complete: false });
    node.passes(TELL_LIMIT);
    node
}

#[test]
fn a_member_that_has_not_advertised_its_vms_may_run_it() {
    for operation in POWER_AND_STATUS {
        let mut node = beside_a_silent_member();
        assert_eq!(node.outcome(operation, "vm9", &[peer(3)]), Verdict::Failure, "{operation}");
        advertises_none(&mut node, peer(1));
        let verdict = node.outcome(operation, "vm9", &[peer(1), peer(3)]);
        assert_ne!(verdict, Verdict::Failure, "{operation}: now all have advertised theirs");
    }
}

#[test]
fn a_vm_is_not_started_while_a_member_that_has_not_advertised_its_vms_may_run_it() {
    let mut node = beside_a_silent_member();
    node.asks(On, "vm9");
    for _ in 0..=ANSWER_LIMIT.as_secs() {
        let starts = |action: &RouterAction| matches!(action, RouterAction::Begin { operation: On, .. });
        assert!(!node.to_do.iter().any(starts), "a second copy is started");
        node.passes(SECOND);
    }
    assert_eq!(node.answer().0, Verdict::Failure);
}

#[test]
fn a_host_of_the_cluster_without_a_daemon_may_run_it() {
    for operation in POWER_AND_STATUS {
        let mut node = Node::joining(RULES, vec![local(9, PowerState::Off)]);
        // The quorum service names node 4; no daemon of it is in the group.
        node.votes(true, &[1, 2, 3, 4]);
        advertises_none(&mut node, peer(1));
        advertises_none(&mut node, peer(3));
        assert_eq!(node.outcome(operation, "vm9", &[peer(1), peer(3)]), Verdict::Failure, "{operation}");
    }
}

#[test]
fn a_host_that_was_cut_off_before_this_daemon_started_may_run_it() {
    for operation in POWER_AND_STATUS {
        let members = vec![peer(2), peer(3)];
        let mut node = Node::joining_members(RULES, vec![local(9, PowerState::Off)], members);
        // Two of three nodes: node 1 is on the other side, and nobody has fenced it.
        node.votes(true, &[2, 3]);
        advertises_none(&mut node, peer(3));
        assert_eq!(node.outcome(operation, "vm9", &[peer(3)]), Verdict::Failure, "{operation}");
    }
}

#[test]
fn a_c_daemon_that_hangs_has_not_advertised_since() {
    for operation in POWER_AND_STATUS {
        // Node 1 has a C daemon, which advertised vm1 long ago.
        let mut node = Node::beside_c(RULES, vec![local(9, PowerState::Off)]);
        // vm9 runs at node 3, transient, and goes away: perhaps to node 1.
        node.tells(3, 9, Running);
        let (owner, state) = (NodeId(0), PowerState::Off);
        let gone = Advertisement { domain: domain(9), owner, state, is_active: false };
        node.hears(3, ClusterMessage::Gone(gone));
        node.said.clear();
        assert_eq!(node.outcome(operation, "vm9", &[peer(3)]), Verdict::Failure, "{operation}");
    }
}

/// A second process of node 1 joins before the first one leaves: its daemon was killed and started again,
/// or there were two for a while.
fn replaces_its_daemon(node: &mut Node) -> Peer {
    let second = Peer { node: NodeId(1), pid: 77 };
    let members = vec![peer(1), peer(2), peer(3), second];
    node.changed(Membership { members, left: Vec::new(), joined: vec![second] });
    let members = vec![peer(2), peer(3), second];
    node.changed(Membership { members, left: vec![(peer(1), Departure::Process)], joined: Vec::new() });
    second
}

#[test]
fn a_process_that_joins_before_the_earlier_one_leaves_is_waited_for() {
    let mut node = Node::settled(RULES, vec![local(9, PowerState::Off)]);
    let second = replaces_its_daemon(&mut node);
    node.asks(Off, "vm9");
    node.finds_it_off();
    // vm9 may have been started on node 1 between the two.
    node.waits();
    advertises_none(&mut node, second);
    assert_eq!(node.outcome_of_asked(&[second, peer(3)]), Verdict::Success);
}

#[test]
fn a_vm_that_the_next_process_of_a_node_does_not_advertise_is_forgotten() {
    let mut node = Node::settled(RULES, vec![local(1, PowerState::Off)]);
    let second = replaces_its_daemon(&mut node);
    advertises_none(&mut node, second);
    node.passes(400 * SECOND);
    node.said.clear();
    node.asks(Status, "vm1");
    assert_eq!(node.request_to(1), None, "node 1 has advertised all its VMs without this one");
}

#[test]
fn a_vm_whose_name_differs_in_case_is_not_fenced_while_a_host_that_may_have_the_exact_name_is_cut_off() {
    // Node 3 has "VM9". Node 1, which was cut off before this daemon started, may have "vm9".
    let mut node = Node::joining_members(RULES, Vec::new(), vec![peer(2), peer(3)]);
    node.votes(true, &[2, 3]);
    node.hears(3, ClusterMessage::Hello { is_complete: false });
    let domain = Domain { name: "VM9".to_owned(), ..domain(9) };
    let told = Advertisement { domain, owner: NodeId(3), state: Running, is_active: true };
    node.hears(3, ClusterMessage::Store(told));
    node.hears(3, ClusterMessage::Hello { is_complete: true });
    node.said.clear();
    assert_eq!(node.outcome(Off, "vm9", &[peer(3)]), Verdict::Failure);
    assert_eq!(node.request_to(3), None, "another VM is fenced");
}
