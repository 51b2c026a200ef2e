//! Readings of the clocks: since boot, monotonic, and the time of day.

use std::time::Duration;
#[cfg(feature = "daemon")]
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::ClockId;

use crate::time::Instant;
#[cfg(feature = "daemon")]
use crate::time::millis;

impl Instant {
    /// Returns the present time.
    pub fn now() -> Instant {
        Instant::from_boot(read(ClockId::CLOCK_BOOTTIME))
    }

    /// Returns the time until then; zero if it has passed.
    pub fn remaining(self) -> Duration {
        self - Instant::now()
    }

    /// Returns the time since then.
    pub fn elapsed(self) -> Duration {
        Instant::now() - self
    }
}

/// Returns CLOCK_MONOTONIC in microseconds, which systemd needs with `RELOADING=1`: sd_notify(3).
#[cfg(feature = "daemon")]
pub fn monotonic_usec() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC).as_micros()).unwrap_or(u64::MAX)
}

/// Returns the wall-clock time in milliseconds since the beginning of 1970 (UTC); 0 if the clock is before that.
#[cfg(feature = "daemon")]
pub fn wall_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn read(clock: ClockId) -> Duration {
    // The call cannot fail: Linux has both clocks since 2.6.39.
    clock.now().map_or(Duration::ZERO, Duration::from)
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_counts_milliseconds_since_1970() {
        let year = 31_556_952_000;
        assert!((54 * year..230 * year).contains(&wall_millis()), "it is between 2024 and 2200");
    }

    #[test]
    fn both_clocks_advance() {
        let before = Instant::now();
        assert!(before.since_boot() > Duration::ZERO && Instant::now() >= before);
        let before = monotonic_usec();
        assert!(before > 0 && monotonic_usec() >= before);
    }
}
