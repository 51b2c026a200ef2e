//! Fences of the other host, which the fencer of this one records.

use super::*;
use crate::status::FencerState;
use fence_virt::routing::Departure;

/// The fencer answers, unless a test says otherwise.
fn bench() -> Bench {
    let mut bench = Bench::starting(Groups::default());
    bench.reload(settings(HostFencing::Auto, None));
    bench.fencer.becomes(FencerState::Connected("lib".to_owned()));
    bench.hear(vec![GroupEvent::Joined(peer(2))]);
    bench.becomes_a_member();
    bench.tells_all();
    bench.group.sent();
    bench
}

fn settings(host_fencing: HostFencing, host_fence_delay: Option<Duration>) -> ClusterSettings {
    let rules = Rules { names: Names::Both, host_fence_delay, unknown: Unknown::Fail };
    ClusterSettings { rules, host_fencing }
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

    /// Settings change with a reload.
    fn reload(&mut self, settings: ClusterSettings) {
        let permissions = Permissions::new(Groups::default(), None);
        self.backend.adopt(BackendSettings { permissions, cluster: Some(settings) }, self.now);
        self.turn();
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
    let mut bench = bench();
    assert!(bench.fencer.told() > 0, "the thread is told of the hosts");
    let stay = bench.fencer.stay(NodeId(1));
    bench.loses_1();
    let waiting = bench.asks(Operation::Off, "vm1");
    bench.passes(20 * SECOND);
    assert_eq!(verdicts(&waiting), [], "it waits for the fence");
    bench.fencer.fences(stay);
    bench.turn();
    assert_eq!(verdicts(&waiting), [Verdict::Success]);
    assert_eq!(bench.says_of_vm1(), [Verdict::Success]);
    assert!(bench.has_told_of_1());
}

#[test]
fn a_request_waits_28_seconds_for_a_fence_if_the_fencer_answers() {
    let mut bench = bench();
    bench.loses_1();
    let waiting = bench.asks(Operation::Off, "vm1");
    bench.passes(ANSWER_LIMIT - Duration::from_millis(1));
    assert_eq!(verdicts(&waiting), []);
    bench.passes(Duration::from_millis(1));
    assert_eq!(verdicts(&waiting), [Verdict::Failure]);
    // Then it does not answer any more.
    let waiting = bench.asks(Operation::Off, "vm1");
    assert_eq!(verdicts(&waiting), []);
    bench.fencer.becomes(FencerState::Lost("it has ended".to_owned()));
    bench.turn();
    assert_eq!((verdicts(&waiting), bench.says_of_vm1()), (vec![Verdict::Failure], vec![Verdict::Failure]));
}

#[test]
fn a_reload_changes_what_makes_a_lost_host_count_as_off() {
    let mut bench = bench();
    let stay = bench.fencer.stay(NodeId(1));
    bench.loses_1();
    let waiting = bench.asks(Operation::Off, "vm1");
    assert_eq!(verdicts(&waiting), []);
    bench.reload(settings(HostFencing::None, None));
    assert_eq!(verdicts(&waiting), [Verdict::Failure], "there is nothing to wait for");
    bench.fencer.fences(stay);
    assert_eq!(bench.says_of_vm1(), [Verdict::Failure]);
    let shown = bench.backend.cluster_state();
    assert_eq!(lock(&shown).fencing, HostFencingState::default());
    // The delay alone.
    bench.reload(settings(HostFencing::None, Some(5 * SECOND)));
    assert_eq!(lock(&shown).fencing, HostFencingState { fencer: None, delay: Some(5 * SECOND) });
    let waiting = bench.asks(Operation::Off, "vm1");
    assert_eq!(verdicts(&waiting), []);
    bench.passes(5 * SECOND);
    assert_eq!(verdicts(&waiting), [Verdict::Success]);
    bench.reload(settings(HostFencing::Auto, None));
    assert!(!bench.has_told_of_1(), "the fence was not watched");
    let waiting = bench.asks(Operation::Off, "vm1");
    bench.fencer.fences(stay);
    bench.turn();
    assert_eq!(verdicts(&waiting), [Verdict::Success]);
    assert!(bench.has_told_of_1());
}

#[test]
fn a_fence_before_the_loss_counts_after_it() {
    let mut bench = bench();
    bench.fencer.fences(bench.fencer.stay(NodeId(1)));
    bench.turn();
    assert!(!bench.has_told_of_1());
    bench.loses_1();
    assert_eq!(bench.says_of_vm1(), [Verdict::Success]);
}

#[test]
fn a_fence_before_the_host_came_back_does_not_count() {
    let mut bench = bench();
    let stay = bench.fencer.stay(NodeId(1));
    bench.loses_1();
    bench.hear(vec![votes(true), votes(false)]);
    bench.fencer.fences(stay);
    assert_eq!(bench.says_of_vm1(), [], "it waits for another fence");
    assert!(!bench.has_told_of_1());
    // The daemon of the other host has joined anew.
    let mut bench = self::bench();
    let stay = bench.fencer.stay(NodeId(1));
    let members = vec![peer(1), peer(2)];
    let change = Membership { members, left: Vec::new(), joined: vec![peer(1)] };
    bench.hear(vec![GroupEvent::Changed(change)]);
    bench.loses_1();
    bench.fencer.fences(stay);
    assert_eq!(bench.says_of_vm1(), [], "it waits for another fence");
}

#[test]
fn nothing_counts_while_the_group_may_have_said_that_the_host_is_back() {
    let mut bench = bench();
    let stay = bench.fencer.stay(NodeId(1));
    bench.loses_1();
    bench.group.hangs(10_000);
    bench.fencer.fences(stay);
    bench.turn();
    assert!(!bench.has_told_of_1());
    // What it had said is heard now.
    bench.hear(vec![votes(true), votes(false)]);
    assert_eq!(bench.says_of_vm1(), [], "it waits for another fence");
    assert!(!bench.has_told_of_1());
}

#[test]
fn a_node_that_was_out_of_the_cluster_knows_of_no_fence() {
    let mut bench = bench();
    let stay = bench.fencer.stay(NodeId(1));
    bench.loses_1();
    assert_eq!(bench.fencer.hosts(), 1);
    bench.hear(vec![GroupEvent::Lost("corosync has ended".to_owned())]);
    assert_eq!(bench.fencer.hosts(), 0);
    bench.fencer.fences(stay);
    bench.turn();
    let change = Membership { members: vec![peer(2)], left: Vec::new(), joined: vec![peer(2)] };
    bench.hear(vec![GroupEvent::Joined(peer(2)), GroupEvent::Changed(change), votes(false)]);
    assert!(!bench.has_told_of_1());
}

#[test]
fn a_thread_that_hangs_is_told_once() {
    let mut bench = bench();
    bench.fencer.told();
    let stay = bench.fencer.stay(NodeId(1));
    for _ in 0..100 {
        bench.hear(vec![votes(false), votes(true)]);
    }
    assert_eq!(bench.fencer.told(), 1);
    bench.loses_1();
    bench.fencer.fences(bench.fencer.stay(NodeId(1)));
    bench.fencer.fences(stay);
    bench.hear(vec![votes(false)]);
    assert_eq!(bench.fencer.told(), 0, "a loss is nothing to ask about");
}

#[test]
fn the_state_of_the_fencer_is_reported() {
    let mut bench = bench();
    let state = bench.backend.cluster_state();
    assert_eq!(lock(&state).fencing.is_connected(), Some(true));
    let lost = FencerState::Lost("it has ended".to_owned());
    bench.fencer.becomes(lost.clone());
    bench.turn();
    assert_eq!(lock(&state).fencing.fencer, Some(lost));
}
