//! Digest of a state, the same for states that differ only in numbers which mean nothing by themselves.
//!
//! - Positions in the group's order, and times that are long past, count by their rank in a router.
//! - Other times count by their distance from now; those that no schedule reaches are all the same.
//! - Numbers of requests, jobs, tasks and processes count by the order in which they occur.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use fence_virt::wire::cluster::ClusterMessage;

use crate::cluster::{Cluster, Node, Word};

/// Names before numbers that are only compared with each other.
const LABELS: [&str; 6] = ["RequestNumber(", "JobId(", "TaskId(", "last_id: ", "last_job: ", "pid: "];
/// Key of a daemon in a table of daemons.
const DAEMON: &str = ": Process ";
const POSITION: &str = "Sequence(";
const TIME: &str = "Instant(";
/// Age in milliseconds above which no limit tells two times apart that no request has set.
const LONG_PAST: i64 = 14_000;
/// Distance of a time in milliseconds that no schedule reaches.
const NEVER: i64 = 150_000;

impl Cluster {
    pub fn digest(&self) -> u64 {
        let now = self.now.since_boot().as_secs_f64();
        let mut digest = Digest::default();
        let mut text = String::with_capacity(8192);
        for node in &self.nodes {
            text.clear();
            // Writing to a string cannot fail.
            let _ = write_node(&mut text, node);
            digest.add(&text, now);
        }
        let histories = self.nodes.iter().map(|node| node.history);
        let same = |history: Option<u64>| self.nodes.iter().position(|node| node.history == history);
        let histories: Vec<_> = histories.map(|history| (history.is_some(), same(history))).collect();
        let settled: Vec<bool> = self.nodes.iter().map(|node| node.is_settled).collect();
        text.clear();
        let Cluster { copies, migration, asked, has_rested, .. } = self;
        let _ = write!(text, "{copies:?} {migration:?} {asked:?} {has_rested} {histories:?} {settled:?}");
        digest.add(&text, now);
        digest.hasher.finish()
    }
}

fn write_node(text: &mut String, node: &Node) -> std::fmt::Result {
    let Node { router, is_powered, is_fenced, part, is_away, hangs, jobs, words, view, voters, .. } = node;
    write!(
        text,
        "{router:?} {is_powered} {is_fenced} {part} {is_away} {hangs} {jobs:?} {view:?} {voters:?}"
    )?;
    for word in words {
        match word {
            Word::Message(from, bytes) => write!(text, "{from:?} {:?}", ClusterMessage::decode(bytes))?,
            other => write!(text, "{other:?}")?,
        }
    }
    Ok(())
}

#[derive(Default)]
struct Digest {
    hasher: DefaultHasher,
    numbers: HashMap<(usize, u64), usize>,
}

/// A number in a text, with what is around it.
struct Number<'a> {
    before: &'a str,
    digits: &'a str,
    after: &'a str,
}

impl Digest {
    /// Adds the text of a part of the state, whose positions and times are compared only with each other.
    fn add(&mut self, text: &str, now: f64) {
        let (mut positions, mut past) = (vec![0], Vec::new());
        for number in Numbers(text) {
            if number.before.ends_with(POSITION) {
                positions.extend(number.digits.parse::<u64>());
            } else if number.before.ends_with(TIME) {
                past.push(number.distance(now));
            }
        }
        past.retain(|distance| *distance < -LONG_PAST);
        past.sort_unstable();
        past.dedup();
        positions.sort_unstable();
        positions.dedup();
        for number in Numbers(text) {
            number.before.hash(&mut self.hasher);
            self.add_number(&number, &positions, &past, now);
        }
    }

    fn add_number(&mut self, number: &Number, positions: &[u64], past: &[i64], now: f64) {
        let Number { before, digits, after } = number;
        let label = match after.starts_with(DAEMON) {
            true => Some(5),
            false => LABELS.iter().position(|label| before.ends_with(label)),
        };
        if before.ends_with(POSITION) {
            let rank = digits.parse().ok().and_then(|position: u64| positions.binary_search(&position).ok());
            rank.hash(&mut self.hasher);
        } else if before.ends_with(TIME) {
            let distance = number.distance(now);
            past.binary_search(&distance).map_err(|_| distance.min(NEVER)).hash(&mut self.hasher);
        } else if let (Some(label), Ok(value)) = (label, digits.parse()) {
            // Counters name the same numbers as the ids that they give.
            let label = match LABELS[label] {
                "last_id: " => 2,
                "last_job: " => 1,
                _ => label,
            };
            let next = self.numbers.len();
            self.numbers.entry((label, value)).or_insert(next).hash(&mut self.hasher);
        } else {
            digits.hash(&mut self.hasher);
        }
    }
}

impl Number<'_> {
    /// Returns the distance from now in milliseconds.
    fn distance(&self, now: f64) -> i64 {
        self.digits.parse().map_or(0, |time: f64| ((time - now) * 1000.0).round() as i64)
    }
}

/// The numbers of a text, from the first to the last, and the end of the text without a number.
struct Numbers<'a>(&'a str);

impl<'a> Iterator for Numbers<'a> {
    type Item = Number<'a>;

    fn next(&mut self) -> Option<Number<'a>> {
        let text = std::mem::take(&mut self.0);
        if text.is_empty() {
            return None;
        }
        let at = text.bytes().position(|letter| letter.is_ascii_digit()).unwrap_or(text.len());
        let (before, rest) = text.split_at(at);
        let is_other = |letter: u8| !letter.is_ascii_digit() && letter != b'.';
        let (digits, after) = rest.split_at(rest.bytes().position(is_other).unwrap_or(rest.len()));
        self.0 = after;
        Some(Number { before, digits, after })
    }
}
