//! Pauses of the whole process (SIGSTOP, cgroup freezer, suspend, a paused hypervisor): bytes that came
//! meanwhile must not count as fresh when they are read.
//!
//! A thread in poll(2) cannot tell a pause from an hour without input. A thread of its own therefore notes
//! the time twice a second; a reader that finds the last note too old, or a pause noted since its last look,
//! knows that its input may have waited. It needs no answer of that thread, so it does not matter which of
//! them runs first after the pause.
//!
//! | alternative | why not |
//! | --- | --- |
//! | poll(2) in slices, in each listener | two wakeups a second for each listener, each over all descriptors |
//! | times of the kernel (SO_TIMESTAMP, TCP_INFO) | none for unix sockets and vsock; of the wall clock, which is set |
//! | SIOCINQ | a number of bytes, not their age |
//! | SIGCONT; CLOCK_BOOTTIME less CLOCK_MONOTONIC | each shows one kind of pause: signals, suspend |
//! | the main thread | a reload holds it up for seconds, which would look like a pause |
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::warn;

use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Longest time for which input may have waited and still counts as fresh.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Interval between notes of the time: half the limit, as a note may be late on a busy host.
const TICK: Duration = Duration::from_millis(500);

/// Time during which the process, or a thread of it, did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) since: Instant,
    pub(crate) until: Instant,
}

impl Pause {
    /// Pause between two times at which a thread ran; none if they are close enough.
    pub(crate) fn between(since: Instant, until: Instant) -> Option<Pause> {
        (until - since > PAUSE_MAX).then_some(Pause { since, until })
    }
}

#[derive(Debug, Default)]
struct Notes {
    /// Last time that was noted; none while nobody notes it.
    noted: Option<Instant>,
    last_pause: Option<Pause>,
}

/// Monitor of the pauses, shared by the thread that notes the time and the readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct PauseMonitor(Arc<Mutex<Notes>>);

impl PauseMonitor {
    /// Notes the time until `stop` is closed, and logs pauses.
    pub(crate) fn run(&self, stop: &Receiver<()>) {
        while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.note(Instant::now());
        }
    }

    /// Notes that the process runs at `now`, and logs the pause that has just ended. Returns the last pause.
    pub(crate) fn note(&self, now: Instant) -> Option<Pause> {
        let mut notes = lock(&self.0);
        if let Some(pause) = notes.noted.and_then(|noted| Pause::between(noted, now)) {
            let length = (pause.until - pause.since).as_secs_f32();
            warn!("the daemon stood still for {length:.1} s: requests that came meanwhile are refused");
            notes.last_pause = Some(pause);
        }
        notes.noted = notes.noted.max(Some(now));
        notes.last_pause
    }

    /// Reader of input that may come since this time.
    pub(crate) fn reader(&self, since: Instant) -> PauseReader {
        PauseReader { monitor: self.clone(), looked: since }
    }

    /// Last pause up to `now` that ended after `looked`; none before the first note. It is noted, so that
    /// it ends for all at the same time: what a reader finds later is fresh.
    fn after(&self, looked: Instant, now: Instant) -> Option<Pause> {
        lock(&self.0).noted?;
        self.note(now).filter(|pause| pause.until > looked)
    }
}

/// Reader that looks for input again and again.
#[derive(Debug)]
pub(crate) struct PauseReader {
    monitor: PauseMonitor,
    /// Last look, after which all that had come was read.
    looked: Instant,
}

impl PauseReader {
    /// Looks at `now`, after a wait for input that began at `began`. Returns the time since which the input
    /// may have waited; none if it came just now.
    pub(crate) fn look(&mut self, began: Instant, now: Instant) -> Option<Instant> {
        // Between its waits the thread itself may have been held up.
        let own = Pause::between(self.looked, began);
        let noted = self.monitor.after(self.looked, now);
        // Another thread may have noted the end of the pause after this one read the time: what comes after
        // this look is fresh all the same.
        self.looked = noted.map_or(now, |pause| now.max(pause.until));
        own.or(noted).map(|pause| pause.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_millis(millis))
    }

    #[test]
    fn a_pause_shows_whoever_runs_first_after_it() {
        let monitor = PauseMonitor::default();
        assert_eq!(monitor.after(at(0), at(900)), None, "nobody notes the time yet");
        for millis in [1000, 1500, 2000] {
            assert_eq!(monitor.note(at(millis)), None);
        }
        // An hour in poll(2) is none.
        assert_eq!(monitor.after(at(0), at(2400)), None);
        let pause = Pause { since: at(2400), until: at(42_000) };
        // The first reader, before the thread; then another one.
        assert_eq!(monitor.after(at(1900), at(42_000)), Some(pause));
        assert_eq!(monitor.note(at(42_010)), Some(pause), "it is one pause");
        assert_eq!(monitor.after(at(1900), at(42_020)), Some(pause));
        // Those who have looked since.
        assert_eq!(monitor.after(at(42_000), at(42_400)), None);
        assert_eq!(monitor.after(at(42_020), at(42_400)), None);
    }

    #[test]
    fn a_note_that_is_late_by_less_than_the_limit_is_no_pause() {
        let monitor = PauseMonitor::default();
        monitor.note(at(1000));
        assert_eq!(monitor.after(at(1000), at(2000)), None);
        assert_eq!(monitor.note(at(2000)), None);
        assert_eq!(monitor.after(at(2000), at(2999)), None);
        assert!(monitor.after(at(2000), at(4000)).is_some());
    }

    #[test]
    fn a_pause_whose_end_another_thread_noted_just_now_counts_once() {
        let monitor = PauseMonitor::default();
        monitor.note(at(1000));
        let mut reader = monitor.reader(at(1000));
        // The reader has read the time; before it looks, the other thread notes the end.
        monitor.note(at(42_001));
        assert_eq!(reader.look(at(1000), at(42_000)), Some(at(1000)));
        assert_eq!(reader.look(at(42_002), at(42_003)), None, "what comes later is fresh");
        // The same if the reader itself notices the pause, between two waits.
        monitor.note(at(43_000));
        monitor.note(at(84_001));
        assert_eq!(reader.look(at(84_000), at(84_000)), Some(at(42_003)));
        assert_eq!(reader.look(at(84_002), at(84_003)), None);
    }

    #[test]
    fn a_reader_that_is_held_up_alone_notices_it() {
        let monitor = PauseMonitor::default();
        let mut reader = monitor.reader(at(1000));
        let mut look = |began, now| {
            monitor.note(at(now));
            reader.look(at(began), at(now))
        };
        assert_eq!(look(60_000, 60_000), Some(at(1000)), "from the bind on");
        monitor.0.lock().unwrap().last_pause = None;
        monitor.0.lock().unwrap().noted = None;
        assert_eq!(look(60_001, 90_000), None, "a long wait");
        monitor.0.lock().unwrap().last_pause = None;
        assert_eq!(look(92_000, 92_000), Some(at(90_000)), "a long turn");
    }

    #[test]
    fn its_thread_notes_the_time_until_it_is_stopped() {
        let monitor = PauseMonitor::default();
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let running = monitor.clone();
        let thread = std::thread::spawn(move || running.run(&stopped));
        while lock(&monitor.0).noted.is_none() {
            std::thread::yield_now();
        }
        drop(stop);
        thread.join().unwrap();
    }
}
