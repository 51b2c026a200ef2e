//! VMs that fence each other, with the true time of each death, and virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fence_virt::arbiter::Arbiter;
use fence_virt::fence::{Domain, Source, Uuid};
use fence_virt::time::Instant;

/// Microseconds of the world's clock.
pub type Time = u64;
pub const MS: Time = 1000;
pub const SECOND: Time = 1000 * MS;

/// xorshift64: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Source of requests.
pub struct Endpoint {
    pub source: Source,
    /// VM that it belongs to; none: a machine that is never powered off.
    pub vm: Option<usize>,
    /// True if the daemon knows the VM.
    pub is_known: bool,
}

pub struct Vm {
    pub uuid: Uuid,
    /// Its life; none while it is off.
    pub life: Option<usize>,
}

/// Time for which a VM ran: a connection that it opened then answers only then.
pub struct Life {
    pub is_over: bool,
    /// Endpoint that asked for the operation which ended it, none if another host did; none also if it ended
    /// otherwise.
    pub killed_for: Option<Option<usize>>,
}

/// Request of which the daemon has not begun the operation.
#[derive(Clone)]
pub struct Request {
    pub target: usize,
    /// None: another host.
    pub endpoint: Option<usize>,
    /// Life of the VM that sent it; none if no VM did.
    pub life: Option<usize>,
    pub alive_at: Time,
    /// Time at which the daemon read it.
    pub asked_at: Time,
    /// Time at which the probe was sent that has no answer.
    pub proof: Option<Time>,
}

/// Operation that was begun.
pub struct Operation {
    pub id: u64,
    pub target: usize,
    pub endpoint: Option<usize>,
    /// End as the daemon knows it.
    pub end: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    /// Nothing was powered off, and the daemon knows.
    Nothing,
    /// It may take effect 15 s later.
    Unknown,
}

#[derive(Clone)]
pub enum Event {
    /// Some requests, or the crash of a VM.
    Requests,
    /// The endpoint asks for one operation after the other until then, most of which overlap.
    Stream(usize, Time),
    /// The client answers the challenge, if it lives.
    Answer(Request),
    /// The daemon has read the answer.
    Arrive(Request),
    Expire(u64),
    HangUp(u64),
    /// The probe, sent at the first time, reaches the client; the answer arrives at the second.
    Probe(u64, Time, Time),
    Proof(u64, Time),
    NoProof(u64, Time),
    /// The VM is powered off.
    Effect(u64),
    End(u64, Outcome),
    Boot(usize),
}

/// Frequency of requests and faults.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub vms: usize,
    /// Time between two events with requests on the average.
    pub pause: Time,
    /// The daemon knows the VM of one endpoint in this number.
    pub known: u64,
    /// Longest time for which the daemon leaves an answer unread.
    pub delay: Time,
}

pub struct World {
    pub seed: u64,
    pub now: Time,
    start: Instant,
    pub random: Random,
    pub weather: Weather,
    pub arbiter: Arbiter,
    pub endpoints: Vec<Endpoint>,
    pub vms: Vec<Vm>,
    pub lives: Vec<Life>,
    /// By their numbers, which grow in the order of arrival.
    pub requests: BTreeMap<u64, Request>,
    /// In the order in which they were begun.
    pub operations: Vec<Operation>,
    events: BTreeMap<(Time, u64), Event>,
    next_number: u64,
    /// The arbiter's, as it was checked after the last step.
    pub deadline: Option<Time>,
    pub is_ending: bool,
    pub counts: BTreeMap<&'static str, u64>,
    is_traced: bool,
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> World {
        let mut world = World {
            seed,
            now: 0,
            start: Instant::now(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            weather,
            arbiter: Arbiter::default(),
            endpoints: Vec::new(),
            vms: Vec::new(),
            lives: Vec::new(),
            requests: BTreeMap::new(),
            operations: Vec::new(),
            events: BTreeMap::new(),
            next_number: 1,
            deadline: None,
            is_ending: false,
            counts: BTreeMap::new(),
            is_traced: std::env::var_os("FENCE_TRACE").is_some(),
        };
        for vm in 0..weather.vms {
            let uuid = Uuid::from_bytes([vm as u8 + 1; 16]);
            world.vms.push(Vm { uuid, life: None });
            world.boot(vm);
            world.add_endpoint(Some(vm));
            // Some VMs have several ways to the daemon.
            while world.random.one_in(3) {
                world.add_endpoint(Some(vm));
            }
        }
        for _ in 0..world.random.below(3) {
            world.add_endpoint(None);
        }
        world.at(0, Event::Requests);
        world
    }

    fn add_endpoint(&mut self, vm: Option<usize>) {
        let number = self.endpoints.len() as u8 + 3;
        let is_known = vm.is_some() && self.random.one_in(self.weather.known);
        let source = match vm.filter(|_| is_known && self.random.one_in(2)) {
            Some(vm) => {
                let name = format!("vm{vm} line {number}");
                Source::Domain(Arc::new(Domain { name, uuid: self.vms[vm].uuid }))
            }
            None if is_known || (vm.is_some() && self.random.one_in(3)) => Source::Cid(u32::from(number)),
            None => Source::Ip([192, 0, 2, number].into()),
        };
        self.endpoints.push(Endpoint { source, vm, is_known });
    }

    pub fn instant(&self, time: Time) -> Instant {
        self.start + Duration::from_micros(time)
    }

    pub fn time(&self, instant: Instant) -> Time {
        (instant - self.start).as_micros() as Time
    }

    /// Shown with FENCE_TRACE set.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{:.6} {}", self.now as f64 / SECOND as f64, what());
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    #[track_caller]
    pub fn fail(&self, what: &str) -> ! {
        panic!("seed {}, at {} us: {what}", self.seed, self.now);
    }

    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn at(&mut self, time: Time, event: Event) {
        let number = self.number();
        self.events.insert((time, number), event);
    }

    pub fn after(&mut self, pause: Time, event: Event) {
        self.at(self.now + pause, event);
    }

    /// Sets the clock to the next event, or to the arbiter's deadline: then there is no event.
    pub fn wait(&mut self) -> Option<Option<Event>> {
        let first = self.events.keys().next().copied();
        match (first, self.deadline) {
            (Some((time, number)), deadline) if deadline.is_none_or(|deadline| deadline >= time) => {
                self.now = time;
                Some(self.events.remove(&(time, number)))
            }
            (_, Some(deadline)) => {
                self.now = deadline;
                Some(None)
            }
            (..) => None,
        }
    }

    // -------------------------------------------------------------- the VMs

    pub fn boot(&mut self, vm: usize) {
        if self.vms[vm].life.is_none() {
            self.lives.push(Life { is_over: false, killed_for: None });
            self.vms[vm].life = Some(self.lives.len() - 1);
            self.trace(|| format!("vm{vm} runs"));
        }
    }

    /// Ends the life of a VM; it runs again after a while.
    pub fn kill(&mut self, vm: usize, killed_for: Option<Option<usize>>) {
        let Some(life) = self.vms[vm].life.take() else { return };
        self.lives[life] = Life { is_over: true, killed_for };
        let is_reboot = self.random.one_in(2);
        let pause =
            if is_reboot { self.random.below(SECOND) } else { self.random.between(SECOND, 20 * SECOND) };
        self.after(pause, Event::Boot(vm));
        self.trace(|| format!("vm{vm} is off"));
    }

    pub fn is_alive(&self, request: &Request) -> bool {
        request.life.is_none_or(|life| !self.lives[life].is_over)
    }
}
