//! Which VM a target names: by its UUID, or by its name.

use super::bench::{A, B, Bench};
use super::fake::{Fake, found};
use fence_virt::fence::{Operation, PowerState, Verdict};
use fence_virt::groups::{Group, Groups};

#[test]
fn a_uuid_means_its_vm_whatever_others_are_called() {
    for hosts in [
        vec![Fake::with(&[("a", A, true), (A, B, true)])],
        vec![Fake::with(&[("a", A, true)]), Fake::with(&[(A, B, true)])],
        vec![Fake::with(&[(A, B, true)]), Fake::with(&[("a", A, true)])],
    ] {
        for operation in [Operation::Status, Operation::Off, Operation::Reboot] {
            let mut bench = Bench::new(&hosts, Groups::default());
            assert_eq!(bench.ask(operation, A), Verdict::Success, "{operation}");
            let runs = hosts.iter().find_map(|host| host.runs(B));
            assert_eq!(runs, Some(true), "{operation}: the other VM is none of it");
            assert_eq!(bench.ask(Operation::On, "a"), Verdict::Success);
        }
    }
}

#[test]
fn a_uuid_means_no_vm_that_is_called_so() {
    // The VM with the UUID may be on another host.
    let mut bench = Bench::new(&[Fake::with(&[]), Fake::with(&[(A, B, true)])], Groups::default());
    assert_eq!(bench.ask(Operation::Off, A), Verdict::Failure);
    assert_eq!(bench.ask(Operation::Status, A), Verdict::Off);
    assert_eq!(bench.hosts[1].runs(B), Some(true));
    assert_eq!(bench.ask(Operation::Off, B), Verdict::Success);

    let hosts = [Fake::with(&[(A, A, true)]), Fake::with(&[(A, B, true)])];
    let mut bench = Bench::new(&hosts, Groups::default());
    assert_eq!(bench.ask(Operation::Off, A), Verdict::Success, "one is called like its own UUID");
    assert_eq!(hosts.iter().filter_map(|host| host.runs(B)).next(), Some(true));
}

#[test]
fn a_namesake_by_uuid_that_was_seen_before_its_uri_died_blocks_nothing() {
    let hosts = [Fake::with(&[]), Fake::with(&[("a", A, true)])];
    let mut bench = Bench::with_links(&hosts, Groups::default(), |links| {
        links[0].closed.set(true);
        *links[0].inventory.borrow_mut() = Some(vec![found(A, B)]);
    });
    assert_eq!(bench.ask(Operation::Off, A), Verdict::Success);

    // A request for the UUID says nothing about it: it may still run where it was seen.
    let hosts = [Fake::with(&[("a", A, true), (A, B, true)]), Fake::with(&[(A, B, true)])];
    let mut bench = Bench::with_links(&hosts, Groups::default(), |links| {
        let mut namesake = found(A, B);
        namesake.state.power = PowerState::Running;
        *links[0].inventory.borrow_mut() = Some(vec![found("a", A), namesake]);
    });
    assert_eq!(bench.ask(Operation::Status, A), Verdict::Success);
    bench.break_host(0);
    assert_eq!(bench.ask(Operation::Off, B), Verdict::Failure);
}

#[test]
fn a_vm_that_is_being_powered_off_is_named_by_its_uuid_in_spite_of_others() {
    let hosts = [Fake::with(&[("a", A, true)]), Fake::with(&[(A, B, true)])];
    let mut bench = Bench::with_links(&hosts, Groups::default(), |links| {
        *links[1].inventory.borrow_mut() = Some(vec![found(A, B)]);
    });
    hosts[0].hold(&format!("power-off {A}"));
    let (mail, _) = bench.begin(Operation::Off, A);
    assert_eq!(hosts[0].held(), 1);
    let finds = hosts[0].finds();
    assert_eq!(bench.ask(Operation::Status, A), Verdict::Success);
    assert_eq!(hosts[0].finds(), finds, "libvirt answers nothing about it");
    hosts[0].release();
    bench.settle();
    assert_eq!(crate::job::tests::answers(&mail), [Verdict::Success.into()]);
}

#[test]
fn what_reads_as_a_uuid_in_a_group_is_no_name() {
    let groups = Groups::new(vec![Group::new(&["192.0.2.1".into()], &[A.into()])]);
    let mut bench = Bench::new(&[Fake::with(&[(A, B, true)])], groups.clone());
    assert_eq!(bench.ask(Operation::Off, A), Verdict::Failure, "unknown here");
    assert_eq!(bench.ask(Operation::Off, B), Verdict::Denied);
    assert_eq!(bench.list().unwrap(), []);
    assert_eq!(bench.hosts[0].runs(B), Some(true));
    let mut bench = Bench::new(&[Fake::with(&[("a", A, true)])], groups);
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Success);
}
