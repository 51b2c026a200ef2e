//! Calls that hang: nobody waits for them but those who asked for that VM.

use std::time::Duration;

use super::bench::{A, B, Bench, LANES};
use super::fake::Fake;
use super::listing;
use super::power_operations::RETRY;
use crate::backend::Backend;
use crate::inbox::{DomainChange, Event};
use crate::job::tests::{Answers, answers, job};
use crate::job::{AGE_LIMIT, Requester};
use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};
use fence_virt::fence::{PowerState, UriIndex, Uuid, Verdict};
use fence_virt::groups::{Groups, PermittedNames};
use fence_virt::routing::LocalVm;

/// The VMs a and b, which run, and a call that hangs.
fn hanging(call: &str) -> Bench {
    let bench = Bench::single(&[("a", A, true), ("b", B, true)]);
    bench.hosts[0].hold(call);
    bench
}

fn power_off_of(uuid: &str) -> String {
    format!("power-off {uuid}")
}

fn verdicts(mail: &Answers) -> Vec<Verdict> {
    let verdict = |answer| match answer {
        fence_virt::fence::Answer::Verdict(verdict) => verdict,
        other => panic!("{other:?}"),
    };
    answers(mail).into_iter().map(verdict).collect()
}

impl Bench {
    fn ask_all<const N: usize>(&mut self, operations: [Operation; N]) -> [Answers; N] {
        operations.map(|operation| self.begin(operation, "a").0)
    }
}

#[test]
fn a_vm_that_hangs_holds_up_no_other() {
    let mut bench = hanging(&power_off_of(A));
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(bench.ask(Status, "b"), Verdict::Success);
    let (other, _) = bench.begin(Off, "b");
    assert_eq!(verdicts(&other), [Verdict::Success]);
    let (reboot, _) = bench.begin(Reboot, "b");
    assert_eq!(verdicts(&reboot), [Verdict::Success]);
    for name in ["a", A] {
        let (status, _) = bench.begin(Status, name);
        assert_eq!(verdicts(&status), [Verdict::Success], "on until it was seen off");
    }
    assert_eq!(verdicts(&off), []);
    assert!(bench.held.contains(Uuid::parse(A).unwrap()), "the watchers do not wait for it either");
    bench.release();
    assert_eq!(verdicts(&off), [Verdict::Success]);
    assert!(bench.held.is_empty());
    assert_eq!(bench.ask(Status, "a"), Verdict::Off);
}

#[test]
fn requests_that_join_a_power_off_are_answered_by_one_destroy() {
    for (operations, runs_after) in
        [([Off, Off], false), ([Off, Reboot], false), ([Reboot, Off], false), ([Reboot, Reboot], true)]
    {
        let mut bench = hanging(&power_off_of(A));
        let asked = bench.ask_all(operations);
        bench.release();
        for mail in asked {
            assert_eq!(verdicts(&mail), [Verdict::Success], "{operations:?}");
        }
        assert_eq!(bench.hosts[0].destroys.get(), 1);
        assert_eq!(bench.hosts[0].runs(A), Some(runs_after), "{operations:?}");
    }
}

#[test]
fn on_waits_for_the_power_off_and_joins_the_start_of_a_reboot() {
    let mut bench = hanging(&power_off_of(A));
    let [off, on] = bench.ask_all([Off, On]);
    assert_eq!(verdicts(&on), []);
    bench.release();
    assert_eq!((verdicts(&off), verdicts(&on)), (vec![Verdict::Success], vec![Verdict::Success]));
    assert_eq!(bench.hosts[0].runs(A), Some(true));

    let mut bench = hanging(&format!("start {A}"));
    let [reboot, on] = bench.ask_all([Reboot, On]);
    assert_eq!(verdicts(&reboot), [Verdict::Success], "answered once the VM was seen off");
    assert_eq!(verdicts(&on), []);
    assert_eq!(bench.ask(Status, "a"), Verdict::Success, "it may run at any moment");
    bench.release();
    assert_eq!(verdicts(&on), [Verdict::Success]);
    assert_eq!(bench.hosts[0].log.borrow().len(), 1, "one start");
}

#[test]
fn off_waits_for_the_end_of_a_start() {
    let mut bench = hanging(&format!("start {A}"));
    let [_reboot, off] = bench.ask_all([Reboot, Off]);
    assert_eq!(verdicts(&off), []);
    assert_eq!(bench.hosts[0].destroys.get(), 1);
    bench.release();
    assert_eq!(verdicts(&off), [Verdict::Success]);
    assert_eq!((bench.hosts[0].destroys.get(), bench.hosts[0].runs(A)), (2, Some(false)));
}

#[test]
fn a_request_that_waits_expires_alone() {
    let mut bench = hanging(&power_off_of(A));
    let (early, _) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&early, AGE_LIMIT / 2), []);
    let [late, on] = bench.ask_all([Off, On]);
    assert_eq!(bench.wait(&early, AGE_LIMIT / 2), [Verdict::Failure.into()]);
    assert_eq!(verdicts(&late), []);
    bench.release();
    assert_eq!(bench.wait(&late, 2 * RETRY), [Verdict::Success.into()]);
    assert_eq!(verdicts(&on), [Verdict::Success]);
}

#[test]
fn a_client_that_hung_up_before_its_request_expired_leaves_no_deadline_in_the_past() {
    for (operation, call) in [(Off, power_off_of(A)), (On, format!("start {A}"))] {
        let mut bench = Bench::single(&[("a", A, operation == Off)]);
        bench.hosts[0].hold(&call);
        let (mail, caller) = bench.begin(operation, "a");
        caller.cancel();
        bench.wait(&mail, AGE_LIMIT);
        let deadlines = bench.backend.vm_operations.iter().map(|vm_operation| vm_operation.deadline());
        assert!(deadlines.flatten().all(|at| at > bench.now), "{operation:?}: the worker would spin");
    }
}

#[test]
fn a_call_whose_caller_hung_up_destroys_nothing_when_its_turn_comes() {
    let mut bench = hanging(&power_off_of(A));
    let (off, caller) = bench.begin(Off, "a");
    caller.cancel();
    bench.release();
    assert_eq!(bench.wait(&off, RETRY), [Verdict::Failure.into()]);
    assert_eq!((bench.hosts[0].destroys.get(), bench.hosts[0].runs(A)), (0, Some(true)));
    assert_eq!(bench.ask(Off, "a"), Verdict::Success, "nothing is left of it");
}

#[test]
fn calls_of_a_uri_that_is_lost_fail_and_destroy_nothing_later() {
    let mut bench = hanging(&power_off_of(A));
    let (off, _) = bench.begin(Off, "a");
    bench.close(true);
    assert_eq!(bench.wait(&off, Duration::from_secs(2)), []);
    let (other, _) = bench.begin(Off, "b");
    assert_eq!(verdicts(&other), [Verdict::Failure], "at once: it is known to be lost");
    assert_eq!(bench.wait(&off, Duration::from_secs(2)), [Verdict::Failure.into()]);
    assert!(!bench.held.is_empty(), "the call may still be made");
    bench.release();
    assert!(bench.held.is_empty());
    assert_eq!(bench.hosts[0].destroys.get(), 0);
    bench.close(false);
    assert_eq!(bench.ask(Off, "a"), Verdict::Success);
}

#[test]
fn a_call_without_a_result_is_given_up_and_the_next_request_is_served() {
    let mut bench = hanging(&power_off_of(A));
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&off, AGE_LIMIT), [Verdict::Failure.into()]);
    let (second, _) = bench.begin(Off, "a");
    bench.hosts[0].hold_no_more();
    // The first call may be in the opening of its connection, which has no time limit.
    assert_eq!(bench.wait(&second, AGE_LIMIT - RETRY), []);
    assert_eq!(bench.wait(&second, RETRY), [Verdict::Failure.into()]);
    assert_eq!(bench.ask(Off, "a"), Verdict::Success);
    assert_eq!(bench.hosts[0].destroys.get(), 1);
}

#[test]
fn lanes_are_limited_and_starts_leave_some_to_fences() {
    let uuids: Vec<String> = (0..8).map(|at| format!("aaaaaaaa-0000-4000-8000-00000000000{at}")).collect();
    let domains: Vec<(&str, &str, bool)> = uuids.iter().map(|uuid| (&**uuid, &**uuid, true)).collect();
    let mut bench = Bench::single(&domains);
    uuids.iter().for_each(|uuid| bench.hosts[0].hold(&format!("start {uuid}")));
    let reboots: Vec<Answers> = uuids[..4].iter().map(|uuid| bench.begin(Reboot, uuid).0).collect();
    assert!(reboots.iter().all(|mail| verdicts(mail) == [Verdict::Success]));
    assert_eq!(bench.hosts[0].held(), LANES / 2);
    let report = bench.lanes();
    assert_eq!((report.busy, report.queued, report.max), (LANES / 2, 4 - LANES / 2, LANES));
    assert!(report.oldest.is_some_and(|oldest| oldest.label == format!("start of {:?}", uuids[0])));
    assert_eq!(bench.ask(Off, &uuids[7]), Verdict::Success);
    bench.release();
    assert!(uuids[..4].iter().all(|uuid| bench.hosts[0].runs(uuid) == Some(true)));
    assert_eq!((bench.lanes().busy, bench.lanes().queued), (0, 0));

    uuids.iter().for_each(|uuid| bench.hosts[0].hold(&power_off_of(uuid)));
    let offs: Vec<Answers> = uuids[..6].iter().map(|uuid| bench.begin(Off, uuid).0).collect();
    assert_eq!((bench.hosts[0].held(), bench.lanes().busy), (LANES, LANES));
    bench.release();
    assert!(offs.iter().all(|mail| verdicts(mail) == [Verdict::Success]));
}

#[test]
fn the_daemon_ends_after_the_starts_of_reboots_and_calls_that_somebody_waits_for() {
    let mut bench = hanging(&power_off_of(A));
    let (off, caller) = bench.begin(Off, "a");
    bench.backend.stop();
    assert!(bench.backend.is_busy() && verdicts(&off).is_empty(), "somebody waits");
    caller.cancel();
    assert!(!bench.backend.is_busy());

    let mut bench = hanging(&format!("start {A}"));
    bench.begin(Reboot, "a");
    bench.backend.stop();
    assert!(bench.backend.is_busy());
    bench.release();
    assert!(!bench.backend.is_busy() && bench.hosts[0].runs(A) == Some(true));
}

#[test]
fn a_list_that_hangs_is_answered_from_events() {
    let mut bench = hanging("list");
    let vm = |name: &str, uuid| LocalVm {
        name: name.to_owned(),
        uuid: Uuid::parse(uuid).unwrap(),
        state: PowerState::Off,
        is_active: false,
        may_run_elsewhere: false,
    };
    let change = DomainChange::All(vec![vm("a", A), vm("b", B)]);
    bench.backend.event(Event::Domains { uri: UriIndex(0), change }, bench.now);
    bench.hosts[0].hold(&power_off_of(A));
    let (_off, _) = bench.begin(Off, "a");
    // A call holds a VM: no list call is made at all.
    let listed = bench.list().unwrap();
    let states: Vec<_> = listed.iter().map(|entry| (&*entry.name, entry.state)).collect();
    assert_eq!(states, [("a", PowerState::Running), ("b", PowerState::Off)], "a is on until it was seen off");
    bench.hosts[0].release();
    bench.settle();

    bench.hosts[0].hold("list");
    let (first, _) = bench.begin(Operation::HostList, "");
    assert!(listing::LIMIT + RETRY < Duration::from_secs(1));
    assert_eq!(bench.wait(&first, listing::LIMIT - RETRY), []);
    let (second, _) = bench.begin(Operation::HostList, "");
    assert_eq!(bench.wait(&first, RETRY * 2).len(), 1);
    assert_eq!(answers(&second).len(), 1, "the call of the first still hangs: it does not wait again");
    assert_eq!(bench.hosts[0].held(), 1);
}

#[test]
fn a_lookup_that_hangs_holds_up_only_that_vm() {
    let mut bench = hanging("lookup a");
    let [off, status] = bench.ask_all([Off, Status]);
    assert_eq!((verdicts(&off), verdicts(&status)), (vec![], vec![]));
    assert_eq!(bench.ask(Off, "b"), Verdict::Success);
    bench.release();
    assert_eq!((verdicts(&off).len(), verdicts(&status).len()), (1, 1));
}

#[test]
fn a_uri_whose_lookup_hangs_counts_as_unreachable_for_vms_of_others() {
    let hosts = [Fake::with(&[]), Fake::with(&[("a", A, true)])];
    let mut bench = Bench::new(&hosts, Groups::default());
    bench.hosts[0].hold("lookup a");
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&off, Duration::from_secs(1)), []);
    assert_eq!(bench.wait(&off, Duration::from_secs(1)), [Verdict::Success.into()]);
}

#[test]
fn lookups_of_a_vm_that_hangs_leave_lanes_to_others() {
    let mut bench = hanging("lookup a");
    for spelling in [A.to_owned(), A.replace('-', ""), A.to_ascii_uppercase()] {
        bench.hosts[0].hold(&format!("lookup {spelling}"));
        (0..LANES).for_each(|_| drop(bench.begin(Off, &spelling)));
    }
    (0..LANES).for_each(|_| drop(bench.begin(Off, "b")));
    assert!(bench.hosts[0].held() < LANES);
    assert_eq!(bench.ask(Off, "b"), Verdict::Success);
}

#[test]
fn lookups_that_nobody_waits_for_are_not_made() {
    let mut bench = hanging("lookup a");
    let asked: Vec<_> = (0..2 * LANES).map(|_| bench.begin(Off, "a")).collect();
    assert!(bench.lanes().queued > 0);
    for (mail, caller) in &asked {
        caller.cancel();
        assert_eq!(bench.wait(mail, RETRY), [Verdict::Failure.into()]);
    }
    assert_eq!(bench.lanes().queued, 0);
    bench.release();
    assert_eq!((bench.hosts[0].destroys.get(), bench.lanes().busy), (0, 0));
}

#[test]
fn a_start_whose_client_hung_up_during_the_lookup_is_not_made() {
    let mut bench = Bench::single(&[("a", A, false)]);
    bench.hosts[0].hold("lookup a");
    let (on, caller) = bench.begin(On, "a");
    caller.cancel();
    bench.release();
    assert_eq!((verdicts(&on), bench.hosts[0].runs(A)), (vec![Verdict::Failure], Some(false)));
}

#[test]
fn an_off_does_not_overtake_an_earlier_on() {
    let mut bench = Bench::single(&[("a", A, false)]);
    bench.hosts[0].hold("lookup a");
    let (on, _) = bench.begin(On, "a");
    bench.hosts[0].hold_no_more();
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(verdicts(&off), []);
    bench.release();
    assert_eq!((verdicts(&on), verdicts(&off)), (vec![Verdict::Success], vec![Verdict::Success]));
    assert_eq!(bench.hosts[0].runs(A), Some(false), "the last word was off");
}

#[test]
fn a_start_that_nobody_waits_for_is_not_made_when_its_turn_comes() {
    let mut bench = Bench::single(&[("a", A, false)]);
    bench.hosts[0].hold(&format!("start {A}"));
    let (on, _) = bench.begin(On, "a");
    assert_eq!(bench.wait(&on, AGE_LIMIT), [Verdict::Failure.into()]);
    let (next, _) = bench.begin(On, "a");
    bench.release();
    assert_eq!((verdicts(&next), bench.hosts[0].runs(A)), (vec![Verdict::Success], Some(true)));

    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().runs = None;
    bench.hosts[0].hold(&format!("start {A}"));
    let (on, caller) = bench.begin(On, "a");
    caller.cancel();
    bench.wait(&on, RETRY);
    bench.release();
    assert_eq!((verdicts(&on), bench.hosts[0].runs(A)), (vec![Verdict::Failure], Some(false)));
}

#[test]
fn a_start_of_a_uri_that_was_lost_does_not_come_after_a_later_off() {
    let mut bench = hanging(&format!("start {A}"));
    let (reboot, _) = bench.begin(Reboot, "a");
    assert_eq!(verdicts(&reboot), [Verdict::Success]);
    bench.close(true);
    bench.wait(&reboot, Duration::from_secs(4));
    bench.close(false);
    assert_eq!(bench.ask(Off, "a"), Verdict::Success);
    bench.release();
    assert_eq!(bench.hosts[0].runs(A), Some(false));
}

#[test]
fn an_off_does_not_wait_for_a_start_that_waits_for_the_starts_of_others() {
    let uuids: Vec<String> = (0..3).map(|at| format!("aaaaaaaa-0000-4000-8000-00000000000{at}")).collect();
    let domains: Vec<(&str, &str, bool)> = uuids.iter().map(|uuid| (&**uuid, &**uuid, true)).collect();
    let mut bench = Bench::single(&domains);
    uuids.iter().for_each(|uuid| bench.hosts[0].hold(&format!("start {uuid}")));
    uuids.iter().for_each(|uuid| drop(bench.begin(Reboot, uuid)));
    assert_eq!((bench.lanes().busy, bench.lanes().queued), (2, 1));
    assert_eq!(bench.ask(Off, &uuids[2]), Verdict::Success);
    assert!(!bench.held.contains(Uuid::parse(&uuids[2]).unwrap()));
    let (off, _) = bench.begin(Off, &uuids[0]);
    assert_eq!(verdicts(&off), [], "this start has begun");
    bench.release();
    assert_eq!(verdicts(&off), [Verdict::Success]);
    let runs: Vec<_> = uuids.iter().map(|uuid| bench.hosts[0].runs(uuid) == Some(true)).collect();
    assert_eq!(runs, [false, true, false]);
}

#[test]
fn a_request_that_is_stricter_about_migration_does_not_join() {
    let mut bench = Bench::single(&[("a", A, false)]);
    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().has_migrated = true;
    bench.hosts[0].hold(&power_off_of(A));
    let [known_elsewhere, known_here_alone] = [false, true].map(|is_sole_known_owner| {
        let (mut job, mail, _) = job(Off, "a", bench.now);
        (job.requester, job.caller) =
            (Requester::Cluster { permitted: PermittedNames::All, is_sole_known_owner }, None);
        bench.backend.begin(job, bench.now);
        bench.settle();
        mail
    });
    bench.release();
    assert_eq!(verdicts(&known_elsewhere), [Verdict::Success]);
    assert_eq!(verdicts(&known_here_alone), [Verdict::Failure], "it may run on another host");
}

#[test]
fn a_request_joins_the_operation_of_the_vm_that_it_names_alone() {
    // The name of one is the UUID of the other.
    let mut bench = Bench::single(&[(B, A, true), ("b", B, true)]);
    bench.hosts[0].hold(&power_off_of(A));
    bench.hosts[0].hold(&power_off_of(B));
    let [first, other] = [A, B].map(|target| bench.begin(Off, target).0);
    assert_eq!(bench.hosts[0].held(), 2, "each is powered off by itself");
    bench.release();
    assert_eq!((verdicts(&first), verdicts(&other)), (vec![Verdict::Success], vec![Verdict::Success]));

    // VMs of two URIs have the same name.
    let mut bench =
        Bench::new(&[Fake::with(&[("a", A, true)]), Fake::with(&[("a", B, true)])], Groups::default());
    bench.list();
    bench.hosts[0].hold(&power_off_of(A));
    let [first, other] = [A, "a"].map(|target| bench.begin(Off, target).0);
    bench.release();
    assert_eq!((verdicts(&first), verdicts(&other)), (vec![Verdict::Success], vec![Verdict::Failure]));
    assert_eq!(bench.hosts[1].runs(B), Some(true));
}
