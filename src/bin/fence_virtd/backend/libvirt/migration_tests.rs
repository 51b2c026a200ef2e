//! VMs that migrate: what has moved away, or may be about to come, is not off.

use super::bench::{A, Bench};
use super::fake::{Domain, Fake};
use super::power_operations::RETRY;
use crate::backend::Backend;
use crate::inbox::{DomainChange, Event};
use crate::job::tests::answers;
use crate::libvirt::STARTING_UP;
use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};
use fence_virt::fence::Verdict::{Failure, Success};
use fence_virt::fence::{Answer, PowerState, Target, UriIndex, Uuid, Verdict};
use fence_virt::groups::Groups;
use fence_virt::routing::LocalVm;

/// Placement of the VM a on one URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Missing,
    Off,
    Runs,
    MigratedAway,
    /// Paused by a migration, in either direction.
    Migrating,
    StartingUp,
}

use Place::{MigratedAway, Migrating, Missing, Runs, StartingUp};

pub(super) fn put(fake: &Fake, place: Place) {
    let mut domains = fake.domains.borrow_mut();
    if place == Missing {
        domains.remove(A);
        return;
    }
    let domain = Domain {
        name: "a".to_owned(),
        runs: matches!(place, Runs | Migrating | StartingUp).then_some(70),
        is_transient: false,
        has_migrated: matches!(place, MigratedAway | Migrating),
        is_starting: place == StartingUp,
    };
    domains.insert(A.to_owned(), domain);
}

pub(super) fn bench<const N: usize>(places: [Place; N]) -> Bench {
    let hosts = places.map(|_| Fake::with(&[]));
    hosts.iter().zip(places).for_each(|(host, place)| put(host, place));
    Bench::new(&hosts, Groups::default())
}

impl Bench {
    /// The watcher of a URI tells all its VMs.
    pub(super) fn tells(&mut self, at: usize, place: Place) {
        let local = |state, is_active| LocalVm {
            name: "a".to_owned(),
            uuid: Uuid::parse(A).unwrap(),
            state,
            is_active,
            may_run_elsewhere: false,
        };
        let vms = match place {
            Missing => Vec::new(),
            Place::Off | MigratedAway => vec![local(PowerState::Off, false)],
            Runs => vec![local(PowerState::Running, true)],
            Migrating | StartingUp => vec![local(PowerState::Running, false)],
        };
        self.domains(at, DomainChange::All(vms));
    }

    fn domains(&mut self, at: usize, change: DomainChange) {
        self.backend.event(Event::Domains { uri: UriIndex(at), change }, self.now);
    }

    pub(super) fn destroys(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.destroys.get()).collect()
    }
}

fn ask_all(place: Place) -> Vec<(Operation, Verdict)> {
    [Off, Reboot, Status, On]
        .into_iter()
        .map(|operation| (operation, bench([place]).ask(operation, "a")))
        .collect()
}

#[test]
fn a_vm_that_has_migrated_away_is_neither_off_nor_started() {
    let failures = [Off, Reboot, Status, On].map(|operation| (operation, Failure));
    assert_eq!(ask_all(MigratedAway), failures);
    let mut bench = bench([MigratedAway]);
    assert_eq!(bench.ask(On, "a"), Failure);
    assert_eq!(bench.hosts[0].runs(A), Some(false), "no second copy");
    // Somebody has started it here and destroyed it.
    put(&bench.hosts[0], Place::Off);
    assert_eq!(bench.ask(Status, "a"), Verdict::Off);
    assert_eq!(bench.ask(Off, "a"), Success);
    assert_eq!(bench.ask(On, "a"), Success);
}

#[test]
fn a_vm_that_a_migration_has_paused_is_not_destroyed() {
    // It runs here or where it goes to or comes from, so it is on.
    let expected = [(Off, Failure), (Reboot, Failure), (Status, Success), (On, Success)];
    assert_eq!(ask_all(Migrating), expected);
    let mut bench = bench([Migrating]);
    assert_eq!(bench.ask(Off, "a"), Failure);
    assert_eq!(bench.destroys(), [0], "the other side runs on");
}

#[test]
fn a_vm_that_migrates_away_instead_of_being_restarted_is_not_started() {
    let mut bench = bench([Runs]);
    bench.hosts[0].hold(&format!("start {A}"));
    assert_eq!(bench.ask(Reboot, "a"), Success);
    put(&bench.hosts[0], MigratedAway);
    bench.release();
    assert_eq!(bench.hosts[0].runs(A), Some(false));
    assert!(bench.hosts[0].log.borrow().is_empty());
}

#[test]
fn a_start_by_somebody_else_is_observed_before_it_is_destroyed() {
    for (place, expected) in
        [(Runs, Success), (Migrating, Failure), (Place::Off, Success), (Missing, Failure)]
    {
        let mut bench = bench([StartingUp]);
        let (off, _) = bench.begin(Off, "a");
        assert_eq!(bench.wait(&off, STARTING_UP - 2 * RETRY), []);
        assert_eq!(bench.destroys(), [0], "a migration to this host begins like this");
        put(&bench.hosts[0], place);
        assert_eq!(bench.wait(&off, RETRY), [expected.into()], "{place:?}");
        assert_eq!(bench.destroys(), [usize::from(place == Runs)], "{place:?}");
    }
}

#[test]
fn a_start_by_somebody_else_that_hangs_is_destroyed() {
    let mut bench = bench([StartingUp]);
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&off, STARTING_UP + RETRY), [Success.into()]);
    assert_eq!((bench.destroys(), bench.hosts[0].runs(A)), (vec![1], Some(false)));
}

#[test]
fn a_start_that_is_gone_after_its_destroy_may_have_been_a_migration() {
    let mut bench = bench([StartingUp]);
    bench.hosts[0].domains.borrow_mut().get_mut(A).unwrap().is_transient = true;
    assert_eq!(bench.ask(Off, "a"), Failure);
    assert_eq!(bench.destroys(), [1]);
}

#[test]
fn a_start_of_this_daemon_is_no_migration() {
    let mut bench = bench([Runs]);
    bench.hosts[0].hold(&format!("start {A}"));
    assert_eq!(bench.ask(Reboot, "a"), Success);
    put(&bench.hosts[0], StartingUp);
    let (off, _) = bench.begin(Off, "a");
    bench.wait(&off, super::starting::START_PATIENCE + RETRY);
    assert_eq!(bench.destroys(), [2], "an off does not wait for it any longer");
    assert_eq!(bench.hosts[0].job_queries.get(), 1, "nor for a query that waits for the start");
    bench.hosts[0].starts_fail.set(true);
    bench.release();
    assert_eq!(answers(&off), [Answer::from(Success)]);
}

#[test]
fn the_copy_that_runs_on_another_uri_is_destroyed_and_accounts_for_the_one_that_moved() {
    for places in [[MigratedAway, Runs], [Runs, MigratedAway], [Runs, Migrating], [StartingUp, Runs]] {
        let mut bench = bench(places);
        assert_eq!(bench.ask(Off, "a"), Success, "{places:?}");
        for (host, place) in bench.hosts.iter().zip(places) {
            assert_eq!(host.runs(A), Some(false), "{places:?}");
            assert_eq!(host.destroys.get(), usize::from(place != MigratedAway), "{places:?}");
        }
    }
}

#[test]
fn a_vm_that_moved_is_not_off_because_another_uri_shows_it_off() {
    for places in [[MigratedAway, Place::Off], [MigratedAway, MigratedAway], [Migrating, Place::Off]] {
        let mut bench = bench(places);
        for at in [0, 1] {
            bench.tells(at, places[at]);
        }
        assert_eq!(bench.ask(Off, "a"), Failure, "{places:?}: it may be on a third host");
        let on_or_unsure = if places[0] == Migrating { Success } else { Failure };
        assert_eq!(bench.ask(Status, "a"), on_or_unsure, "{places:?}");
        assert_eq!(bench.destroys(), [0, 0]);
    }
}

/// A VM that has migrated from the first URI to the second, and ran there.
fn moved_within() -> Bench {
    let mut bench = bench([MigratedAway, Runs]);
    bench.tells(0, MigratedAway);
    bench.tells(1, Runs);
    bench
}

#[test]
fn a_vm_that_is_off_on_the_uri_where_it_ran_last_is_off() {
    let mut bench = moved_within();
    for operation in [Off, Off, Reboot] {
        assert_eq!(bench.ask(operation, "a"), Success, "{operation}");
        assert_eq!(bench.ask(Status, "a"), Verdict::Off);
    }
    // The administrator has shut it down.
    let mut bench = moved_within();
    put(&bench.hosts[1], Place::Off);
    assert_eq!((bench.ask(Status, "a"), bench.ask(Off, "a")), (Verdict::Off, Success));
    assert_eq!(bench.destroys(), [0, 0]);
}

#[test]
fn what_may_have_run_elsewhere_since_is_not_off() {
    let seen_elsewhere: [fn(&mut Bench); 4] = [
        |bench| bench.tells(0, Runs),
        |bench| bench.domains(0, DomainChange::Lost),
        |bench| bench.domains(1, DomainChange::Gone(Uuid::parse(A).unwrap())),
        |bench| bench.tells(1, Missing),
    ];
    for (at, seen) in seen_elsewhere.into_iter().enumerate() {
        let mut bench = moved_within();
        put(&bench.hosts[1], Place::Off);
        seen(&mut bench);
        assert_eq!((bench.ask(Status, "a"), bench.ask(Off, "a")), (Failure, Failure), "case {at}");
    }
    // A migration to the first URI, from a host that this daemon does not know.
    let mut bench = moved_within();
    put(&bench.hosts[0], Migrating);
    put(&bench.hosts[1], Place::Off);
    assert_eq!((bench.ask(Off, "a"), bench.destroys()), (Failure, vec![0, 0]));
}

#[test]
fn a_search_tells_whether_the_vm_may_run_elsewhere() {
    let target = Target::new(b"a").unwrap();
    for (place, expected) in [(MigratedAway, true), (Migrating, true), (Place::Off, false)] {
        let mut bench = bench([place]);
        let found = bench.backend.find(&target, bench.now).unwrap();
        assert_eq!(found.into_iter().map(|(_, vm)| vm.may_run_elsewhere).collect::<Vec<_>>(), [expected]);
    }
    let mut bench = bench([MigratedAway]);
    bench.hosts[0].hold(&format!("power-off {A}"));
    bench.begin(Off, "a");
    let found = bench.backend.find(&target, bench.now).unwrap();
    assert!(!found[0].1.may_run_elsewhere, "it counts as running meanwhile");
}
