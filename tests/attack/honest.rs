//! Honest clients that fence at regular intervals during an attack, and their times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fence_virt::fence::Operation;

use crate::common::agent::Agent;
use crate::common::guests::Socket;

/// Interval between the fences of one client.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Maximum time of a fence under attack.
pub const PROMPT: Duration = Duration::from_secs(2);
/// Timeout of agents in seconds, which is their default.
pub const TIMEOUT: u32 = 30;

/// Times at which a client fences: first after `first`, then at each interval.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    pub first: Duration,
    pub interval: Duration,
}

impl Rhythm {
    /// Client number `at` of several with [`INTERVAL`], each at a time of its own. Requests that are in progress
    /// at the same time may be of VMs that fence each other, and over TCP a sign of life takes a second.
    pub fn of(at: u32) -> Rhythm {
        Rhythm { first: INTERVAL / 5 * at, interval: INTERVAL }
    }
}

/// Fences of one client.
pub struct Fences {
    name: &'static str,
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Fences {
    /// Calls `fence` (off, then on) at these times until the end of the attack, at least once.
    /// `fence` returns an error with the reason, and has a time limit of its own.
    pub fn until(
        over: &AtomicBool,
        name: &'static str,
        Rhythm { first, interval }: Rhythm,
        mut fence: impl FnMut(&'static str) -> Result<(), String>,
    ) -> Fences {
        let mut fences = Fences { name, times: Vec::new(), failures: Vec::new() };
        pause(first);
        let begin = Instant::now();
        for round in 1.. {
            for operation in ["off", "on"] {
                let began = Instant::now();
                let result = fence(operation);
                fences.times.push(began.elapsed());
                let at = begin.elapsed();
                fences.failures.extend(result.err().map(|why| format!("{operation} at {at:?}: {why}")));
            }
            if over.load(Ordering::Relaxed) {
                break;
            }
            pause((interval * round).saturating_sub(begin.elapsed()));
        }
        fences
    }

    /// Asserts that each fence succeeded within `limit`.
    pub fn assert_within(mut self, limit: Duration) {
        self.times.sort();
        let (count, name) = (self.times.len(), self.name);
        let part = |percent: usize| self.times[(count * percent).div_ceil(100).max(1) - 1];
        let [median, most, last] = [50, 95, 100].map(part);
        eprintln!("{name}: {count} fences, median {median:?}, 95 % within {most:?}, all within {last:?}");
        assert!(self.failures.is_empty(), "{name}: of {count} fences these failed: {:#?}", self.failures);
        assert!(last <= limit, "{name}: a fence took {last:?}");
    }
}

/// Fences by an agent, which gives up at its timeout.
pub fn by_agent(agent: &Agent, operation: &str, vm: &str) -> Result<(), String> {
    let ran = agent.run(operation, vm);
    if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}")) }
}

/// Fences over a serial line; panics after the 30 s of [`Socket`].
pub fn by_line(line: &mut Socket, operation: &str, vm: &str) -> Result<(), String> {
    let operation = if operation == "off" { Operation::Off } else { Operation::On };
    let verdict = line.ask(operation, vm);
    if verdict == 0 { Ok(()) } else { Err(format!("verdict {verdict}")) }
}

/// Pauses for the pace of a client.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    thread::sleep(time);
}
