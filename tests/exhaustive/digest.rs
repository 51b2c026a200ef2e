//! Digest of a state, the same for states that differ only in numbers which mean nothing by themselves.
//!
//! Positions in the group's order count by their rank in a router, times by their distance from now, and
//! numbers of requests, jobs and tasks by the order in which they occur.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use fence_virt::wire::cluster::ClusterMessage;

use crate::cluster::{Cluster, Word};

/// Names before numbers that are only compared with each other.
const LABELS: [&str; 6] = ["RequestNumber(", "JobId(", "TaskId(", "last_id: ", "last_job: ", "pid: "];
const POSITION: &str = "Sequence(";
const TIME: &str = "Instant(";

impl Cluster {
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        let mut text = String::new();
        for node in &self.nodes {
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "{:?} {} {} {:?}", node.router, node.part, node.is_away, node.view);
            for word in &node.words {
                let _ = match word {
                    Word::Message(from, bytes) => {
                        write!(text, "{from:?} {:?}", ClusterMessage::decode(bytes))
                    }
                    other => write!(text, "{other:?}"),
                };
            }
            digest.add(&text, self.now.since_boot().as_secs_f64());
        }
        text.clear();
        let _ = write!(text, "{:?} {:?} {:?}", self.copies, self.migration, self.asked);
        digest.add(&text, self.now.since_boot().as_secs_f64());
        digest.hasher.finish()
    }
}

#[derive(Default)]
struct Digest {
    hasher: DefaultHasher,
    numbers: HashMap<(usize, u64), usize>,
}

impl Digest {
    /// Adds the text of a part of the state, whose positions are compared only with each other.
    fn add(&mut self, text: &str, now: f64) {
        let mut positions: Vec<u64> = numbers_after(text, POSITION).collect();
        positions.sort_unstable();
        positions.dedup();
        let mut rest = text;
        while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
            let (before, from) = rest.split_at(at);
            let end =
                from.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(from.len());
            let (number, after) = from.split_at(end);
            before.hash(&mut self.hasher);
            self.add_number(before, number, &positions, now);
            rest = after;
        }
        rest.hash(&mut self.hasher);
    }

    fn add_number(&mut self, before: &str, number: &str, positions: &[u64], now: f64) {
        let label = LABELS.iter().position(|label| before.ends_with(label));
        if before.ends_with(POSITION) {
            let rank = number.parse().ok().and_then(|number: u64| positions.binary_search(&number).ok());
            rank.hash(&mut self.hasher);
        } else if before.ends_with(TIME) {
            let distance = number.parse().map_or(0.0, |time: f64| (time - now) * 1000.0);
            (distance.round() as i64).hash(&mut self.hasher);
        } else if let (Some(label), Ok(number)) = (label, number.parse()) {
            let next = self.numbers.len();
            // Counters name the same numbers as the ids that they give.
            let label = match LABELS[label] {
                "last_id: " => 2,
                "last_job: " => 1,
                _ => label,
            };
            self.numbers.entry((label, number)).or_insert(next).hash(&mut self.hasher);
        } else {
            number.hash(&mut self.hasher);
        }
    }
}

fn numbers_after<'a>(text: &'a str, label: &'a str) -> impl Iterator<Item = u64> + 'a {
    text.split(label).skip(1).filter_map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}
