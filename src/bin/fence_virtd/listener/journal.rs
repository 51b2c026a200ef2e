//! What a listener writes into the log about its clients and their requests,
//! within the bounds that keep the network from flooding it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, log, warn};

use crate::job::RequestLabel;
use crate::logging::{FairLimiter, Suppressed};
use crate::status::{Counts, Refusal};
use fence_virt::fence::{Answer, Request, Source, Verdict};
use fence_virt::quota::Origin;

/// A request that the worker has.
pub(super) struct Posted {
    pub(super) request: Request,
    pub(super) source: Source,
    pub(super) received: Instant,
}

/// The lines of one listener.
pub(super) struct Journal {
    counts: Arc<Counts>,
    /// About what clients do wrong.
    complaints: FairLimiter,
    /// About questions.
    questions: FairLimiter,
    /// About power operations: a flood of questions leaves out none of them.
    power: FairLimiter,
}

impl Journal {
    pub(super) fn new(counts: Arc<Counts>, now: Instant) -> Journal {
        Journal {
            counts,
            complaints: FairLimiter::new(10, Duration::from_secs(1), now),
            questions: FairLimiter::new(50, Duration::from_millis(200), now),
            power: FairLimiter::new(50, Duration::from_millis(200), now),
        }
    }

    /// A line about something that the network did, unless there were too many lately.
    /// `from` is who did it, if that is known.
    pub(super) fn complain(
        &mut self,
        refusal: Refusal,
        from: Option<&Source>,
        now: Instant,
        line: fmt::Arguments<'_>,
    ) {
        self.counts.refused(refusal);
        if let Some(left_out) = self.complaints.allow(from.map(Origin::from), now) {
            warn!("{}: {line}{}", self.counts.name(), Suppressed(left_out));
        }
    }

    /// The one line that each request ends in, unless there were too many lately.
    pub(super) fn report(
        &mut self,
        posted: &Posted,
        answer: &Answer,
        reason: &str,
        is_awaited: bool,
        now: Instant,
    ) {
        self.counts.answered(posted.request.operation, answer);
        let limiter = if posted.request.operation.is_power() { &mut self.power } else { &mut self.questions };
        let Some(left_out) = limiter.allow(Some(Origin::from(&posted.source)), now) else { return };
        let level = match answer {
            Answer::Verdict(Verdict::Failure | Verdict::Denied) => Level::Warn,
            _ => Level::Info,
        };
        let millis = now.saturating_duration_since(posted.received).as_millis();
        let (listener, source, asked) = (self.counts.name(), &posted.source, RequestLabel(&posted.request));
        let gone = if is_awaited { "" } else { "; the client no longer waits" };
        let left_out = Suppressed(left_out);
        let request = &posted.request;
        let domain = if request.operation.names_a_domain() { request.target.as_str() } else { "" };
        log!(
            level,
            listener:% = listener,
            source:% = source,
            operation:% = request.operation,
            domain,
            verdict:% = answer,
            milliseconds:% = millis;
            "{listener}: {source}: {asked}: {answer}: {reason}{gone}: {millis} ms{left_out}"
        );
    }
}
