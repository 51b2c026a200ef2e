use std::fmt;
use std::time::Duration;

use super::units::{time_with_unit, written};
use crate::fence::is_printable;
use crate::groups::listed_text;
use crate::power_log::WallTime;

/// Maximum length of the subject of a hold, in bytes.
const SUBJECT_MAX: usize = 255;
/// Maximum length of a reason, in bytes. It fits a line of the log, and of the history.
const REASON_MAX: usize = 200;

/// Subject of a hold: the name or UUID of a VM, or the name of a group, as the administrator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldSubject(String);

impl HoldSubject {
    /// Takes a text of 1 to 255 bytes, all of them printable.
    ///
    /// # Errors
    ///
    /// A message that says why the text is not accepted.
    pub fn new(text: &str) -> Result<HoldSubject, String> {
        line("the name of a VM or group", text, SUBJECT_MAX).map(HoldSubject)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as it is compared: without regard to case and to the hyphens of a UUID.
    pub fn key(&self) -> String {
        listed_text(&self.0)
    }
}

/// Reason of a hold, for the log and the answers to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldReason(String);

impl HoldReason {
    /// Takes a text of 1 to 200 bytes, all of them printable.
    ///
    /// # Errors
    ///
    /// A message that says why the text is not accepted.
    pub fn new(text: &str) -> Result<HoldReason, String> {
        line("the reason of a hold", text, REASON_MAX).map(HoldReason)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns one line of text, without the blanks around it.
fn line(what: &str, text: &str, max: usize) -> Result<String, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if trimmed.len() > max {
        return Err(format!("{what} is longer than {max} bytes"));
    }
    if !trimmed.chars().all(is_printable) {
        return Err(format!("{what} has characters that are not printable"));
    }
    Ok(trimmed.to_owned())
}

/// Duration of a hold: 1 s to 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldTime(Duration);

impl HoldTime {
    /// Maximum.
    pub const MAX: Duration = Duration::from_secs(7 * 86_400);

    /// Parses a whole number with its unit: `90s`, `30m`, `2h`, `1d`.
    ///
    /// # Errors
    ///
    /// A message with the accepted forms.
    pub fn parse(text: &str) -> Result<HoldTime, String> {
        let parsed = time_with_unit(text).and_then(HoldTime::new);
        parsed.ok_or_else(|| {
            "a hold lasts 1s to 7d: write a number with its unit, such as 90s, 30m, 2h or 1d".to_owned()
        })
    }

    /// Duration in whole seconds; none if it is zero or more than [`HoldTime::MAX`].
    pub fn new(time: Duration) -> Option<HoldTime> {
        let is_in_bounds =
            time >= Duration::from_secs(1) && time <= HoldTime::MAX && time.subsec_nanos() == 0;
        is_in_bounds.then_some(HoldTime(time))
    }

    /// Duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// The duration with its unit, as [`HoldTime::parse`] reads it.
impl fmt::Display for HoldTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0))
    }
}

/// Hold: power operations on its VMs fail until it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerHold {
    /// VM or group.
    pub subject: HoldSubject,
    /// Reason.
    pub reason: HoldReason,
    /// Time at which it was placed.
    pub begun: WallTime,
    /// Time at which it ends by itself.
    pub ends: WallTime,
}

impl PowerHold {
    /// Hold from `now` on, for this time.
    pub fn begin(subject: HoldSubject, reason: HoldReason, time: HoldTime, now: WallTime) -> PowerHold {
        let millis = now.millis() + time.duration().as_secs() * 1000;
        PowerHold { subject, reason, begun: now, ends: WallTime::from_millis(millis) }
    }

    /// True while it is in force.
    pub fn is_in_force(&self, now: WallTime) -> bool {
        now < self.ends
    }

    /// Reason for the failure of a power operation.
    pub fn refusal(&self) -> String {
        let PowerHold { subject, reason, ends, .. } = self;
        format!("the VM is held until {ends} (hold on {:?}): {}", subject.as_str(), reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_and_a_reason_are_one_line_of_printable_text() {
        for (text, kept) in [("node1", "node1"), (" web servers ", "web servers"), ("é/1", "é/1")] {
            assert_eq!(HoldSubject::new(text).unwrap().as_str(), kept);
            assert_eq!(HoldReason::new(text).unwrap().as_str(), kept);
        }
        for wrong in ["", " ", "a\nb", "a\tb", "\u{1b}[2J", "a\u{202e}b", "a\0"] {
            assert!(HoldSubject::new(wrong).is_err() && HoldReason::new(wrong).is_err(), "{wrong:?}");
        }
        let long = |length: usize| "x".repeat(length);
        assert!(HoldSubject::new(&long(255)).is_ok() && HoldSubject::new(&long(256)).is_err());
        assert!(HoldReason::new(&long(200)).is_ok() && HoldReason::new(&long(201)).is_err());
    }

    #[test]
    fn subjects_are_compared_as_groups_compare_them() {
        let key = |text: &str| HoldSubject::new(text).unwrap().key();
        assert_eq!(key("Node1"), key("nODE1"));
        assert_eq!(key("44179D3F6C63474FA21220C8B4B25B16"), "44179d3f-6c63-474f-a212-20c8b4b25b16");
    }

    #[test]
    fn a_hold_lasts_a_second_to_a_week() {
        for text in ["1s", "90s", "30m", "7d", "168h"] {
            assert!(HoldTime::parse(text).is_ok(), "{text}");
        }
        for wrong in ["0s", "8d", "169h", "604801s", "30", "soon", ""] {
            let reason = HoldTime::parse(wrong).unwrap_err();
            assert!(reason.contains("1s to 7d") && reason.contains("30m"), "{reason}");
        }
        assert_eq!(HoldTime::parse("60m").unwrap().to_string(), "1h");
    }

    #[test]
    fn a_hold_is_in_force_until_its_end() {
        let hold = PowerHold::begin(
            HoldSubject::new("a").unwrap(),
            HoldReason::new("new kernel").unwrap(),
            HoldTime::parse("2s").unwrap(),
            WallTime::from_millis(1000),
        );
        let in_force = [0, 1000, 2999, 3000].map(|millis| hold.is_in_force(WallTime::from_millis(millis)));
        assert_eq!(in_force, [true, true, true, false]);
        let expected = "the VM is held until 1970-01-01T00:00:03.000Z (hold on \"a\"): new kernel";
        assert_eq!(hold.refusal(), expected);
    }
}
