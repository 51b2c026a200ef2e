//! Clocks that std does not offer.

use std::time::Duration;

/// Returns the time since boot, suspension included: CLOCK_BOOTTIME.
pub fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

/// Returns CLOCK_MONOTONIC in microseconds, which systemd needs with `RELOADING=1`: sd_notify(3).
pub fn monotonic_usec() -> u64 {
    u64::try_from(read(libc::CLOCK_MONOTONIC).as_micros()).unwrap_or(u64::MAX)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid. The call cannot fail: Linux has both clocks since 2.6.39.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
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
