//! Search of all schedules, the shortest first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fence_virt::time::Instant;

use crate::cluster::Cluster;
use crate::event::{Event, Family};

/// Violations that are kept.
const KEPT: usize = 5;
const SHARDS: usize = 64;

/// Result of a search.
pub struct Report {
    depth: usize,
    states: usize,
    schedules: usize,
    took: Duration,
    pub violations: Vec<Violation>,
}

/// A schedule after which an answer is wrong.
pub struct Violation {
    schedule: Vec<Event>,
    what: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { depth, states, schedules, took, violations } = self;
        let seconds = took.as_secs_f64();
        write!(f, "depth {depth}: {states} states, {schedules} requests checked, {seconds:.1} s")?;
        for Violation { schedule, what } in violations {
            let events: Vec<String> = schedule.iter().map(Event::to_string).collect();
            write!(f, "\n    {}: {what}", events.join("; "))?;
        }
        Ok(())
    }
}

/// States that were visited, with the depth that was left there.
struct Visited {
    shards: Vec<Mutex<HashMap<u64, usize>>>,
}

impl Visited {
    /// Returns true if a state has to be visited with this depth left.
    fn enter(&self, digest: u64, left: usize) -> bool {
        let mut shard = self.shards[digest as usize % SHARDS].lock().unwrap();
        match shard.entry(digest) {
            Entry::Occupied(known) if *known.get() >= left => false,
            Entry::Occupied(mut known) => {
                known.insert(left);
                true
            }
            Entry::Vacant(vacant) => {
                vacant.insert(left);
                true
            }
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

struct Search<'a> {
    families: &'a [Family],
    visited: Visited,
    schedules: AtomicUsize,
    violations: Mutex<Vec<Violation>>,
}

/// Searches all schedules up to a depth; ends at the least depth with violations.
pub fn search(start: &Cluster, families: &[Family], depth: usize) -> Report {
    let began = Instant::now();
    let (mut states, mut schedules) = (0, 0);
    for depth in 1..=depth {
        let search = Search::new(families);
        search.begin(start, depth);
        states = search.visited.len();
        schedules = search.schedules.into_inner();
        let violations = search.violations.into_inner().unwrap();
        if !violations.is_empty() {
            return Report { depth, states, schedules, took: began.elapsed(), violations };
        }
    }
    Report { depth, states, schedules, took: began.elapsed(), violations: Vec::new() }
}

impl Search<'_> {
    fn new(families: &[Family]) -> Search<'_> {
        let visited = Visited { shards: (0..SHARDS).map(|_| Mutex::default()).collect() };
        let (schedules, violations) = (AtomicUsize::new(0), Mutex::default());
        Search { families, visited, schedules, violations }
    }

    /// Shares the schedules among threads by their first two events.
    fn begin(&self, start: &Cluster, depth: usize) {
        let mut firsts = vec![(start.clone(), Vec::new())];
        let shared = depth.saturating_sub(1).min(2);
        for _ in 0..shared {
            firsts = firsts
                .into_iter()
                .flat_map(|(cluster, schedule)| self.next_of(&cluster, &schedule))
                .collect();
        }
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((cluster, schedule)) = firsts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        self.visit(cluster.clone(), &mut schedule.clone(), depth - shared);
                    }
                });
            }
        });
    }

    fn next_of(&self, cluster: &Cluster, schedule: &[Event]) -> Vec<(Cluster, Vec<Event>)> {
        let mut next = Vec::new();
        for event in cluster.events(self.families) {
            let mut after = cluster.clone();
            after.apply(event);
            let schedule = [schedule, &[event]].concat();
            if !self.report(&after, &schedule) {
                next.push((after, schedule));
            }
        }
        next
    }

    fn visit(&self, cluster: Cluster, schedule: &mut Vec<Event>, left: usize) {
        if cluster.is_over() {
            return;
        }
        if left == 0 {
            return self.end(cluster, schedule);
        }
        // A digest takes longer than the last event.
        if left > 1 && !self.visited.enter(cluster.digest(), left) {
            return;
        }
        for event in cluster.events(self.families) {
            // The last event of a schedule without a request would have no effect on an answer.
            if left == 1 && cluster.asked.is_none() && !matches!(event, Event::Ask(_)) {
                continue;
            }
            let mut after = cluster.clone();
            after.apply(event);
            schedule.push(event);
            if !self.report(&after, schedule) {
                self.visit(after, schedule, left - 1);
            }
            schedule.pop();
        }
    }

    /// Awaits the answer, if one is due.
    fn end(&self, mut cluster: Cluster, schedule: &[Event]) {
        if cluster.asked.is_some() {
            self.schedules.fetch_add(1, Ordering::Relaxed);
            cluster.await_answer();
            self.report(&cluster, schedule);
        }
    }

    /// Keeps a violation; false if there is none.
    fn report(&self, cluster: &Cluster, schedule: &[Event]) -> bool {
        let Some(what) = &cluster.violation else { return false };
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < KEPT {
            violations.push(Violation { schedule: schedule.to_vec(), what: what.clone() });
        }
        true
    }
}
