//! Heartbeat of the worker: the start of its current turn.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fence_virt::time::Instant;

/// Duration of a turn after which the worker counts as stuck. The longest regular turns are
/// shorter: queries that wait for the keepalive of a URI, 8 s. Calls that take longer are made on lanes.
pub(crate) const TURN_LIMIT: Duration = Duration::from_secs(30);

/// Start of the current turn, shared by the worker and its observers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heartbeat {
    /// Milliseconds since boot; 0 while the worker is idle.
    began: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Marks the start of a turn.
    pub(crate) fn mark_busy(&self) {
        self.began.store(millis().max(1), Ordering::Relaxed);
    }

    /// Sets the start of the current turn to a time in the past; the machine must have been up then.
    #[cfg(test)]
    pub(crate) fn set_busy_since(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(0);
        self.began.store(millis().saturating_sub(time).max(1), Ordering::Relaxed);
    }

    /// Marks the worker as idle.
    pub(crate) fn mark_idle(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// Returns the duration of the current turn; none while idle.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        match self.began.load(Ordering::Relaxed) {
            0 => None,
            began => Some(Duration::from_millis(millis().saturating_sub(began))),
        }
    }

    /// Returns true unless the worker is stuck.
    pub(crate) fn is_healthy(&self) -> bool {
        self.busy_for().is_none_or(|busy| busy < TURN_LIMIT)
    }
}

fn millis() -> u64 {
    u64::try_from(Instant::now().since_boot().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_does_not_end_is_noticed() {
        let heartbeat = Heartbeat::default();
        assert!(heartbeat.busy_for().is_none() && heartbeat.is_healthy());
        heartbeat.mark_busy();
        assert!(heartbeat.busy_for().is_some() && heartbeat.is_healthy());
        heartbeat.set_busy_since(TURN_LIMIT);
        assert!(!heartbeat.is_healthy());
        heartbeat.mark_idle();
        assert!(heartbeat.is_healthy());
    }
}
