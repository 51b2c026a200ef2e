//! Hosts that leave the cluster, for good or for a while.

use std::time::Duration;

use fence_virt::fence::{Operation, Verdict};
use fence_virt::routing::{Departure, Rules};

use crate::node::{Node, RULES, SECOND, peer};

use Operation::Off;

const DELAY: Duration = Duration::from_secs(60);
const DELAYED: Rules = Rules { host_fence_delay: Some(DELAY), ..RULES };

#[test]
fn a_host_whose_daemon_ended_before_it_was_lost_counts_as_lost() {
    let mut node = Node::settled(DELAYED, Vec::new());
    node.leaves(1, Departure::Process);
    node.passes(10 * SECOND);
    node.votes(true, &[2, 3]);
    node.passes(3600 * SECOND);
    assert_eq!(node.outcome(Off, "vm1", &[peer(3)]), Verdict::Success);
}

#[test]
fn a_host_that_came_back_without_its_daemon_and_was_lost_again_counts_as_lost() {
    let mut node = Node::settled(DELAYED, Vec::new());
    node.leaves(1, Departure::Node);
    node.votes(true, &[2, 3]);
    node.passes(30 * SECOND);
    node.votes(true, &[1, 2, 3]);
    node.passes(30 * SECOND);
    node.votes(true, &[2, 3]);
    node.passes(3600 * SECOND);
    assert_eq!(node.outcome(Off, "vm1", &[peer(3)]), Verdict::Success);
}

#[test]
fn a_request_waits_while_the_quorum_service_has_not_reported_a_loss() {
    let rules = Rules { host_fence_delay: Some(10 * SECOND), ..RULES };
    let mut node = Node::settled(rules, Vec::new());
    node.leaves(1, Departure::Node);
    node.asks(Off, "vm1");
    node.waits();
    node.passes(SECOND);
    node.votes(true, &[2, 3]);
    assert_eq!(node.outcome_of_asked(&[peer(3)]), Verdict::Success);
}

#[test]
fn a_request_waits_for_the_end_of_host_fence_delay() {
    let mut node = Node::settled(DELAYED, Vec::new());
    node.leaves(1, Departure::Node);
    node.votes(true, &[2, 3]);
    node.passes(DELAY - 10 * SECOND);
    node.asks(Off, "vm1");
    node.waits();
    assert_eq!(node.outcome_of_asked(&[peer(3)]), Verdict::Success);
}

#[test]
fn a_vm_that_its_host_no_longer_has_after_it_was_lost_is_off_once_all_have_advertised() {
    let mut node = Node::settled(DELAYED, Vec::new());
    node.leaves(1, Departure::Node);
    node.votes(true, &[2, 3]);
    node.passes(2 * DELAY);
    assert_eq!(node.outcome(Off, "vm1", &[peer(3)]), Verdict::Success, "the delay is over");
    // The host is back, and vm1, which was transient, is not.
    node.votes(true, &[1, 2, 3]);
    node.joins(1, true);
    node.passes(10 * SECOND);
    assert_eq!(node.outcome(Off, "vm1", &[peer(1), peer(3)]), Verdict::Success);
}
