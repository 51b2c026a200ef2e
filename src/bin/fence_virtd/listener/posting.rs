//! The way of a listener's requests to the worker and back: duplicates,
//! bounds, the job, the line in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::TrySendError;
use log::warn;

use super::Outlet;
use super::journal::{Journal, Posted};
use super::mail::Answered;
use crate::inbox::Message;
use crate::job::{AGE_LIMIT, CancelToken, Job, RequestLabel, Requester, Responder};
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Identity, ListenerName, Request, Source};
use fence_virt::history::{self, History};
use fence_virt::quota::Origin;

/// How many requests of one origin the worker may have at a time.
pub(super) const JOBS_MAX: usize = 64;

/// A request that is to be carried out.
pub(super) struct Order {
    /// To whom the answer goes; no other order has had this number.
    pub(super) id: u64,
    pub(super) request: Request,
    /// What makes it the same as another of this listener.
    pub(super) identity: Identity,
    pub(super) source: Source,
    pub(super) received: Instant,
    pub(super) cancel: CancelToken,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer will come by mail.
    Posted,
    /// It has failed.
    Refused,
    /// It is another's twin: it gets no answer.
    Duplicate,
}

/// Posts an answer into the listener's mailbox; gives it back if the listener has ended.
type PostAnswer = dyn Fn(Answered) -> Result<(), Answered> + Send + Sync;

pub(super) struct Posting {
    listener: ListenerName,
    jobs: Outlet,
    answers: Arc<PostAnswer>,
    /// Requests that the worker has, by the number of their order; who waited for it may be gone.
    with_worker: HashMap<u64, (Posted, Identity)>,
    history: History,
    /// What is written of clients and their requests.
    pub(super) journal: Journal,
}

impl Posting {
    pub(super) fn new(
        counts: Arc<Counts>,
        jobs: Outlet,
        answers: impl Fn(Answered) -> Result<(), Answered> + Send + Sync + 'static,
    ) -> Posting {
        Posting {
            listener: counts.name().clone(),
            journal: Journal::new(counts, Instant::now()),
            jobs,
            answers: Arc::new(answers),
            with_worker: HashMap::new(),
            history: History::default(),
        }
    }

    /// Whether the same request was carried out lately or is being carried out now.
    pub(super) fn holds(&mut self, identity: &Identity, now: Instant) -> bool {
        self.history.holds(identity, now)
    }

    /// Posts an authenticated request to the worker.
    pub(super) fn post(&mut self, order: Order, now: Instant) -> Outcome {
        let Order { id, request, identity, source, received, cancel } = order;
        let origin = Origin::from(&source);
        if self.jobs_of(origin) >= JOBS_MAX {
            let asked = RequestLabel(&request);
            self.journal.complain(
                Refusal::Crowded,
                Some(&source),
                now,
                format_args!("{source}: {asked}: refused, {JOBS_MAX} of its requests wait"),
            );
            return Outcome::Refused;
        }
        match self.history.begin(&identity, origin, now) {
            Ok(()) => {}
            Err(history::HistoryRefusal::Duplicate) => {
                self.complain_of_twin(&request, &source, now);
                return Outcome::Duplicate;
            }
            Err(history::HistoryRefusal::Full) => {
                let asked = RequestLabel(&request);
                self.journal.complain(
                    Refusal::Crowded,
                    Some(&source),
                    now,
                    format_args!("{source}: {asked}: refused, too many requests in 10 s"),
                );
                return Outcome::Refused;
            }
        }
        let job = Job {
            request: request.clone(),
            requester: Requester::Client { listener: self.listener.clone(), source: source.clone() },
            received,
            expires: received + AGE_LIMIT,
            cancel,
            responder: self.responder(id),
        };
        match self.jobs.try_send(Message::Job(job)) {
            Ok(()) => {
                self.with_worker.insert(id, (Posted { request, source, received }, identity));
            }
            // The job is dropped, and its ticket answers failure. It was never begun, so it may come again.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.history.retract(&identity);
                self.journal.complain(
                    Refusal::Crowded,
                    Some(&source),
                    now,
                    format_args!("{source}: refused, the worker has too much to do"),
                );
            }
        }
        Outcome::Posted
    }

    fn responder(&self, request: u64) -> Responder {
        let answers = self.answers.clone();
        Responder::new(move |answer, completion| {
            if let Err(late) = answers(Answered { request, answer, completion }) {
                let reason = late.completion.reason;
                warn!("an answer came after its listener had ended: {} ({reason})", late.answer);
            }
        })
    }

    /// How many requests of an origin the worker has, also those whose clients are gone.
    fn jobs_of(&self, origin: Origin) -> usize {
        self.with_worker.values().filter(|(posted, _)| Origin::from(&posted.source) == origin).count()
    }

    /// The worker's answer to an order is given.
    pub(super) fn answered(&mut self, answered: &Answered, is_awaited: bool, now: Instant) {
        let Answered { request, answer, completion } = answered;
        let Some((posted, identity)) = self.with_worker.remove(request) else { return };
        match completion.was_begun {
            true => self.history.finish(&identity, now),
            false => self.history.retract(&identity),
        }
        self.journal.report(&posted, answer, &completion.reason, is_awaited, now);
    }

    /// Whether the worker has none of its requests.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.with_worker.is_empty()
    }

    /// A request is dropped because its twin is or was carried out.
    pub(super) fn complain_of_twin(&mut self, request: &Request, source: &Source, now: Instant) {
        self.journal.complain(
            Refusal::Duplicate,
            Some(source),
            now,
            format_args!("{source}: {}: dropped as a duplicate", RequestLabel(request)),
        );
    }
}
