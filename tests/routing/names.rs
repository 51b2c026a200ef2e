//! VMs that a text can mean: by UUID, name, or name in other case; VMs that are gone, and their names.

use std::time::Duration;

use fence_virt::fence::{Domain, Operation, PowerState, Uuid, Verdict};
use fence_virt::routing::{Departure, GONE_LIMIT, LocalVm, Names, RESYNC_EVERY, Rules};
use fence_virt::wire::cluster::{
    Advertisement, ClusterCall, ClusterMessage, EVERY_NODE, NodeId, RequestNumber,
};

use crate::node::{Node, RULES, SECOND, domain, local};

use Operation::{Off, Status};
use PowerState::Running;

pub fn uuid(number: u8) -> String {
    domain(number).uuid.to_string()
}

fn named(number: u8, name: &str) -> Domain {
    Domain { name: name.to_owned(), ..domain(number) }
}

/// A node tells that it runs a VM of this name.
pub fn tells(node: &mut Node, teller: u32, vm: u8, name: &str) {
    let domain = named(vm, name);
    let told = Advertisement { domain, owner: NodeId(teller), state: Running, is_active: true };
    node.hears(teller, ClusterMessage::Store(told));
}

/// A node tells that it no longer has a VM.
fn withdraws(node: &mut Node, teller: u32, vm: u8) {
    node.loses(teller, vm);
}

/// The members answer the last query for a VM.
fn tell_all(node: &mut Node, members: &[u32]) {
    let number = node.query();
    members.iter().for_each(|&member| node.located(member, number));
}

/// Members tell all their VMs, as they do every five minutes.
fn resync(node: &mut Node, vms: &[(u32, u8, &str)]) {
    for member in [1, 3] {
        node.hears(member, ClusterMessage::Hello { is_complete: false });
        for (_, vm, name) in vms.iter().filter(|(teller, ..)| *teller == member) {
            tells(node, member, *vm, name);
        }
        node.hears(member, ClusterMessage::Hello { is_complete: true });
    }
    node.said.clear();
}

#[track_caller]
fn is_ambiguous(node: &mut Node, name: &str) {
    node.asks(Off, name);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("matches several VMs"), "{reason}");
}

/// Names and UUIDs of the copies that a text means, for the groups.
fn copies_of(node: &Node, text: &str) -> Vec<(String, String)> {
    let copies = node.router.copies_of(text, node.now).into_iter();
    copies.map(|copy| (copy.name, copy.uuid.to_string())).collect()
}

#[test]
fn a_vm_that_was_created_anew_has_the_name() {
    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    withdraws(&mut node, 1, 9);
    tells(&mut node, 1, 10, "db");
    node.said.clear();
    assert_eq!(copies_of(&node, "db"), [("db".to_owned(), uuid(10))]);
    node.asks(Off, "db");
    let call = node.asked(1);
    assert_eq!(call.name, uuid(10));
    node.replies(1, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);
    assert_eq!(node.answers_for(Off, &uuid(9)), Verdict::Failure, "the UUID still means the VM that is gone");
    // It comes back.
    tells(&mut node, 3, 9, "db");
    is_ambiguous(&mut node, "db");
}

#[test]
fn a_vm_here_that_was_created_anew_has_the_name() {
    let here = |number| LocalVm { name: "db".to_owned(), ..local(number, Running) };
    let mut node = Node::settled(RULES, vec![here(9)]);
    node.vanished(9);
    node.seen(here(10));
    node.asks(Off, "db");
    node.does(Off, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn a_namesake_that_has_just_gone_may_have_moved() {
    let mut node = Node::settled(RULES, Vec::new());
    node.answers_queries = false;
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "db");
    withdraws(&mut node, 1, 9);
    node.said.clear();
    node.asks(Off, "db");
    node.waits();
    assert_eq!(node.request_to(3), None, "nothing is done yet");
    tell_all(&mut node, &[1, 3]);
    assert_eq!(node.asked(3).name, uuid(10));

    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "db");
    withdraws(&mut node, 1, 9);
    node.answers_queries = false;
    node.asks(Off, "db");
    tells(&mut node, 1, 9, "db");
    tell_all(&mut node, &[1, 3]);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("matches several VMs"), "{reason}");
}

#[test]
fn the_name_of_a_vm_that_is_gone_ends_though_a_host_is_away() {
    let mut node = Node::settled(RULES, Vec::new());
    node.joins(4, true);
    node.leaves(4, Departure::Process);
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "db");
    withdraws(&mut node, 1, 9);
    is_ambiguous(&mut node, "db");
    node.passes(GONE_LIMIT - SECOND);
    is_ambiguous(&mut node, "db");
    node.passes(61 * SECOND);
    node.said.clear();
    node.asks(Off, "db");
    assert_eq!(node.asked(3).name, uuid(10));
    // It may run on the host that is away.
    node.tells(3, 9, PowerState::Off);
    node.asks(Off, &uuid(9));
    assert_eq!(node.answer().0, Verdict::Failure);
}

#[test]
fn a_vm_that_is_gone_ends_when_all_have_told_their_vms() {
    let is_remembered = |node: &mut Node| {
        node.asks(Off, &uuid(9));
        node.answer().1.contains("is no longer there")
    };
    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    resync(&mut node, &[(1, 1, "vm1"), (3, 3, "vm3")]);
    withdraws(&mut node, 1, 9);
    node.passes(GONE_LIMIT + RESYNC_EVERY);
    assert!(is_remembered(&mut node), "nobody has told since");
    resync(&mut node, &[(1, 1, "vm1"), (3, 3, "vm3")]);
    node.passes(RESYNC_EVERY);
    assert!(!is_remembered(&mut node));
    // All know that it is nowhere: a copy that is off elsewhere is no reason for doubt.
    node.tells(3, 9, PowerState::Off);
    node.said.clear();
    node.asks(Status, &uuid(9));
    let call = node.asked(3);
    node.replies(3, &call, 2);
    assert_eq!(node.answer().0, Verdict::Off);
}

#[test]
fn a_c_daemon_that_tells_another_vm_of_a_name_has_the_former_no_more() {
    let mut node = Node::beside_c(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 1, 10, "db");
    node.said.clear();
    node.asks(Off, "db");
    let call = node.asked(1);
    assert_eq!(call.name, "db");
    tells(&mut node, 1, 10, "db");
    node.replies(1, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);
    // The former is not asked for by the name, which is another VM's.
    node.said.clear();
    node.asks(Off, &uuid(9));
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("node 1 was not asked"), "{reason}");
    assert_eq!(node.request_to(1), None);
}

#[test]
fn a_vm_that_a_c_daemon_no_longer_tells_does_not_keep_the_name() {
    let mut node = Node::beside_c(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "db");
    node.passes(SECOND);
    node.said.clear();
    node.asks(Off, "db");
    node.waits();
    for _ in 0..2 {
        node.passes(SECOND / 10);
        node.tells(1, 1, Running);
        node.passes(2 * SECOND);
        if node.said.iter().any(|said| matches!(said, ClusterMessage::Locate { .. })) {
            tell_all(&mut node, &[3]);
        }
    }
    node.passes(SECOND);
    node.waits();
    assert_eq!(node.request_to(3).map(|call| call.name), Some(uuid(10)));

    // A C daemon that still has it: the name is that of two VMs.
    let mut node = Node::beside_c(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "db");
    node.passes(SECOND);
    node.asks(Off, "db");
    node.passes(SECOND / 10);
    tells(&mut node, 1, 9, "db");
    node.passes(3 * SECOND);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("matches several VMs"), "{reason}");
}

#[test]
fn a_vm_on_a_lost_host_has_its_name_until_it_counts_as_off() {
    let rules = Rules { host_fence_delay: Some(60 * SECOND), ..RULES };
    let mut node = Node::settled(rules, Vec::new());
    tells(&mut node, 1, 9, "db");
    node.leaves(1, Departure::Node);
    node.votes(true, &[2, 3]);
    tells(&mut node, 3, 10, "db");
    is_ambiguous(&mut node, "db");
    node.passes(60 * SECOND);
    node.said.clear();
    node.asks(Off, "db");
    assert_eq!(node.asked(3).name, uuid(10));
}

#[test]
fn a_uuid_means_its_vm_whatever_others_are_called() {
    for vms in [Vec::new(), vec![LocalVm { name: uuid(1), ..local(9, Running) }]] {
        let mut node = Node::settled(RULES, vms);
        tells(&mut node, 3, 10, &uuid(1).replace('-', ""));
        tells(&mut node, 3, 11, &uuid(1));
        node.said.clear();
        node.asks(Off, &uuid(1));
        assert_eq!(node.asked(1).name, uuid(1));
        assert_eq!(node.to_do, []);
        // Also when it is gone.
        withdraws(&mut node, 1, 1);
        node.replies(1, &ClusterCall { number: RequestNumber(0), ..call(Off, &uuid(1)) }, 1);
        node.passes(30 * SECOND);
        let _ = node.answer();
        assert_eq!(node.answers_for(Off, &uuid(1)), Verdict::Failure);
        assert_eq!(node.request_to(3), None);
    }
}

#[test]
fn what_reads_as_a_uuid_means_no_vm_that_is_called_so() {
    // The VM with the UUID may be on a host that nobody here has heard of.
    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 3, 10, &uuid(77));
    node.said.clear();
    assert_eq!(copies_of(&node, &uuid(77)), []);
    assert_eq!(node.answers_for(Off, &uuid(77)), Verdict::Failure);
    assert_eq!(node.request_to(3), None);
    let mut node = Node::settled(Rules { names: Names::Name, ..RULES }, Vec::new());
    tells(&mut node, 3, 10, &uuid(1));
    node.said.clear();
    node.asks(Off, &uuid(1));
    assert_eq!(node.asked(3).name, uuid(10), "UUIDs mean no VM");
}

#[test]
fn an_exact_name_precedes_one_that_differs_in_case() {
    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "DB");
    for (name, at, meant) in [("db", 1, 9), ("DB", 3, 10)] {
        node.said.clear();
        node.asks(Off, name);
        assert_eq!(node.asked(at).name, uuid(meant));
    }
    is_ambiguous(&mut node, "Db");
    // One that is gone keeps its rank: it may be on its way.
    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 3, 10, "DB");
    withdraws(&mut node, 1, 9);
    assert_eq!(node.answers_for(Off, "db"), Verdict::Failure);
    assert_eq!(node.request_to(3), None);
    node.asks(Off, "Db");
    node.waits();
    tell_all(&mut node, &[1, 3]);
    assert_eq!(node.request_to(3).map(|call| call.name), Some(uuid(10)));
}

#[test]
fn a_name_in_other_case_has_to_wait_for_the_members() {
    let mut node = Node::joining(RULES, Vec::new());
    node.hears(1, ClusterMessage::Hello { is_complete: false });
    tells(&mut node, 1, 9, "DB");
    node.hears(1, ClusterMessage::Hello { is_complete: true });
    node.said.clear();
    node.asks(Off, "db");
    node.waits();
    assert_eq!(node.request_to(1), None);
    node.hears(3, ClusterMessage::Hello { is_complete: false });
    tells(&mut node, 3, 10, "db");
    node.hears(3, ClusterMessage::Hello { is_complete: true });
    assert_eq!(node.request_to(3).map(|call| call.name), Some(uuid(10)));
}

#[test]
fn a_c_daemon_is_not_asked_by_what_it_could_take_for_another_vm() {
    let by = |names| Rules { names, ..RULES };
    // A C daemon that looks for names takes this UUID for a name.
    let mut node = Node::beside_c(RULES, Vec::new());
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 1, 10, "DB");
    tells(&mut node, 1, 11, &uuid(9));
    node.said.clear();
    node.asks(Off, &uuid(9));
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("node 1 was not asked"), "{reason}");
    assert_eq!(node.request_to(1), None);

    // Nor by its UUID, unless C daemons look for UUIDs: one that looks for names takes it for a VM that nobody
    // has, which is off.
    for (names, text, sent) in [
        (Names::Both, "db", None),
        (Names::Both, uuid(9).as_str(), None),
        (Names::Name, "db", None),
        (Names::Uuid, uuid(9).as_str(), Some(uuid(9))),
    ] {
        let mut node = Node::beside_c(by(names), Vec::new());
        tells(&mut node, 1, 9, "db");
        tells(&mut node, 1, 10, "DB");
        node.said.clear();
        node.asks(Off, text);
        node.passes(2 * SECOND);
        assert_eq!(node.request_to(1).map(|call| call.name), sent, "{names:?}");
    }
}

fn call(operation: Operation, name: &str) -> ClusterCall {
    let (number, target, name) = (RequestNumber(9), EVERY_NODE, name.to_owned());
    ClusterCall { number, target, name, operation, client_number: 0 }
}

#[test]
fn of_ours_the_one_with_the_vm_that_is_meant_answers_a_c_daemon() {
    let here = |name: &str| LocalVm { name: name.to_owned(), ..local(9, Running) };
    for (vms, theirs, text, is_ours) in [
        (vec![here("db")], "DB".to_owned(), "db".to_owned(), true),
        (vec![here("DB")], "db".to_owned(), "db".to_owned(), false),
        (vec![here("x")], uuid(9), uuid(9), true),
        (vec![here(&uuid(10))], "x".to_owned(), uuid(10), false),
    ] {
        let mut node = Node::beside_c(RULES, vms);
        tells(&mut node, 3, 10, &theirs);
        node.hears(1, ClusterMessage::Request(call(Off, &text)));
        node.passes(Duration::from_millis(1));
        assert_eq!(!node.to_do.is_empty(), is_ours, "{text} {theirs}");
    }
}

#[test]
fn removed_vms_are_forgotten_in_time() {
    for (age, is_answered) in [(GONE_LIMIT - SECOND, true), (GONE_LIMIT, false)] {
        let mut node = Node::beside_c(RULES, vec![LocalVm { name: "db".to_owned(), ..local(9, Running) }]);
        node.vanished(9);
        node.passes(age);
        node.said.clear();
        node.hears(1, ClusterMessage::Request(call(Off, "db")));
        let replies = node.said.iter().filter(|said| matches!(said, ClusterMessage::Reply { .. }));
        assert_eq!(replies.count() == 1, is_answered);
    }
}

#[test]
fn a_reply_for_a_name_of_several_vms_does_not_tell_which_was_destroyed() {
    let mut node = Node::beside_c(RULES, Vec::new());
    node.joins(4, true);
    node.leaves(4, Departure::Process);
    tells(&mut node, 1, 9, "db");
    tells(&mut node, 1, 10, "DB");
    let destroyed = ClusterCall { target: NodeId(3), ..call(Off, "db") };
    node.hears(1, ClusterMessage::Reply { call: destroyed, response: 0 });
    // VM 10 moves away.
    node.tells(1, 10, PowerState::Off);
    node.said.clear();
    node.asks(Status, &uuid(10));
    let call = node.asked(1);
    node.tells(1, 10, PowerState::Off);
    node.replies(1, &call, 2);
    assert_eq!(node.answer().0, Verdict::Failure);
    assert_eq!(domain(10).uuid, Uuid::from_bytes([10; 16]));
}

#[test]
fn a_name_in_other_case_means_no_vm_while_a_host_is_away() {
    let mut node = Node::settled(RULES, Vec::new());
    tells(&mut node, 1, 7, "VM9");
    node.said.clear();
    node.asks(Status, "vm9");
    let call = node.asked(1);
    node.replies(1, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);
    node.joins(4, true);
    node.leaves(4, Departure::Process);
    node.asks(Status, "vm9");
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("called exactly"), "{reason}");
}
