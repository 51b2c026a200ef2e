//! Log lines of a listener about its clients and their requests, with rate limits
//! that keep the network from flooding the log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::warn;

use crate::job::RequestLabel;
use crate::logging::{AnswerLine, FairLimiter, Suppressed};
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Answer, Identity, ListenerName, Request, Source};
use fence_virt::origins::Origins;
use fence_virt::time::Instant;

/// Authenticated request, from its arrival until its answer.
pub(super) struct PendingRequest {
    pub(super) request: Request,
    /// Identity by which the listener recognises duplicates.
    pub(super) identity: Identity,
    pub(super) source: Source,
    /// Arrival of the first byte.
    pub(super) received: Instant,
}

/// Log of one listener.
pub(super) struct RequestLog {
    counts: Arc<Counts>,
    /// Standing of its clients, also for the limits of the listener.
    pub(super) origins: Origins,
    refusals: FairLimiter,
    queries: FairLimiter,
    /// Limit of power operations, apart: a flood of queries suppresses none of them.
    power: FairLimiter,
}

impl RequestLog {
    pub(super) fn new(counts: Arc<Counts>, now: Instant) -> RequestLog {
        RequestLog {
            counts,
            origins: Origins::default(),
            refusals: FairLimiter::new(10, Duration::from_secs(1), now),
            queries: FairLimiter::new(50, Duration::from_millis(200), now),
            power: FairLimiter::new(50, Duration::from_millis(200), now),
        }
    }

    /// Name of the listener.
    pub(super) fn listener(&self) -> &ListenerName {
        self.counts.name()
    }

    /// Counts a refusal and logs it, within the rate limit. `source` is the cause, if it is known.
    pub(super) fn log_refusal(
        &mut self,
        refusal: Refusal,
        source: Option<&Source>,
        reason: impl fmt::Display,
        now: Instant,
    ) {
        self.counts.refused(refusal);
        let standing = source.map(|source| self.origins.standing(source));
        let Some(suppressed) = self.refusals.allow(standing, now) else { return };
        let listener = self.counts.name();
        match source {
            Some(source) => warn!("{listener}: {source}: {reason}{}", Suppressed(suppressed)),
            None => warn!("{listener}: {reason}{}", Suppressed(suppressed)),
        }
    }

    /// Counts and logs a request that is refused, within the rate limit.
    pub(super) fn log_refused_request(
        &mut self,
        refusal: Refusal,
        request: &Request,
        source: &Source,
        reason: &str,
        now: Instant,
    ) {
        let label = RequestLabel(request);
        self.log_refusal(refusal, Some(source), format_args!("{label}: {reason}"), now);
    }

    /// Counts the answer to a request and logs it, within the rate limit.
    pub(super) fn log_answer(
        &mut self,
        pending: &PendingRequest,
        answer: &Answer,
        reason: &str,
        is_awaited: bool,
        now: Instant,
    ) {
        let PendingRequest { request, source, received, .. } = pending;
        self.counts.answered(request.operation, answer);
        let limiter = if request.operation.is_power() { &mut self.power } else { &mut self.queries };
        let standing = self.origins.standing(source);
        let Some(suppressed) = limiter.allow(Some(standing), now) else { return };
        let gone = if is_awaited { "" } else { "; the client no longer waits" };
        AnswerLine {
            listener: self.counts.name(),
            source,
            operation: request.operation,
            domain: if request.operation.names_a_domain() { request.target.as_str() } else { "" },
            answer,
            reason: &format_args!("{reason}{gone}"),
            millis: now.saturating_duration_since(*received).as_millis(),
            suppressed,
        }
        .log();
    }
}
