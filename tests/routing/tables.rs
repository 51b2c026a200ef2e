//! Tables of VMs, told in full or as a digest.

use std::time::Duration;

use fence_virt::fence::PowerState::{self, Off, Running};
use fence_virt::fence::{Operation, UriIndex, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, Departure};
use fence_virt::wire::cluster::{ClusterMessage, HostNotice, HostStanding, NodeId, TableDigest};
use sha2::{Digest as _, Sha256};

use crate::node::{Node, RULES, SECOND, domain, local};

const SETTLED: Duration = Duration::from_millis(200);

/// Digest of VMs, as docs/WIRE.md has it.
fn digest(vms: &[(u8, PowerState)]) -> ClusterMessage {
    let mut hash = Sha256::new();
    for &(vm, state) in vms {
        let state = if state == Running { 1 } else { 5 };
        hash.update([&[vm; 16][..], domain(vm).name.as_bytes(), &[0, state]].concat());
    }
    ClusterMessage::Table(TableDigest { vms: vms.len() as u32, sha256: hash.finalize().into() })
}

fn hello(is_complete: bool) -> ClusterMessage {
    ClusterMessage::Hello { is_complete }
}

fn tell_all(node: u32) -> ClusterMessage {
    ClusterMessage::TellAll { node: NodeId(node) }
}

/// Node 2 in its group, after node 3, which ran vm3, was cut off and is back.
fn met_again() -> Node {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.leaves(3, Departure::Node);
    node.votes(true, &[1, 2]);
    let (joined, mut members) = (vec![crate::node::peer(3)], node.members.clone());
    members.extend(&joined);
    node.members = members.clone();
    node.changed(fence_virt::routing::Membership { members, left: Vec::new(), joined });
    node.votes(true, &[1, 2, 3]);
    node
}

/// Node 2 in its group, which has just told its VMs, vm2 and vm4.
fn told_before() -> Node {
    Node::settled(RULES, vec![local(2, Running), local(4, Off)])
}

impl Node {
    /// Takes what was said since the last look, but notices about other hosts.
    fn take_said(&mut self) -> Vec<ClusterMessage> {
        self.said.drain(..).filter(|said| !matches!(said, ClusterMessage::Host(_))).collect()
    }

    fn stores(&self) -> usize {
        self.said.iter().filter(|said| matches!(said, ClusterMessage::Store(_))).count()
    }
}

#[test]
fn a_member_that_knows_the_table_is_told_its_digest_alone() {
    let mut node = met_again();
    assert_eq!(node.take_said(), [hello(false), digest(&[(2, Running)])]);
    node.asks(Operation::Off, "vm3");
    node.waits();
    node.hears(3, hello(false));
    node.hears(3, digest(&[(3, Running)]));
    assert_eq!(node.asked(3).operation, Operation::Off, "it counts as told");
    assert!(!node.said.contains(&tell_all(3)));
}

#[test]
fn who_joins_is_told_which_members_have_vms() {
    let notice = HostNotice::has_vms(NodeId(1));
    let told = |greets: bool| {
        let mut node = met_again();
        node.hears(3, hello(false));
        if greets {
            node.hears(1, hello(false));
        }
        node.passes(SECOND);
        node.said.contains(&ClusterMessage::Host(notice))
    };
    assert!(told(false), "node 1, which has a lower number, hangs");
    assert!(!told(true));
    let mut joining = Node::joining(RULES, Vec::new());
    for is_complete in [false, true] {
        joining.hears(3, hello(is_complete));
    }
    joining.hears(3, ClusterMessage::Host(notice));
    joining.passes(ANSWER_LIMIT);
    joining.asks(Operation::Status, "vm1");
    (0..10).for_each(|_| joining.passes(SECOND));
    let (verdict, reason) = joining.answer();
    let words = "node 1 has not told its VMs";
    assert!(verdict == Verdict::Failure && reason.contains(words), "{reason}");
}

#[test]
fn who_joins_is_told_at_once_which_other_members_have_vms() {
    // The teller may hang in the next second, beside one that hangs already.
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.leaves(1, Departure::Process);
    node.joins(4, true);
    node.said.clear();
    node.joins_in_silence(1);
    let with_vms = node.said.iter().filter_map(|said| match said {
        ClusterMessage::Host(HostNotice { node, standing: HostStanding::HasVms, .. }) => Some(*node),
        _ => None,
    });
    assert_eq!(with_vms.collect::<Vec<_>>(), [NodeId(3)], "{:?}", node.said);
}

#[test]
fn who_joins_and_has_the_lowest_id_is_told_too() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.leaves(1, Departure::Process);
    node.passes(SECOND);
    node.said.clear();
    // Node 3 hangs. Node 1 is back, has told all, and knows nothing of node 3.
    node.joins(1, true);
    node.passes(SECOND);
    let notice = HostNotice::has_vms(NodeId(3));
    assert!(node.said.contains(&ClusterMessage::Host(notice)), "{:?}", node.said);
}

#[test]
fn a_change_is_told_before_what_has_not_changed() {
    let mut node = told_before();
    node.hears(1, tell_all(2));
    node.now += SETTLED;
    node.router.turn(node.now);
    node.seen(local(9, Running));
    let stored = node.said.iter().find_map(|said| match said {
        ClusterMessage::Store(vm) => Some(vm.domain.clone()),
        _ => None,
    });
    assert_eq!(stored, Some(domain(9)));
}

#[test]
fn a_member_with_another_table_is_asked_for_it_once() {
    for told in [vec![], vec![(3, Off)], vec![(3, Running), (4, Running)]] {
        let mut node = met_again();
        node.said.clear();
        node.hears(3, hello(false));
        node.hears(3, digest(&told));
        node.hears(3, digest(&told));
        assert_eq!(node.take_said(), [tell_all(3)], "{told:?}");
        node.asks(Operation::Off, "vm3");
        node.waits();
        assert!(node.request_to(3).is_none(), "{told:?}: it may be gone from there");
        node.hears(3, hello(false));
        told.iter().for_each(|&(vm, state)| node.tells(3, vm, state));
        node.hears(3, hello(true));
        node.hears(3, digest(&told));
        assert!(!node.said.contains(&tell_all(3)), "{told:?}: it is known now");
    }
}

#[test]
fn an_end_without_a_beginning_completes_nothing() {
    let mut node = met_again();
    node.hears(3, hello(false));
    node.hears(3, digest(&[]));
    node.hears(3, hello(true));
    node.said.clear();
    node.asks(Operation::Off, "vm3");
    node.waits();
    assert!(node.request_to(3).is_none(), "its VMs are not known");
}

#[test]
fn a_table_that_another_member_has_asked_for_is_not_asked_for_again() {
    let mut node = met_again();
    node.said.clear();
    node.hears(1, tell_all(3));
    node.hears(3, hello(false));
    node.hears(3, digest(&[]));
    assert_eq!(node.take_said(), []);
    // Its answer is overdue.
    node.passes(5 * SECOND);
    node.hears(3, digest(&[]));
    assert!(!node.said.contains(&tell_all(3)), "one digest for each hello");
    node.hears(3, hello(false));
    node.hears(3, digest(&[]));
    assert!(node.take_said().contains(&tell_all(3)));
}

#[test]
fn one_answer_serves_all_who_ask_and_who_join_meanwhile() {
    let mut node = told_before();
    node.hears(1, tell_all(2));
    node.passes(SETTLED / 2);
    node.hears(3, tell_all(2));
    node.hears(3, tell_all(1));
    assert_eq!(node.take_said(), []);
    node.joins(5, true);
    node.passes(SETTLED - SETTLED / 4);
    assert_eq!(node.take_said(), [hello(false)], "nothing is worth a digest that is told soon");
    node.passes(SETTLED / 4);
    assert_eq!((node.stores(), node.said.len()), (2, 4));
    assert_eq!((node.said.front(), node.said.back()), (Some(&hello(false)), Some(&hello(true))));
    node.said.clear();
    node.passes(SECOND);
    assert_eq!(node.take_said(), []);
}

#[test]
fn who_joins_while_all_is_told_is_not_told_that_it_was_all() {
    let mut node = told_before();
    node.hears(1, tell_all(2));
    node.now += SETTLED;
    node.router.turn(node.now);
    let first: Vec<_> =
        (0..2).filter_map(|_| node.router.next_message(node.now)).map(|message| message.bytes).collect();
    assert_eq!(ClusterMessage::decode(&first[0]), Ok(hello(false)));
    node.joins(5, true);
    let said = node.take_said();
    assert_eq!(said[0], hello(false));
    assert_eq!(said.iter().filter(|said| **said == hello(true)).count(), 0, "{said:?}");
    assert!(said.contains(&digest(&[(2, Running), (4, Off)])), "{said:?}");
    node.passes(SETTLED);
    assert_eq!(node.stores(), 2, "the new member has heard the question, and does not ask");
    assert_eq!(node.said.back(), Some(&hello(true)));
}

#[test]
fn a_query_from_before_a_join_is_not_for_who_joins() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.hears(1, tell_all(5));
    node.hears(1, tell_all(3));
    node.leaves(3, Departure::Node);
    for member in [3, 5] {
        node.joins(member, true);
        node.said.clear();
        node.hears(member, hello(false));
        node.hears(member, digest(&[(member as u8, Running)]));
        assert_eq!(node.take_said(), [tell_all(member)]);
    }
}

#[test]
fn a_c_daemon_that_joins_is_told_all() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.joins(5, false);
    assert_eq!(node.stores(), 0, "it may say hello");
    node.passes(SETTLED / 2);
    assert_eq!(node.stores(), 1);
    node.said.clear();
    node.leaves(3, Departure::Process);
    assert_eq!(node.stores(), 1, "as it expects");
    node.said.clear();
    node.joins(6, false);
    assert_eq!(node.stores(), 1, "at once, since there is a C daemon");
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.joins(5, false);
    node.tells(5, 5, Running);
    node.passes(Duration::ZERO);
    assert_eq!(node.stores(), 1, "none of this suite tells VMs before it says hello");
}

#[test]
fn a_digest_waits_for_libvirt() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.router.unlisted(UriIndex(0));
    node.joins(5, true);
    assert_eq!(node.take_said(), [hello(false)]);
    node.router.listed(UriIndex(0), vec![local(2, Off)], node.now);
    node.settle();
    assert_eq!(node.stores(), 1);
    assert_eq!(node.said.back(), Some(&digest(&[(2, Off)])));
}

#[test]
fn a_single_query_is_answered_at_once() {
    let mut node = told_before();
    node.passes(SECOND);
    node.said.clear();
    node.hears(1, tell_all(2));
    node.passes(Duration::ZERO);
    assert_eq!((node.stores(), node.said.back()), (2, Some(&hello(true))));
    // The next one may be of a crowd.
    node.said.clear();
    node.hears(1, tell_all(2));
    node.passes(Duration::ZERO);
    assert_eq!(node.stores(), 0);
    node.passes(SETTLED);
    assert_eq!(node.stores(), 2);
}
