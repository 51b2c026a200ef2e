//! Counts of a test, and the exit code.

use std::fmt;

use super::fencing::RebootOutcome;
use super::questions::TestOutcome;

/// Result of a test.
#[derive(Debug)]
pub(super) struct TestSummary {
    pub(super) outcomes: Vec<TestOutcome>,
    /// None without `--fence`.
    pub(super) reboot: Option<RebootOutcome>,
    /// Somebody listens at the status socket.
    pub(super) has_daemon: bool,
}

impl TestSummary {
    fn count(&self, wanted: TestOutcome) -> usize {
        self.outcomes.iter().filter(|outcome| **outcome == wanted).count()
    }

    /// Returns the exit code: 0 if every listener that can be asked from this host passed, and the reboot was
    /// verified; 1 if one did not pass, or the reboot failed; 2 if nothing was tried, no daemon is running, or
    /// nothing was rebooted.
    pub(super) fn exit_code(&self) -> u8 {
        let (passed, failed) = (self.count(TestOutcome::Passed), self.count(TestOutcome::Failed));
        let is_tried = passed > 0 || (failed > 0 && self.has_daemon);
        let has_failed = failed > 0
            || self.count(TestOutcome::Prevented) > 0
            || self.reboot == Some(RebootOutcome::Failed);
        match (is_tried, has_failed) {
            (false, _) => 2,
            (true, true) => 1,
            (true, false) if self.reboot == Some(RebootOutcome::NotTried) => 2,
            (true, false) => 0,
        }
    }
}

/// One line.
impl fmt::Display for TestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.count(TestOutcome::NotTried) + self.count(TestOutcome::Prevented);
        let (passed, failed) = (self.count(TestOutcome::Passed), self.count(TestOutcome::Failed));
        write!(f, "listeners: {passed} passed, {failed} failed, {skipped} not tried")?;
        match self.reboot {
            None => Ok(()),
            Some(RebootOutcome::Verified) => f.write_str("; reboot: verified"),
            Some(RebootOutcome::Failed) => f.write_str("; reboot: failed"),
            Some(RebootOutcome::NotTried) => f.write_str("; reboot: not tried"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TestOutcome::{Failed, NotTried, Passed, Prevented};

    fn code(outcomes: &[TestOutcome], reboot: Option<RebootOutcome>, has_daemon: bool) -> u8 {
        TestSummary { outcomes: outcomes.to_vec(), reboot, has_daemon }.exit_code()
    }

    #[test]
    fn exit_codes() {
        for (outcomes, expected) in [
            (&[Passed, Passed][..], 0),
            (&[Passed, NotTried], 0),
            (&[Passed, Failed], 1),
            (&[Passed, Prevented], 1),
            (&[Failed], 1),
            (&[Prevented], 2),
            (&[NotTried], 2),
        ] {
            assert_eq!(code(outcomes, None, true), expected, "{outcomes:?}");
        }
        // Without a daemon nothing could be tried; a daemon that answers is one.
        assert_eq!(code(&[Failed, Failed], None, false), 2);
        assert_eq!(code(&[Passed, Failed], None, false), 1);
        assert_eq!(code(&[Passed], None, false), 0);
    }

    #[test]
    fn the_reboot_counts() {
        let reboot = |reboot| code(&[Passed], Some(reboot), true);
        assert_eq!(reboot(RebootOutcome::Verified), 0);
        assert_eq!(reboot(RebootOutcome::Failed), 1);
        assert_eq!(reboot(RebootOutcome::NotTried), 2);
        assert_eq!(code(&[Passed, Failed], Some(RebootOutcome::NotTried), true), 1);
    }

    #[test]
    fn one_line() {
        let outcomes = vec![Passed, Failed, NotTried, Prevented];
        let summary = TestSummary { outcomes, reboot: Some(RebootOutcome::Failed), has_daemon: true };
        assert_eq!(summary.to_string(), "listeners: 1 passed, 1 failed, 2 not tried; reboot: failed");
    }
}
