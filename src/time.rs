//! Points in time, on a clock that goes on while the host is suspended.
#![forbid(unsafe_code)]

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Point in time on CLOCK_BOOTTIME (clock_gettime(2)), to the nanosecond.
///
/// CLOCK_MONOTONIC, the clock of [`std::time::Instant`], stands still while the host is suspended: a request
/// would be as young afterwards as before. Only `sys` reads the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// Point in time so long after the boot of the host.
    pub const fn from_boot(since_boot: Duration) -> Instant {
        Instant(since_boot)
    }

    /// Time since the boot of the host.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Time since `earlier`; zero if that is later.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Point in time before this one; none before the boot of the host.
    pub fn checked_sub(self, duration: Duration) -> Option<Instant> {
        self.0.checked_sub(duration).map(Instant)
    }
}

/// Duration in milliseconds, rounded down.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// The end of time saturates: a deadline there never comes.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

// Nothing comes before the boot.
impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(duration))
    }
}

/// Time since the other one; zero if that is later.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        let (boot, later) = (Instant::from_boot(Duration::ZERO), Instant::from_boot(Duration::from_secs(2)));
        assert_eq!(later - boot, Duration::from_secs(2));
        assert_eq!(boot - later, Duration::ZERO);
        assert_eq!(later - Duration::from_secs(3), boot);
        assert_eq!(later.checked_sub(Duration::from_secs(3)), None);
        assert_eq!((later + Duration::MAX).since_boot(), Duration::MAX);
        assert_eq!((millis(Duration::from_micros(1999)), millis(Duration::MAX)), (1, u64::MAX));
    }
}
