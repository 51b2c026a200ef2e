//! Log lines of a listener about its clients and their requests, with rate limits
//! that keep the network from flooding the log.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, debug, log_enabled};

use super::probe_rows::{ProbeRows, is_quiet};
use crate::logging::{AnswerLine, FairLimiter, Limiter, RefusalLine, Suppressed};
#[cfg(test)]
use crate::power_journal::PowerJournal;
use crate::power_journal::wall_time;
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Answer, Identity, ListenerName, Request, Source, Target, Verdict, WireVersion};
use fence_virt::origins::Origins;
use fence_virt::power_log::{PowerRecord, PowerVerdict, share_of};
use fence_virt::session::is_probe;
use fence_virt::time::{Instant, millis};

/// Authenticated request, from its arrival until its answer.
pub(super) struct PendingRequest {
    pub(super) request: Request,
    /// Identity by which the listener recognises duplicates.
    pub(super) identity: Identity,
    pub(super) source: Source,
    pub(super) version: WireVersion,
    /// Arrival of the first byte.
    pub(super) received: Instant,
}

/// Probes without an answer at once: four rows. One more counts each 5 s. Anybody can send what reads as a probe, or
/// a copy of one.
const UNANSWERED_PROBES: u32 = 48;

/// Log of one listener.
pub(super) struct RequestLog {
    counts: Arc<Counts>,
    /// Standing of its clients, also for the limits of the listener.
    pub(super) origins: Origins,
    /// Probes of which a line was written.
    probes: ProbeRows,
    /// Limit of probes that end without an answer.
    unanswered_probes: Limiter,
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
            probes: ProbeRows::default(),
            unanswered_probes: Limiter::new(UNANSWERED_PROBES, Duration::from_secs(5), now),
            refusals: FairLimiter::new(10, Duration::from_secs(1), now),
            queries: FairLimiter::new(50, Duration::from_millis(200), now),
            power: FairLimiter::new(50, Duration::from_millis(200), now),
        }
    }

    /// Name of the listener.
    pub(super) fn listener(&self) -> &ListenerName {
        self.counts.name()
    }

    /// Counters of the listener.
    #[cfg(test)]
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Journal of power operations.
    #[cfg(test)]
    pub(super) fn journal(&self) -> &PowerJournal {
        self.counts.journal()
    }

    /// Counts a refusal of which the line about the request tells.
    pub(super) fn count_refusal(&self, refusal: Refusal) {
        self.counts.refused(refusal);
    }

    /// Counts a refusal and logs it, within the rate limit. `source` is the cause, if it is known.
    pub(super) fn log_refusal(
        &mut self,
        refusal: Refusal,
        source: Option<&Source>,
        reason: impl fmt::Display,
        now: Instant,
    ) {
        self.log_any_refusal(refusal, source, None, &reason, now);
    }

    fn log_any_refusal(
        &mut self,
        refusal: Refusal,
        source: Option<&Source>,
        request: Option<&Request>,
        reason: &dyn fmt::Display,
        now: Instant,
    ) {
        self.counts.refused(refusal);
        let standing = source.map(|source| self.origins.standing(source));
        let Some(suppressed) = self.refusals.allow(standing, now) else { return };
        RefusalLine {
            listener: self.counts.name(),
            source: source.map(|source| -> &dyn fmt::Display { source }),
            request: request.map(|request| (request.operation, domain(request))),
            refusal: refusal.word(),
            reason,
            suppressed,
        }
        .log();
    }

    /// Returns true if one more probe without an answer may count as one, rather than as a refusal.
    pub(super) fn may_be_quiet(&mut self, now: Instant) -> bool {
        self.unanswered_probes.allow(now).is_some()
    }

    /// Counts a question of a probe, and logs the first one of its row, for debugging, within the rate limit.
    pub(super) fn log_probe(&mut self, source: &Source, name: &Target, now: Instant) {
        self.counts.probed();
        if !log_enabled!(Level::Debug) || !self.probes.is_new(source, name) {
            return;
        }
        let standing = self.origins.standing(source);
        let Some(suppressed) = self.queries.allow(Some(standing), now) else { return };
        let (listener, suppressed) = (self.counts.name(), Suppressed(suppressed));
        debug!("{listener}: {source}: probes for late answers ({}){suppressed}", name.as_str());
    }

    /// Counts and logs a request that is refused, within the rate limit. A power operation is recorded, unless
    /// it is a duplicate: the record of the first one tells what became of it.
    pub(super) fn log_refused_request(
        &mut self,
        refusal: Refusal,
        request: &Request,
        source: &Source,
        reason: &str,
        now: Instant,
    ) {
        let is_probe = is_probe(request.operation, request.target.as_str()) && is_quiet(refusal);
        if is_probe && self.may_be_quiet(now) {
            return self.log_probe(source, &request.target, now);
        }
        if refusal != Refusal::Duplicate {
            self.record(request, source, PowerVerdict::Refused, reason, None);
        }
        self.log_any_refusal(refusal, Some(source), Some(request), &reason, now);
    }

    /// Records a request that is a power operation.
    fn record(
        &self,
        request: &Request,
        source: &Source,
        verdict: PowerVerdict,
        reason: &str,
        millis: Option<u64>,
    ) {
        if request.operation.is_power() {
            self.counts.journal().record(PowerRecord {
                time: wall_time(),
                listener: self.counts.name().to_string(),
                requester: source.to_string(),
                share: share_of(&self.origins.standing(source)),
                operation: request.operation,
                vm: request.target.as_str().to_owned(),
                verdict,
                reason: reason.to_owned(),
                millis,
            });
        }
    }

    /// Counts the answer to a request, records it, and logs it within the rate limit.
    pub(super) fn log_answer(
        &mut self,
        pending: &PendingRequest,
        answer: &Answer,
        reason: &str,
        is_awaited: bool,
        now: Instant,
    ) {
        let PendingRequest { request, source, version, received, .. } = pending;
        // A VM that has such a name, and runs, is a VM like any other.
        if is_probe(request.operation, request.target.as_str()) && *answer != Verdict::Success.into() {
            return self.log_probe(source, &request.target, now);
        }
        self.counts.answered(request.operation, answer);
        // Lines have one version.
        if *version == WireVersion::One && !matches!(source, Source::Domain(_)) {
            self.counts.answered_version_1();
        }
        let reason = match is_awaited {
            true => Cow::Borrowed(reason),
            false => Cow::Owned(format!("{reason}; the client no longer waits")),
        };
        let millis = millis(now.saturating_duration_since(*received));
        self.record(request, source, power_verdict(answer), &reason, Some(millis));
        let limiter = if request.operation.is_power() { &mut self.power } else { &mut self.queries };
        let standing = self.origins.standing(source);
        let Some(suppressed) = limiter.allow(Some(standing), now) else { return };
        AnswerLine {
            listener: self.counts.name(),
            source,
            operation: request.operation,
            domain: domain(request),
            answer,
            reason: &reason,
            millis,
            suppressed,
        }
        .log();
    }
}

/// Returns the VM of a request, as the log shows it: empty for an operation that names none.
fn domain(request: &Request) -> &str {
    if request.operation.names_a_domain() { request.target.as_str() } else { "" }
}

/// Result of a power operation with this answer.
fn power_verdict(answer: &Answer) -> PowerVerdict {
    match answer {
        Answer::Verdict(verdict) => (*verdict).into(),
        // A list answers no power operation.
        Answer::HostList(_) => PowerVerdict::Failure,
    }
}
