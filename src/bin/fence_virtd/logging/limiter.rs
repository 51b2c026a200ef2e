//! Rate limits for log lines that the network can trigger.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use fence_virt::quota::Origin;
use fence_virt::time::Instant;

/// Maximum number of origins with a bucket of their own; others share the common bucket.
const ORIGINS_MAX: usize = 4096;

/// Number of suppressed lines before this one, as a suffix of the line.
pub(crate) struct Suppressed(pub(crate) u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} similar lines suppressed)"),
        }
    }
}

/// Token bucket for log lines.
#[derive(Debug)]
pub(crate) struct Limiter {
    burst: u32,
    interval: Duration,
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

impl Limiter {
    /// Allows `burst` lines at once, then one each `interval`.
    pub(crate) fn new(burst: u32, interval: Duration, now: Instant) -> Limiter {
        Limiter { burst, interval, tokens: burst, refilled: now, suppressed: 0 }
    }

    /// Returns the number of lines suppressed since the last one if a line may be written.
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

    /// Returns true if the bucket is full.
    fn is_fresh(&self, now: Instant) -> bool {
        let missing = u128::from(self.burst - self.tokens);
        let idle = now.saturating_duration_since(self.refilled).as_millis();
        self.suppressed == 0 && idle >= missing * self.interval.as_millis()
    }
}

/// Common bucket with a smaller one for each origin in front of it, so that one
/// origin that floods the log does not suppress the lines of others.
#[derive(Debug)]
pub(crate) struct FairLimiter {
    all: Limiter,
    each: HashMap<Origin, Limiter>,
    burst: u32,
    interval: Duration,
}

impl FairLimiter {
    /// Allows each origin `burst` lines at once, then one each `interval`; all together ten times as many.
    pub(crate) fn new(burst: u32, interval: Duration, now: Instant) -> FairLimiter {
        let all = Limiter::new(10 * burst, interval / 10, now);
        FairLimiter { all, each: HashMap::new(), burst, interval }
    }

    /// Returns the number of lines suppressed since the last one, of this origin
    /// and of the common bucket, if a line about it may be written.
    pub(crate) fn allow(&mut self, origin: Option<Origin>, now: Instant) -> Option<u64> {
        let own = match origin.and_then(|origin| self.of(origin, now)) {
            Some(limiter) => limiter.allow(now)?,
            None => 0,
        };
        let shared = self.all.allow(now);
        if shared.is_none() {
            self.all.suppressed += own;
        }
        shared.map(|shared| shared + own)
    }

    fn of(&mut self, origin: Origin, now: Instant) -> Option<&mut Limiter> {
        if self.each.len() >= ORIGINS_MAX && !self.each.contains_key(&origin) {
            self.each.retain(|_, limiter| !limiter.is_fresh(now));
            if self.each.len() >= ORIGINS_MAX {
                return None;
            }
        }
        let burst = self.burst;
        let interval = self.interval;
        Some(self.each.entry(origin).or_insert_with(|| Limiter::new(burst, interval, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_suppressed() {
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

    #[test]
    fn a_flood_suppresses_no_lines_of_others() {
        let now = Instant::now();
        let mut limiter = FairLimiter::new(5, Duration::from_secs(1), now);
        let allow = |limiter: &mut FairLimiter, cid, now| limiter.allow(Some(Origin::Cid(cid)), now);
        let written = (0..1000).filter(|_| allow(&mut limiter, 1, now).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(allow(&mut limiter, 2, now), Some(0), "another's");
        assert_eq!(allow(&mut limiter, 1, now + Duration::from_secs(1)), Some(995));
        // All together are bounded too.
        let written = (10..1000).filter(|&cid| allow(&mut limiter, cid, now).is_some()).count();
        assert!(written <= 50, "{written}");
        assert_eq!(limiter.allow(None, now), None);
    }

    #[test]
    fn origins_are_bounded_and_forgotten_when_idle() {
        let now = Instant::now();
        let mut limiter = FairLimiter::new(5, Duration::from_secs(1), now);
        for cid in 0..2 * ORIGINS_MAX as u32 {
            limiter.allow(Some(Origin::Cid(cid)), now);
        }
        assert_eq!(limiter.each.len(), ORIGINS_MAX);
        limiter.allow(Some(Origin::Cid(u32::MAX)), now + Duration::from_secs(60));
        assert_eq!(limiter.each.len(), 1);
    }
}
