//! Random simulation on virtual time.

use std::collections::BTreeMap;

use super::world::{Event, MS, SECOND, Time, Weather, World};

/// Requests that may wait; the daemon bounds them.
const WAITING_MAX: usize = 10;

const WEATHERS: [Weather; 6] = [
    Weather { vms: 2, pause: 4 * SECOND, known: 5, delay: 50 * MS },
    Weather { vms: 3, pause: 2 * SECOND, known: 2, delay: 200 * MS },
    Weather { vms: 5, pause: 500 * MS, known: 3, delay: 50 * MS },
    Weather { vms: 6, pause: 10 * SECOND, known: 3, delay: 5 * SECOND },
    Weather { vms: 8, pause: SECOND, known: 1, delay: SECOND },
    Weather { vms: 4, pause: 20 * SECOND, known: 100, delay: 300 * MS },
];

impl World {
    fn endpoint_of(&mut self, vm: usize) -> usize {
        let own: Vec<usize> =
            (0..self.endpoints.len()).filter(|&at| self.endpoints[at].vm == Some(vm)).collect();
        own[self.random.below(own.len() as u64) as usize]
    }

    fn some_requests(&mut self) {
        if self.is_ending {
            return;
        }
        let pause = self.random.below(2 * self.weather.pause);
        self.after(pause, Event::Requests);
        if self.requests.len() > WAITING_MAX {
            return;
        }
        let vms = self.vms.len();
        let endpoint = self.random.below(self.endpoints.len() as u64) as usize;
        let target = self.random.below(vms as u64) as usize;
        match self.random.below(12) {
            0 => self.send_from_another_host(target),
            1 if self.random.one_in(4) => self.kill(target, None),
            1 if self.random.one_in(2) => {
                let end = self.now + self.random.between(20 * SECOND, 60 * SECOND);
                self.after(0, Event::Stream(endpoint, end));
            }
            // One asks for all others, and for itself now and then.
            2 => {
                for vm in 0..vms {
                    if self.endpoints[endpoint].vm != Some(vm) || self.random.one_in(10) {
                        self.send(endpoint, vm);
                    }
                }
            }
            // Each asks for the next in a ring, of two at least.
            3..=7 => {
                let count = self.random.between(2, vms as u64 + 1) as usize;
                for step in 0..count {
                    let from = self.endpoint_of((target + step) % vms);
                    self.send(from, (target + (step + 1) % count) % vms);
                }
            }
            _ => self.send(endpoint, target),
        }
    }

    /// An operation takes 6 s on the average, so the next one begins before its end.
    fn stream(&mut self, endpoint: usize, end: Time) {
        if self.is_ending || self.now > end {
            return;
        }
        let pause = self.random.between(SECOND, 4 * SECOND);
        self.after(pause, Event::Stream(endpoint, end));
        if self.requests.len() <= WAITING_MAX {
            let target = self.random.below(self.vms.len() as u64) as usize;
            self.send(endpoint, target);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Requests => self.some_requests(),
            Event::Stream(endpoint, end) => self.stream(endpoint, end),
            Event::Answer(request) => self.answer(request),
            Event::Arrive(request) => self.arrive(request),
            Event::Expire(id) => self.withdraw(id, "expired"),
            Event::HangUp(id) => {
                if self.requests.get(&id).is_some_and(|request| self.is_alive(request)) {
                    self.withdraw(id, "hung up");
                }
            }
            Event::Probe(id, sent, due) => self.probe(id, sent, due),
            Event::Proof(id, sent) => self.proof(id, sent),
            Event::NoProof(id, sent) => self.no_proof(id, sent),
            Event::Effect(id) => self.take_effect(id),
            Event::End(id, outcome) => self.end(id, outcome),
            Event::Boot(vm) => self.boot(vm),
        }
    }

    /// Runs until nothing more will happen, with new requests in the first `steps` steps.
    fn run(&mut self, steps: u64) {
        let mut step = 0;
        while let Some(event) = self.wait() {
            step += 1;
            self.is_ending = step > steps;
            if let Some(event) = event {
                self.handle(event);
            }
            self.obey();
            self.check_waiting();
        }
        if !self.requests.is_empty() {
            self.fail(&format!("{} requests are left", self.requests.len()));
        }
    }
}

/// Events that each run has on the average, so that the checks have something to check.
const COUNTED: [&str; 17] = [
    "begun",
    "begun after it starved",
    "begun before a starving one, which it does not contest",
    "begun beside another one of the same known VM",
    "begun beside another one of the same source",
    "begun beside another source's, as its VM is known",
    "begun for another host",
    "begun for another host before a starving one",
    "blocked by a starving one",
    "ended without a known outcome",
    "expired",
    "hung up",
    "no proof",
    "proof",
    "proof demanded",
    "proof that was no longer enough",
    "withheld from a caller who was powered off",
];

fn run(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed, WEATHERS[seed as usize % WEATHERS.len()]);
    world.run(steps);
    world.counts
}

#[test]
fn no_caller_that_was_powered_off_powers_others_off_and_no_request_is_lost() {
    let steps: u64 = std::env::var("FENCE_STEPS").map_or(1_000_000, |text| text.parse().unwrap());
    let first: u64 = std::env::var("FENCE_SEED").map_or(1, |text| text.parse().unwrap());
    const EACH: u64 = 10_000;
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let runs = steps.div_ceil(EACH);
    let seeds = |thread| (first..first + runs).filter(move |seed| seed % threads == thread);
    let counts: Vec<BTreeMap<&str, u64>> = std::thread::scope(|scope| {
        let work = |thread| move || seeds(thread).map(|seed| run(seed, EACH)).collect::<Vec<_>>();
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(work(thread))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    for what in COUNTED {
        let count: u64 = counts.iter().filter_map(|counts| counts.get(what)).sum();
        eprintln!("{count:8} {what}");
        assert!(count >= runs || runs < WEATHERS.len() as u64, "{what}: {count} in {runs} runs");
    }
}
