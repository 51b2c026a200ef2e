//! Evidence of jobs of the cluster: what has become of this host's copy of a VM.

use std::sync::{Arc, Mutex};

use super::bench::{A, Bench};
use super::fake::{Fault, Outgoing};
use super::migration_tests::{Place, bench, put};
use super::power_operations::RETRY;
use crate::backend::Backend;
use crate::job::tests::job;
use crate::job::{Requester, Responder};
use crate::libvirt::{DYING, LibvirtError, STARTING_UP};
use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};
use fence_virt::fence::Verdict::{Failure, Success};
use fence_virt::fence::{Answer, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::Evidence::{self, Ended, EndedWhileMigrating, Moved};

use Place::{MigratedAway, Migrating, Missing, Runs, StartingUp};

/// Outcome of a job, once it has ended.
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<Mutex<Option<(Answer, Evidence, String)>>>);

impl Outcome {
    pub(super) fn take(&self) -> Option<(Verdict, Evidence)> {
        self.with_reason().map(|(verdict, evidence, _)| (verdict, evidence))
    }

    pub(super) fn with_reason(&self) -> Option<(Verdict, Evidence, String)> {
        let (answer, evidence, reason) = self.0.lock().unwrap().take()?;
        let Answer::Verdict(verdict) = answer else { panic!("{answer:?}") };
        Some((verdict, evidence, reason))
    }
}

/// A job of the cluster for the VM a.
pub(super) fn serve(bench: &mut Bench, operation: Operation, is_sole_known_owner: bool) -> Outcome {
    let (mut job, ..) = job(operation, "a", bench.now);
    let outcome = Outcome::default();
    let into = outcome.clone();
    job.requester = Requester::Cluster { permitted: PermittedNames::All, is_sole_known_owner };
    job.caller = None;
    job.responder = Responder::new(move |answer, completion| {
        *into.0.lock().unwrap() = Some((answer, completion.evidence, completion.reason));
    });
    bench.backend.begin(job, bench.now);
    bench.settle();
    outcome
}

/// Outcome of an operation on the VM a at these places.
fn ask<const N: usize>(places: [Place; N], operation: Operation, is_sole: bool) -> (Verdict, Evidence) {
    let mut bench = bench(places);
    let outcome = serve(&mut bench, operation, is_sole);
    let end = bench.now + 2 * STARTING_UP;
    loop {
        if let Some(outcome) = outcome.take() {
            return outcome;
        }
        assert!(bench.now < end, "{places:?}: it does not end");
        bench.now += RETRY;
        bench.backend.turn(bench.now);
        bench.settle();
    }
}

#[test]
fn the_evidence_of_one_placement() {
    // If another host may have the VM, then if none is known to.
    for (place, operation, known_elsewhere, sole) in [
        (Runs, Off, (Success, Ended), (Success, Ended)),
        (Runs, Reboot, (Success, Ended), (Success, Ended)),
        (Runs, Status, (Success, Evidence::None), (Success, Evidence::None)),
        (Place::Off, Off, (Success, Evidence::None), (Success, Evidence::None)),
        (Place::Off, Reboot, (Success, Evidence::None), (Success, Evidence::None)),
        (Place::Off, Status, (Verdict::Off, Evidence::None), (Verdict::Off, Evidence::None)),
        (MigratedAway, Off, (Success, Moved), (Failure, Moved)),
        (MigratedAway, Reboot, (Success, Moved), (Failure, Moved)),
        (MigratedAway, Status, (Verdict::Off, Moved), (Failure, Moved)),
        (MigratedAway, On, (Success, Evidence::None), (Failure, Moved)),
        (Migrating, Off, (Success, EndedWhileMigrating), (Failure, Evidence::None)),
        (Migrating, Reboot, (Success, EndedWhileMigrating), (Failure, Evidence::None)),
        (Migrating, Status, (Success, Evidence::None), (Success, Evidence::None)),
        // A migration to this host begins like this.
        (StartingUp, Off, (Success, EndedWhileMigrating), (Success, EndedWhileMigrating)),
        (Missing, Off, (Failure, Evidence::None), (Failure, Evidence::None)),
        (Missing, Status, (Failure, Evidence::None), (Failure, Evidence::None)),
    ] {
        for (is_sole, expected) in [(false, known_elsewhere), (true, sole)] {
            assert_eq!(ask([place], operation, is_sole), expected, "{place:?} {operation} {is_sole}");
        }
    }
}

#[test]
fn the_evidence_of_several_placements() {
    for (places, off, status) in [
        ([Runs, Place::Off], (Success, Ended), (Success, Evidence::None)),
        ([MigratedAway, Runs], (Success, Ended), (Success, Evidence::None)),
        // The one that ran is not the one that another host sends.
        ([Migrating, Runs], (Success, Ended), (Success, Evidence::None)),
        ([Migrating, Place::Off], (Success, EndedWhileMigrating), (Success, Evidence::None)),
        ([Migrating, MigratedAway], (Success, EndedWhileMigrating), (Success, Evidence::None)),
        ([MigratedAway, Place::Off], (Success, Moved), (Verdict::Off, Moved)),
        ([MigratedAway, MigratedAway], (Success, Moved), (Verdict::Off, Moved)),
        ([Place::Off, Place::Off], (Success, Evidence::None), (Verdict::Off, Evidence::None)),
    ] {
        assert_eq!(ask(places, Off, false), off, "{places:?}");
        assert_eq!(ask(places, Status, false), status, "{places:?}");
    }
    for (places, off, status) in [
        ([MigratedAway, Place::Off], (Failure, Moved), (Failure, Moved)),
        ([MigratedAway, MigratedAway], (Failure, Moved), (Failure, Moved)),
        // One of them is paused, so it is not known where the VM goes or comes from.
        ([MigratedAway, Migrating], (Failure, Evidence::None), (Success, Evidence::None)),
    ] {
        assert_eq!(ask(places, Off, true), off, "{places:?}");
        assert_eq!(ask(places, Status, true), status, "{places:?}");
    }
}

#[test]
fn a_vm_that_is_off_where_it_ran_last_has_not_moved() {
    for is_sole in [false, true] {
        let mut bench = bench([MigratedAway, Runs]);
        bench.tells(0, MigratedAway);
        bench.tells(1, Runs);
        put(&bench.hosts[1], Place::Off);
        for (operation, verdict) in [(Off, Success), (Status, Verdict::Off)] {
            let outcome = serve(&mut bench, operation, is_sole).take();
            assert_eq!(outcome, Some((verdict, Evidence::None)), "{operation} {is_sole}");
        }
    }
}

#[test]
fn all_requests_of_a_power_off_get_its_evidence() {
    let mut bench = bench([Runs]);
    bench.hosts[0].hold(&format!("power-off {A}"));
    let outcomes = [Off, Reboot, Off].map(|operation| serve(&mut bench, operation, true));
    assert!(outcomes.iter().all(|outcome| outcome.take().is_none()));
    bench.release();
    assert_eq!(outcomes.map(|outcome| outcome.take()), [Some((Success, Ended)); 3]);
    assert_eq!(bench.destroys(), [1]);
}

#[test]
fn only_a_destroy_that_took_effect_has_ended_the_vm() {
    for (fault, expected) in [
        // The guest has gone meanwhile.
        (Fault::FailsAndGone, (Failure, Evidence::None)),
        (Fault::Fails(LibvirtError::Other("refused".to_owned())), (Failure, Evidence::None)),
        (Fault::LostAfter, (Failure, Evidence::None)),
        // Somebody has started it at once: that is another run.
        (Fault::Restarted, (Success, Ended)),
    ] {
        let mut bench = bench([Runs]);
        *bench.hosts[0].faults.borrow_mut() = vec![fault.clone()];
        assert_eq!(serve(&mut bench, Off, false).take(), Some(expected), "{fault:?}");
    }
}

#[test]
fn a_failure_for_another_reason_is_no_evidence_of_a_move() {
    let mut bench = bench([MigratedAway, Place::Off]);
    bench.break_host(1);
    for operation in [Off, Status] {
        let outcome = serve(&mut bench, operation, true).take();
        assert_eq!(outcome, Some((Failure, Evidence::None)), "{operation}: it may run at the other URI");
    }
}

#[test]
fn a_vm_that_is_about_to_leave_may_run_elsewhere() {
    for (outgoing, known_elsewhere, sole, destroys) in [
        (Outgoing::Active, (Success, EndedWhileMigrating), (Success, EndedWhileMigrating), [1, 1]),
        // It is not known: fencing goes on.
        (Outgoing::Fails, (Success, EndedWhileMigrating), (Success, EndedWhileMigrating), [1, 1]),
        (Outgoing::HandsOver, (Success, EndedWhileMigrating), (Failure, Evidence::None), [1, 0]),
        (Outgoing::Ends, (Success, Moved), (Failure, Moved), [0, 0]),
    ] {
        for (is_sole, expected, destroys) in
            [(false, known_elsewhere, destroys[0]), (true, sole, destroys[1])]
        {
            let mut bench = bench([Runs]);
            bench.hosts[0].outgoing.set(outgoing);
            let (verdict, evidence, reason) = serve(&mut bench, Off, is_sole).with_reason().unwrap();
            assert_eq!((verdict, evidence), expected, "{outgoing:?} {is_sole}");
            assert_eq!(bench.destroys(), [destroys], "{outgoing:?} {is_sole}");
            let remarks = reason.contains("perhaps during a migration");
            assert_eq!(remarks, evidence == EndedWhileMigrating, "{reason}");
        }
    }
}

#[test]
fn libvirt_is_asked_for_the_job_directly_before_a_destroy_alone() {
    for (place, queries) in [(Runs, 1), (Place::Off, 0), (MigratedAway, 0), (Migrating, 0), (StartingUp, 0)] {
        let mut bench = bench([place]);
        serve(&mut bench, Off, false);
        assert_eq!(bench.hosts[0].job_queries.get(), queries, "{place:?}");
    }
    let busy = || Fault::Fails(LibvirtError::Busy("busy".to_owned()));
    for (outgoing, fault, expected, queries) in [
        // The migration may have begun since the first query.
        (Outgoing::None, busy(), Ended, 2),
        // The answer would not change; a query that hangs is not made again.
        (Outgoing::Fails, busy(), EndedWhileMigrating, 1),
        (Outgoing::Active, busy(), EndedWhileMigrating, 1),
        // It is dying already.
        (Outgoing::None, Fault::NoEffect, Ended, 1),
    ] {
        let mut bench = bench([Runs]);
        bench.hosts[0].outgoing.set(outgoing);
        *bench.hosts[0].faults.borrow_mut() = vec![fault.clone()];
        let outcome = serve(&mut bench, Off, false);
        assert_eq!(outcome.take(), None);
        bench.now += DYING + RETRY;
        bench.backend.turn(bench.now);
        bench.settle();
        assert_eq!(outcome.take(), Some((Success, expected)), "{outgoing:?} {fault:?}");
        assert_eq!(bench.hosts[0].job_queries.get(), queries, "{outgoing:?} {fault:?}");
    }
}

#[test]
fn a_vm_that_was_migrating_is_not_started_again_before_the_cluster_asks_for_it() {
    for (outgoing, is_started, evidence) in
        [(Outgoing::None, true, Ended), (Outgoing::Active, false, EndedWhileMigrating)]
    {
        let mut bench = bench([Runs]);
        bench.hosts[0].outgoing.set(outgoing);
        let (verdict, found, reason) = serve(&mut bench, Reboot, false).with_reason().unwrap();
        assert_eq!((verdict, found), (Success, evidence));
        assert_eq!(reason.contains("starting it again"), is_started, "{reason}");
        assert_eq!(bench.hosts[0].runs(A), Some(is_started), "{outgoing:?}");
    }
}
