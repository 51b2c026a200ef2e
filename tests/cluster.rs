//! Random simulation: several routers, models of C daemons and a hostile member on an ordered bus in
//! memory, with everything that goes wrong in a cluster. Every answer and every destroyed VM is checked
//! against what must never happen (`oracle`).
//!
//! `FENCE_QUIRKS` is a list of faults and checks beyond the base model (`quirks`); without it, combinations
//! of them are tried one after the other. `FENCE_STEPS` is the number of steps of all runs together.
//! `FENCE_SEED` is the first seed (1), or "new" for one that is printed. With `FENCE_TRACE`, every event is
//! printed.
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "cluster/bus.rs"]
mod bus;
#[path = "cluster/c_daemon.rs"]
mod c_daemon;
#[path = "cluster/duels.rs"]
mod duels;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/migration.rs"]
mod migration;
#[path = "cluster/oracle.rs"]
mod oracle;
#[path = "cluster/quirks.rs"]
mod quirks;
#[path = "cluster/random.rs"]
mod random;
#[path = "cluster/recovery.rs"]
mod recovery;
#[path = "cluster/requests.rs"]
mod requests;
#[path = "cluster/step.rs"]
mod step;
#[path = "cluster/tally.rs"]
mod tally;
#[path = "cluster/turn.rs"]
mod turn;
#[path = "cluster/vm.rs"]
mod vm;
#[path = "cluster/world.rs"]
mod world;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fence_virt::routing::{Names, Rules, Unknown};

use quirks::{COMBINATIONS, Quirks};
use step::Weather;
use tally::Tally;
use world::{Kind, World};

use Kind::{C, Hostile, Ours};

const RULES: Rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };
/// The hosts fence each other within 15 s: see `World::fence_hosts`.
const DELAY: Rules = Rules { host_fence_delay: Some(Duration::from_secs(20)), ..RULES };

/// Steps of a run.
const EACH: u64 = 5_000;
/// Steps of all runs: about a minute.
const STEPS: u64 = if cfg!(debug_assertions) { 500_000 } else { 12_000_000 };

const GROUPS: [&[Kind]; 6] = [
    &[Ours, Ours, Ours],
    &[Ours, C, Ours, C],
    &[Ours, Ours, Ours, Ours, Hostile],
    &[C, Ours, Ours],
    &[Ours, Hostile, C, Ours, Ours],
    &[Ours; 8],
];

const WEATHER: [Weather; 4] = [
    Weather { faults: 200, migrations: true },
    Weather { faults: 40, migrations: true },
    Weather { faults: 0, migrations: false },
    Weather { faults: 1000, migrations: true },
];

/// Makes one run, until it breaks a rule.
fn run(seed: u64, quirks: Quirks) -> World {
    let at = seed as usize;
    let rules = if seed % 3 == 0 { DELAY } else { RULES };
    let weather = WEATHER[at / 6 % 4];
    let mut world = World::new(seed, GROUPS[at % 6], rules, quirks);
    for _ in 0..EACH {
        world.step(weather);
        if world.violation.is_some() {
            return world;
        }
    }
    world.calm_down();
    let ends: [fn(&mut World); 5] = [
        World::compare_verdicts,
        World::fence_the_rest,
        World::recover,
        World::find_everywhere,
        World::fence_all,
    ];
    for end in ends {
        end(&mut world);
        if world.violation.is_some() {
            return world;
        }
    }
    world
}

fn simulate(quirks: Quirks, first: u64, runs: u64) -> Tally {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (next, tally) = (AtomicU64::new(first), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        return;
                    }
                    let world = run(seed, quirks);
                    tally.lock().unwrap().add(&world);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

#[test]
fn what_must_never_happen_does_not() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = match std::env::var("FENCE_SEED").as_deref() {
        Ok("new") => RandomState::new().build_hasher().finish() % 1_000_000_000,
        _ => number("FENCE_SEED").unwrap_or(1),
    };
    let steps = number("FENCE_STEPS").unwrap_or(STEPS);
    let chosen = std::env::var("FENCE_QUIRKS").ok();
    let combinations = chosen.as_deref().map_or(COMBINATIONS.to_vec(), |chosen| vec![chosen]);
    let runs = steps.div_ceil(EACH).div_ceil(combinations.len() as u64);
    eprintln!("FENCE_SEED={first} FENCE_STEPS={steps}");
    let mut problems = Vec::new();
    for combination in combinations {
        let quirks: Quirks = combination.parse().expect("known quirks");
        let tally = simulate(quirks, first, runs);
        eprintln!("FENCE_QUIRKS={quirks}: {runs} runs, {tally}");
        problems.extend(tally.problems(&quirks));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
