//! Hosts that their own cluster has fenced: whose word counts for that, and for how long.

use fence_virt::fence::{Operation, PowerState, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, Departure, Membership, RequestExpiry, Rules, TELL_LIMIT};
use fence_virt::wire::cluster::{ClusterMessage, NO_REQUEST, NodeId};

use super::names;
use super::node::{Node, RULES, SECOND, peer};

use Operation::{Off, On, Reboot, Status};

fn fenced(node: u32) -> ClusterMessage {
    ClusterMessage::HostFenced { node: NodeId(node) }
}

impl Node {
    /// The fencer of this host has fenced a host.
    fn fences(&mut self, node: u32) {
        self.router.host_fenced(NodeId(node), self.now);
        self.settle();
    }

    /// The cluster loses node 1.
    fn loses_1(&mut self) {
        self.leaves(1, Departure::Node);
        self.votes(true, &[2, 3]);
    }

    /// Takes the next message, which must be the notice of node 1, with its expiry.
    fn notice(&mut self) -> RequestExpiry {
        let message = self.router.next_message(self.now).expect("the group is told");
        assert_eq!(ClusterMessage::decode(&message.bytes), Ok(fenced(1)));
        message.expiry.expect("it expires")
    }

    /// Answer to a request, whenever it comes.
    #[track_caller]
    fn answers_in_time(&mut self, operation: Operation, name: &str) -> Verdict {
        self.asks(operation, name);
        for _ in 0..ANSWER_LIMIT.as_secs() {
            self.passes(SECOND);
        }
        self.answer().0
    }

    fn has_told(&self, node: u32) -> bool {
        self.said.contains(&fenced(node))
    }
}

#[test]
fn a_lost_host_is_off_once_it_was_fenced() {
    let slow = Rules { host_fence_delay: Some(60 * SECOND), ..RULES };
    for rules in [RULES, slow] {
        let mut node = Node::settled(rules, Vec::new());
        node.loses_1();
        assert_eq!(node.answers_in_time(Off, "vm1"), Verdict::Failure);
        node.fences(1);
        assert!(node.has_told(1), "the group is told");
        assert_eq!(node.answers_for(Status, "vm1"), Verdict::Off);
        assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success);
        assert_eq!(node.answers_for(Reboot, "vm1"), Verdict::Success);
        assert_eq!(node.answers_for(On, "vm1"), Verdict::Failure, "nobody could start it");
        node.votes(false, &[2]);
        assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure, "without quorum");
        node.votes(true, &[2, 3]);
        let verdict = node.answers_in_time(Off, "vm1");
        assert_eq!(verdict, Verdict::Failure, "it may have been back in another part of the cluster");
        node.hears(3, fenced(1));
        assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success, "node 3 had quorum all the time");
    }
}

#[test]
fn a_request_waits_for_the_fence_while_the_fencer_is_asked() {
    let mut node = Node::settled(RULES, Vec::new());
    node.router.set_awaits_fencing(true, node.now);
    node.loses_1();
    for operation in [Off, Status] {
        node.asks(operation, "vm1");
        node.passes(ANSWER_LIMIT - SECOND);
        node.waits();
        node.passes(SECOND);
        assert_eq!(node.answer().0, Verdict::Failure, "28 s later");
    }
    node.asks(Off, "vm1");
    node.asks(Status, "vm1");
    node.passes(20 * SECOND);
    node.waits();
    node.fences(1);
    assert_eq!([node.answer().0, node.answer().0], [Verdict::Success, Verdict::Off]);
    // The fencer does not answer any more.
    node.votes(true, &[1, 2, 3]);
    node.votes(true, &[2, 3]);
    node.asks(Off, "vm1");
    node.waits();
    node.router.set_awaits_fencing(false, node.now);
    node.settle();
    assert_eq!(node.answer().0, Verdict::Failure);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure, "at once");
}

#[test]
fn a_host_that_is_back_has_to_be_fenced_again() {
    // Its corosync is back, or its daemon; the quorum service reports later than the group.
    for is_daemon in [false, true] {
        let mut node = Node::settled(RULES, Vec::new());
        node.loses_1();
        node.fences(1);
        assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success);
        if is_daemon {
            node.joins(1, true);
            node.tells(1, 1, PowerState::Running);
            node.leaves(1, Departure::Node);
        } else {
            node.votes(true, &[1, 2, 3]);
        }
        assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure);
        node.votes(true, &[2, 3]);
        assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure, "the fence was before that");
    }
}

#[test]
fn a_member_of_this_suite_is_believed() {
    let mut node = Node::settled(RULES, Vec::new());
    node.leaves(1, Departure::Node);
    // The group has an order; the quorum service may report later.
    node.hears(3, fenced(1));
    node.asks(Off, "vm1");
    // The quorum service has not said so yet.
    node.waits();
    node.votes(true, &[2, 3]);
    assert_eq!(node.answer().0, Verdict::Success);
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Success);
    assert!(!node.has_told(1), "who was told does not tell again");
    node.fences(1);
    assert!(!node.has_told(1), "the group knows");
}

#[test]
fn a_c_daemon_is_not_believed() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.leaves(3, Departure::Node);
    node.votes(true, &[1, 2]);
    node.hears(1, fenced(3));
    assert_eq!(node.answers_in_time(Off, "vm3"), Verdict::Failure);
    node.fences(3);
    assert_eq!(node.answers_in_time(Off, "vm3"), Verdict::Success);
}

#[test]
fn nothing_is_noted_of_a_host_that_is_up() {
    let mut node = Node::settled(RULES, Vec::new());
    for up in [1, 2, 9] {
        node.fences(up);
        assert!(!node.has_told(up), "node {up}");
        node.hears(3, fenced(up));
    }
    node.loses_1();
    assert_eq!(node.answers_for(Off, "vm1"), Verdict::Failure, "it was up after that");
    // The daemon has ended, the host runs.
    node.leaves(3, Departure::Process);
    node.fences(3);
    assert_eq!(node.answers_for(Off, "vm3"), Verdict::Failure);
}

#[test]
fn a_fence_counts_though_the_node_was_seen_to_go_before_its_daemon() {
    let mut node = Node::settled(RULES, Vec::new());
    // This daemon reads what the quorum service told before what the group told.
    node.votes(true, &[2, 3]);
    node.leaves(1, Departure::Process);
    assert_eq!(
        node.answers_in_time(Off, "vm1"),
        Verdict::Failure,
        "its corosync may have been stopped in order"
    );
    node.fences(1);
    assert_eq!(node.answers_in_time(Off, "vm1"), Verdict::Success);
}

#[test]
fn a_node_that_rejoins_the_group_knows_of_no_fence() {
    let mut node = Node::settled(RULES, Vec::new());
    node.loses_1();
    node.fences(1);
    node.router.lost("corosync has ended");
    node.router.joined(peer(2), node.now);
    let members = node.members.clone();
    node.changed(Membership { joined: members.clone(), left: Vec::new(), members });
    node.votes(true, &[2, 3]);
    node.passes(TELL_LIMIT);
    node.said.clear();
    assert_eq!(node.answers_in_time(Off, "vm1"), Verdict::Failure);
    node.fences(1);
    assert!(node.has_told(1), "it is news");
    assert_eq!(node.answers_in_time(Off, "vm1"), Verdict::Success, "and was made since");
}

#[test]
fn a_notice_that_corosync_does_not_take_is_made_anew_while_it_holds() {
    let mut node = Node::settled(RULES, Vec::new());
    node.loses_1();
    node.router.host_fenced(NodeId(1), node.now);
    let expiry = node.notice();
    assert_eq!((expiry.node, expiry.number), (NodeId(1), NO_REQUEST));
    node.now = expiry.at;
    node.router.unsent(expiry, node.now);
    let again = node.notice();
    assert!(again.at > node.now);
    node.router.votes(true, &[NodeId(1), NodeId(2), NodeId(3)], node.now);
    node.router.unsent(again, again.at);
    node.settle();
    assert!(!node.has_told(1), "the host is back");
}

/// Two VMs have had the name: one is off with its host, the other is gone from where it was.
#[test]
fn what_is_off_with_its_host_is_no_other_meaning_of_a_name() {
    let outcome = |has_been_fenced: bool, are_both_gone: bool| {
        let mut node = Node::settled(RULES, Vec::new());
        names::tells(&mut node, 1, 9, "db");
        names::tells(&mut node, 3, 10, "db");
        node.loses(3, 10);
        if are_both_gone {
            node.loses(1, 9);
        }
        node.loses_1();
        if has_been_fenced {
            node.fences(1);
        }
        let verdict = node.answers_in_time(Off, "db");
        (verdict, node.answers_in_time(On, "db"))
    };
    for are_both_gone in [false, true] {
        assert_eq!(outcome(true, are_both_gone), (Verdict::Success, Verdict::Failure));
        assert_eq!(outcome(false, are_both_gone), (Verdict::Failure, Verdict::Failure), "one may run there");
    }
}
