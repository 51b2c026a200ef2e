//! Log lines about the requests of other hosts.

use std::time::Duration;

use crate::logging::{AnswerLine, Limiter};
use fence_virt::fence::{Operation, Verdict};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Request of another host that has been answered.
pub(super) struct ServedRequest<'a> {
    pub(super) node: NodeId,
    pub(super) operation: Operation,
    /// Name or UUID of the VM, as requested.
    pub(super) name: &'a str,
    pub(super) verdict: Verdict,
    pub(super) reason: &'a str,
    /// Time of its delivery.
    pub(super) received: Instant,
}

/// Log of these requests, with rate limits.
pub(super) struct ServedLog {
    queries: Limiter,
    /// Limit of power operations, apart: a flood of queries suppresses none of them.
    power: Limiter,
}

impl ServedLog {
    pub(super) fn new(now: Instant) -> ServedLog {
        let limiter = || Limiter::new(200, Duration::from_millis(50), now);
        ServedLog { queries: limiter(), power: limiter() }
    }

    /// Logs a request like a client's, within the rate limit.
    pub(super) fn log(&mut self, served: &ServedRequest<'_>, now: Instant) {
        let limiter = if served.operation.is_power() { &mut self.power } else { &mut self.queries };
        let Some(suppressed) = limiter.allow(now) else { return };
        AnswerLine {
            listener: &"cpg",
            source: &format_args!("node {}", served.node),
            operation: served.operation,
            domain: served.name,
            answer: &served.verdict.into(),
            reason: &served.reason,
            millis: now.saturating_duration_since(served.received).as_millis(),
            suppressed,
        }
        .log();
    }
}
