//! Fences of the other host, which the fencer of this one records.

use super::*;
use crate::cpg::host_fencing::FakeFencer;
use crate::status::FencerState;
use fence_virt::routing::Departure;

fn bench() -> (Bench, FakeFencer) {
    let mut bench = Bench::starting(Groups::default());
    let (fencer, link) = FakeFencer::new();
    bench.backend = bench.backend.with_host_fencing(Some(link), Some(60));
    bench.hear(vec![GroupEvent::Joined(peer(2))]);
    bench.becomes_a_member();
    bench.tells_all();
    bench.group.sent();
    (bench, fencer)
}

/// The quorum service counts so many votes, with or without node 1.
fn votes(with_1: bool) -> GroupEvent {
    let nodes = if with_1 { vec![NodeId(1), NodeId(2)] } else { vec![NodeId(2)] };
    GroupEvent::Quorum { is_quorate: true, nodes }
}

impl Bench {
    fn loses_1(&mut self) {
        let left = vec![(peer(1), Departure::Node)];
        let change = Membership { members: vec![peer(2)], left, joined: Vec::new() };
        self.hear(vec![GroupEvent::Changed(change), votes(false)]);
    }

    fn says_of_vm1(&mut self) -> Vec<Verdict> {
        verdicts(&self.asks(Operation::Off, "vm1"))
    }

    fn has_told_of_1(&self) -> bool {
        self.group.sent().contains(&ClusterMessage::HostFenced { node: NodeId(1) })
    }
}

#[test]
fn a_lost_host_that_was_fenced_is_off() {
    let (mut bench, fencer) = bench();
    assert!(fencer.told() > 0, "the thread is told of the hosts");
    let stay = fencer.stay(NodeId(1));
    bench.loses_1();
    assert_eq!(bench.says_of_vm1(), [Verdict::Failure]);
    fencer.fences(stay);
    assert_eq!(bench.says_of_vm1(), [Verdict::Success]);
    assert!(bench.has_told_of_1());
}

#[test]
fn a_fence_before_the_loss_counts_after_it() {
    let (mut bench, fencer) = bench();
    fencer.fences(fencer.stay(NodeId(1)));
    bench.turn();
    assert!(!bench.has_told_of_1());
    bench.loses_1();
    assert_eq!(bench.says_of_vm1(), [Verdict::Success]);
}

#[test]
fn a_fence_before_the_host_came_back_does_not_count() {
    let (mut bench, fencer) = bench();
    let stay = fencer.stay(NodeId(1));
    bench.loses_1();
    bench.hear(vec![votes(true), votes(false)]);
    fencer.fences(stay);
    assert_eq!(bench.says_of_vm1(), [Verdict::Failure]);
    assert!(!bench.has_told_of_1());
    // The daemon of the other host has joined anew.
    let (mut bench, fencer) = self::bench();
    let stay = fencer.stay(NodeId(1));
    let members = vec![peer(1), peer(2)];
    let change = Membership { members, left: Vec::new(), joined: vec![peer(1)] };
    bench.hear(vec![GroupEvent::Changed(change)]);
    bench.loses_1();
    fencer.fences(stay);
    assert_eq!(bench.says_of_vm1(), [Verdict::Failure]);
}

#[test]
fn nothing_counts_while_the_group_may_have_said_that_the_host_is_back() {
    let (mut bench, fencer) = bench();
    let stay = fencer.stay(NodeId(1));
    bench.loses_1();
    bench.group.hangs(10_000);
    fencer.fences(stay);
    bench.turn();
    assert!(!bench.has_told_of_1());
    // What it had said is heard now.
    bench.hear(vec![votes(true), votes(false)]);
    assert_eq!(bench.says_of_vm1(), [Verdict::Failure]);
    assert!(!bench.has_told_of_1());
}

#[test]
fn a_node_that_was_out_of_the_cluster_knows_of_no_fence() {
    let (mut bench, fencer) = bench();
    let stay = fencer.stay(NodeId(1));
    bench.loses_1();
    assert_eq!(fencer.hosts(), 1);
    bench.hear(vec![GroupEvent::Lost("corosync has ended".to_owned())]);
    assert_eq!(fencer.hosts(), 0);
    fencer.fences(stay);
    bench.turn();
    let change = Membership { members: vec![peer(2)], left: Vec::new(), joined: vec![peer(2)] };
    bench.hear(vec![GroupEvent::Joined(peer(2)), GroupEvent::Changed(change), votes(false)]);
    assert!(!bench.has_told_of_1());
}

#[test]
fn a_thread_that_hangs_is_told_once() {
    let (mut bench, fencer) = bench();
    fencer.told();
    let stay = fencer.stay(NodeId(1));
    for _ in 0..100 {
        bench.hear(vec![votes(false), votes(true)]);
    }
    assert_eq!(fencer.told(), 1);
    bench.loses_1();
    fencer.fences(fencer.stay(NodeId(1)));
    fencer.fences(stay);
    bench.hear(vec![votes(false)]);
    assert_eq!(fencer.told(), 0, "a loss is nothing to ask about");
}

#[test]
fn the_state_of_the_fencer_is_reported() {
    let (mut bench, fencer) = bench();
    let state = bench.backend.cluster_state();
    assert_eq!(lock(&state).fencing.fencer, Some(FencerState::Unknown));
    fencer.becomes(FencerState::Connected("lib".to_owned()));
    bench.turn();
    let shown = lock(&state).fencing.clone();
    assert_eq!((shown.is_connected(), shown.delay), (Some(true), Some(60)));
}
