//! Requests of a listener on their way to the worker and back: duplicates, limits, the job, the log line.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crossbeam_channel::Sender;
use log::warn;

use super::request_log::{PendingRequest, RequestLog};
use super::service::{Answered, Mail};
use crate::caller::Caller;
use crate::inbox::Message;
use crate::job::{AGE_LIMIT, CancelToken, Job, Requester, Responder};
use crate::pauses::Pause;
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Identity, Request, Source};
use fence_virt::history::{History, HistoryRefusal};
use fence_virt::origins::Standing;
use fence_virt::sys::mailbox::MailboxSender;
use fence_virt::time::Instant;

/// Maximum requests of one origin that the worker has at a time.
pub(super) const JOBS_MAX: usize = 64;

/// Requests of the addresses of one network that the worker has, from which on each established address may
/// have [`JOBS_RESERVE`], and others none.
pub(super) const NETWORK_JOBS_MAX: usize = 192;

/// The same for all addresses together. CIDs and VMs, which no guest chooses, do not count.
pub(super) const ADDRESS_JOBS_MAX: usize = 256;

/// Requests of an established address that the worker takes however many others it has. For a link with its
/// three networks (IPv4, IPv6, link-local) these are no more than the backend carries out at once, 1,024.
pub(super) const JOBS_RESERVE: usize = 2;

/// Sender of authenticated requests to the worker.
pub(crate) type JobSender = Sender<Message>;

/// Outcome of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DispatchOutcome {
    /// The answer follows by mail.
    Dispatched,
    /// The request has failed.
    Refused,
    /// The request is a duplicate and gets no answer.
    Duplicate,
}

/// Dispatcher of the requests of clients of type `Id`, each of which has at most one in flight.
pub(super) struct Dispatcher<Id, Update> {
    jobs: JobSender,
    /// Mailbox of the listener, for the answers.
    mailbox: MailboxSender<Mail<Id, Update>>,
    /// Requests that the worker has; their clients may have hung up.
    pending: HashMap<Id, PendingRequest>,
    history: History,
    /// Time since which the input of this turn may have waited, unread; none if it came just now.
    pub(super) waiting_since: Option<Instant>,
    pub(super) log: RequestLog,
}

impl<Id, Update> Dispatcher<Id, Update>
where
    Id: Copy + Eq + Hash + Send + Sync + 'static,
    Update: Send + 'static,
{
    pub(super) fn new(
        counts: Arc<Counts>,
        jobs: JobSender,
        mailbox: MailboxSender<Mail<Id, Update>>,
    ) -> Dispatcher<Id, Update> {
        let log = RequestLog::new(counts, Instant::now());
        Dispatcher {
            jobs,
            mailbox,
            pending: HashMap::new(),
            history: History::default(),
            waiting_since: None,
            log,
        }
    }

    /// Returns true if the same request is in flight or was carried out recently.
    pub(super) fn is_duplicate(&mut self, identity: &Identity, now: Instant) -> bool {
        self.history.holds(identity, now)
    }

    /// Sends an authenticated request to the worker, of a client that lived at `alive_at`.
    pub(super) fn dispatch(
        &mut self,
        client: Id,
        pending: PendingRequest,
        alive_at: Instant,
        cancel: CancelToken,
        now: Instant,
    ) -> DispatchOutcome {
        let PendingRequest { request, identity, source, version, received } = &pending;
        // A pause since the turn's reading of the clock.
        if let Some(Pause { since, .. }) = Pause::between(now, Instant::now()) {
            self.log_late(request, source, since, now);
            return DispatchOutcome::Refused;
        }
        let standing = self.log.origins.proved(source, now);
        if let Some(reason) = self.crowd(&standing) {
            self.log.log_refused_request(Refusal::Crowded, request, source, &reason, now);
            return DispatchOutcome::Refused;
        }
        match self.history.begin(identity, &standing, now) {
            Ok(()) => {}
            Err(HistoryRefusal::Duplicate) => {
                self.log_duplicate(request, source, now);
                return DispatchOutcome::Duplicate;
            }
            Err(HistoryRefusal::Full) => {
                let reason = "refused: too many requests within 10 s";
                self.log.log_refused_request(Refusal::Crowded, request, source, reason, now);
                return DispatchOutcome::Refused;
            }
        }
        let job = Job {
            request: request.clone(),
            requester: Requester::Client {
                listener: self.log.listener().clone(),
                source: source.clone(),
                version: *version,
            },
            received: *received,
            expires: *received + AGE_LIMIT,
            cancel,
            responder: self.responder(client),
            caller: Some(self.caller(client, source, alive_at)),
        };
        if self.jobs.try_send(Message::Job(job)).is_ok() {
            self.pending.insert(client, pending);
        } else {
            // The responder of the dropped job answers failure. The request was not begun, so it may be sent again.
            self.history.retract(identity);
            let reason = "refused: the worker's queue is full";
            self.log.log_refused_request(Refusal::Crowded, request, source, reason, now);
        }
        DispatchOutcome::Dispatched
    }

    fn responder(&self, client: Id) -> Responder {
        let mailbox = self.mailbox.clone();
        Responder::new(move |answer, completion| {
            let mail = Mail::Answered(Answered { client, answer, completion });
            if let Err(Mail::Answered(late)) = mailbox.post(mail) {
                let reason = late.completion.reason;
                warn!("an answer arrived after its listener had ended: {} ({reason})", late.answer);
            }
        })
    }

    fn caller(&self, client: Id, source: &Source, alive_at: Instant) -> Caller {
        let mailbox = self.mailbox.clone();
        // A listener that has ended drops the question, which answers it.
        Caller::new(source.clone(), alive_at, move |question| {
            drop(mailbox.post(Mail::LifeQuestion(client, question)));
        })
    }

    /// Reason why a client may have no further request in flight; those of clients that hung up count too.
    fn crowd(&self, client: &Standing) -> Option<String> {
        let mut own = 0;
        let mut of_network = 0;
        let mut of_addresses = 0;
        for pending in self.pending.values() {
            let standing = self.log.origins.standing(&pending.source);
            own += usize::from(standing.origin == client.origin);
            of_network += usize::from(standing.network == client.network);
            of_addresses += usize::from(standing.network.is_some());
        }
        if own >= JOBS_MAX {
            return Some(format!("refused: {JOBS_MAX} of its requests are in flight"));
        }
        let is_crowded = of_network >= NETWORK_JOBS_MAX || of_addresses >= ADDRESS_JOBS_MAX;
        let has_reserve = client.is_established && own < JOBS_RESERVE;
        (client.network.is_some() && is_crowded && !has_reserve)
            .then(|| format!("refused: {of_network} requests of its network are in flight"))
    }

    /// Removes the request of a client whose answer has arrived, so that its next one can be dispatched.
    pub(super) fn take(&mut self, client: Id) -> Option<PendingRequest> {
        self.pending.remove(&client)
    }

    /// Records the answer to a request that was taken, and logs it.
    pub(super) fn finish(
        &mut self,
        pending: Option<PendingRequest>,
        answered: &Answered<Id>,
        is_awaited: bool,
        now: Instant,
    ) {
        let Some(pending) = pending else { return };
        let Answered { answer, completion, .. } = answered;
        let PendingRequest { identity, .. } = &pending;
        if completion.was_begun {
            self.history.finish(identity, now)
        } else {
            self.history.retract(identity)
        }
        self.log.log_answer(&pending, answer, &completion.reason, is_awaited, now);
    }

    /// Logs a request that is refused, as it may have waited since this time.
    pub(super) fn log_late(&mut self, request: &Request, source: &Source, since: Instant, now: Instant) {
        let reason = format!("refused: {}", late(since));
        self.log.log_refused_request(Refusal::Late, request, source, &reason, now);
    }

    /// Logs a request that is dropped as a duplicate.
    pub(super) fn log_duplicate(&mut self, request: &Request, source: &Source, now: Instant) {
        self.log.log_refused_request(Refusal::Duplicate, request, source, "dropped as a duplicate", now);
    }

    /// True if the worker has no request of this listener.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Reason to refuse what may have waited since this time, until now.
pub(super) fn late(since: Instant) -> String {
    let age = since.elapsed().as_secs_f32();
    format!("it may have waited for {age:.1} s, in which the daemon stood still or did not read")
}
