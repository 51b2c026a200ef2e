//! Keeps what the network can trigger from flooding the log.

use std::time::{Duration, Instant};

/// A token bucket for log lines.
#[derive(Debug)]
pub(crate) struct Limiter {
    burst: u32,
    interval: Duration,
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

impl Limiter {
    /// Lets `burst` lines through at once, then one each `interval`.
    pub(crate) fn new(burst: u32, interval: Duration, now: Instant) -> Limiter {
        Limiter { burst, interval, tokens: burst, refilled: now, suppressed: 0 }
    }

    /// Whether a line may be written, and if so how many were left out since the last one.
    pub(crate) fn allow(&mut self, now: Instant) -> Option<u64> {
        let earned = now.saturating_duration_since(self.refilled).as_millis() / self.interval.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(self.burst);
            self.tokens = self.burst.min(self.tokens.saturating_add(earned));
            self.refilled = now;
        }
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let start = Instant::now();
        const INTERVAL: Duration = Duration::from_millis(200);
        let mut limiter = Limiter::new(20, INTERVAL, start);
        let written = (0..1000).filter(|_| limiter.allow(start).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(limiter.allow(start + INTERVAL), Some(980));
        assert_eq!(limiter.allow(start + INTERVAL), None);
        assert_eq!(limiter.allow(start + 3 * INTERVAL), Some(1));
        assert_eq!(limiter.allow(start + 3 * INTERVAL), Some(0));
    }
}
