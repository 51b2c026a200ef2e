//! Log lines and records about the requests of other hosts.

use std::time::Duration;

use log::debug;

use crate::logging::{AnswerLine, Limiter};
use crate::power_journal::{PowerJournal, wall_time};
use fence_virt::fence::{Operation, Verdict};
use fence_virt::power_log::PowerRecord;
use fence_virt::session::is_probe;
use fence_virt::time::{Instant, millis};
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

/// Listener shown for requests from other hosts.
const LISTENER: &str = "cpg";

/// Log of these requests, with rate limits.
pub(super) struct ServedLog {
    queries: Limiter,
    /// Limit of power operations, apart: a flood of queries suppresses none of them.
    power: Limiter,
    pub(super) journal: PowerJournal,
}

impl ServedLog {
    pub(super) fn new(now: Instant) -> ServedLog {
        let limiter = || Limiter::new(200, Duration::from_millis(50), now);
        ServedLog { queries: limiter(), power: limiter(), journal: PowerJournal::default() }
    }

    /// Records a request if it is a power operation, and logs it like a client's, within the rate limit.
    pub(super) fn log(&mut self, served: &ServedRequest<'_>, now: Instant) {
        let millis = millis(now.saturating_duration_since(served.received));
        self.record(served, millis);
        if is_probe(served.operation, served.name) && served.verdict != Verdict::Success {
            return debug!("{LISTENER}: node {}: a question of a probe: {}", served.node, served.name);
        }
        let limiter = if served.operation.is_power() { &mut self.power } else { &mut self.queries };
        let Some(suppressed) = limiter.allow(now) else { return };
        AnswerLine {
            listener: &LISTENER,
            source: &format_args!("node {}", served.node),
            operation: served.operation,
            domain: served.name,
            answer: &served.verdict.into(),
            reason: &served.reason,
            millis,
            suppressed,
        }
        .log();
    }

    fn record(&self, served: &ServedRequest<'_>, millis: u64) {
        if served.operation.is_power() {
            let node = format!("node {}", served.node);
            self.journal.record(PowerRecord {
                time: wall_time(),
                listener: LISTENER.to_owned(),
                requester: node.clone(),
                share: node,
                operation: served.operation,
                vm: served.name.to_owned(),
                verdict: served.verdict.into(),
                reason: served.reason.to_owned(),
                millis: Some(millis),
            });
        }
    }
}
