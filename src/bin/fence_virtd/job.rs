//! A request on its way to the worker, and the responder that carries its answer back.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::caller::Caller;
use fence_virt::fence::{Answer, ListenerName, Request, Source, Verdict, WireVersion};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{Evidence, JobOutcome};
use fence_virt::time::Instant;

/// Age limit of a request, both when the worker begins it and before each destroy:
/// the fence agents' default timeout, after which the client has given up.
pub(crate) const AGE_LIMIT: Duration = Duration::from_secs(30);

/// Cancellation flag of a request: the listener sets it when the client hangs up, the worker checks it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelToken {
    cancelled: Arc<AtomicBool>,
    /// Parent; its hang-up cancels this one too.
    parent: Option<Arc<AtomicBool>>,
}

impl CancelToken {
    /// Cancels the request and all requests made on its behalf.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Returns a token that is cancelled on its own or with this one.
    pub(crate) fn child(&self) -> CancelToken {
        CancelToken { cancelled: Arc::default(), parent: Some(self.cancelled.clone()) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Acquire);
        is_set(&self.cancelled) || self.parent.as_ref().is_some_and(is_set)
    }
}

/// Details that accompany an answer.
#[derive(Debug)]
pub(crate) struct Completion {
    /// Reason, for the log.
    pub(crate) reason: String,
    /// True if the request was begun. A request that was not may be sent again.
    pub(crate) was_begun: bool,
    /// What the operation has shown about the VM, besides the verdict.
    pub(crate) evidence: Evidence,
}

impl Completion {
    /// Details of an answer without evidence.
    fn new(reason: &dyn fmt::Display, was_begun: bool) -> Completion {
        Completion { reason: reason.to_string(), was_begun, evidence: Evidence::None }
    }
}

/// Receiver of one answer: called exactly once for each job.
type Respond = dyn FnOnce(Answer, Completion) + Send;

/// Way back of exactly one answer. A responder that is dropped unused answers failure.
pub(crate) struct Responder(Option<Box<Respond>>);

impl Responder {
    pub(crate) fn new(respond: impl FnOnce(Answer, Completion) + Send + 'static) -> Responder {
        Responder(Some(Box::new(respond)))
    }

    fn respond(&mut self, answer: Answer, completion: Completion) {
        if let Some(respond) = self.0.take() {
            respond(answer, completion);
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let completion = Completion::new(&"dropped without an answer", true);
        self.respond(Verdict::Failure.into(), completion);
    }
}

/// Reason to drop a job, before or after it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// The client hung up.
    HungUp,
    /// The job has expired.
    TooOld,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stale::HungUp => "the client hung up first",
            Stale::TooOld => "expired: its client has given up by now",
        })
    }
}

/// The wait for the end of a job, which may be over before that.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    cancel: CancelToken,
    expires: Instant,
}

impl Waiter {
    /// Reason why nobody waits any more at `now`.
    pub(crate) fn stale(&self, now: Instant) -> Option<Stale> {
        if self.cancel.is_cancelled() {
            return Some(Stale::HungUp);
        }
        (now >= self.expires).then_some(Stale::TooOld)
    }
}

/// Origin of a job.
#[derive(Debug)]
pub(crate) enum Requester {
    /// A client of this daemon.
    Client {
        /// Listener that received the request.
        listener: ListenerName,
        /// Identity that the transport proves.
        source: Source,
        /// Version of the protocol in which it came.
        version: WireVersion,
    },
    /// The cluster; the permission groups were checked on the host of the client.
    Cluster {
        /// Names by which they permit the VM.
        permitted: PermittedNames,
        /// No other host is known to have the VM: if it has migrated away from
        /// this host, nobody knows where it runs.
        is_sole_known_owner: bool,
    },
}

/// An authenticated request for the worker.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) requester: Requester,
    /// Arrival of the first byte.
    pub(crate) received: Instant,
    /// Time from which the job is not begun any more, and no VM destroyed for it.
    pub(crate) expires: Instant,
    pub(crate) cancel: CancelToken,
    pub(crate) responder: Responder,
    /// Client of this host; none if another host asks.
    pub(crate) caller: Option<Caller>,
}

impl Job {
    /// Reason not to begin the job, nor to destroy a VM for it, at `now`.
    pub(crate) fn stale(&self, now: Instant) -> Option<Stale> {
        self.waiter().stale(now)
    }

    /// The wait for the end of this job.
    pub(crate) fn waiter(&self) -> Waiter {
        Waiter { cancel: self.cancel.clone(), expires: self.expires }
    }

    /// True if no other host is known to have the VM, so that "migrated away" is not "off". Without
    /// a cluster no other host is known at all.
    pub(crate) fn is_sole_known_owner(&self) -> bool {
        match self.requester {
            Requester::Client { .. } => true,
            Requester::Cluster { is_sole_known_owner, .. } => is_sole_known_owner,
        }
    }

    /// True if the router has asked for the job, on behalf of a client or of another host.
    pub(crate) fn is_for_cluster(&self) -> bool {
        matches!(self.requester, Requester::Cluster { .. })
    }

    /// Answers the job; the listener logs the answer with the reason.
    pub(crate) fn finish(mut self, answer: impl Into<Answer>, reason: impl fmt::Display) {
        self.responder.respond(answer.into(), Completion::new(&reason, true));
    }

    /// Answers the job with what it has shown besides the verdict.
    pub(crate) fn conclude(mut self, outcome: JobOutcome) {
        let JobOutcome { verdict, evidence, reason } = outcome;
        self.responder.respond(verdict.into(), Completion { reason, was_begun: true, evidence });
    }

    /// Answers the job without having begun it: the same request may be sent again.
    pub(crate) fn refuse(mut self, answer: impl Into<Answer>, reason: impl fmt::Display) {
        self.responder.respond(answer.into(), Completion::new(&reason, false));
    }

    /// Answers a stale job that was not begun.
    pub(crate) fn refuse_stale(self, stale: Stale) {
        self.refuse(Verdict::Failure, format_args!("not begun: {stale}"));
    }

    /// Gives up a job that was begun.
    pub(crate) fn give_up(self, stale: Stale) {
        self.finish(Verdict::Failure, format_args!("given up: {stale}"));
    }
}

/// A request, formatted for a log line: the operation and the quoted target.
pub(crate) struct RequestLabel<'a>(pub(crate) &'a Request);

impl fmt::Display for RequestLabel<'_> {
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
    use crate::caller::tests::{Questions, caller};
    use fence_virt::fence::{Operation, Target};
    use std::sync::Mutex;

    /// The answers to a job, as they come.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Answers(Arc<Mutex<Vec<Answer>>>);

    /// A job without a listener.
    pub(crate) fn job(operation: Operation, name: &str, received: Instant) -> (Job, Answers, CancelToken) {
        let source = Source::ip("192.0.2.1".parse().unwrap());
        let (job, answers, cancel, _) = job_of(source, operation, name, received);
        (job, answers, cancel)
    }

    /// A job of this source, without a listener: the questions about its caller are the test's to answer.
    pub(crate) fn job_of(
        source: Source,
        operation: Operation,
        name: &str,
        received: Instant,
    ) -> (Job, Answers, CancelToken, Questions) {
        let answers = Answers::default();
        let cancel = CancelToken::default();
        let into = answers.clone();
        let (caller, questions) = caller(source.clone(), received);
        let job = Job {
            request: Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno: 1 },
            requester: Requester::Client {
                listener: ListenerName::new("tcp", None),
                source,
                version: WireVersion::One,
            },
            received,
            expires: received + AGE_LIMIT,
            cancel: cancel.clone(),
            responder: Responder::new(move |answer, _| into.0.lock().unwrap().push(answer)),
            caller: Some(caller),
        };
        (job, answers, cancel, questions)
    }

    /// All answers since the last call.
    pub(crate) fn answers(answers: &Answers) -> Vec<Answer> {
        std::mem::take(&mut answers.0.lock().unwrap())
    }

    #[test]
    fn every_job_gets_exactly_one_answer() {
        let now = Instant::now();
        let (dropped, kept, _) = job(Operation::Off, "a", now);
        drop(dropped);
        assert_eq!(answers(&kept), [Verdict::Failure.into()]);
        let (finished, kept, _) = job(Operation::Off, "a", now);
        finished.finish(Verdict::Success, "done");
        assert_eq!(answers(&kept), [Verdict::Success.into()]);
    }

    #[test]
    fn a_job_is_stale_once_cancelled_or_past_its_age() {
        let now = Instant::now();
        let (job, _answers, cancel) = job(Operation::Off, "a", now);
        assert_eq!(job.stale(now + AGE_LIMIT - Duration::from_millis(1)), None);
        assert_eq!(job.stale(now + AGE_LIMIT), Some(Stale::TooOld));
        cancel.cancel();
        assert_eq!(job.stale(now), Some(Stale::HungUp));
    }

    #[test]
    fn a_child_is_cancelled_on_its_own_or_with_its_parent() {
        let parent = CancelToken::default();
        let [own, other] = [parent.child(), parent.child()];
        own.cancel();
        assert!(own.is_cancelled() && !parent.is_cancelled() && !other.is_cancelled());
        parent.cancel();
        assert!(other.is_cancelled());
    }
}
