//! Comparison of our daemon and the C daemon: see docs/BENCHMARK.md.
//!
//! `cargo bench --bench compare` (or `make bench`), as root, with the packages
//! fence-virt and fence-virtd installed. With `-- status` it measures only the
//! first figures, those of status over tcp, with `-- versions` those of both versions
//! of the protocol, and with `-- agent` those of the backend agent, which need the
//! package fence-agents and are in no other run. Both daemons run in network
//! namespaces of their own, and the client is the same code for both. It fails
//! only if something does not work; a slow figure only misses its target.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "compare/agents.rs"]
mod agents;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "compare/lines.rs"]
mod lines;
#[path = "compare/load.rs"]
mod load;
#[path = "compare/resources.rs"]
mod resources;
#[path = "compare/running.rs"]
mod running;
#[path = "compare/stats.rs"]
mod stats;
#[path = "compare/table.rs"]
mod table;
#[path = "compare/versions.rs"]
mod versions;

use std::time::Duration;

use common::Dir;
use common::Suite::{self, Ours, Theirs};
use fence_virt::fence::Operation;
use load::{Load, Stalled};
use running::Running;
use stats::{Pair, Unit, median};
use table::{Aim, Table};

/// Fresh daemons per figure; each round has one of ours and one of theirs.
const ROUNDS: usize = 5;
/// Below the limit of our daemon: 4,096 queries within 10 s.
const REQUESTS: usize = 3000;
const STARTS: usize = 15;
const STALLED: usize = 8;
/// Timeout of a request to the C daemon while other clients stall it.
const PATIENCE: Duration = Duration::from_secs(15);
const REBOOTS: usize = 30;
const REBOOTS_THEIRS: usize = 5;

fn main() {
    // `cargo test --all-targets` runs this too, without `--bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Err(common::Missing(why)) = common::root_and_c_suite() {
        return common::skip("benchmark compare", &why);
    }
    let dir = Dir::new();
    let mut table = Table::default();
    if std::env::args().any(|argument| argument == "agent") {
        if !std::path::Path::new(agents::AGENT).exists() {
            return common::skip("benchmark compare -- agent", "it needs the package fence-agents");
        }
        let ratio = agents::agents(&dir, &mut table);
        table.print();
        return println!("\nstatus through the daemon / by the agent alone, p50: {ratio:.2}");
    }
    if std::env::args().any(|argument| argument == "versions") {
        let ratio = versions::versions(&dir, &mut table);
        table.print();
        return println!("\n{}", Aim::at_most("status by version 2 / by version 1, p50", ratio, 1.0));
    }
    let alone = status(&dir, &mut table);
    if std::env::args().any(|argument| argument == "status") {
        return table.print();
    }
    let beside = beside_stalled(&dir, &mut table);
    let reboot = reboot(&dir, &mut table);
    starts(&dir, &mut table);
    let newer = versions::versions(&dir, &mut table);
    let (line, crowd) = lines::lines(&mut table);
    let binary = resources::binaries(&dir, &mut table);
    table.print();

    println!();
    for aim in [
        Aim::at_most("status, p50, ours / C", alone.p50, 1.0),
        Aim::at_least("status, requests a second, ours / C", alone.rate, 1.0),
        Aim::at_most("resident memory, ours / C", alone.resident, 0.9),
        Aim::at_most("binary, stripped, in MiB", binary, 1.0),
        Aim::at_most("status beside 8 stalled clients / alone, ours", beside, 1.15),
        Aim::at_least("reboot, C / ours", reboot, 50.0),
        Aim::at_most("status by version 2 / by version 1, p50", newer, 1.0),
        Aim::at_most("status on one of 900 lines, p50, ours / C", line, 1.0),
        Aim::at_most("status on one of 3,000 lines, p50, ours, in ms", crowd, 1.0),
    ] {
        println!("{aim}");
    }
}

/// Runs `body` for both daemons, alternating the order.
fn rounds<T>(count: usize, mut body: impl FnMut(Suite) -> T) -> Pair<Vec<T>> {
    let mut pair = Pair { ours: Vec::new(), theirs: Vec::new() };
    for round in 0..count {
        for suite in if round % 2 == 0 { [Ours, Theirs] } else { [Theirs, Ours] } {
            let side = if suite == Ours { &mut pair.ours } else { &mut pair.theirs };
            side.push(body(suite));
        }
    }
    pair
}

/// Ratios that have a target.
struct Alone {
    p50: f64,
    rate: f64,
    resident: f64,
}

fn status(dir: &Dir, table: &mut Table) -> Alone {
    let rounds = rounds(ROUNDS, |suite| {
        let daemon = Running::start(suite, dir);
        let load = daemon.inside(|| Load::run(Operation::Status, REQUESTS));
        (load, daemon.memory())
    });
    let p50 = table.compare("status, p50", Unit::Seconds, &rounds.map(|(load, _)| load.percentile(50)));
    table.compare("status, p99", Unit::Seconds, &rounds.map(|(load, _)| load.percentile(99)));
    let rate =
        table.compare("status, requests a second", Unit::PerSecond, &rounds.map(|(load, _)| load.rate()));
    let resident =
        table.compare("resident memory after it", Unit::Bytes, &rounds.map(|(_, memory)| memory.resident));
    table.compare("of it private", Unit::Bytes, &rounds.map(|(_, memory)| memory.private));
    Alone { p50, rate, resident }
}

/// Returns how much slower our answers become.
fn beside_stalled(dir: &Dir, table: &mut Table) -> f64 {
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    for round in 0..ROUNDS {
        let daemon = Running::start(Ours, dir);
        daemon.inside(|| {
            let measure_alone = || Load::run(Operation::Status, REQUESTS / 2).percentile(50);
            let measure_beside = || {
                let stalled = Stalled::new(STALLED / 2, STALLED / 2);
                let p50 = Load::run(Operation::Status, REQUESTS / 2).percentile(50);
                stalled.assert_still_open();
                p50
            };
            if round % 2 == 0 {
                alone.push(measure_alone());
                beside.push(measure_beside());
            } else {
                beside.push(measure_beside());
                alone.push(measure_alone());
            }
        });
    }
    let daemon = Running::start(Theirs, dir);
    let waited = daemon.inside(|| {
        let stalled = Stalled::new(STALLED, 0);
        let waited = load::ask_within(PATIENCE);
        drop(stalled);
        waited
    });
    // A request that timed out took at least that long.
    let theirs = waited.unwrap_or(PATIENCE).as_secs_f64();
    let name = match waited {
        Some(_) => "status beside 8 stalled clients, p50 (C: one request)",
        None => "status beside 8 stalled clients, p50 (C: given up on)",
    };
    table.compare(name, Unit::Seconds, &Pair { ours: beside.clone(), theirs: vec![theirs; beside.len()] });
    let slowdown: Vec<f64> = beside.iter().zip(&alone).map(|(beside, alone)| beside / alone).collect();
    table.ours_only("the same / alone, ours", Unit::Ratio, &slowdown);
    median(&slowdown)
}

/// Returns how many times faster ours is.
fn reboot(dir: &Dir, table: &mut Table) -> f64 {
    let measure = |suite, count| {
        let daemon = Running::start(suite, dir);
        daemon.inside(|| {
            let load = Load::run(Operation::Reboot, count);
            assert!(load::ask_within(PATIENCE).is_some(), "the VM runs again");
            load
        })
    };
    let loads = Pair { ours: measure(Ours, REBOOTS), theirs: measure(Theirs, REBOOTS_THEIRS) };
    1.0 / table.compare_unpaired("reboot, p50", Unit::Seconds, &loads.ours.times, &loads.theirs.times)
}

fn starts(dir: &Dir, table: &mut Table) {
    let rounds = rounds(STARTS, |suite| Running::start(suite, dir).started);
    table.compare("start to the first connection", Unit::Seconds, &rounds.map(|started| started.listening));
    table.compare("start to the first answer", Unit::Seconds, &rounds.map(|started| started.answering));
}
