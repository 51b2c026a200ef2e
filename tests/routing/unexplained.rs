//! VMs that are off for a reason that nobody knows any more: they may have moved away.

use fence_virt::fence::{Operation, PowerState, Verdict};
use fence_virt::routing::{Departure, LocalVm, Rules};

use fence_virt::wire::cluster::{Advertisement, ClusterMessage, NodeId};

use crate::node::{Node, RULES, SECOND, domain, local};

use Operation::{Off, On, Status};
use PowerState::Running;

/// Delay after which a lost host counts as off.
const DELAY: Rules = Rules { host_fence_delay: Some(SECOND), ..RULES };

/// Node 2, after vm1 went off on node 1, and the daemon of node 3 has left.
fn stopped(rules: Rules) -> Node {
    let mut node = Node::settled(rules, Vec::new());
    node.tells(1, 1, PowerState::Off);
    node.leaves(3, Departure::Process);
    node.said.clear();
    node
}

/// Asks for the status of vm1, which node 1 answers.
fn status(node: &mut Node) -> (Verdict, String) {
    node.asks(Status, "vm1");
    if let Some(call) = node.request_to(1) {
        node.replies(1, &call, 2);
    }
    node.answer()
}

#[test]
fn a_daemon_that_has_started_since_does_not_know_why_a_vm_is_off() {
    let mut node = stopped(RULES);
    assert_eq!(status(&mut node).0, Verdict::Off, "it would know of a move");
    node.leaves(1, Departure::Process);
    node.joins(1, true);
    node.tells(1, 1, PowerState::Off);
    let (verdict, reason) = status(&mut node);
    assert!(verdict == Verdict::Failure && reason.contains("node 3"), "{reason}");
    // All that can have it look for it.
    node.joins(3, true);
    assert_eq!(status(&mut node).0, Verdict::Off);
}

#[test]
fn what_was_seen_to_end_is_off_whoever_starts_since() {
    for is_news_first in [false, true] {
        let mut node = Node::settled(RULES, Vec::new());
        node.asks(Off, "vm1");
        let call = node.asked(1);
        if is_news_first {
            node.tells(1, 1, PowerState::Off);
        }
        node.replies(1, &call, 0);
        if !is_news_first {
            node.tells(1, 1, PowerState::Off);
        }
        assert_eq!(node.answer().0, Verdict::Success);
        node.leaves(3, Departure::Process);
        node.leaves(1, Departure::Process);
        node.joins(1, true);
        node.tells(1, 1, PowerState::Off);
        assert_eq!(status(&mut node).0, Verdict::Off, "{is_news_first}");
    }
}

#[test]
fn a_vm_that_went_off_before_its_host_was_lost_may_have_moved() {
    let mut node = stopped(DELAY);
    node.votes(true, &[2, 3]);
    node.leaves(1, Departure::Node);
    node.passes(2 * SECOND);
    let (verdict, reason) = status(&mut node);
    assert!(verdict == Verdict::Failure && reason.contains("node 3"), "{reason}");
    node.joins(3, true);
    assert_eq!(status(&mut node).0, Verdict::Off);
}

#[test]
fn a_vm_of_a_lost_host_may_have_moved_to_one_without_a_daemon() {
    let mut node = Node::settled(DELAY, Vec::new());
    node.leaves(3, Departure::Process);
    node.votes(true, &[2, 3]);
    node.leaves(1, Departure::Node);
    node.passes(2 * SECOND);
    let (verdict, reason) = status(&mut node);
    let words = "may have moved from node 1 to node 3, whose daemon has left the group";
    assert!(verdict == Verdict::Failure && reason.contains(words), "{reason}");
    node.joins(3, true);
    assert_eq!(status(&mut node).0, Verdict::Off);
}

/// News of libvirt about vm9 before it is found off.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    End,
    /// A pause by a migration.
    Pause,
    PauseAndEnd,
    /// A pause by an administrator, or the shutdown of the guest.
    Transition,
    /// Such a pause, and then one by a migration.
    TransitionAndPause,
    Nothing,
}

#[test]
fn a_vm_that_was_not_seen_to_end_may_have_moved() {
    // It may have left for node 3, and come back, before libvirt's news of the first is here. Then that failed.
    for told in
        [Told::End, Told::Pause, Told::PauseAndEnd, Told::Transition, Told::TransitionAndPause, Told::Nothing]
    {
        let mut node = Node::settled(RULES, vec![local(9, Running)]);
        node.leaves(3, Departure::Process);
        let paused = LocalVm { is_active: false, ..local(9, Running) };
        if matches!(told, Told::Transition | Told::TransitionAndPause) {
            node.seen(paused.clone());
        }
        if matches!(told, Told::Pause | Told::PauseAndEnd | Told::TransitionAndPause) {
            node.seen(LocalVm { may_run_elsewhere: true, ..paused });
        }
        if !matches!(told, Told::Pause | Told::Nothing) {
            node.seen(local(9, PowerState::Off));
        }
        let status = |node: &mut Node| {
            node.asks(Status, "vm9");
            node.does(Status, Verdict::Off);
            node.answer()
        };
        let (verdict, reason) = status(&mut node);
        if matches!(told, Told::End | Told::Transition) {
            assert_eq!(verdict, Verdict::Off, "{reason}");
            continue;
        }
        assert!(verdict == Verdict::Failure && reason.contains("node 3"), "{told:?}: {reason}");
        node.joins(3, true);
        // What libvirt has not told yet to be off runs, by the last news: the answer is on the safe side.
        let expected = if matches!(told, Told::PauseAndEnd | Told::TransitionAndPause) {
            Verdict::Off
        } else {
            Verdict::Success
        };
        assert_eq!(status(&mut node).0, expected, "{told:?}: all have looked for it");
    }
}

#[test]
fn a_host_that_knows_of_a_doubt_starts_nothing() {
    let mut node = Node::settled(RULES, vec![local(9, PowerState::Off)]);
    let uuid = domain(9).uuid.to_string();
    assert!(node.router.may_start(&uuid, node.now));
    node.votes(false, &[2]);
    assert!(!node.router.may_start(&uuid, node.now), "it may run in another partition");
}

#[test]
fn a_host_starts_nothing_that_a_lost_host_may_run() {
    let mut node = Node::settled(DELAY, vec![local(9, PowerState::Off)]);
    let uuid = domain(9).uuid.to_string();
    node.tells(3, 9, Running);
    node.leaves(3, Departure::Node);
    node.votes(true, &[1, 2]);
    assert!(!node.router.may_start(&uuid, node.now));
    node.passes(2 * SECOND);
    assert!(node.router.may_start(&uuid, node.now), "it counts as off by now");
}

#[test]
fn a_host_starts_nothing_that_was_coming_in_at_a_lost_host() {
    let mut node = Node::settled(RULES, vec![local(9, Running)]);
    let told = Advertisement { domain: domain(9), owner: NodeId(3), state: Running, is_active: false };
    node.hears(3, ClusterMessage::Store(told));
    node.seen(local(9, PowerState::Off));
    node.leaves(3, Departure::Node);
    node.votes(true, &[1, 2]);
    assert!(!node.router.may_start(&domain(9).uuid.to_string(), node.now));
}

#[test]
fn a_host_starts_what_ran_there_last_though_a_c_daemon_that_had_it_is_gone() {
    let mut node = Node::beside_c(RULES, Vec::new());
    let uuid = domain(1).uuid.to_string();
    node.leaves(1, Departure::Process);
    node.votes(true, &[1, 2, 3]);
    assert!(!node.router.may_start(&uuid, node.now));
    // It has moved here, and nobody says that it left the host of the C daemon.
    node.seen(local(1, Running));
    node.seen(local(1, PowerState::Off));
    assert!(node.router.may_start(&uuid, node.now));
}

#[test]
fn a_host_that_was_back_for_a_moment_may_have_got_the_vm_meanwhile() {
    let mut node = Node::settled(RULES, vec![local(9, PowerState::Off)]);
    for left in [3, 1] {
        node.leaves(left, Departure::Node);
    }
    // It is cut off alone; then both are back, and node 3 is lost before it tells its VMs.
    node.votes(false, &[2]);
    for back in [1, 3] {
        node.joins_in_silence(back);
    }
    node.votes(true, &[1, 2, 3]);
    node.hears(1, ClusterMessage::Hello { is_complete: false });
    node.tells(1, 1, Running);
    node.hears(1, ClusterMessage::Hello { is_complete: true });
    node.hears(3, ClusterMessage::Hello { is_complete: false });
    node.leaves(3, Departure::Node);
    node.votes(true, &[1, 2]);
    for operation in [On, Off] {
        node.asks(operation, &domain(9).uuid.to_string());
        let (verdict, reason) = node.answer();
        assert!(verdict == Verdict::Failure && reason.contains("the VM may be on node 3"), "{reason}");
    }
}

#[test]
fn on_has_to_find_running_what_was_seen_running_here() {
    let mut node = Node::settled(RULES, vec![local(9, Running)]);
    let uuid = domain(9).uuid.to_string();
    assert!(node.router.is_seen_running_here(&uuid));
    // Destroyed; libvirt's news of it come later, or with those of the next start.
    node.asks(Off, "vm9");
    node.does(Off, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
    assert!(!node.router.is_seen_running_here(&uuid), "it may be started");
    node.asks(On, "vm9");
    node.does(On, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
    assert!(node.router.is_seen_running_here(&uuid));
    node.seen(local(9, PowerState::Off));
    assert!(!node.router.is_seen_running_here(&uuid));
}

#[test]
fn a_vm_that_was_on_its_way_here_at_the_start_may_have_left_before() {
    let coming = LocalVm { is_active: false, may_run_elsewhere: true, ..local(9, Running) };
    let mut node = Node::settled(RULES, vec![coming]);
    node.leaves(3, Departure::Process);
    node.seen(local(9, PowerState::Off));
    node.asks(Status, "vm9");
    node.does(Status, Verdict::Off);
    assert_eq!(node.answer().0, Verdict::Failure);
    // It was seen to run where it is.
    node.tells(1, 9, Running);
    node.tells(1, 9, PowerState::Off);
    node.asks(Status, "vm9");
    node.does(Status, Verdict::Off);
    let call = node.asked(1);
    node.replies(1, &call, 2);
    assert_eq!(node.answer().0, Verdict::Off);
}
