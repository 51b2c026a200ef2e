//! A request on its way to the worker, and the ticket that brings back its answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::warn;

use crate::listener::Mail;
use fence_virt::fence::{Answer, ListenerName, Request, Source, Verdict};
use fence_virt::sys::mailbox::Address;

/// How old a request may be when the worker begins it, or destroys a VM for
/// it: the agents' default timeout, after which their caller has given up.
pub(crate) const AGE_LIMIT: Duration = Duration::from_secs(30);

/// Whether the client of a job still waits; the listener says so, the worker looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    gone: Arc<AtomicBool>,
    /// Whom this one asks for.
    parent: Option<Arc<AtomicBool>>,
}

impl Caller {
    /// The client hung up.
    pub(crate) fn hang_up(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// One that can be hung up by itself, and is also when this one is.
    pub(crate) fn child(&self) -> Caller {
        Caller { gone: Arc::default(), parent: Some(self.gone.clone()) }
    }

    fn waits(&self) -> bool {
        let is_gone = |gone: &Arc<AtomicBool>| gone.load(Ordering::Acquire);
        !is_gone(&self.gone) && !self.parent.as_ref().is_some_and(is_gone)
    }
}

/// What a listener is told about an answer.
#[derive(Debug)]
pub(crate) struct Report {
    /// Why, for the log.
    pub(crate) reason: String,
    /// Whether the request was begun; if not, its twin may be.
    pub(crate) carried_out: bool,
}

/// The outcome of a job of the cluster.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) job: u64,
    pub(crate) answer: Answer,
    pub(crate) reason: String,
}

/// The way back of exactly one answer. Dropped unused, it answers failure.
#[derive(Debug)]
pub(crate) struct Ticket(Option<Reply>);

#[derive(Debug)]
enum Reply {
    Session(Address<Mail>, u64),
    Cluster(Sender<Outcome>, u64),
}

impl Ticket {
    /// Back to the session of a listener.
    pub(crate) fn new(reply: Address<Mail>, session: u64) -> Ticket {
        Ticket(Some(Reply::Session(reply, session)))
    }

    /// Back to the part of the worker that speaks with other hosts.
    pub(crate) fn of_cluster(outcomes: Sender<Outcome>, job: u64) -> Ticket {
        Ticket(Some(Reply::Cluster(outcomes, job)))
    }

    fn post(&mut self, answer: Answer, report: Report) {
        match self.0.take() {
            None => {}
            Some(Reply::Session(reply, session)) => {
                let mail = Mail::Answered { session, answer, report };
                if let Err(Mail::Answered { answer, report, .. }) = reply.post(mail) {
                    warn!("an answer came after its listener had ended: {answer} ({})", report.reason);
                }
            }
            Some(Reply::Cluster(outcomes, job)) => {
                // It is the worker's own channel: nobody is there when the worker has ended.
                let _ = outcomes.send(Outcome { job, answer, reason: report.reason });
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let reason = "it was dropped".to_owned();
        self.post(Verdict::Failure.into(), Report { reason, carried_out: true });
    }
}

/// Why a job is not carried out, or not carried on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Its client hung up.
    HungUp,
    /// It has expired.
    TooOld,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stale::HungUp => f.write_str("the client hung up first"),
            Stale::TooOld => f.write_str("it had waited too long, its caller has given up"),
        }
    }
}

/// Who asks for a job.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client of this daemon.
    Client {
        /// Whose client it is.
        listener: ListenerName,
        /// Who it is.
        source: Source,
    },
    /// The cluster: the groups were asked where its client is.
    Cluster {
        /// No other host is known to have the VM: if it moved away from here,
        /// nobody knows where it is.
        is_alone: bool,
    },
}

/// An authenticated request for the worker.
#[derive(Debug)]
pub(crate) struct Job {
    /// What is asked.
    pub(crate) request: Request,
    /// By whom.
    pub(crate) asker: Asker,
    /// When its first byte was here.
    pub(crate) received: Instant,
    /// When its caller has given up: it is not begun after that, nor a VM destroyed for it.
    pub(crate) expires: Instant,
    /// Whether anybody still waits for it.
    pub(crate) caller: Caller,
    /// The way back.
    pub(crate) ticket: Ticket,
}

impl Job {
    /// Why it must not be begun, nor a VM destroyed for it, at `now`.
    pub(crate) fn stale(&self, now: Instant) -> Option<Stale> {
        if !self.caller.waits() {
            return Some(Stale::HungUp);
        }
        (now >= self.expires).then_some(Stale::TooOld)
    }

    /// Whether it counts against it that the VM moved away from here.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.asker, Asker::Cluster { is_alone: true })
    }

    /// Answers it; the listener writes the answer and its reason into the log.
    pub(crate) fn finish(mut self, answer: impl Into<Answer>, reason: impl fmt::Display) {
        let report = Report { reason: reason.to_string(), carried_out: true };
        self.ticket.post(answer.into(), report);
    }

    /// Answers it without having begun it: the same request may come again.
    pub(crate) fn refuse(mut self, answer: impl Into<Answer>, reason: impl fmt::Display) {
        let report = Report { reason: reason.to_string(), carried_out: false };
        self.ticket.post(answer.into(), report);
    }

    /// Gives it up after it was begun, with a reason for the log.
    pub(crate) fn give_up(self, stale: Stale) {
        self.finish(Verdict::Failure, format_args!("given up: {stale}"));
    }
}

/// A request in a log line.
pub(crate) struct Asked<'a>(pub(crate) &'a Request);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.operation.fmt(f)?;
        if self.0.operation.names_a_domain() {
            write!(f, " {:?}", self.0.target.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fence_virt::fence::{Operation, Target};
    use fence_virt::sys::mailbox::{Mailbox, mailbox};

    /// A job without a listener: its answers come out of the mailbox.
    pub(crate) fn job(operation: Operation, name: &str, received: Instant) -> (Job, Mailbox<Mail>, Caller) {
        let (address, mail) = mailbox().unwrap();
        let caller = Caller::default();
        let job = Job {
            request: Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno: 1 },
            asker: Asker::Client {
                listener: ListenerName::new("tcp", None),
                source: Source::ip("192.0.2.1".parse().unwrap()),
            },
            received,
            expires: received + AGE_LIMIT,
            caller: caller.clone(),
            ticket: Ticket::new(address, 7),
        };
        (job, mail, caller)
    }

    /// All answers that have come.
    pub(crate) fn answers(mail: &Mailbox<Mail>) -> Vec<Answer> {
        mail.take()
            .filter_map(|mail| match mail {
                Mail::Answered { session: 7, answer, .. } => Some(answer),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn every_job_gets_exactly_one_answer() {
        let now = Instant::now();
        let (dropped, mail, _) = job(Operation::Off, "a", now);
        drop(dropped);
        assert_eq!(answers(&mail), [Verdict::Failure.into()]);
        let (finished, mail, _) = job(Operation::Off, "a", now);
        finished.finish(Verdict::Success, "done");
        assert_eq!(answers(&mail), [Verdict::Success.into()]);
    }

    #[test]
    fn a_job_is_stale_without_its_caller_or_past_its_age() {
        let now = Instant::now();
        let (job, _mail, caller) = job(Operation::Off, "a", now);
        assert_eq!(job.stale(now + AGE_LIMIT - Duration::from_millis(1)), None);
        assert_eq!(job.stale(now + AGE_LIMIT), Some(Stale::TooOld));
        caller.hang_up();
        assert_eq!(job.stale(now), Some(Stale::HungUp));
    }
}
