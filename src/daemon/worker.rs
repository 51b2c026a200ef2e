//! The one thread that carries requests out.

use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, select};

use super::backend::{Backend, Event};
use super::job::Job;
use crate::fence::{Operation, Verdict};

/// How many jobs may wait for the worker, of all listeners together; more
/// are answered with failure at once.
pub(crate) const QUEUE_MAX: usize = 512;

/// Takes jobs until all listeners are gone.
pub(crate) fn run(backend: &mut dyn Backend, jobs: &Receiver<Job>, events: &Receiver<Event>) {
    loop {
        let wait = backend.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timer = wait.map_or_else(crossbeam_channel::never, crossbeam_channel::after);
        select! {
            recv(jobs) -> job => match job {
                Ok(job) => begin(backend, job, Instant::now()),
                Err(_) => break,
            },
            recv(events) -> event => if let Ok(event) = event { backend.event(event, Instant::now()) },
            recv(timer) -> _ => {}
        }
        // What is known already counts before what has run out of time.
        for event in events.try_iter() {
            backend.event(event, Instant::now());
        }
        backend.turn(Instant::now());
    }
    drain(backend, events);
}

/// The listeners are gone: finishes what is kept for another try.
fn drain(backend: &mut dyn Backend, events: &Receiver<Event>) {
    while let Some(at) = backend.deadline() {
        match events.recv_deadline(at) {
            Ok(event) => backend.event(event, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        backend.turn(Instant::now());
    }
}

fn begin(backend: &mut dyn Backend, job: Job, now: Instant) {
    if let Some(stale) = job.stale(now) {
        return job.drop_stale(stale);
    }
    match job.request.operation {
        Operation::Null => job.finish(Verdict::Failure, "null is never carried out"),
        _ => backend.begin(job, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::job::tests::{answers, job};
    use crate::daemon::job::{AGE_LIMIT, Caller};

    /// Counts what reaches it.
    #[derive(Default)]
    struct Counting(usize);

    impl Backend for Counting {
        fn begin(&mut self, job: Job, _now: Instant) {
            self.0 += 1;
            job.finish(Verdict::Success, "counted");
        }

        fn event(&mut self, _event: Event, _now: Instant) {}

        fn turn(&mut self, _now: Instant) {}

        fn deadline(&self) -> Option<Instant> {
            None
        }
    }

    fn carried_out(age: std::time::Duration, spoil: impl Fn(&Caller)) -> (usize, Vec<crate::fence::Answer>) {
        let now = Instant::now();
        let (job, mail, caller) = job(Operation::Off, "a", now);
        spoil(&caller);
        let mut backend = Counting::default();
        begin(&mut backend, job, now + age);
        (backend.0, answers(&mail))
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let second = std::time::Duration::from_secs(1);
        assert_eq!(carried_out(second, |_| ()), (1, vec![Verdict::Success.into()]));
        assert_eq!(carried_out(AGE_LIMIT, |_| ()), (0, vec![Verdict::Failure.into()]));
        assert_eq!(carried_out(second, Caller::hang_up), (0, vec![Verdict::Failure.into()]));
    }

    #[test]
    fn it_ends_with_the_last_listener() {
        let (sender, jobs) = crossbeam_channel::bounded(4);
        let (_events, event_receiver) = crossbeam_channel::bounded(1);
        let (null, mail, _) = job(Operation::Null, "", Instant::now());
        sender.send(null).unwrap();
        drop(sender);
        let mut backend = Counting::default();
        run(&mut backend, &jobs, &event_receiver);
        assert_eq!((backend.0, answers(&mail)), (0, vec![Verdict::Failure.into()]));
    }
}
