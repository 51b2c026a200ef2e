//! Hosts that leave the cluster, and what that makes of their VMs.

use fence_virt::fence::{Operation, PowerState, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, Departure, Rules};
use fence_virt::wire::cluster::{
    AGE_UNKNOWN, Advertisement, ClusterMessage, CopyFate, HostNotice, HostStanding, NodeId,
};

use crate::node::{Node, RULES, SECOND, domain, local, peer};

use Operation::{Off, On, Reboot, Status};
use PowerState::Running;

#[test]
fn an_owner_that_leaves_is_a_failure_at_once() {
    for (how, words) in
        [(Departure::Process, "whose daemon has left"), (Departure::Node, "host_fence_delay is not")]
    {
        let mut node = Node::settled(RULES, Vec::new());
        node.asks(Off, "vm1");
        if how == Departure::Node {
            node.votes(true, &[2, 3]);
        }
        node.leaves(1, how);
        let (verdict, reason) = node.answer();
        assert!(verdict == Verdict::Failure && reason.contains(words), "{reason}");
        assert_eq!(node.answers_for(Status, "vm1"), Verdict::Failure);
    }
}

#[test]
fn a_lost_host_is_off_when_the_delay_is_over() {
    let rules = Rules { host_fence_delay: Some(60 * SECOND), ..RULES };
    let mut node = Node::settled(rules, Vec::new());
    node.leaves(1, Departure::Node);
    node.asks(Off, "vm1");
    node.passes(ANSWER_LIMIT);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("has not confirmed"), "{reason}");
    node.votes(true, &[2, 3]);
    for operation in [Off, Status] {
        node.asks(operation, "vm1");
        node.passes(ANSWER_LIMIT);
        let (verdict, reason) = node.answer();
        assert!(verdict == Verdict::Failure && reason.contains("it counts as off after 60 s"), "{reason}");
    }
    node.passes(4 * SECOND);
    assert_eq!(node.answers_for(Status, "vm1"), Verdict::Off);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success);
    assert_eq!(node.answers_for(Reboot, "vm1"), Verdict::Success);
    assert_eq!(node.answers_for(On, "vm1"), Verdict::Failure, "nobody could start it");
    node.votes(false, &[2]);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure, "without quorum");
    node.votes(true, &[2, 3]);
    node.asks(Off, "vm1");
    node.passes(ANSWER_LIMIT);
    assert_eq!(node.answer().0, Verdict::Failure, "quorum has to last for as long");
    node.passes(60 * SECOND);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success);
    // The host is back in the cluster, and may run what it ran.
    node.votes(true, &[1, 2, 3]);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure);
}

#[test]
fn a_vm_that_runs_here_is_known_in_a_partition_without_quorum() {
    let mut node = Node::settled(RULES, vec![local(2, Running), local(4, PowerState::Off)]);
    node.leaves(1, Departure::Node);
    node.leaves(3, Departure::Node);
    node.votes(false, &[2]);
    node.asks(Status, "vm2");
    node.does(Status, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
    node.asks(Off, "vm2");
    node.does(Off, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
    node.asks(Status, "vm4");
    node.does(Status, Verdict::Off);
    assert_eq!(node.answer().0, Verdict::Failure, "it may run on the other side");
    assert_eq!(node.answers_for(Off, "vm4"), Verdict::Failure);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure);
}

#[test]
fn a_vm_that_was_off_on_an_absent_host_stays_off_once_it_is_fenced() {
    let mut node = Node::settled(RULES, vec![local(4, Running)]);
    node.tells(1, 4, PowerState::Off);
    node.leaves(1, Departure::Process);
    node.asks(Off, "vm4");
    node.does(Off, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
    node.seen(local(4, PowerState::Off));
    node.asks(Status, "vm4");
    node.does(Status, Verdict::Off);
    assert_eq!(node.answer().0, Verdict::Off);
    node.asks(On, "vm4");
    node.does(On, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn a_member_that_has_started_while_another_one_hung_is_told_what_that_had() {
    for hangs in [true, false] {
        let mut node = Node::settled(RULES, Vec::new());
        node.leaves(3, Departure::Process);
        node.joins(3, true);
        if !hangs {
            node.hears(1, ClusterMessage::Hello { is_complete: false });
            node.tells(1, 1, Running);
            node.hears(1, ClusterMessage::Hello { is_complete: true });
        }
        node.passes(2 * SECOND);
        node.said.clear();
        node.leaves(1, Departure::Node);
        let vm = Advertisement { domain: domain(1), owner: NodeId(1), state: Running, is_active: true };
        let is_told = node.said.iter().any(
            |said| matches!(said, ClusterMessage::Copy { vm: told, fate: CopyFate::Away, .. } if *told == vm),
        );
        assert_eq!(is_told, hangs, "{:?}", node.said);
    }
}

#[test]
fn a_host_that_is_lost_after_a_member_told_of_it_was_not_stopped() {
    let rules = Rules { host_fence_delay: Some(10 * SECOND), ..RULES };
    let mut node = Node::joining_members(rules, Vec::new(), vec![peer(2), peer(3)]);
    for is_complete in [false, true] {
        node.hears(3, ClusterMessage::Hello { is_complete });
    }
    // Node 3 has never seen a daemon of node 1, whose node is in the cluster.
    let notice = HostNotice { node: NodeId(1), standing: HostStanding::Up, age_ms: AGE_UNKNOWN };
    node.hears(3, ClusterMessage::Host(notice));
    node.votes(true, &[2, 3]);
    node.passes(20 * SECOND);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure, "nobody has told it: unknown_vm");
    let vm = Advertisement { domain: domain(1), owner: NodeId(1), state: Running, is_active: true };
    node.hears(3, ClusterMessage::Copy { vm, fate: CopyFate::Away, age_ms: 0 });
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success, "it was lost, and the delay is over");
}

#[test]
fn a_host_that_the_configuration_does_not_name_is_not_taken_from_a_member() {
    let mut node = Node::settled(RULES, vec![local(4, Running)]);
    let notice = HostNotice { node: NodeId(9), standing: HostStanding::Up, age_ms: 0 };
    node.hears(3, ClusterMessage::Host(notice));
    node.seen(local(4, PowerState::Off));
    node.asks(Status, "vm4");
    node.does(Status, Verdict::Off);
    assert_eq!(node.answer().0, Verdict::Off);
}
