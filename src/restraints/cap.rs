use std::fmt;
use std::time::Duration;

use super::units::{time_with_unit, whole};

/// Maximum number of power-offs in a cap.
const COUNT_MAX: u64 = 1000;
/// Maximum time of a cap.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// Cap of power-offs: so many at most begin within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerOffCap {
    count: usize,
    time: Duration,
}

/// Reason why a text is no cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapError;

impl fmt::Display for CapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a number of power-offs from 1 to 1000, a slash, and a time from 1s to 1d, such as 2/60s or 5/10m")
    }
}

impl PowerOffCap {
    /// Parses `2/60s`: a number of power-offs, and the time within which they begin.
    ///
    /// # Errors
    ///
    /// The text is no such cap.
    pub fn parse(text: &str) -> Result<PowerOffCap, CapError> {
        let (count, time) = text.trim().split_once('/').ok_or(CapError)?;
        let count = whole(count).filter(|count| *count <= COUNT_MAX).ok_or(CapError)?;
        let time = time_with_unit(time).filter(|time| *time <= TIME_MAX).ok_or(CapError)?;
        Ok(PowerOffCap { count: usize::try_from(count).map_err(|_| CapError)?, time })
    }

    /// Number of power-offs.
    pub fn count(self) -> usize {
        self.count
    }

    /// Time within which so many may begin.
    pub fn time(self) -> Duration {
        self.time
    }
}

/// The cap with its time in seconds.
impl fmt::Display for PowerOffCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.count, self.time.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_has_a_number_and_a_time() {
        for (text, shown, count, seconds) in
            [("2/1m", "2/60s", 2, 60), (" 1000/1d ", "1000/86400s", 1000, 86_400), ("1/90s", "1/90s", 1, 90)]
        {
            let cap = PowerOffCap::parse(text).unwrap();
            let parts = (cap.count(), cap.time(), cap.to_string());
            assert_eq!(parts, (count, Duration::from_secs(seconds), shown.to_owned()));
        }
        for wrong in [
            "", "2", "2/", "/60s", "0/60s", "2/0s", "1001/60s", "2/25h", "2/60", "-2/60s", "2 / 60s",
            "2/60s/1", "a/b",
        ] {
            assert_eq!(PowerOffCap::parse(wrong), Err(CapError), "{wrong}");
        }
    }
}
