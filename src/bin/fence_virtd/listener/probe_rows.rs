//! Probes of agents for late answers: a row of questions that touch no VM, whose content tells them apart.

use std::collections::VecDeque;

use crate::status::Refusal;
use fence_virt::fence::{Source, Target};

/// Maximum number of rows that are remembered. A row that is forgotten gets a second line of the log.
const ROWS_MAX: usize = 64;

/// Rows of which the log has a line: each has a name of its own.
#[derive(Default)]
pub(super) struct ProbeRows(VecDeque<(Source, Target)>);

impl ProbeRows {
    /// Remembers the row of a question; true if it is the first one.
    pub(super) fn is_new(&mut self, source: &Source, name: &Target) -> bool {
        if self.0.iter().any(|(known, its)| known == source && its == name) {
            return false;
        }
        self.0.truncate(ROWS_MAX - 1);
        self.0.push_front((source.clone(), name.clone()));
        true
    }
}

/// True for a refusal that a probe causes by itself: an agent drops the questions that it needs no more, and those
/// that wait while the daemon stands still are late. Others, such as too many requests, tell of a fault or a flood.
pub(super) fn is_quiet(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::HungUp | Refusal::Duplicate | Refusal::Late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_and_bounded() {
        let mut rows = ProbeRows::default();
        let name = |at: usize| Target::new(format!("no-vm-{at:08x}").as_bytes()).unwrap();
        assert!(rows.is_new(&Source::Cid(3), &name(0)) && !rows.is_new(&Source::Cid(3), &name(0)));
        assert!(rows.is_new(&Source::Cid(4), &name(0)) && rows.is_new(&Source::Cid(3), &name(1)));
        for at in 0..2 * ROWS_MAX {
            rows.is_new(&Source::Cid(5), &name(at));
        }
        assert_eq!(rows.0.len(), ROWS_MAX);
        assert!(rows.is_new(&Source::Cid(3), &name(0)), "the oldest ones are forgotten");
    }
}
