//! Exhaustive check of the cluster's decisions: three routers, one VM, and every schedule of a few events
//! up to a depth. An off that succeeds must be true, whatever was cut, moved, restarted, fenced or asked
//! before, in whatever order.
//!
//! The depths are such that all takes less than a minute in an optimised build; `FENCE_DEEPER` is added to
//! them, and multiplies the time by about seven for each event. States that differ in nothing but numbers
//! are visited once.
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "exhaustive/cluster.rs"]
mod cluster;
#[path = "exhaustive/digest.rs"]
mod digest;
#[path = "exhaustive/event.rs"]
mod event;
#[path = "exhaustive/group.rs"]
mod group;
#[path = "exhaustive/search.rs"]
mod search;

use cluster::{Cluster, Start};
use event::{Event, Family};
use search::search;

use Event::{Ask, BeginMigration, CutOff, Deliver, EndMigration, Heal, Pass, RestartDaemon};

/// Searches all schedules of some kinds of events, and shows the shortest that break the rule.
#[track_caller]
fn check(name: &str, families: &[Family], depth: usize) {
    let deeper: usize = std::env::var("FENCE_DEEPER").map_or(0, |text| text.parse().unwrap());
    for start in Start::ALL {
        let report = search(&Cluster::new(start), families, depth + deeper);
        eprintln!("{name}, {start:?}: {report}");
        assert!(report.violations.is_empty(), "{name}, {start:?}: {report}");
    }
}

/// Depth in an optimised build, and in others, which take ten times as long.
const fn depth(optimised: usize, other: usize) -> usize {
    if cfg!(debug_assertions) { other } else { optimised }
}

/// Lets these events happen, nodes counted from 0, and awaits the answer.
#[track_caller]
fn replay(start: Start, schedule: &[Event]) {
    let mut cluster = Cluster::new(start);
    for &event in schedule {
        assert!(cluster.events(&Family::ALL).contains(&event), "{event} can happen");
        cluster.apply(event);
    }
    cluster.await_answer();
    assert_eq!(cluster.violation, None);
}

/// The VM moves to the last node while the second one is cut off.
const MOVES_MEANWHILE: [Event; 4] = [CutOff(1), BeginMigration(2), EndMigration, Deliver(2)];

#[test]
fn a_node_that_was_cut_off_asks_one_that_knows_where_a_vm_went() {
    // The cut moves to the node that runs the VM now.
    replay(Start::Persistent, &[&MOVES_MEANWHILE[..], &[Pass, CutOff(2), Pass, Ask(1)]].concat());
}

#[test]
fn a_node_that_is_back_asks_before_the_new_place_of_a_vm_is_advertised_again() {
    replay(Start::Persistent, &[&MOVES_MEANWHILE[..], &[Heal, Ask(1), Deliver(1)]].concat());
}

#[test]
fn a_daemon_that_has_just_started_has_not_heard_of_hosts_that_are_cut_off() {
    replay(Start::Shared, &[CutOff(0), RestartDaemon(1), Pass, Ask(1)]);
    replay(Start::Shared, &[RestartDaemon(2), CutOff(0), Pass, Ask(2)]);
}

#[test]
fn cuts_and_migrations() {
    check("cuts and migrations", &[Family::Cuts, Family::Migrations], depth(7, 5));
}

#[test]
fn cuts_restarts_and_fencing() {
    let families = [Family::Cuts, Family::Restarts, Family::Fencing];
    check("cuts, restarts and fencing", &families, depth(5, 4));
}

#[test]
fn everything() {
    check("everything", &Family::ALL, depth(5, 4));
}
