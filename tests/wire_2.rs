//! Version 2 of the wire (docs/WIRE-2.md): the vectors of the document, the reference implementation in both roles, and an
//! attacker between the real machines of agents and daemons.
//!
//! `FENCE_RUNS` is the number of runs (default: 20,000; a million in `make check-wire`), `FENCE_SEED` the first seed
//! (default: 1).
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

mod common;

#[path = "wire_2/attacker.rs"]
mod attacker;
#[path = "wire_2/parties.rs"]
mod parties;
#[path = "wire_2/reference.rs"]
mod reference;
#[path = "wire_2/vectors.rs"]
mod vectors;

use attacker::{Attacker, Tally};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// What holds whatever the attacker does: a daemon carries out what an agent has asked for, once and at that listener;
/// an agent believes what a daemon has answered to it; a stolen key speaks for its VM alone; nothing falls back to
/// version 1.
#[test]
fn an_attacker_between_agents_and_daemons_gains_nothing() {
    let first = number("FENCE_SEED", 1);
    let runs = number("FENCE_RUNS", 20_000);
    let mut tally = Tally::default();
    for seed in first..first + runs {
        Attacker::new(seed).run(&mut tally);
    }
    eprintln!("{runs} runs from seed {first}: {tally:?}");
    // Else the runs would show nothing.
    let often = usize::try_from(runs / 4).unwrap();
    assert!(tally.carried_out > often && tally.answered > often / 2, "{tally:?}");
    assert!(tally.carried_out_with_the_stolen_key > 0 && tally.refused > often, "{tally:?}");
    assert!(tally.carried_out_by_version_1 > 0, "{tally:?}");
}
