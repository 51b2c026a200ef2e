//! Groups, and copies of one VM that have different names at their URIs.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{A, B, Bench};
use super::fake::Fake;
use crate::access::VmCopy;
use crate::backend::Backend;
use crate::inbox::{DomainChange, Event};
use crate::job::tests::{Answers, answers, job_of};
use fence_virt::fence::Operation::{self, HostList, Off, On, Reboot, Status};
use fence_virt::fence::{PowerState, Rights, Source, UriIndex, Uuid, Verdict};
use fence_virt::groups::{Group, Groups};
use fence_virt::routing::LocalVm;

const FIRST: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn groups(groups: &[(&str, &[&str])]) -> Groups {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    Groups::new(groups.iter().map(|(ip, uuids)| Group::new(&owned(&[ip]), &owned(uuids))).collect())
}

/// The VM victim, which runs, and another one that somebody has given its UUID.
fn borrowed(runs: bool) -> [Arc<Fake>; 2] {
    [Fake::with(&[("victim", A, true)]), Fake::with(&[("mine", A, runs)])]
}

impl Bench {
    fn asks_as(&mut self, address: &str, operation: Operation, name: &str) -> Answers {
        let source = Source::ip(address.parse().unwrap());
        let (job, mail, ..) = job_of(source, operation, name, self.now);
        self.backend.begin(job, self.now);
        self.settle();
        mail
    }
}

#[test]
fn every_copy_that_is_touched_must_be_permitted_by_itself() {
    for is_swapped in [false, true] {
        for (listed, name, expected, victim_runs) in [
            (&["mine"][..], A, Verdict::Denied, true),
            (&["mine"], "victim", Verdict::Denied, true),
            // Nobody has seen the other one yet: this one alone is touched.
            (&["mine"], "mine", Verdict::Success, true),
            (&["victim"], A, Verdict::Denied, true),
            (&[A], A, Verdict::Success, false),
            (&["mine", "Victim"], A, Verdict::Success, false),
            (&[B], A, Verdict::Denied, true),
        ] {
            let mut hosts = borrowed(true);
            let victim = hosts[0].clone();
            if is_swapped {
                hosts.reverse();
            }
            for operation in [Status, Off] {
                let mut bench = Bench::new(&hosts, groups(&[(FIRST, listed)]));
                assert_eq!(bench.ask(operation, name), expected, "{operation} {name} {listed:?}");
            }
            assert_eq!(victim.runs(A), Some(victim_runs), "{name} {listed:?} {is_swapped}");
        }
    }
}

/// What the watchers of two URIs saw of [`borrowed`] VMs.
fn watched(bench: &mut Bench) {
    for (at, name) in ["victim", "mine"].into_iter().enumerate() {
        let (name, uuid, state) = (name.to_owned(), Uuid::parse(A).unwrap(), PowerState::Running);
        let change =
            DomainChange::All(vec![LocalVm { name, uuid, state, is_active: true, may_run_elsewhere: false }]);
        bench.backend.event(Event::Domains { uri: UriIndex(at), change }, bench.now);
    }
}

#[test]
fn a_request_by_name_is_for_all_copies_that_are_known() {
    for name in ["mine", "victim"] {
        for (listed, expected) in [(name, Verdict::Denied), (A, Verdict::Success)] {
            let mut bench = Bench::new(&borrowed(true), groups(&[(FIRST, &[listed])]));
            watched(&mut bench);
            assert_eq!(bench.ask(Status, name), expected, "{name} {listed}");
            assert_eq!(bench.ask(Off, name), expected, "{name} {listed}");
            let runs = Some(expected == Verdict::Denied);
            assert_eq!([0, 1].map(|at| bench.hosts[at].runs(A)), [runs; 2], "{name} {listed}");
        }
    }
    // Two VMs have the name: it is ambiguous, whatever other names they have.
    let hosts = [Fake::with(&[("victim", A, true)]), Fake::with(&[("mine", A, true), ("victim", B, true)])];
    let mut bench = Bench::new(&hosts, Groups::default());
    watched(&mut bench);
    let (name, uuid, state) = ("victim".to_owned(), Uuid::parse(B).unwrap(), PowerState::Running);
    let change = DomainChange::One(LocalVm { name, uuid, state, is_active: true, may_run_elsewhere: false });
    bench.backend.event(Event::Domains { uri: UriIndex(1), change }, bench.now);
    assert_eq!((bench.ask(Off, "victim"), bench.hosts[0].runs(A)), (Verdict::Failure, Some(true)));
}

#[test]
fn a_request_does_not_join_an_operation_that_touches_other_copies() {
    for operation in [Off, Reboot, On, Status] {
        let permitted = groups(&[(FIRST, &["mine"]), (OTHER, &[A])]);
        let mut bench = Bench::new(&borrowed(true), permitted);
        bench.hosts[0].hold(&format!("power-off {A}"));
        let reboot = bench.asks_as(OTHER, Reboot, A);
        let denied = bench.asks_as(FIRST, operation, "mine");
        assert_eq!(answers(&denied), [Verdict::Denied.into()], "{operation}");
        bench.release();
        assert_eq!(answers(&reboot), [Verdict::Success.into()]);
        assert_eq!(bench.hosts[0].runs(A), Some(true), "{operation}: it was started again");
    }
}

#[test]
fn a_request_is_not_answered_by_an_operation_that_lacks_one_of_its_copies() {
    for (begun, name) in [(Off, A), (Off, "victim"), (On, A)] {
        let mut bench = Bench::new(&borrowed(begun == Off), Groups::default());
        let label = if begun == Off { "power-off" } else { "start" };
        bench.hosts[1].hold(&format!("{label} {A}"));
        let mine = bench.asks_as(FIRST, begun, "mine");
        let all = bench.asks_as(FIRST, Off, name);
        assert_eq!((answers(&mine), answers(&all)), (vec![], vec![]), "{begun} {name}");
        bench.hosts[1].release();
        bench.settle();
        let mut got = bench.wait(&all, Duration::from_secs(1));
        got.retain(|answer| *answer == Verdict::Success.into());
        assert_eq!((got.len(), bench.hosts[0].runs(A)), (1, Some(false)), "{begun} {name}");
        assert_eq!(answers(&mine), [Verdict::Success.into()]);
    }
}

#[test]
fn an_off_that_interrupts_a_start_is_for_all_its_copies() {
    let mut bench = Bench::new(&borrowed(false), groups(&[(FIRST, &["mine"]), (OTHER, &[A])]));
    bench.hosts[1].hold(&format!("start {A}"));
    let _started = bench.asks_as(FIRST, On, "mine");
    let all = bench.asks_as(OTHER, Off, A);
    let second = Duration::from_secs(1);
    assert_eq!(bench.wait(&all, 3 * second), [], "it waits for the start to end");
    assert_eq!(bench.hosts[0].runs(A), Some(false), "the other copy is off already");
    let mine = bench.asks_as(FIRST, Off, "mine");
    assert_eq!(answers(&mine), [Verdict::Denied.into()]);
    bench.hosts[1].release();
    bench.settle();
    assert_eq!(bench.wait(&all, 3 * second), [Verdict::Success.into()]);
    assert_eq!([bench.hosts[0].runs(A), bench.hosts[1].runs(A)], [Some(false); 2]);
}

#[test]
fn a_list_shows_a_vm_under_a_name_by_which_it_is_permitted() {
    for (listed, expected) in [
        (&["mine"][..], Some(("mine", PowerState::Off))),
        (&["victim"], Some(("victim", PowerState::Running))),
        (&[A], Some(("victim", PowerState::Running))),
        (&[B], None),
    ] {
        for is_swapped in [false, true] {
            let mut hosts = borrowed(false);
            if is_swapped {
                hosts.reverse();
            }
            let mut bench = Bench::new(&hosts, groups(&[(FIRST, listed)]));
            let shown: Vec<_> =
                bench.list().unwrap().into_iter().map(|entry| (entry.name, entry.state)).collect();
            let expected = expected.map(|(name, state)| (name.to_owned(), state));
            assert_eq!(shown, Vec::from_iter(expected), "{listed:?}");
        }
    }
}

/// Groups of this requester and these VMs, each with the operations that it allows.
fn rights(groups: &[(&str, &[&str], &[Operation])]) -> Groups {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let group = |(ip, uuids, allowed): &(&str, &[&str], &[Operation])| {
        let group = Group::new(&owned(&[ip]), &owned(uuids)).labelled(format!("{uuids:?}"));
        group.allowing(allowed.iter().copied().collect::<Rights>())
    };
    Groups::new(groups.iter().map(group).collect())
}

#[test]
fn an_operation_that_no_group_allows_is_denied() {
    for (allowed, _) in Rights::OPERATIONS {
        for operation in [Status, Off, Reboot, On] {
            // The VM that has the power state which the operation changes.
            let runs = operation != On;
            let mut bench =
                Bench::new(&[Fake::with(&[("a", A, runs)])], rights(&[(FIRST, &["a"], &[allowed])]));
            let expected = if operation == allowed { Verdict::Success } else { Verdict::Denied };
            assert_eq!(bench.ask(operation, "a"), expected, "{operation}, {allowed}");
            if operation != allowed {
                assert_eq!(bench.hosts[0].runs(A), Some(runs), "{operation}, {allowed}");
            }
        }
        let mut bench = Bench::new(&[Fake::with(&[("a", A, true)])], rights(&[(FIRST, &["a"], &[allowed])]));
        let shown = bench.list().unwrap();
        assert_eq!(shown.len(), usize::from(allowed == HostList), "{allowed}");
    }
}

#[test]
fn a_list_shows_what_a_group_with_list_permits() {
    let hosts = [Fake::with(&[("a", A, true), ("b", B, true)])];
    let groups = rights(&[(FIRST, &["a"], &[Status, Off, Reboot, On]), (FIRST, &["b"], &[HostList])]);
    let names: Vec<_> = Bench::new(&hosts, groups).list().unwrap().into_iter().map(|vm| vm.name).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn each_copy_must_be_permitted_for_the_operation() {
    let groups = || rights(&[(FIRST, &["victim"], &[Status, Off]), (FIRST, &["mine"], &[Status])]);
    for name in [A, "victim", "mine"] {
        let mut bench = Bench::new(&borrowed(true), groups());
        watched(&mut bench);
        assert_eq!(
            (bench.ask(Status, name), bench.ask(Off, name)),
            (Verdict::Success, Verdict::Denied),
            "{name}"
        );
        assert_eq!([0, 1].map(|at| bench.hosts[at].runs(A)), [Some(true); 2], "{name}");
    }
}

#[test]
fn a_request_that_joins_an_operation_needs_its_own_right() {
    for (asked, allowed, expected) in [
        (Off, &[Off][..], Verdict::Success),
        (Off, &[Status, HostList, Reboot, On], Verdict::Denied),
        (Reboot, &[Reboot], Verdict::Success),
        (Reboot, &[Off, On, Status], Verdict::Denied),
        (Status, &[Status], Verdict::Success),
        (Status, &[Off, Reboot, On, HostList], Verdict::Denied),
    ] {
        let all = Rights::all().iter().collect::<Vec<_>>();
        let permitted = rights(&[(OTHER, &[A], &all), (FIRST, &[A], allowed)]);
        let mut bench = Bench::new(&[Fake::with(&[("a", A, true)])], permitted);
        bench.hosts[0].hold(&format!("power-off {A}"));
        let reboot = bench.asks_as(OTHER, Reboot, A);
        let second = bench.asks_as(FIRST, asked, "a");
        let early = answers(&second);
        bench.release();
        assert_eq!(answers(&reboot), [Verdict::Success.into()]);
        let late = answers(&second);
        assert_eq!([early, late].concat(), [expected.into()], "{asked}, {allowed:?}");
    }
}

#[test]
fn a_denial_names_the_groups_that_do_not_allow_the_operation() {
    let reason = |groups: Groups, operation| {
        let bench = Bench::new(&[Fake::with(&[("a", A, true)])], groups);
        let (job, ..) = job_of(Source::ip(FIRST.parse().unwrap()), operation, "a", bench.now);
        let copy = VmCopy { place: String::new(), name: "a".to_owned(), uuid: A.to_owned() };
        let denied = bench.backend.permit(&job, &[copy], &|_| Vec::new(), bench.now).unwrap_err();
        assert_eq!(denied.0, Verdict::Denied);
        denied.1
    };
    let groups =
        || rights(&[(FIRST, &["a"], &[Status, HostList]), (FIRST, &["b"], &[Off]), (OTHER, &["a"], &[Off])]);
    assert_eq!(
        reason(groups(), Off),
        "no group with both requester and VM allows off: [\"a\"] (allows status, list)"
    );
    let apart = rights(&[(FIRST, &["b"], &[Off]), (OTHER, &["a"], &[Off, On])]);
    assert_eq!(
        reason(apart, Off),
        "no group lists both requester and VM; groups of the requester: [\"b\"] (allows off), of the VM: [\"a\"] \
         (allows off, on)"
    );
}
