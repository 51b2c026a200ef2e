//! Rate limits for log lines that the network can trigger.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use fence_virt::fence::counted;
use fence_virt::origins::{Network, Origin, Standing};
use fence_virt::time::Instant;

/// Maximum number of origins with a bucket of their own; others share the common bucket.
const ORIGINS_MAX: usize = 4096;

/// Number of suppressed lines before this one, as a suffix of the line.
pub(crate) struct Suppressed(pub(crate) u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({} suppressed)", counted(count, "similar line")),
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

    /// The same for a line that another bucket has allowed, after `before` suppressed ones.
    fn allow_after(&mut self, before: u64, now: Instant) -> Option<u64> {
        let allowed = self.allow(now);
        if allowed.is_none() {
            self.suppressed += before;
        }
        allowed
    }

    /// Returns true if the bucket is full.
    fn is_fresh(&self, now: Instant) -> bool {
        let missing = u128::from(self.burst - self.tokens);
        let idle = now.saturating_duration_since(self.refilled).as_millis();
        self.suppressed == 0 && idle >= missing * self.interval.as_millis()
    }
}

/// Common bucket with a smaller one for each origin in front of it.
#[derive(Debug)]
struct LimiterTier {
    all: Limiter,
    each: HashMap<Origin, Limiter>,
}

impl LimiterTier {
    /// Bucket of an origin, if there is room for one.
    fn of(&mut self, origin: Origin, new: Limiter, now: Instant) -> Option<&mut Limiter> {
        if self.each.len() >= ORIGINS_MAX && !self.each.contains_key(&origin) {
            self.each.retain(|_, limiter| !limiter.is_fresh(now));
            if self.each.len() >= ORIGINS_MAX {
                return None;
            }
        }
        Some(self.each.entry(origin).or_insert(new))
    }
}

/// Buckets of origins, networks, and all together, so that one origin that floods the log, or many of one
/// network, do not suppress the lines of others. Established origins have a common bucket apart, and their
/// networks limit them no further.
#[derive(Debug)]
pub(crate) struct FairLimiter {
    established: LimiterTier,
    others: LimiterTier,
    /// Buckets of the networks of origins that are not established. This host's links bound their number.
    networks: HashMap<Network, Limiter>,
    burst: u32,
    interval: Duration,
}

impl FairLimiter {
    /// Allows each origin `burst` lines at once, then one each `interval`; a network three times as many, all
    /// established origins together ten times as many, and all others too.
    pub(crate) fn new(burst: u32, interval: Duration, now: Instant) -> FairLimiter {
        let tier = || LimiterTier { all: Limiter::new(10 * burst, interval / 10, now), each: HashMap::new() };
        FairLimiter { established: tier(), others: tier(), networks: HashMap::new(), burst, interval }
    }

    /// Returns the number of lines suppressed since the last one, of this origin, of its network
    /// and of the common bucket, if a line about it may be written.
    pub(crate) fn allow(&mut self, standing: Option<Standing>, now: Instant) -> Option<u64> {
        let &mut FairLimiter { burst, interval, .. } = self;
        let is_established = standing.is_some_and(|standing| standing.is_established);
        let tier = if is_established { &mut self.established } else { &mut self.others };
        let mut suppressed = 0;
        if let Some(Standing { origin, network, .. }) = standing {
            if let Some(own) = tier.of(origin, Limiter::new(burst, interval, now), now) {
                suppressed += own.allow(now)?;
            }
            if let Some(network) = network.filter(|_| !is_established) {
                self.networks.retain(|of, limiter| *of == network || !limiter.is_fresh(now));
                let new = || Limiter::new(3 * burst, interval / 3, now);
                let limiter = self.networks.entry(network).or_insert_with(new);
                suppressed += limiter.allow_after(suppressed, now)?;
            }
        }
        Some(suppressed + tier.all.allow_after(suppressed, now)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::fence::Source;
    use fence_virt::origins::Origins;

    fn standing(source: &Source) -> Option<Standing> {
        Some(Origins::default().standing(source))
    }

    fn address(host: u32) -> Source {
        Source::Ip(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into())
    }

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
        let allow = |limiter: &mut FairLimiter, cid, now| limiter.allow(standing(&Source::Cid(cid)), now);
        let written = (0..1000).filter(|_| allow(&mut limiter, 1, now).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(allow(&mut limiter, 2, now), Some(0), "another's");
        assert_eq!(allow(&mut limiter, 1, now + Duration::from_secs(1)), Some(995));
        // All together are bounded too.
        let written = (10..1000).filter(|&cid| allow(&mut limiter, cid, now).is_some()).count();
        assert!(written <= 50, "{written}");
        let written = (0..1000).filter(|_| limiter.allow(None, now).is_some()).count();
        assert_eq!(written, 50, "lines about no client");
    }

    #[test]
    fn a_flood_from_many_addresses_suppresses_no_lines_of_established_ones_and_of_other_networks() {
        let now = Instant::now();
        let mut limiter = FairLimiter::new(5, Duration::from_secs(1), now);
        let mut origins = Origins::default();
        origins.proved(&address(1), now);
        let written =
            (2..2000).filter(|&host| limiter.allow(standing(&address(host)), now).is_some()).count();
        assert_eq!(written, 15);
        let known = Some(origins.standing(&address(1)));
        assert_eq!(limiter.allow(known, now), Some(0));
        assert_eq!(limiter.allow(standing(&Source::Ip("fe80::1".parse().unwrap())), now), Some(0));
        let later = now + Duration::from_secs(1);
        assert_eq!(limiter.allow(standing(&address(5000)), later), Some(2000 - 2 - 15), "none is forgotten");
    }

    #[test]
    fn origins_are_bounded_and_forgotten_when_idle() {
        let now = Instant::now();
        let mut limiter = FairLimiter::new(5, Duration::from_secs(1), now);
        for host in 0..2 * ORIGINS_MAX as u32 {
            limiter.allow(standing(&address(host)), now);
            limiter.allow(standing(&Source::Cid(host)), now);
        }
        assert_eq!((limiter.others.each.len(), limiter.established.each.len()), (ORIGINS_MAX, ORIGINS_MAX));
        limiter.allow(standing(&address(u32::MAX >> 8)), now + Duration::from_secs(60));
        assert_eq!((limiter.others.each.len(), limiter.networks.len()), (1, 1));
    }
}
