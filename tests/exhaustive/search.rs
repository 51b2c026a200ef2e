//! Breadth-first search of all schedules.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fence_virt::fence::{Operation, Verdict};

use crate::cluster::{Cluster, NODES};
use crate::event::{Event, Family};
use crate::walk::{Schedule, Walk};

/// Violations that are kept.
const KEPT: usize = 5;
const SHARDS: usize = 64;
/// Schedules that a thread takes at once.
const CHUNK: usize = 64;

/// Result of a search.
pub struct Report {
    depth: usize,
    states: usize,
    schedules: usize,
    compared: usize,
    took: Duration,
    pub violations: Vec<Violation>,
}

/// A schedule after which a rule is broken.
pub struct Violation {
    schedule: Schedule,
    events: Vec<Event>,
    what: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { depth, states, schedules, compared, took, violations } = self;
        let seconds = took.as_secs_f64();
        write!(
            f,
            "depth {depth}: {states} states, {schedules} requests, {compared} compared, {seconds:.1} s"
        )?;
        for Violation { events, what, .. } in violations {
            let events: Vec<String> = events.iter().map(Event::to_string).collect();
            write!(f, "\n    {}: {what}", events.join("; "))?;
        }
        Ok(())
    }
}

struct Search<'a> {
    start: &'a Cluster,
    families: &'a [Family],
    /// Digests of the states that were visited.
    visited: Vec<Mutex<HashSet<u64>>>,
    schedules: AtomicUsize,
    compared: AtomicUsize,
    violations: Mutex<Vec<Violation>>,
}

/// Searches all schedules up to a depth, and reports each; ends at the least depth with violations.
pub fn search(
    start: &Cluster,
    families: &[Family],
    depth: usize,
    progress: impl Fn(usize, usize, Duration),
) -> Report {
    assert!(depth <= Schedule::MAX, "schedules have up to {} events", Schedule::MAX);
    let began = Instant::now();
    let visited = (0..SHARDS).map(|_| Mutex::default()).collect();
    let (schedules, compared) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let search = Search { start, families, visited, schedules, compared, violations: Mutex::default() };
    let mut frontier = vec![Schedule::default()];
    let mut reached = 0;
    for level in 1..=depth {
        frontier = search.extend(&frontier, level == depth);
        reached = level;
        progress(level, search.states(), began.elapsed());
        if !search.violations.lock().unwrap().is_empty() {
            break;
        }
    }
    let states = search.states();
    let Search { schedules, compared, violations, .. } = search;
    let mut violations = violations.into_inner().unwrap();
    let mut walk = Walk::new(start, |cluster| cluster.events(families));
    violations.iter_mut().for_each(|violation| violation.events = walk.events_of(&violation.schedule));
    let (schedules, compared) = (schedules.into_inner(), compared.into_inner());
    Report { depth: reached, states, schedules, compared, took: began.elapsed(), violations }
}

impl Search<'_> {
    /// Extends schedules by each event that can follow; returns those that lead to new states.
    fn extend(&self, frontier: &[Schedule], is_last: bool) -> Vec<Schedule> {
        let next = AtomicUsize::new(0);
        let extended = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut walk = Walk::new(self.start, |cluster| cluster.events(self.families));
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(chunk) = frontier.chunks(CHUNK).nth(number) else { return };
                        let mut found = Vec::new();
                        for schedule in chunk {
                            self.extend_one(walk.to(schedule), schedule, is_last, &mut found);
                        }
                        extended.lock().unwrap().push((number, found));
                    }
                });
            }
        });
        let mut extended = extended.into_inner().unwrap();
        // In order, so that neighbours share their first events.
        extended.sort_unstable_by_key(|(number, _)| *number);
        extended.into_iter().flat_map(|(_, found)| found).collect()
    }

    fn extend_one(&self, before: &Cluster, schedule: &Schedule, is_last: bool, found: &mut Vec<Schedule>) {
        let mut verdicts = [None; NODES];
        for (place, &event) in before.events(self.families).iter().enumerate() {
            // The last event of a schedule without a request has no effect on an answer.
            if is_last && before.asked.is_none() && !matches!(event, Event::Ask(..)) {
                continue;
            }
            let mut after = before.clone();
            after.apply(event);
            let schedule = schedule.with(place);
            let is_new = after.violation.is_none() && !after.is_over() && self.enter(&after);
            if is_new && !is_last {
                found.push(schedule);
            }
            if after.asked.is_some() && (is_new || after.is_over() || matches!(event, Event::Ask(..))) {
                after.finish();
                self.schedules.fetch_add(1, Ordering::Relaxed);
            }
            if let (Event::Ask(at, Operation::Off), Some(asked)) = (event, after.asked) {
                verdicts[at] = asked.answer;
            }
            self.report(after.violation, &schedule);
        }
        self.compare(before, &verdicts, schedule);
    }

    fn states(&self) -> usize {
        self.visited.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    /// Returns true for a state that was not visited before.
    fn enter(&self, cluster: &Cluster) -> bool {
        let digest = cluster.digest();
        self.visited[digest as usize % SHARDS].lock().unwrap().insert(digest)
    }

    /// Nodes that have heard the same give the same answer.
    fn compare(&self, before: &Cluster, verdicts: &[Option<Verdict>; NODES], schedule: &Schedule) {
        let is_usual = |at: &usize| !before.nodes[*at].is_away && !before.nodes[*at].hangs;
        // While it migrates, the order of the jobs decides.
        let is_quiet = before.migration.is_none() && (before.has_rested || !before.has_delays);
        if !is_quiet || !(0..NODES).all(|at| is_usual(&at)) {
            return;
        }
        for (one, two) in [(0, 1), (0, 2), (1, 2)] {
            let (Some(first), Some(second)) = (verdicts[one], verdicts[two]) else { continue };
            let (nodes, history) = (&before.nodes, before.nodes[one].history);
            let is_settled = nodes[one].is_settled && nodes[two].is_settled;
            if !is_settled || history.is_none() || history != nodes[two].history {
                continue;
            }
            self.compared.fetch_add(1, Ordering::Relaxed);
            if first != second {
                let what = format!("node {} answers {first}, node {} {second}", one + 1, two + 1);
                self.report(Some(format!("{what}: {:?}", before.copies)), schedule);
            }
        }
    }

    fn report(&self, what: Option<String>, schedule: &Schedule) {
        let Some(what) = what else { return };
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < KEPT {
            violations.push(Violation { schedule: *schedule, events: Vec::new(), what });
        }
    }
}
