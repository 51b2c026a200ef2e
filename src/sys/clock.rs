//! Clocks that std does not offer.

use std::time::Duration;

use nix::time::ClockId;

/// Returns the time since boot, suspension included: CLOCK_BOOTTIME.
pub fn since_boot() -> Duration {
    read(ClockId::CLOCK_BOOTTIME)
}

/// Returns CLOCK_MONOTONIC in microseconds, which systemd needs with `RELOADING=1`: sd_notify(3).
pub fn monotonic_usec() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC).as_micros()).unwrap_or(u64::MAX)
}

fn read(clock: ClockId) -> Duration {
    // The call cannot fail: Linux has both clocks since 2.6.39.
    clock.now().map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance() {
        let before = since_boot();
        assert!(before > Duration::ZERO && since_boot() >= before);
        let before = monotonic_usec();
        assert!(before > 0 && monotonic_usec() >= before);
    }
}
