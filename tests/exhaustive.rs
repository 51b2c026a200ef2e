//! Exhaustive check of the cluster's decisions: three real routers, one VM, and every schedule of events up
//! to a depth, the shortest first. Whatever was cut, moved, restarted, fenced or asked before, in whatever
//! order, no answer and no job may break a rule of `oracle`.
//!
//! [`SEARCHES`] has the kinds of events of each search and its depth; `FENCE_DEEPER` is added to the depths,
//! and multiplies the time by five to ten for each event. States that differ in nothing but numbers are
//! visited once (`digest`).
//!
//! The model can fail. With these changes it found a wrong answer, or a VM destroyed too late, each at the
//! shortest schedule of the search; numbers of rules are those of docs/CLUSTER-RULES.md.
//!
//! | change | search | events |
//! | --- | --- | --- |
//! | rule 18 dropped: members that have not told their VMs do not count | lapses | 3 |
//! | rule 22 dropped: a member whose libvirt does not answer says that it has looked | lapses | 5 |
//! | rule 24 dropped: an absent host that may run VMs does not keep a search from being complete | lapses | 5 |
//! | `SERVE_LIMIT` of 60 s | hangs | 2 |
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "exhaustive/cluster.rs"]
mod cluster;
#[path = "exhaustive/digest.rs"]
mod digest;
#[path = "exhaustive/event.rs"]
mod event;
#[path = "exhaustive/faults.rs"]
mod faults;
#[path = "exhaustive/group.rs"]
mod group;
#[path = "exhaustive/oracle.rs"]
mod oracle;
#[path = "exhaustive/requests.rs"]
mod requests;
#[path = "exhaustive/search.rs"]
mod search;
#[path = "exhaustive/vm.rs"]
mod vm;
#[path = "exhaustive/walk.rs"]
mod walk;

use fence_virt::fence::Operation::{Off, On, Reboot};

use cluster::Cluster;
use event::{Event, Family};
use search::search;
use vm::Start;

use Event::{
    Absence, Ask, BeginMigration, CutOff, Deliver, EndMigration, Fence, Heal, Pass, RestartDaemon, Return,
    StartByHand,
};
use Family::{
    Absences, Cuts, Delays, Fencing, Hangs, Lapses, Migrations, Restarts, Returns, Starts, Stops, Switches,
};

/// A search: its name, its events beside requests for off, and its depth in an unoptimised and in an
/// optimised build.
struct Plan {
    name: &'static str,
    families: &'static [Family],
    depths: (usize, usize),
}

const SEARCHES: [Plan; 6] = [
    Plan { name: "faults", families: &[Cuts, Migrations, Restarts, Fencing, Absences], depths: (4, 5) },
    Plan { name: "lapses", families: &[Cuts, Switches, Migrations, Restarts, Lapses], depths: (4, 5) },
    Plan { name: "delays", families: &[Cuts, Switches, Migrations, Restarts, Delays], depths: (3, 4) },
    Plan { name: "starts", families: &[Cuts, Switches, Migrations, Fencing, Starts], depths: (4, 5) },
    Plan { name: "hangs", families: &[Cuts, Switches, Migrations, Starts, Hangs], depths: (4, 5) },
    Plan { name: "returns", families: &[Cuts, Switches, Fencing, Returns, Stops], depths: (4, 5) },
];

/// Searches all schedules of a plan, and shows the shortest that break a rule.
#[track_caller]
fn check(name: &str) {
    let deeper: usize = std::env::var("FENCE_DEEPER").map_or(0, |text| text.parse().expect("a number"));
    let Plan { name, families, depths } = SEARCHES.iter().find(|plan| plan.name == name).unwrap();
    let depth = deeper + if cfg!(debug_assertions) { depths.0 } else { depths.1 };
    for start in Start::ALL {
        let report = search(&Cluster::new(start, families), families, depth, |level, states, took| {
            eprintln!("{name}, {start:?}: depth {level}: {states} states, {:.1} s", took.as_secs_f64());
        });
        eprintln!("{name}, {start:?}: {report}");
        assert!(report.violations.is_empty(), "{name}, {start:?}: {report}");
    }
}

#[test]
fn faults_of_all_kinds() {
    check("faults");
}

#[test]
fn daemons_that_lose_their_libvirt() {
    check("lapses");
}

#[test]
fn messages_that_are_delayed() {
    check("delays");
}

#[test]
fn starts_and_reboots() {
    check("starts");
}

#[test]
fn calls_of_libvirt_that_hang() {
    check("hangs");
}

#[test]
fn hosts_that_are_back() {
    check("returns");
}

/// Lets these events happen, nodes counted from 0, and awaits the answer.
#[track_caller]
fn replay(start: Start, schedule: &[Event]) {
    let families = [Cuts, Switches, Migrations, Restarts, Fencing, Lapses, Starts, Returns];
    // Messages are delayed if the schedule delivers some.
    let has_delays = schedule.iter().any(|event| matches!(event, Deliver(_)));
    let families = if has_delays { [&families[..], &[Delays]].concat() } else { families.to_vec() };
    let mut cluster = Cluster::new(start, &families);
    for &event in schedule {
        assert!(cluster.events(&families).contains(&event), "{event} can happen");
        cluster.apply(event);
    }
    cluster.finish();
    assert_eq!(cluster.violation, None);
}

/// The VM moves to the last node while the second one is cut off.
const MOVES_MEANWHILE: [Event; 4] = [CutOff(1), BeginMigration(2), EndMigration, Deliver(2)];

#[test]
fn a_node_that_was_cut_off_asks_one_that_knows_where_a_vm_went() {
    // The cut moves to the node that runs the VM now.
    replay(Start::Persistent, &[&MOVES_MEANWHILE[..], &[Pass, CutOff(2), Pass, Ask(1, Off)]].concat());
}

#[test]
fn a_node_that_is_back_asks_before_the_new_place_of_a_vm_is_advertised_again() {
    replay(Start::Persistent, &[&MOVES_MEANWHILE[..], &[Heal, Ask(1, Off), Deliver(1)]].concat());
}

#[test]
fn a_daemon_that_has_just_started_has_not_heard_of_hosts_that_are_cut_off() {
    for operation in [Off, On, Reboot] {
        replay(Start::Shared, &[CutOff(0), RestartDaemon(1), Pass, Ask(1, operation)]);
        replay(Start::Shared, &[RestartDaemon(2), CutOff(0), Pass, Ask(2, operation)]);
    }
}

#[test]
fn a_fence_from_before_a_cut_says_nothing_after_it() {
    let schedule = [Fence(0), CutOff(1), Return(0), StartByHand(0), CutOff(0), Ask(1, Off)];
    replay(Start::Persistent, &schedule);
}

#[test]
fn a_node_that_is_back_learns_what_absent_hosts_were_last_seen_to_run() {
    let moves_back = [CutOff(2), BeginMigration(1), EndMigration, BeginMigration(0)];
    replay(Start::Shared, &[&moves_back[..], &[CutOff(1), Ask(2, Reboot)]].concat());
}

#[test]
fn a_vm_of_a_fenced_host_may_run_where_libvirt_does_not_answer() {
    let moves_unseen = [Absence(1), BeginMigration(1), EndMigration];
    replay(Start::Transient, &[&moves_unseen[..], &[BeginMigration(0), Fence(0), Ask(2, Off)]].concat());
}

#[test]
fn a_vm_that_moved_while_its_asker_was_cut_off_is_not_started_again() {
    replay(Start::Persistent, &[CutOff(1), BeginMigration(2), EndMigration, Heal, CutOff(2), Ask(1, On)]);
    replay(Start::Persistent, &[CutOff(1), BeginMigration(2), EndMigration, Heal, Ask(1, On), CutOff(2)]);
}
