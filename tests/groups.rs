//! Permission groups: who may do what to which VM.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;

use fence_virt::fence::Operation::{HostList, Off, On, Reboot, Status};
use fence_virt::fence::{
    Domain, KEY_ID_LEN, KeyHolder, KeyId, KeyedSource, ListenerName, Rights, Source, Uuid,
};
use fence_virt::groups::{Group, Groups, Requesters, RequestersError, listed_names};

fn tcp() -> ListenerName {
    ListenerName::new("tcp", None)
}

fn source(text: &str) -> Source {
    Source::ip(text.parse().unwrap())
}

fn group(ips: &[&str], uuids: &[&str]) -> Group {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    Group::new(&owned(ips), &owned(uuids))
}

#[test]
fn without_groups_everything_is_permitted() {
    assert!(Groups::default().permit(&tcp(), &source("192.0.2.1"), Off, &["any"]));
}

#[test]
fn requester_and_target_must_be_in_the_same_group() {
    let groups = Groups::new(vec![
        group(&["192.0.2.1", "192.0.2.2"], &["node1", "44179D3F-6c63-474f-a212-20c8b4b25b16"]),
        group(&["192.0.2.3"], &["node3"]),
    ]);
    assert!(groups.permit(&tcp(), &source("192.0.2.1"), Off, &["NODE1", "x"]));
    assert!(groups.permit(&tcp(), &source("192.0.2.2"), Off, &["n", "44179d3f-6c63-474f-a212-20c8b4b25b16"]));
    assert!(!groups.permit(&tcp(), &source("192.0.2.1"), Off, &["node3"]));
    assert!(!groups.permit(&tcp(), &source("192.0.2.3"), Off, &["node1"]));
    assert!(!groups.permit(&tcp(), &source("192.0.2.9"), Off, &["node1"]));
}

#[test]
fn addresses_are_compared_as_addresses() {
    let groups = Groups::new(vec![group(&["2001:DB8:0::1", "fe80::1%eth0", "::ffff:192.0.2.1"], &["a"])]);
    for same in ["2001:db8::1", "fe80::1", "192.0.2.1", "::ffff:192.0.2.1"] {
        assert!(groups.permit(&tcp(), &source(same), Off, &["a"]), "{same}");
    }
    assert!(!groups.permit(&tcp(), &source("2001:db8::2"), Off, &["a"]));
}

#[test]
fn a_network_admits_its_addresses() {
    let groups = Groups::new(vec![
        group(&["192.168.122.0/24", "fd00:0:0:1::/64", "::ffff:10.0.0.0/104", "192.0.2.1/32"], &["a"]),
        group(&["::/0"], &["six"]),
        group(&["0.0.0.0/0"], &["four"]),
    ]);
    let listeners = [tcp(), ListenerName::new("multicast", Some("b"))];
    let permits = |text: &str, name: &str| {
        listeners.each_ref().map(|on| groups.permit(on, &source(text), Off, &[name]))
    };
    for inside in [
        "192.168.122.0",
        "192.168.122.255",
        "::ffff:192.168.122.7",
        "fd00:0:0:1::",
        "fd00::1:ffff:ffff:ffff:ffff",
        "10.255.255.255",
        "::ffff:10.1.2.3",
        "192.0.2.1",
    ] {
        assert_eq!(permits(inside, "a"), [true; 2], "{inside}");
    }
    for outside in [
        "192.168.121.255",
        "192.168.123.0",
        "fd00:0:0:2::",
        "fd00::",
        "9.255.255.255",
        "11.0.0.0",
        "192.0.2.0",
        "::192.168.122.7",
        "::10.1.2.3",
        "::c0a8:7a07",
    ] {
        assert_eq!(permits(outside, "a"), [false; 2], "{outside}");
    }
    // An IPv4 address inside IPv6 is IPv4.
    assert_eq!([permits("::1", "six"), permits("::1", "four")], [[true; 2], [false; 2]]);
    for four in ["192.0.2.9", "::ffff:192.0.2.9"] {
        assert_eq!([permits(four, "six"), permits(four, "four")], [[false; 2], [true; 2]], "{four}");
    }
}

#[test]
fn what_is_no_network_admits_nobody() {
    for text in
        ["192.168.122.7/24", "192.168.122.7/33", "192.168.122.7/", "/24", "/", "fd00::1/64", "+3", "vm"]
    {
        let groups = Groups::new(vec![group(&[text], &["a"])]);
        for asks in [source("192.168.122.7"), source("fd00::1"), Source::Cid(3)] {
            assert!(!groups.permit(&tcp(), &asks, Off, &["a"]), "{text}");
        }
    }
}

#[test]
fn a_number_is_a_cid_and_not_an_address() {
    let groups = Groups::new(vec![group(&["3", "192.0.2.4"], &["a"])]);
    assert!(groups.permit(&tcp(), &Source::Cid(3), Off, &["a"]));
    assert!(!groups.permit(&tcp(), &Source::Cid(4), Off, &["a"]));
    assert!(!groups.permit(&tcp(), &source("0.0.0.3"), Off, &["a"]));
    assert!(!Groups::new(vec![group(&[], &["a"])]).permit(&tcp(), &Source::Cid(3), Off, &["a"]));
}

#[test]
fn a_vm_is_a_requester_in_the_groups_that_list_it() {
    let uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
    let requester = |name: &str| {
        Source::Domain(Arc::new(Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() }))
    };
    let by_uuid = Groups::new(vec![group(&[], &[&uuid.to_uppercase(), "node2"]), group(&[], &["node3"])]);
    assert!(by_uuid.permit(&tcp(), &requester("x"), Off, &["Node2"]));
    assert!(by_uuid.permit(&tcp(), &requester("x"), Off, &[uuid]), "itself");
    assert!(!by_uuid.permit(&tcp(), &requester("x"), Off, &["node3"]));
    let by_name = Groups::new(vec![group(&[], &["node1", "node2"]), group(&[], &["node3"])]);
    assert!(
        !by_name.permit(&tcp(), &requester("node1"), Off, &["node2"]),
        "a name has to be looked up first"
    );
    assert!(by_name.permit_name(&tcp(), "node1", Off, &["NODE2"]) && by_name.mention(&tcp(), "node1"));
    assert!(!by_name.permit_name(&tcp(), "node1", Off, &["node3"]));
    assert!(!by_name.permit_name(&tcp(), "NODE1", Off, &["node2"]) && !by_name.mention(&tcp(), "NODE1"));
    // A VM whose name is the UUID of another one.
    assert!(!by_uuid.permit_name(&tcp(), &uuid.to_uppercase(), Off, &["node2"]));
    assert!(!by_uuid.mention(&tcp(), &uuid.to_uppercase()));
}

#[test]
fn what_reads_as_a_uuid_is_no_name() {
    let uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
    let other = "00000000-6c63-474f-a212-20c8b4b25b16";
    assert_eq!(listed_names("node1", uuid), ["node1", uuid]);
    assert_eq!(listed_names(uuid, other), [other]);
    assert_eq!(listed_names(&uuid.replace('-', ""), other), [other]);
    let groups = Groups::new(vec![group(&["192.0.2.1"], &[&uuid.replace('-', ""), uuid, "node2"])]);
    assert!(groups.permit(&tcp(), &source("192.0.2.1"), Off, &listed_names("node1", uuid)));
    assert!(!groups.mention(&tcp(), uuid));
    assert!(!groups.permit_name(&tcp(), uuid, Off, &["node2"]));
    let bare = Groups::new(vec![group(&["192.0.2.1"], &[&uuid.replace('-', "").to_uppercase()])]);
    assert!(
        bare.permit(&tcp(), &source("192.0.2.1"), Off, &listed_names("node1", uuid)),
        "however it is written"
    );
}

#[test]
fn a_group_of_a_listener_applies_to_its_requests_only() {
    let b = ListenerName::new("tcp", Some("b"));
    let vsock = ListenerName::new("vsock", None);
    let groups = Groups::new(vec![
        group(&["192.0.2.1"], &["node1"]).only(vec![tcp(), vsock.clone()]),
        group(&["192.0.2.1"], &["node2"]).only(vec![b.clone()]),
        group(&["192.0.2.1"], &["node3"]),
    ]);
    let permitted = |listener: &ListenerName| {
        ["node1", "node2", "node3"].map(|name| groups.permit(listener, &source("192.0.2.1"), Off, &[name]))
    };
    assert_eq!(permitted(&tcp()), [true, false, true]);
    assert_eq!(permitted(&vsock), [true, false, true]);
    assert_eq!(permitted(&b), [false, true, true]);
    assert!(groups.mention(&tcp(), "node1") && !groups.mention(&b, "node1"));
    assert!(groups.permit_name(&tcp(), "node1", Off, &["node1"]));
    assert!(!groups.permit_name(&b, "node1", Off, &["node1"]));
}

#[test]
fn the_groups_of_a_requester_and_of_a_vm_are_found_each_by_itself() {
    let uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
    let domain = Source::Domain(Arc::new(Domain { name: "a".into(), uuid: Uuid::parse(uuid).unwrap() }));
    let with_uuid = group(&["192.0.2.0/24"], &[uuid]);
    let with_name = group(&[], &["a"]);
    assert!(with_uuid.has_requester(&[source("192.0.2.9")], None));
    assert!(with_uuid.has_requester(&[Source::Cid(3), domain.clone()], None));
    assert!(!with_uuid.has_requester(&[Source::Cid(3), source("198.51.100.1")], Some("a")));
    assert!(!with_name.has_requester(std::slice::from_ref(&domain), None));
    assert!(with_name.has_requester(&[], Some("a")) && !with_name.has_requester(&[], Some("A")));
    assert!(with_name.has_vm(&["A", uuid]) && with_uuid.has_vm(&["A", uuid]));
    assert!(!with_name.has_vm(&["b", uuid]) && !with_uuid.has_vm(&["192.0.2.9"]));
}

#[test]
fn a_group_permits_the_operations_that_it_allows() {
    let uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
    let domain = Source::Domain(Arc::new(Domain { name: "a".into(), uuid: Uuid::parse(uuid).unwrap() }));
    let rights = |operations: &[_]| operations.iter().copied().collect::<Rights>();
    let groups = Groups::new(vec![
        group(&["192.0.2.1"], &["a", uuid]).allowing(rights(&[Status, HostList])),
        group(&["192.0.2.1"], &["a"]).allowing(rights(&[Off])),
        group(&["192.0.2.2"], &["a"]),
    ]);
    let permitted = |source: &Source, name: &str| {
        let permits = |operation| groups.permit(&tcp(), source, operation, &[name]);
        [Status, HostList, Off, Reboot, On].map(permits)
    };
    assert_eq!(permitted(&source("192.0.2.1"), "a"), [true, true, true, false, false], "by two groups");
    assert_eq!(permitted(&source("192.0.2.1"), uuid), [true, true, false, false, false]);
    assert_eq!(permitted(&domain, "a"), [true, true, false, false, false]);
    assert_eq!(permitted(&source("192.0.2.2"), "a"), [true; 5], "without allow");
    let by_name = |operation| groups.permit_name(&tcp(), "a", operation, &[uuid]);
    assert_eq!([Status, HostList, Off, Reboot, On].map(by_name), [true, true, false, false, false]);
}

#[test]
fn a_source_asks_and_a_target_is_asked_for() {
    let [ctl, node] = ["44179d3f-6c63-474f-a212-20c8b4b25b16", "1ce02c4b-dfa1-42cb-b5b1-f0b1091ece60"];
    let domain =
        |uuid: &str| Source::Domain(Arc::new(Domain { name: "x".into(), uuid: Uuid::parse(uuid).unwrap() }));
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let sources = owned(&["192.0.2.0/28", "5", "ctl", &ctl.to_uppercase(), "192.0.2.300"]);
    let apart =
        group(&["198.51.100.1"], &["both"]).with_sources(&sources).with_targets(&owned(&["Node2", node]));
    assert!(apart.has_vm(&["node2"]) && apart.has_vm(&[node]) && apart.has_vm(&["both"]));
    assert!(!apart.has_vm(&["ctl"]) && !apart.has_vm(&[ctl]) && !apart.has_vm(&["5"]));
    let groups = Groups::new(vec![apart]);
    for asks in [source("192.0.2.7"), source("198.51.100.1"), Source::Cid(5), domain(ctl)] {
        for target in ["node2", node, "both"] {
            assert!(groups.permit(&tcp(), &asks, Off, &[target]), "{asks} {target}");
        }
        assert!(!groups.permit(&tcp(), &asks, Off, &["ctl", ctl]), "{asks}: a source is no target");
    }
    assert!(!groups.permit(&tcp(), &domain(node), Off, &["node2"]), "a target is no source");
    assert!(groups.mention(&tcp(), "ctl") && groups.mention(&tcp(), "both"));
    assert!(!groups.mention(&tcp(), "Node2") && !groups.mention(&tcp(), ctl) && !groups.mention(&tcp(), "5"));
    assert!(groups.permit_name(&tcp(), "ctl", Off, &["node2"]));
    assert!(
        !groups.permit_name(&tcp(), "Node2", Off, &["both"])
            && !groups.permit_name(&tcp(), "ctl", Off, &["ctl"])
    );
}

#[test]
fn a_source_is_an_address_a_cid_or_a_vm() {
    for vm in [
        "ctl",
        "node1.example.org",
        "44179d3f-6c63-474f-a212-20c8b4b25b16",
        "00000000000000000000000000000001",
    ] {
        assert_eq!(Requesters::parse_source(vm), Ok(None), "{vm}");
    }
    for peer in ["192.0.2.1", "fd00::/64", "7"] {
        assert_eq!(Requesters::parse_source(peer), Requesters::parse(peer).map(Some), "{peer}");
    }
    for wrong in ["192.0.2.300", "vm/24", "4294967296"] {
        assert_eq!(Requesters::parse_source(wrong), Err(Requesters::parse(wrong).unwrap_err()), "{wrong}");
    }
    assert_eq!(Requesters::parse_source("1.2.3"), Err(RequestersError::Address));
}

#[test]
fn a_vm_with_a_key_of_its_own_asks_as_a_source_and_not_as_a_target() {
    let [ctl, node] = ["44179d3f-6c63-474f-a212-20c8b4b25b16", "1ce02c4b-dfa1-42cb-b5b1-f0b1091ece60"];
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let status: Rights = [Status].into_iter().collect();
    let group =
        group(&[], &["both"]).with_sources(&owned(&[ctl, "control"])).with_targets(&owned(&[node, "x"]));
    let groups = Groups::new(vec![group.allowing(status)]);
    let permits = |name: &str, uuid: Option<&str>, operation| {
        let (name, uuid) = (name.to_owned(), uuid.map(|uuid| Uuid::parse(uuid).unwrap()));
        let holder = Arc::new(KeyHolder { name, uuid, key: KeyId::from_bytes([7; KEY_ID_LEN]) });
        let keyed = Source::Key(Arc::new(KeyedSource { holder, via: source("192.0.2.1") }));
        groups.permit(&tcp(), &keyed, operation, &["x"])
    };
    assert!(
        permits("any", Some(ctl), Status)
            && permits("control", None, Status)
            && permits("both", None, Status)
    );
    assert!(!permits("any", Some(node), Status) && !permits("x", None, Status), "a target is no source");
    assert!(!permits("any", None, Status) && !permits("control", None, Off), "and by its rights");
}
