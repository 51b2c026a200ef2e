//! The worker: the one thread that carries requests out.
#![forbid(unsafe_code)]

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::trace;

use crate::backend::Backend;
use crate::heartbeat::Heartbeat;
use crate::inbox::{INBOX_MAX, Message};
use crate::job::Job;
use fence_virt::backlog::Backlog;
use fence_virt::fence::Verdict;
use fence_virt::routing::JobId;
use fence_virt::time::Instant;

/// An entry of the backlog.
enum BacklogEntry {
    Job(Box<Job>),
    /// A call of the backend's own.
    LocalCall(JobId),
}

/// Handles messages until it receives `Stop` and the backend has finished. Events are
/// handled before the jobs that came with them, and before deadlines.
pub(crate) fn run(backend: &mut dyn Backend, inbox: &Receiver<Message>, heartbeat: &Heartbeat) {
    let mut backlog = Backlog::default();
    let mut is_stopping = false;
    while !is_stopping || !backlog.is_empty() || backend.is_busy() {
        if backlog.is_empty() {
            heartbeat.mark_idle();
            let message = wait(inbox, backend.deadline());
            heartbeat.mark_busy();
            match message {
                Ok(message) => absorb(message, backend, &mut backlog, &mut is_stopping),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        while backlog.len() < INBOX_MAX {
            let Ok(message) = inbox.try_recv() else { break };
            absorb(message, backend, &mut backlog, &mut is_stopping);
        }
        heartbeat.mark_busy();
        match backlog.pop() {
            Some(BacklogEntry::Job(job)) if is_stopping => {
                job.refuse(Verdict::Failure, "not begun: the daemon is stopping")
            }
            Some(BacklogEntry::LocalCall(_)) if is_stopping => {}
            Some(BacklogEntry::Job(job)) => begin(backend, *job, Instant::now()),
            Some(BacklogEntry::LocalCall(call)) => backend.begin_local_call(call, Instant::now()),
            None => {}
        }
        backend.turn(Instant::now());
        while let Some(call) = backend.next_local_call() {
            backlog.push(BacklogEntry::LocalCall(call.id), call.is_power);
        }
    }
}

fn wait(inbox: &Receiver<Message>, deadline: Option<Instant>) -> Result<Message, RecvTimeoutError> {
    match deadline {
        Some(at) => inbox.recv_timeout(at.remaining()),
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

fn absorb(
    message: Message,
    backend: &mut dyn Backend,
    backlog: &mut Backlog<BacklogEntry>,
    is_stopping: &mut bool,
) {
    match message {
        Message::Job(job) => {
            let is_power = job.request.operation.is_power();
            backlog.push(BacklogEntry::Job(Box::new(job)), is_power);
        }
        Message::Event(event) => backend.event(event, Instant::now()),
        Message::Settings(settings) => backend.adopt(settings, Instant::now()),
        Message::Knows { target, reply } => {
            // The main thread may have given up.
            if reply.try_send(backend.knows(&target, Instant::now())).is_err() {
                trace!("nobody waits for the reply about {:?}", target.as_str());
            }
        }
        Message::Stop => {
            *is_stopping = true;
            backend.stop();
        }
    }
}

fn begin(backend: &mut dyn Backend, job: Job, now: Instant) {
    if let Some(stale) = job.stale(now) {
        return job.refuse_stale(stale);
    }
    backend.begin(job, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{BackendSettings, Event};
    use crate::job::tests::{answers, job};
    use crate::job::{AGE_LIMIT, CancelToken};
    use crossbeam_channel::Sender;
    use fence_virt::fence::{Answer, Operation, Target};
    use std::time::Duration;

    /// Remembers the operations that reach it.
    #[derive(Default)]
    struct Counting {
        begun: Vec<Operation>,
        /// Number of operations after which the worker is to stop.
        stops: Option<(usize, Sender<Message>)>,
    }

    impl Backend for Counting {
        fn begin(&mut self, job: Job, _now: Instant) {
            self.begun.push(job.request.operation);
            if let Some((_, worker)) = self.stops.take_if(|(count, _)| *count == self.begun.len()) {
                worker.send(Message::Stop).unwrap();
            }
            job.finish(Verdict::Success, "counted");
        }

        fn event(&mut self, _event: Event, _now: Instant) {}

        fn adopt(&mut self, _settings: BackendSettings, _now: Instant) {}

        fn turn(&mut self, _now: Instant) {}

        fn knows(&mut self, _target: &Target, _now: Instant) -> Result<bool, String> {
            Ok(false)
        }

        fn deadline(&self) -> Option<Instant> {
            None
        }
    }

    fn carried_out(age: Duration, spoil: impl Fn(&CancelToken)) -> (usize, Vec<Answer>) {
        let now = Instant::now();
        let (job, mail, caller) = job(Operation::Off, "a", now);
        spoil(&caller);
        let mut backend = Counting::default();
        begin(&mut backend, job, now + age);
        (backend.begun.len(), answers(&mail))
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let second = Duration::from_secs(1);
        assert_eq!(carried_out(second, |_| ()), (1, vec![Verdict::Success.into()]));
        assert_eq!(carried_out(AGE_LIMIT, |_| ()), (0, vec![Verdict::Failure.into()]));
        assert_eq!(carried_out(second, CancelToken::cancel), (0, vec![Verdict::Failure.into()]));
    }

    #[test]
    fn a_fence_goes_before_the_questions_that_wait() {
        use Operation::{HostList, Off, Reboot, Status};
        let (sender, inbox) = crossbeam_channel::bounded(8);
        let kept: Vec<_> = [HostList, Status, Off, HostList, Reboot]
            .map(|operation| {
                let (job, mail, _) = job(operation, "a", Instant::now());
                sender.send(Message::Job(job)).unwrap();
                mail
            })
            .into();
        let mut backend = Counting { stops: Some((5, sender)), ..Counting::default() };
        run(&mut backend, &inbox, &Heartbeat::default());
        // The first was begun before the others were looked at.
        assert_eq!(backend.begun.iter().filter(|operation| operation.is_power()).count(), 2);
        let first_question = backend.begun.iter().position(|&operation| operation == Status).unwrap();
        let last_fence = backend.begun.iter().rposition(|operation| operation.is_power()).unwrap();
        assert!(last_fence < first_question, "{:?}", backend.begun);
        assert!(kept.iter().all(|mail| answers(mail).len() == 1));
    }

    #[test]
    fn it_ends_when_it_is_told_to_and_begins_nothing_more() {
        let (sender, inbox) = crossbeam_channel::bounded(4);
        let asked = [Operation::Off, Operation::Status].map(|operation| {
            let (job, mail, _) = job(operation, "a", Instant::now());
            sender.send(Message::Job(job)).unwrap();
            mail
        });
        sender.send(Message::Stop).unwrap();
        let mut backend = Counting::default();
        run(&mut backend, &inbox, &Heartbeat::default());
        assert!(backend.begun.is_empty());
        assert!(asked.iter().all(|mail| answers(mail) == [Verdict::Failure.into()]));
    }
}
