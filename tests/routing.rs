//! The rules of a cluster, one by one, at one router: its messages to the group, its actions, and its
//! answers. tests/cluster.rs runs several routers at random.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "routing/beside_c.rs"]
mod beside_c;
#[path = "routing/host_fencing.rs"]
mod host_fencing;
#[path = "routing/lost_hosts.rs"]
mod lost_hosts;
#[path = "routing/migrations.rs"]
mod migrations;
#[path = "routing/names.rs"]
mod names;
#[path = "routing/namesakes.rs"]
mod namesakes;
#[path = "routing/node.rs"]
mod node;
#[path = "routing/permissions.rs"]
mod permissions;
#[path = "routing/race_hosts.rs"]
mod race_hosts;
#[path = "routing/races.rs"]
mod races;
#[path = "routing/stale_placements.rs"]
mod stale_placements;
#[path = "routing/starting.rs"]
mod starting;
#[path = "routing/tables.rs"]
mod tables;
#[path = "routing/unexplained.rs"]
mod unexplained;

use std::time::Duration;

use fence_virt::fence::{Domain, HostEntry, Operation, PowerState, Request, Target, UriIndex, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ANSWER_LIMIT, ClientId, ClientRequest, ClusterList, Departure, LocalVm, Names, PROBE_LIMIT, Rules,
    SEND_LIMIT, SERVE_LIMIT, TELL_LIMIT, Unknown,
};
use fence_virt::wire::cluster::{Advertisement, ClusterCall, ClusterMessage, NodeId, Report, RequestNumber};

use node::{Node, RULES, SECOND, domain, local, peer};

use Operation::{Off, On, Reboot, Status};
use PowerState::Running;

#[test]
fn a_request_goes_to_the_owner_and_no_other_reply_counts() {
    let mut node = Node::settled(RULES, Vec::new());
    node.asks(Off, "vm1");
    let call = node.asked(1);
    assert_eq!((call.operation, call.client_number), (Off, 7));
    node.replies(3, &call, 0);
    node.replies(1, &ClusterCall { number: RequestNumber(call.number.0 + 1), ..call.clone() }, 0);
    node.replies(1, &ClusterCall { operation: Status, ..call.clone() }, 0);
    node.replies(1, &ClusterCall { name: "vm3".to_owned(), ..call.clone() }, 0);
    node.waits();
    node.replies(1, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);
    node.replies(1, &call, 0);
    node.waits();
}

#[test]
fn an_owner_that_does_not_answer_is_a_failure_at_the_deadline() {
    let mut node = Node::settled(RULES, Vec::new());
    node.asks(Status, "vm1");
    node.passes(ANSWER_LIMIT - SECOND);
    node.waits();
    node.passes(SECOND);
    let (verdict, reason) = node.answer();
    assert_eq!((verdict, reason.as_str()), (Verdict::Failure, "no answer within 28 s from node 1"));
}

#[test]
fn a_vm_that_nobody_knows_counts_as_unknown_vm_states() {
    for (unknown, off, status) in
        [(Unknown::Fail, Verdict::Failure, Verdict::Failure), (Unknown::Off, Verdict::Success, Verdict::Off)]
    {
        let mut node = Node::settled(Rules { unknown, ..RULES }, Vec::new());
        assert_eq!(node.answers_for(Off, "nosuch"), off);
        assert_eq!(node.answers_for(Reboot, "nosuch"), off);
        assert_eq!(node.answers_for(Status, "nosuch"), status);
        assert_eq!(node.answers_for(On, "nosuch"), Verdict::Failure);
    }
}

#[test]
fn no_vm_is_unknown_until_all_members_have_advertised_theirs() {
    let mut node = Node::joining(RULES, Vec::new());
    node.asks(Status, "vm1");
    node.waits();
    // This ends a round of advertisements that began before this node had joined.
    node.hears(1, ClusterMessage::Hello { is_complete: true });
    node.hears(3, ClusterMessage::Hello { is_complete: false });
    node.hears(3, ClusterMessage::Hello { is_complete: true });
    node.waits();
    node.hears(1, ClusterMessage::Hello { is_complete: false });
    node.said.clear();
    node.tells(1, 1, Running);
    node.waits();
    node.hears(1, ClusterMessage::Hello { is_complete: true });
    let call = node.asked(1);
    node.replies(1, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success);

    let mut node = Node::joining(RULES, Vec::new());
    node.asks(Status, "vm1");
    node.passes(TELL_LIMIT - SECOND);
    node.waits();
    // Then they may be C daemons without a VM, which are asked once more.
    node.passes(SECOND);
    node.passes(PROBE_LIMIT);
    assert_eq!(node.answer().0, Verdict::Failure, "a member that says nothing is not waited for any longer");
}

#[test]
fn every_copy_has_to_be_off() {
    let mut node = Node::settled(RULES, vec![local(1, Running)]);
    node.asks(Off, "vm1");
    let call = node.asked(1);
    node.does(Off, Verdict::Success);
    node.waits();
    node.replies(1, &call, 1);
    assert_eq!(node.answer().0, Verdict::Failure);
    node.asks(Status, "vm1");
    let call = node.asked(1);
    node.does(Status, Verdict::Off);
    node.replies(1, &call, 0);
    assert_eq!(node.answer().0, Verdict::Success, "one runs");
}

#[test]
fn a_vm_that_is_off_on_several_hosts_is_started_on_none() {
    let mut node = Node::settled(RULES, vec![local(1, PowerState::Off)]);
    node.tells(1, 1, PowerState::Off);
    node.asks(On, "vm1");
    let call = node.asked(1);
    assert_eq!(call.operation, Status, "first it is asked whether one runs");
    node.does(Status, Verdict::Off);
    node.replies(1, &call, 2);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("node 1, node 2"), "{reason}");
}

#[test]
fn ambiguous_names_are_refused() {
    let namesake = LocalVm { name: "VM1".to_owned(), ..local(9, Running) };
    let mut node = Node::settled(RULES, vec![namesake]);
    node.asks(Off, "Vm1");
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("several VMs"), "{reason}");
    let [theirs, own] = [1, 9].map(|vm| domain(vm).uuid);
    for place in [format!("{theirs} on node 1"), format!("{own} on node 2, URI 1")] {
        assert!(reason.contains(&place), "{place}: {reason}");
    }
    node.asks(Off, &domain(1).uuid.to_string());
    node.asked(1);
}

#[test]
fn name_mode_selects_the_identifiers_of_vms() {
    let uuid = domain(1).uuid.to_string();
    for (names, by_name, by_uuid) in
        [(Names::Name, true, false), (Names::Uuid, false, true), (Names::Both, true, true)]
    {
        let mut node = Node::settled(Rules { names, ..RULES }, Vec::new());
        assert_eq!((node.router.knows("vm1"), node.router.knows(&uuid)), (by_name, by_uuid));
        assert_eq!(node.answers_for(Off, if by_name { "nosuch" } else { "vm1" }), Verdict::Failure);
    }
}

#[test]
fn old_requests_are_neither_sent_nor_carried_out() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.asks_late(Off, "vm1", SEND_LIMIT);
    let (verdict, reason) = node.answer();
    assert!(verdict == Verdict::Failure && reason.contains("was not asked"), "{reason}");

    // Corosync did not accept it in time: it is returned as unsent.
    let request = Request { operation: Off, target: Target::new(b"vm1").unwrap(), seqno: 7 };
    let (client, permitted, received) = (ClientId(77), PermittedNames::All, node.now);
    node.router.ask(ClientRequest { client, request, permitted, received }, node.now);
    let message = node.router.next_message(node.now).unwrap();
    let expiry = message.expiry.unwrap();
    assert_eq!(expiry.at, node.now + SEND_LIMIT);
    node.router.unsent(expiry, node.now + SEND_LIMIT);
    node.settle();
    assert_eq!(node.answer().0, Verdict::Failure);

    let call = ClusterCall {
        number: RequestNumber(5),
        target: NodeId(2),
        name: "vm2".to_owned(),
        operation: Off,
        client_number: 0,
    };
    let (is_old, late) = (true, node.now + SERVE_LIMIT);
    node.router.heard(peer(1), &ClusterMessage::Request(call.clone()).encode(), node.now, is_old, node.now);
    node.router.heard(peer(3), &ClusterMessage::Request(call).encode(), node.now, false, late);
    node.settle();
    assert_eq!(node.to_do, [], "nothing is done");
    let refused =
        |message: &&ClusterMessage| matches!(message, ClusterMessage::Report(Report { response: 1, .. }));
    assert_eq!(node.said.iter().filter(refused).count(), 2, "and both are told so");
}

#[test]
fn a_vm_that_vanished_where_it_ran_may_have_moved() {
    let mut node = Node::settled(RULES, vec![local(1, PowerState::Off)]);
    node.answers_queries = false;
    node.loses(1, 1);
    node.asks(Status, "vm1");
    node.does(Status, Verdict::Off);
    node.waits();
    let number = node.query();
    node.located(1, number);
    node.located(3, RequestNumber(number.0 - 1));
    node.waits();
    node.located(3, number);
    assert_eq!(node.answer().0, Verdict::Off, "nobody has it");
}

#[test]
fn the_list_contains_the_vms_of_all_hosts_once() {
    let mut node = Node::settled(RULES, vec![local(1, PowerState::Off), local(2, Running)]);
    node.leaves(3, Departure::Process);
    let ClusterList::Complete(vms) = node.router.list(node.now) else { panic!("it is not known") };
    let copies = |vm: Vec<HostEntry>| vm.into_iter().map(|copy| (copy.name, copy.state)).collect::<Vec<_>>();
    let vms: Vec<_> = vms.into_iter().map(copies).collect();
    let vm1 = || "vm1".to_owned();
    let expected = [vec![(vm1(), PowerState::Off), (vm1(), Running)], vec![("vm2".to_owned(), Running)]];
    assert_eq!(vms, expected, "the copies here come first");
    node.router.lost("corosync has ended");
    assert!(
        matches!(node.router.list(node.now), ClusterList::NotJoined(reason) if reason == "corosync has ended")
    );
    assert_eq!(node.answers_for(Status, "vm2"), Verdict::Failure);
}

#[test]
fn a_stopping_daemon_answers_what_it_has_done_and_refuses_the_rest() {
    let call = |number| {
        let (target, name, operation) = (NodeId(2), "vm2".to_owned(), Off);
        ClusterCall { number, target, name, operation, client_number: 0 }
    };
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.asks(Status, "vm1");
    node.hears(1, ClusterMessage::Request(call(RequestNumber(1))));
    node.said.clear();
    node.router.stop();
    node.settle();
    assert_eq!(node.answer().0, Verdict::Failure, "a client here");
    node.hears(3, ClusterMessage::Request(call(RequestNumber(2))));
    node.does(Off, Verdict::Success);
    let replies = node.said.iter().filter_map(|message| match message {
        ClusterMessage::Report(Report { call, response, .. }) => Some((call.number, *response)),
        _ => None,
    });
    assert_eq!(replies.collect::<Vec<_>>(), [(RequestNumber(2), 1), (RequestNumber(1), 0)]);
    assert_eq!(node.to_do, []);
}

#[test]
fn advertisements_for_others_and_by_strangers_are_ignored() {
    let mut node = Node::settled(RULES, Vec::new());
    let told = |owner| {
        ClusterMessage::Store(Advertisement {
            domain: domain(9),
            owner: NodeId(owner),
            state: Running,
            is_active: true,
        })
    };
    node.hears(3, told(1));
    node.hears(5, told(5));
    assert!(!node.router.knows("vm9"));
    node.hears(3, told(3));
    assert!(node.router.knows("vm9"));
}

#[test]
fn a_reboot_asks_the_remaining_copy_when_the_other_is_gone() {
    let rules = Rules { host_fence_delay: Some(Duration::ZERO), ..RULES };
    let mut node = Node::settled(rules, vec![local(1, Running)]);
    node.hears(3, ClusterMessage::Locate { number: RequestNumber(7), name: "vm1".to_owned() });
    node.said.clear();
    node.asks(Reboot, "vm1");
    assert_eq!(node.asked(1).operation, Off);
    // The lost host counts as off at once.
    node.votes(true, &[2, 3]);
    node.leaves(1, Departure::Node);
    node.waits();
    node.does(Reboot, Verdict::Success);
    assert_eq!(node.answer().0, Verdict::Success);
}

#[test]
fn a_vm_is_not_started_while_another_host_is_seen_to_run_it() {
    let mut node = Node::settled(RULES, vec![local(9, PowerState::Off)]);
    let uuid = domain(9).uuid.to_string();
    assert!(node.router.may_start(&uuid, node.now));
    node.tells(3, 9, Running);
    assert!(!node.router.may_start(&uuid, node.now), "it came there after the job was made");
}

#[test]
fn a_vm_that_moved_is_followed_in_every_name_mode() {
    for names in [Names::Both, Names::Name, Names::Uuid] {
        let node = Node::settled(Rules { names, ..RULES }, vec![local(1, Running)]);
        assert!(!node.router.is_sole_known_owner(&domain(1).uuid.to_string()), "{names:?}");
    }
}

#[test]
fn every_query_for_a_vm_is_answered_with_what_libvirt_has_now() {
    let mut node = Node::settled(RULES, vec![local(4, Running)]);
    // It has started, and another one has gone, and no event has said so.
    node.vms = vec![local(5, Running)];
    for (number, vm, expected) in [(7, 5, &[true][..]), (8, 4, &[false]), (9, 6, &[])] {
        let (number, name) = (RequestNumber(number), domain(vm).uuid.to_string());
        node.said.clear();
        node.hears(1, ClusterMessage::Locate { number, name });
        let is_told = |said: &ClusterMessage| match said {
            ClusterMessage::Store(told) if told.domain == domain(vm) => Some(true),
            ClusterMessage::Gone { vm: told, .. } if told.domain == domain(vm) => Some(false),
            _ => None,
        };
        let told: Vec<bool> = node.said.iter().filter_map(is_told).collect();
        assert_eq!(told, expected);
        assert_eq!(node.said.back(), Some(&ClusterMessage::Located { to: NodeId(1), number }));
    }
}

#[test]
fn a_node_without_its_libvirt_does_not_claim_to_have_advertised_all() {
    let mut node = Node::settled(RULES, vec![local(2, Running)]);
    node.router.unlisted(UriIndex(0));
    node.joins(4, true);
    let is_all = |message: &ClusterMessage| {
        matches!(message, ClusterMessage::Hello { is_complete: true } | ClusterMessage::Table(_))
    };
    assert!(!node.said.iter().any(is_all));
    node.router.listed(UriIndex(0), vec![local(2, Running), local(4, Running)], node.now);
    node.settle();
    let told = node
        .said
        .iter()
        .position(|message| matches!(message, ClusterMessage::Store(told) if told.domain == domain(4)));
    let all = node.said.iter().position(is_all);
    assert!(told.is_some() && told < all, "{:?}", node.said);
}

#[test]
fn an_answer_that_takes_three_seconds_still_counts() {
    let mut node = Node::settled(RULES, vec![local(1, PowerState::Off)]);
    node.answers_queries = false;
    node.loses(1, 1);
    node.asks(Status, "vm1");
    node.does(Status, Verdict::Off);
    let question = |message: &ClusterMessage| {
        if let ClusterMessage::Locate { number, .. } = message { Some(*number) } else { None }
    };
    let questions: Vec<RequestNumber> = node.said.iter().filter_map(question).collect();
    for _ in 0..12 {
        node.passes(SECOND / 4);
    }
    assert_eq!(node.said.iter().filter_map(question).collect::<Vec<_>>(), questions, "it is asked once");
    node.located(1, questions[0]);
    node.located(3, questions[0]);
    assert_eq!(node.answer().0, Verdict::Off);
}
