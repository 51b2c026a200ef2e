//! Permission groups, where the copies of a VM on several hosts have different names.

use super::*;

#[test]
fn a_group_that_has_the_uuid_alone_permits_the_name_when_the_vm_is_told() {
    let group = Group::new(&["192.0.2.1".to_owned()], &[OTHER.to_owned()]);
    let mut bench = Bench::new(Groups::new(vec![group]));
    let mail = bench.asks(Operation::Off, "vm1");
    assert_eq!(verdicts(&mail), [], "it is not told yet");
    bench.tells_all();
    let calls = bench.calls();
    let off = calls.iter().filter(|call| call.operation == Operation::Off);
    assert_eq!((verdicts(&mail), off.count()), (vec![], 1), "now it is asked for");
    let mail = bench.asks(Operation::Off, "vm2");
    assert_eq!(verdicts(&mail), [Verdict::Denied]);

    let group = Group::new(&["192.0.2.1".to_owned()], &[OTHER.to_owned()]);
    let mut bench = Bench::new(Groups::new(vec![group]));
    let mail = bench.asks(Operation::Off, "vm1");
    bench.passes(TELL_LIMIT);
    assert_eq!(verdicts(&mail), [Verdict::Denied], "nobody has told it");
}

/// A group of the clients' address that lists this VM.
fn listing(listed: &[&str]) -> Groups {
    let listed: Vec<String> = listed.iter().map(|name| name.to_string()).collect();
    Groups::new(vec![Group::new(&["192.0.2.1".to_owned()], &listed)])
}

/// Node 1, of this suite or a C daemon, has a VM of this name, which has the UUID of vm2, and is off.
fn borrows(bench: &mut Bench, name: &str, is_extended: bool) {
    if is_extended {
        bench.says(&ClusterMessage::Hello { is_complete: false });
    }
    let domain = Domain { name: name.to_owned(), uuid: Uuid::parse(OWN).unwrap() };
    let (owner, state) = (NodeId(1), PowerState::Off);
    bench.says(&ClusterMessage::Store(Advertisement { domain, owner, state, is_active: false }));
    if is_extended {
        bench.says(&ClusterMessage::Hello { is_complete: true });
    }
    bench.passes(TELL_LIMIT);
    bench.group.sent();
}

#[test]
fn a_group_that_lists_the_name_of_one_copy_permits_no_other() {
    for is_extended in [true, false] {
        for (listed, expected) in [
            (&["mine"][..], vec![Verdict::Denied]),
            (&["vm2"], vec![Verdict::Denied]),
            (&["mine", "VM2"], vec![]),
            (&[OWN], vec![]),
        ] {
            for name in ["mine", "vm2", OWN] {
                let mut bench = Bench::new(listing(listed));
                borrows(&mut bench, "mine", is_extended);
                let mail = bench.asks(Operation::Off, name);
                assert_eq!(verdicts(&mail), expected, "{name} {listed:?} {is_extended}");
                assert_eq!(bench.host.runs(OWN), Some(!expected.is_empty()), "{name} {listed:?}");
                assert_eq!(bench.calls().is_empty(), !expected.is_empty(), "{name} {listed:?}");
            }
        }
    }
}

#[test]
fn a_list_shows_a_vm_of_the_cluster_under_a_name_by_which_it_is_permitted() {
    for (listed, expected) in [("mine", "mine"), ("vm2", "vm2"), (OWN, "vm2")] {
        let mut bench = Bench::new(listing(&[listed]));
        borrows(&mut bench, "mine", true);
        let mail = bench.asks(Operation::HostList, "-");
        let all = answers(&mail);
        let [Answer::HostList(entries)] = all.as_slice() else { panic!("{all:?}") };
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, [expected], "{listed}");
    }
}

#[test]
fn a_requester_whose_name_or_uuid_another_host_has_is_not_known_by_its_name() {
    const FREE: &str = "03030303-0303-0303-0303-030303030303";
    for (name, uuid, expected) in [
        ("mine", OWN, Verdict::Denied),
        ("vm2", FREE, Verdict::Denied),
        ("vm2", OWN, Verdict::Success),
        ("mine", FREE, Verdict::Success),
    ] {
        let mut bench = Bench::new(Groups::new(vec![Group::new(&[], &["vm2".to_owned()])]));
        bench.says(&ClusterMessage::Hello { is_complete: false });
        let domain = Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() };
        let (owner, state) = (NodeId(1), PowerState::Off);
        bench.says(&ClusterMessage::Store(Advertisement { domain, owner, state, is_active: false }));
        bench.says(&ClusterMessage::Hello { is_complete: true });
        let domain = Domain { name: "vm2".to_owned(), uuid: Uuid::parse(OWN).unwrap() };
        let source = Source::Domain(std::sync::Arc::new(domain));
        for operation in [Operation::Status, Operation::HostList] {
            let (job, mail, ..) = job_of(source.clone(), operation, OWN, bench.now);
            bench.group.turns();
            bench.backend.begin(job, bench.now);
            bench.turn();
            match answers(&mail).as_slice() {
                [Answer::Verdict(verdict)] => assert_eq!(*verdict, expected, "{name} {uuid}"),
                [Answer::HostList(entries)] => {
                    assert_eq!(entries.is_empty(), expected == Verdict::Denied, "{name} {uuid}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn off(number: u32, target: NodeId, name: &str) -> ClusterMessage {
    let (number, name) = (RequestNumber(number), name.to_owned());
    ClusterMessage::Request(ClusterCall { number, target, name, operation: Operation::Off, client_number: 0 })
}

fn responses(bench: &Bench) -> Vec<u32> {
    let response = |message| match message {
        ClusterMessage::Reply { response, .. } => Some(response),
        ClusterMessage::Report(report) => Some(u32::from(report.response)),
        _ => None,
    };
    bench.group.sent().into_iter().filter_map(response).collect()
}

#[test]
fn another_host_permits_the_name_that_it_was_told_and_no_other() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.group.sent();
    // No event has told this yet.
    bench.host.domains.borrow_mut().get_mut(OWN).unwrap().name = "renamed".to_owned();
    bench.says(&off(5, NodeId(2), OWN));
    assert_eq!((bench.host.runs(OWN), responses(&bench)), (Some(true), vec![1]));
    let uuid = Uuid::parse(OWN).unwrap();
    let vm = LocalVm {
        name: "renamed".to_owned(),
        uuid,
        state: PowerState::Running,
        is_active: true,
        may_run_elsewhere: false,
    };
    bench.backend.event(Event::Domains { uri: UriIndex(0), change: DomainChange::One(vm) }, bench.now);
    bench.turn();
    bench.group.sent();
    bench.says(&off(6, NodeId(2), OWN));
    assert_eq!((bench.host.runs(OWN), responses(&bench)), (Some(false), vec![0]));
}

#[test]
fn a_c_daemon_permits_what_it_names() {
    for (name, expected) in [("mine", 1), ("vm2", 0), (OWN, 0)] {
        let mut bench = Bench::new(Groups::default());
        borrows(&mut bench, "mine", false);
        bench.says(&off(5, EVERY_NODE, name));
        assert_eq!(
            (bench.host.runs(OWN), responses(&bench)),
            (Some(expected == 1), vec![expected]),
            "{name}"
        );
    }
}

#[test]
fn the_host_of_the_client_checks_the_operation() {
    for (allowed, operation) in [
        (Operation::Status, Operation::Off),
        (Operation::Off, Operation::Status),
        (Operation::Reboot, Operation::Off),
        (Operation::On, Operation::Reboot),
    ] {
        let group = || Group::new(&["192.0.2.1".to_owned()], &[OTHER.to_owned()]);
        let allowing = |operation| Groups::new(vec![group().allowing([operation].into_iter().collect())]);
        let mut bench = Bench::new(allowing(allowed));
        bench.tells_all();
        bench.group.sent();
        let mail = bench.asks(operation, "vm1");
        assert_eq!((verdicts(&mail), bench.calls().len()), (vec![Verdict::Denied], 0), "{operation}");
        let mail = bench.asks(allowed, "vm1");
        let asked: Vec<Operation> = bench.calls().into_iter().map(|call| call.operation).collect();
        assert_eq!((verdicts(&mail), asked.is_empty()), (vec![], false), "{allowed}");
    }
}

#[test]
fn a_list_of_the_cluster_shows_what_a_group_with_list_permits() {
    for (allowed, count) in [(Operation::HostList, 1), (Operation::Status, 0)] {
        let group = Group::new(&["192.0.2.1".to_owned()], &[OTHER.to_owned()]);
        let mut bench = Bench::new(Groups::new(vec![group.allowing([allowed].into_iter().collect())]));
        bench.tells_all();
        let listed = answers(&bench.asks(Operation::HostList, ""));
        let [Answer::HostList(entries)] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!(entries.len(), count, "{allowed}");
    }
}
