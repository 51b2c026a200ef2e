//! Whether the worker turns: since when it has been in its present turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fence_virt::sys::clock::since_boot;

/// How long the worker may be in one turn before it counts as stuck: more than the
/// longest that it does, calls of libvirt with their keepalive at several URIs, or a
/// destroy that waits for QEMU.
pub(crate) const TURN_LIMIT: Duration = Duration::from_secs(60);

/// Shared by the worker and who looks at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse {
    /// Milliseconds since boot, at which the present turn began; 0 while it waits.
    began: Arc<AtomicU64>,
}

impl Pulse {
    /// The worker begins a turn.
    pub(crate) fn turns(&self) {
        self.began.store(millis().max(1), Ordering::Relaxed);
    }

    /// As if the present turn had begun so long ago; the machine has to be up for as long.
    #[cfg(test)]
    pub(crate) fn began_before(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(0);
        self.began.store(millis().saturating_sub(time).max(1), Ordering::Relaxed);
    }

    /// The worker waits for something to do.
    pub(crate) fn rests(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// For how long it has been in its present turn; none while it waits.
    pub(crate) fn busy(&self) -> Option<Duration> {
        match self.began.load(Ordering::Relaxed) {
            0 => None,
            began => Some(Duration::from_millis(millis().saturating_sub(began))),
        }
    }

    /// Whether it turns.
    pub(crate) fn is_well(&self) -> bool {
        self.busy().is_none_or(|busy| busy < TURN_LIMIT)
    }
}

fn millis() -> u64 {
    u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_does_not_end_is_noticed() {
        let pulse = Pulse::default();
        assert!(pulse.busy().is_none() && pulse.is_well());
        pulse.turns();
        assert!(pulse.busy().is_some() && pulse.is_well());
        pulse.began_before(TURN_LIMIT);
        assert!(!pulse.is_well());
        pulse.rests();
        assert!(pulse.is_well());
    }
}
