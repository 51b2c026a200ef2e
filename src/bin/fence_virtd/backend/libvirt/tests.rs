//! Power operations: their answers and rounds.

use super::bench::{A, B, Bench};
use super::fake::{Fake, Fault, found};
use super::power_operations::RETRY;
use crate::backend::Backend;
use crate::inbox::{DomainChange, Event};
use crate::job::AGE_LIMIT;
use crate::job::tests::answers;
use crate::libvirt::URI_SILENCE_MAX;
use crate::libvirt::{DomainState, FoundDomain, LibvirtError};
use fence_virt::fence::{Operation, PowerState, UriIndex, Uuid, Verdict};
use fence_virt::groups::{Group, Groups};
use fence_virt::routing::LocalVm;
use fence_virt::time::Instant;

fn fails(error: fn(String) -> LibvirtError) -> Fault {
    Fault::Fails(error("busy".to_owned()))
}

#[test]
fn the_table_of_answers() {
    use Operation::{Null, Off, On, Reboot, Status};
    use Verdict::{Failure, Success};
    for (operation, running, off, unknown) in [
        (Off, (Success, Some(false)), (Success, Some(false)), Failure),
        (On, (Success, Some(true)), (Success, Some(true)), Failure),
        (Reboot, (Success, Some(true)), (Success, Some(false)), Failure),
        (Status, (Success, Some(true)), (Verdict::Off, Some(false)), Verdict::Off),
        (Null, (Failure, Some(true)), (Failure, Some(false)), Failure),
    ] {
        for (runs, expected) in [(true, running), (false, off)] {
            for name in ["a", A] {
                let mut bench = Bench::single(&[("a", A, runs)]);
                let got = (bench.ask(operation, name), bench.hosts[0].runs(A));
                assert_eq!(got, expected, "{operation} {runs} {name}");
            }
        }
        assert_eq!(Bench::single(&[("a", A, true)]).ask(operation, "b"), unknown, "{operation} unknown");
        let mut broken = Bench::single(&[("a", A, true)]);
        broken.break_host(0);
        assert_eq!(broken.ask(operation, "a"), Failure, "{operation} with a broken libvirt");
    }
}

#[test]
fn a_reboot_starts_a_persistent_vm_as_defined_and_a_transient_one_from_its_xml() {
    let mut bench = Bench::single(&[("a", A, true)]);
    assert_eq!(bench.ask(Operation::Reboot, "a"), Verdict::Success);
    assert_eq!(*bench.hosts[0].log.borrow(), ["start Persistent"]);
    let mut bench = Bench::single(&[("a", A, true)]);
    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().is_transient = true;
    assert_eq!(bench.ask(Operation::Reboot, "a"), Verdict::Success);
    assert_eq!(*bench.hosts[0].log.borrow(), ["start Transient(\"xml of a\")"]);
}

#[test]
fn a_transient_vm_that_vanishes_by_our_destroy_is_off() {
    let mut bench = Bench::single(&[("a", A, true)]);
    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().is_transient = true;
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Success);
    assert_eq!(bench.hosts[0].runs(A), None);
}

#[test]
fn a_reboot_that_does_not_start_again_was_still_a_fence() {
    let mut bench = Bench::single(&[("a", A, true)]);
    bench.hosts[0].starts_fail.set(true);
    assert_eq!(bench.ask(Operation::Reboot, "a"), Verdict::Success);
    assert_eq!(bench.hosts[0].runs(A), Some(false));
    assert_eq!(bench.ask(Operation::On, "a"), Verdict::Failure);
}

#[test]
fn never_success_for_a_vm_that_was_not_seen_off() {
    for (fault, expected) in [
        (fails(LibvirtError::Other), Verdict::Failure),
        (Fault::FailsAndGone, Verdict::Failure),
        (Fault::LostAfter, Verdict::Failure),
        (Fault::Restarted, Verdict::Success),
        (Fault::NoEffect, Verdict::Success),
        (fails(LibvirtError::Busy), Verdict::Success),
        (fails(LibvirtError::Dying), Verdict::Success),
    ] {
        for operation in [Operation::Off, Operation::Reboot] {
            let mut bench = Bench::faulty(vec![fault.clone()]);
            let verdict = bench.ask(operation, "a");
            assert_eq!(verdict, expected, "{operation} {fault:?}");
            let went_off = operation == Operation::Off && !matches!(fault, Fault::Restarted);
            if went_off && verdict == Verdict::Success {
                assert_eq!(bench.hosts[0].runs(A), Some(false), "{fault:?}: success means off");
            }
        }
    }
}

#[test]
fn a_vm_that_stays_busy_is_a_failure_after_the_age_limit() {
    let mut bench = Bench::faulty(vec![fails(LibvirtError::Busy); 10_000]);
    let (mail, _) = bench.begin(Operation::Off, "a");
    assert_eq!(bench.wait(&mail, AGE_LIMIT - RETRY), []);
    assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Success, "others are served meanwhile");
    assert_eq!(bench.wait(&mail, RETRY), [Verdict::Failure.into()]);
    let destroys = bench.hosts[0].destroys.get();
    assert!(destroys > 100, "{destroys}");
    bench.wait(&mail, AGE_LIMIT);
    assert_eq!(bench.hosts[0].destroys.get(), destroys, "and nothing is destroyed after it");
}

#[test]
fn a_dying_vm_is_observed_and_not_destroyed_again_at_once() {
    let mut bench = Bench::faulty(vec![fails(LibvirtError::Dying); 10_000]);
    let (mail, _) = bench.begin(Operation::Off, "a");
    assert_eq!(bench.wait(&mail, AGE_LIMIT * 2), [Verdict::Failure.into()]);
    assert_eq!(bench.hosts[0].destroys.get(), 3, "each destroy may hold the worker for 15 s");

    let mut bench = Bench::faulty(vec![fails(LibvirtError::Dying)]);
    let (mail, _) = bench.begin(Operation::Off, "a");
    assert_eq!(bench.wait(&mail, RETRY), []);
    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().runs = None;
    assert_eq!(bench.wait(&mail, RETRY), [Verdict::Success.into()], "seen off as soon as it is");
}

#[test]
fn a_call_that_took_too_long_is_not_followed_by_a_destroy() {
    let mut bench = Bench::single(&[("a", A, true)]);
    // The worker's turn began 30 s ago: the lookup hung since then.
    bench.now = Instant::now().checked_sub(AGE_LIMIT).unwrap();
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Failure);
    assert_eq!(bench.hosts[0].destroys.get(), 0);
}

#[test]
fn a_retry_ends_when_its_caller_hangs_up() {
    let mut bench = Bench::faulty(vec![fails(LibvirtError::Busy); 3]);
    let (mail, caller) = bench.begin(Operation::Off, "a");
    caller.cancel();
    assert_eq!(bench.wait(&mail, AGE_LIMIT / 2), [Verdict::Failure.into()]);
    assert_eq!(bench.hosts[0].destroys.get(), 1);
    assert_eq!(bench.hosts[0].runs(A), Some(true));
}

#[test]
fn a_dying_transient_vm_that_vanishes_is_off() {
    let mut bench = Bench::faulty(vec![fails(LibvirtError::Dying)]);
    let (mail, _) = bench.begin(Operation::Off, "a");
    bench.hosts[0].domains.borrow_mut().clear();
    assert_eq!(bench.wait(&mail, RETRY), [Verdict::Success.into()]);

    let mut bench = Bench::faulty(vec![fails(LibvirtError::Busy)]);
    let (mail, _) = bench.begin(Operation::Off, "a");
    bench.hosts[0].domains.borrow_mut().clear();
    assert_eq!(bench.wait(&mail, RETRY), [Verdict::Failure.into()], "but not one that was only busy");
}

#[test]
fn a_dead_uri_makes_an_unknown_vm_a_failure_and_never_off() {
    for operation in [Operation::Off, Operation::Reboot, Operation::On, Operation::Status] {
        let mut bench = Bench::new(&[Fake::with(&[]), Fake::with(&[("b", B, true)])], Groups::default());
        bench.break_host(0);
        assert_eq!(bench.ask(operation, "a"), Verdict::Failure, "{operation}");
        assert_eq!(bench.ask(operation, "b"), Verdict::Success, "{operation}: found elsewhere");
    }
}

#[test]
fn a_vm_last_seen_on_a_dead_uri_is_not_off_because_another_placement_is() {
    let both = || [Fake::with(&[("a", A, true)]), Fake::with(&[("a", A, false)])];
    for operation in [Operation::Off, Operation::Reboot, Operation::On, Operation::Status] {
        let mut bench = Bench::new(&both(), Groups::default());
        assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Success);
        bench.break_host(0);
        assert_eq!(bench.ask(operation, "a"), Verdict::Failure, "{operation}");
        assert_eq!(bench.ask(operation, A), Verdict::Failure, "{operation} by UUID");
    }
}

#[test]
fn domains_listed_before_a_uri_died_count_too() {
    let hosts = [Fake::with(&[]), Fake::with(&[("a", A, false)])];
    for (seen, power, expected) in [
        (A, PowerState::Running, Verdict::Failure),
        (A, PowerState::Off, Verdict::Success),
        (B, PowerState::Running, Verdict::Success),
    ] {
        hosts[1].domains.borrow_mut().get_mut(A).unwrap().runs = Some(7);
        let mut bench = Bench::with_links(&hosts, Groups::default(), |links| {
            links[0].closed.set(true);
            let listed = found("x", seen);
            let state = DomainState { power, ..listed.state };
            *links[0].inventory.borrow_mut() = Some(vec![FoundDomain { state, ..listed }]);
        });
        assert_eq!(bench.ask(Operation::Off, "a"), expected, "{seen} {power:?}");
        assert_eq!(hosts[1].runs(A), Some(false), "what can be reached is destroyed all the same");
    }
}

#[test]
fn a_silent_uri_counts_if_the_vm_was_ever_seen_to_run_there() {
    let local = |state| LocalVm {
        name: "a".to_owned(),
        uuid: Uuid::parse(A).unwrap(),
        state,
        is_active: true,
        may_run_elsewhere: false,
    };
    let [off, running] = [PowerState::Off, PowerState::Running].map(local);
    let changes: [(&[DomainChange], Verdict); 6] = [
        (&[], Verdict::Success),
        (&[DomainChange::One(off.clone())], Verdict::Success),
        (&[DomainChange::One(running.clone())], Verdict::Failure),
        (&[DomainChange::All(vec![running.clone()]), DomainChange::All(vec![off.clone()])], Verdict::Failure),
        (&[DomainChange::One(running.clone()), DomainChange::Lost], Verdict::Failure),
        // It is another one that comes to that place later.
        (
            &[DomainChange::One(running), DomainChange::Gone(off.uuid), DomainChange::One(off)],
            Verdict::Success,
        ),
    ];
    for (changes, expected) in changes {
        for operation in [Operation::Off, Operation::Reboot] {
            let hosts = [Fake::with(&[("a", A, false)]), Fake::with(&[("a", A, true)])];
            let mut bench = Bench::new(&hosts, Groups::default());
            assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Success, "and both are known");
            for change in changes {
                let event = Event::Domains { uri: UriIndex(0), change: change.clone() };
                bench.backend.event(event, bench.now);
            }
            bench.break_host(0);
            assert_eq!(bench.ask(operation, "a"), expected, "{operation} after {changes:?}");
            assert_eq!(bench.hosts[1].destroys.get(), 1, "what can be reached is destroyed all the same");
        }
    }
}

#[test]
fn a_placement_that_is_off_proves_nothing_about_an_unreachable_uri() {
    for operation in [Operation::Off, Operation::Reboot, Operation::On, Operation::Status] {
        // It never was seen at uri0; it may have come there since.
        let hosts = [Fake::with(&[]), Fake::with(&[("a", A, false)])];
        let mut bench = Bench::new(&hosts, Groups::default());
        bench.break_host(0);
        assert_eq!(bench.ask(operation, "a"), Verdict::Failure, "{operation}");
        assert_eq!(bench.hosts[1].runs(A), Some(false), "{operation}: and nothing is started");
    }
}

#[test]
fn a_vm_that_moved_is_not_expected_where_it_was() {
    let hosts = [Fake::with(&[("a", A, true)]), Fake::with(&[])];
    let mut bench = Bench::new(&hosts, Groups::default());
    assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Success);
    let moved = bench.hosts[0].domains.borrow_mut().remove(A).unwrap();
    bench.hosts[1].domains.borrow_mut().insert(A.into(), moved);
    assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Success);
    bench.break_host(0);
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Success);
    assert_eq!(bench.hosts[1].runs(A), Some(false));
}

#[test]
fn a_restarted_vm_counts_as_off_only_after_our_destroy() {
    let mut bench = Bench::faulty(vec![fails(LibvirtError::Busy)]);
    let (mail, _) = bench.begin(Operation::Off, "a");
    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().runs = Some(99);
    assert_eq!(bench.wait(&mail, RETRY), [Verdict::Success.into()]);
    assert_eq!((bench.hosts[0].destroys.get(), bench.hosts[0].runs(A)), (2, Some(false)));
}

#[test]
fn every_placement_is_destroyed_and_the_first_that_ran_restarts() {
    let hosts =
        || [Fake::with(&[("a", A, false)]), Fake::with(&[("a", A, true)]), Fake::with(&[("a", A, true)])];
    let mut bench = Bench::new(&hosts(), Groups::default());
    assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Success);
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Success);
    assert!(bench.hosts.iter().all(|host| host.runs(A) == Some(false)));
    assert_eq!(bench.ask(Operation::Status, "a"), Verdict::Off);
    assert_eq!(bench.ask(Operation::On, "a"), Verdict::Failure, "no URI to choose");

    let mut bench = Bench::new(&hosts(), Groups::default());
    assert_eq!(bench.ask(Operation::Reboot, "a"), Verdict::Success);
    let runs: Vec<_> = bench.hosts.iter().map(|host| host.runs(A)).collect();
    assert_eq!(runs, [Some(false), Some(true), Some(false)]);
}

#[test]
fn one_placement_that_stays_on_is_a_failure_though_the_others_go_off() {
    let hosts = [Fake::with(&[("a", A, true)]), Fake::with(&[("a", A, true)])];
    hosts[0].faults.borrow_mut().push(fails(LibvirtError::Other));
    let mut bench = Bench::new(&hosts, Groups::default());
    assert_eq!(bench.ask(Operation::Reboot, "a"), Verdict::Failure);
    let runs: Vec<_> = bench.hosts.iter().map(|host| host.runs(A)).collect();
    assert_eq!(runs, [Some(true), Some(false)], "and nothing is started again");
}

#[test]
fn a_name_of_two_vms_is_refused() {
    let mut bench =
        Bench::new(&[Fake::with(&[("a", A, true)]), Fake::with(&[("a", B, true)])], Groups::default());
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Failure);
    assert_eq!(bench.hosts.iter().map(|host| host.destroys.get()).sum::<usize>(), 0);
    assert_eq!(bench.ask(Operation::Off, B), Verdict::Success);
    bench.break_host(1);
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Failure, "also while one of them cannot be asked");
}

#[test]
fn groups_know_a_vm_by_either_name() {
    let groups = |uuid: &str| Groups::new(vec![Group::new(&["192.0.2.1".into()], &[uuid.into()])]);
    for (listed, allowed) in [("a", true), (A, true), ("b", false)] {
        for asked in ["a", A] {
            let mut bench = Bench::new(&[Fake::with(&[("a", A, true)])], groups(listed));
            let expected = if allowed { Verdict::Success } else { Verdict::Denied };
            assert_eq!(bench.ask(Operation::Off, asked), expected, "{listed} {asked}");
            assert_eq!(bench.hosts[0].runs(A), Some(!allowed));
        }
    }
    let mut bench = Bench::new(&[Fake::with(&[("a", A, true), ("b", B, true)])], groups("a"));
    assert_eq!(bench.ask(Operation::Status, "c"), Verdict::Denied, "unknown and not listed");
    let names: Vec<_> = bench.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a"]);
    let mut bench = Bench::new(&[Fake::with(&[])], groups("c"));
    assert_eq!(bench.ask(Operation::Status, "c"), Verdict::Off, "unknown but listed");
    bench.break_host(0);
    assert_eq!(bench.ask(Operation::Off, "x"), Verdict::Failure, "its lookup fails: it is not denied");
}

#[test]
fn devstatus_is_success_at_the_first_answer_and_failure_at_the_limit() {
    let hosts = [Fake::with(&[]), Fake::with(&[])];
    let mut bench = Bench::new(&hosts, Groups::default());
    let (mail, _) = bench.begin(Operation::Devstatus, "");
    assert_eq!(answers(&mail), []);
    bench.backend.event(Event::Probed { uri: UriIndex(0), outcome: Err("dead".into()) }, bench.now);
    assert_eq!(answers(&mail), []);
    bench.backend.event(Event::Probed { uri: UriIndex(1), outcome: Ok(()) }, bench.now);
    assert_eq!(answers(&mail), [Verdict::Success.into()]);

    let (first, _) = bench.begin(Operation::Devstatus, "");
    let (second, _) = bench.begin(Operation::Devstatus, "");
    assert_eq!(bench.wait(&first, URI_SILENCE_MAX), [Verdict::Failure.into()]);
    assert_eq!(answers(&second), [Verdict::Failure.into()]);

    let (mail, _) = bench.begin(Operation::Devstatus, "");
    for uri in [UriIndex(0), UriIndex(1)] {
        bench.backend.event(Event::Probed { uri, outcome: Err("dead".into()) }, bench.now);
    }
    assert_eq!(answers(&mail), [Verdict::Failure.into()], "all dead: no need to wait");
}
