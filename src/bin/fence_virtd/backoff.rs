//! Growing intervals between attempts.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Interval before the next attempt: doubles from `min` to `max`.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    /// Interval that `next` will return.
    pub(crate) interval: Duration,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, interval: min }
    }

    /// Returns the interval to wait now, and doubles the one after it.
    pub(crate) fn next(&mut self) -> Duration {
        let interval = self.interval;
        self.interval = (interval * 2).min(self.max);
        interval
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.interval = self.min;
    }
}
