//! Sums of many runs.

use std::collections::BTreeMap;
use std::fmt;

use super::oracle::{Invariant, Violation};
use super::quirks::Quirks;
use super::world::World;

/// Violations that are shown in full.
const SHOWN: usize = 3;

#[derive(Default)]
pub struct Tally {
    runs: usize,
    answers: BTreeMap<&'static str, usize>,
    counts: BTreeMap<&'static str, usize>,
    violations: Vec<Violation>,
}

impl Tally {
    pub fn add(&mut self, world: &World) {
        self.runs += 1;
        for (name, count) in &world.answers {
            *self.answers.entry(name).or_default() += count;
        }
        for (name, count) in &world.counts {
            *self.counts.entry(name).or_default() += count;
        }
        self.violations.extend(world.violation.clone());
    }

    /// Returns what is wrong: rules that were broken, and parts of the model that were not used.
    pub fn problems(&self, quirks: &Quirks) -> Vec<String> {
        let mut problems = Vec::new();
        for (invariant, violations) in self.by_invariant() {
            problems.push(format!("{invariant:?}: {} of {} runs", violations.len(), self.runs));
            for Violation { seed, at, what, .. } in violations.into_iter().take(SHOWN) {
                problems.push(format!(
                    "    FENCE_QUIRKS={quirks} FENCE_SEED={seed} FENCE_STEPS=1: at {at} ms: {what}"
                ));
            }
        }
        let answered: usize = self.answers.values().sum();
        if answered <= 10 * self.runs && self.violations.is_empty() {
            problems.push(format!("FENCE_QUIRKS={quirks}: {answered} answers in {} runs", self.runs));
        }
        // A single run need not have them all.
        let unused = quirks.parts().into_iter().filter(|part| !self.counts.contains_key(part));
        if self.runs >= 24 && self.violations.is_empty() {
            problems.extend(unused.map(|part| format!("FENCE_QUIRKS={quirks}: no {part}")));
        }
        problems
    }

    fn by_invariant(&self) -> BTreeMap<Invariant, Vec<&Violation>> {
        let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.violations.iter().for_each(|one| sorted.entry(one.invariant).or_default().push(one));
        sorted.values_mut().for_each(|violations| violations.sort_by_key(|one| one.seed));
        sorted
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken; answers {:?}; {:?}", self.violations.len(), self.answers, self.counts)
    }
}
