//! Holds and caps.

use std::time::Duration;

use super::bench::{A, B, Bench};
use super::fake::{Fake, Fault};
use super::power_operations::RETRY;
use crate::caller::tests::Questions;
use crate::job::tests::{Answers, answers};
use crate::libvirt::LibvirtError;
use crate::restraints::SharedRestraints;
use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};
use fence_virt::fence::Source;
use fence_virt::fence::Verdict::{Failure, Success};
use fence_virt::groups::Groups;

const SECOND: Duration = Duration::from_secs(1);

/// A running, b off.
fn bench() -> (Bench, SharedRestraints) {
    Bench::single(&[("a", A, true), ("b", B, false)]).restrained()
}

#[test]
fn power_operations_on_a_held_vm_fail_and_questions_are_answered() {
    for subject in ["A", A, "web"] {
        for name in ["a", A] {
            let (mut bench, restraints) = bench();
            restraints.cap(&[A], "9/9s");
            restraints.hold(subject);
            for operation in [Off, Reboot, On] {
                assert_eq!(bench.ask(operation, name), Failure, "{operation} {subject}");
            }
            assert_eq!((bench.ask(Status, name), bench.list().map(|all| all.len())), (Success, Some(2)));
            assert_eq!((bench.ask(On, "b"), bench.ask(Off, "b")), (Success, Success), "it is not held");
            assert_eq!((bench.hosts[0].destroys.get(), restraints.refused()), (1, (3, 0)));
            restraints.release();
            assert_eq!((bench.ask(Off, name), bench.hosts[0].runs(A)), (Success, Some(false)));
        }
    }
}

#[test]
fn a_held_vm_that_is_off_is_not_said_to_be_off() {
    let (mut bench, restraints) = bench();
    restraints.hold("b");
    assert_eq!(
        (bench.ask(Off, "b"), bench.ask(Reboot, "b"), bench.ask(On, "b")),
        (Failure, Failure, Failure)
    );
    assert_eq!(bench.hosts[0].runs(B), Some(false));
}

#[test]
fn a_hold_on_the_name_of_one_copy_holds_all_that_are_touched() {
    let hosts = [Fake::with(&[("a", A, true)]), Fake::with(&[("other", A, true)])];
    let (mut bench, restraints) = Bench::new(&hosts, Groups::default()).restrained();
    restraints.hold("other");
    assert_eq!(bench.ask(Off, A), Failure);
    assert_eq!((hosts[0].runs(A), hosts[1].runs(A)), (Some(true), Some(true)));
}

#[test]
fn a_hold_that_begins_after_a_request_stops_its_destroy_or_start() {
    for (operation, name, uuid, label) in
        [(Off, "a", A, "power-off"), (Reboot, "a", A, "power-off"), (On, "b", B, "start")]
    {
        let (mut bench, restraints) = bench();
        let before = bench.hosts[0].runs(uuid);
        bench.hosts[0].hold(&format!("{label} {uuid}"));
        let (mail, _) = bench.begin(operation, name);
        assert_eq!((bench.hosts[0].held(), answers(&mail)), (1, vec![]), "{operation}");
        restraints.hold(name);
        bench.release();
        assert_eq!(answers(&mail), [Failure.into()], "{operation}");
        assert_eq!((bench.hosts[0].runs(uuid), restraints.refused()), (before, (1, 0)), "{operation}");
    }
}

#[test]
fn a_request_that_waits_for_its_lookup_or_its_turn_is_stopped() {
    let (mut bench, restraints) = bench();
    bench.hosts[0].hold("lookup a");
    let (mail, _) = bench.begin(Off, "a");
    restraints.hold("a");
    bench.release();
    assert_eq!((answers(&mail), bench.hosts[0].runs(A)), (vec![Failure.into()], Some(true)));
}

#[test]
fn an_operation_that_has_killed_its_vm_goes_on_and_one_that_joins_fails() {
    let (mut bench, restraints) = bench();
    // QEMU survives the first destroy.
    *bench.hosts[0].faults.borrow_mut() = vec![Fault::Fails(LibvirtError::Dying("busy".to_owned()))];
    let (first, _) = bench.begin(Off, "a");
    assert_eq!((bench.hosts[0].destroys.get(), answers(&first)), (1, vec![]));
    restraints.hold("a");
    let (second, _) = bench.begin(Off, "a");
    assert_eq!((answers(&second), answers(&first)), (vec![Failure.into()], vec![]));
    assert_eq!(bench.wait(&first, 15 * SECOND), [Success.into()]);
    assert_eq!((bench.hosts[0].runs(A), bench.hosts[0].destroys.get()), (Some(false), 2));
}

#[test]
fn a_reboot_that_has_begun_starts_its_vm_again() {
    let (mut bench, restraints) = bench();
    bench.hosts[0].hold(&format!("start {A}"));
    assert_eq!((bench.ask(Reboot, "a"), bench.hosts[0].runs(A)), (Success, Some(false)));
    restraints.hold("a");
    bench.release();
    assert_eq!(bench.hosts[0].runs(A), Some(true));
}

#[test]
fn no_more_power_offs_begin_than_the_cap_of_a_group_says() {
    let (mut bench, restraints) = bench();
    restraints.cap(&["a", B], "2/60s");
    let mut ask = |operation: Operation, name: &str| bench.ask(operation, name);
    assert_eq!((ask(Off, "a"), ask(On, "a"), ask(Reboot, "b")), (Success, Success, Success));
    for operation in [Off, Reboot] {
        assert_eq!((ask(operation, "a"), ask(operation, "b")), (Failure, Failure), "{operation}");
    }
    assert_eq!((ask(Status, "a"), ask(On, "a")), (Success, Success));
    assert_eq!((bench.hosts[0].runs(A), restraints.refused()), (Some(true), (0, 4)));
    bench.now += 61 * SECOND;
    assert_eq!(bench.ask(Off, "a"), Success);
}

#[test]
fn a_request_that_joins_another_is_not_counted() {
    let (mut bench, restraints) = bench();
    restraints.cap(&["a"], "1/60s");
    bench.hosts[0].hold(&format!("power-off {A}"));
    let mails = [Off, Reboot, Off].map(|operation| bench.begin(operation, "a").0);
    bench.release();
    bench.wait(&mails[0], RETRY);
    assert_eq!(bench.hosts[0].runs(A), Some(false));
    assert_eq!(restraints.refused(), (0, 0));
    bench.now += SECOND;
    assert_eq!((bench.ask(Off, "a"), restraints.refused()), (Failure, (0, 1)));
}

/// Two off requests of one source for a, which wait for one for b that has begun. a may be powered off once.
fn waiting() -> (Bench, SharedRestraints, Vec<(Answers, Questions)>) {
    let (mut bench, restraints) = Bench::single(&[("a", A, true), ("b", B, true)]).restrained();
    restraints.cap(&["a"], "1/60s");
    bench.hosts[0].hold(&format!("power-off {B}"));
    let ip = |last: u8| Source::ip([192, 0, 2, last].into());
    bench.begin_as(ip(1), Off, "b");
    bench.now += SECOND;
    let waiting = [2, 2].map(|last| bench.begin_as(ip(last), Off, "a")).into();
    bench.release();
    bench.hosts[0].hold(&format!("power-off {A}"));
    (bench, restraints, waiting)
}

#[test]
fn a_request_that_joins_after_it_has_waited_for_another_is_not_counted() {
    let (mut bench, restraints, waiting) = waiting();
    assert!(waiting.iter().all(|(_, questions)| bench.reply(questions, true)));
    assert_eq!(bench.hosts[0].held(), 1);
    bench.release();
    let found: Vec<_> = waiting.iter().map(|(mail, _)| bench.wait(mail, RETRY)).collect();
    assert_eq!(found, [[Success.into()], [Success.into()]]);
    assert_eq!(restraints.refused(), (0, 0));
}

#[test]
fn a_hold_that_begins_while_requests_wait_for_another_stops_them() {
    let (mut bench, restraints, waiting) = waiting();
    restraints.hold("a");
    assert!(waiting.iter().all(|(_, questions)| bench.reply(questions, true)));
    assert!(waiting.iter().all(|(mail, _)| answers(mail) == [Failure.into()]));
    assert_eq!((bench.hosts[0].held(), restraints.refused()), (0, (2, 0)));
}

#[test]
fn a_vm_that_is_known_is_told_of() {
    use crate::backend::Backend;
    use fence_virt::fence::Target;
    let (mut bench, _) = bench();
    let now = bench.now;
    let mut knows = |name: &str| bench.backend.knows(&Target::new(name.as_bytes()).unwrap(), now);
    assert_eq!((knows("a"), knows(B), knows("c")), (Ok(true), Ok(true), Ok(false)));
    bench.break_host(0);
    assert!(bench.backend.knows(&Target::new(b"a").unwrap(), now).is_err());
}
