//! Checks of the holds that the daemon keeps.

use crate::problem::Problem;
use crate::tools::finding::{Finding, listed};
use fence_virt::fence::counted;
use fence_virt::restraints::PowerHold;

const ABOUT: &str = "holds";

/// Judges the holds in force, or the failure to read them.
pub(super) fn judge(holds: Result<Vec<PowerHold>, Problem>) -> Vec<Finding> {
    match holds {
        Err(Problem { what, remedy }) => {
            vec![Finding::error(ABOUT, format!("{what}: the daemon will not start"), remedy)]
        }
        Ok(holds) if holds.is_empty() => Vec::new(),
        Ok(holds) => {
            let subject = |hold: &PowerHold| format!("{:?} until {}", hold.subject.as_str(), hold.ends);
            let what = format!(
                "{}, so power operations fail: {}",
                counted(holds.len(), "hold"),
                listed(holds.iter().map(subject))
            );
            let remedy = "`fence_virtd --status` shows the reasons, `fence_virtd --release` ends a hold";
            vec![Finding::warning(ABOUT, what, remedy)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::{Level, levels};
    use fence_virt::power_log::WallTime;
    use fence_virt::restraints::{HoldReason, HoldSubject, HoldTime};

    #[test]
    fn holds_in_force_are_a_warning_and_a_file_that_prevents_the_start_is_an_error() {
        assert_eq!(judge(Ok(Vec::new())), []);
        let hold = |subject| {
            let (subject, reason) = (HoldSubject::new(subject).unwrap(), HoldReason::new("r").unwrap());
            PowerHold::begin(subject, reason, HoldTime::parse("1m").unwrap(), WallTime::from_millis(0))
        };
        let found = judge(Ok(vec![hold("a"), hold("b")]));
        assert_eq!(levels(&found), [Level::Warning]);
        assert!(
            found[0].render().contains("2 holds, so power operations fail: \"a\" until 1970"),
            "{found:?}"
        );
        let found = judge(Err(Problem::new("cannot read it", "repair it")));
        assert_eq!(levels(&found), [Level::Error]);
        assert!(found[0].render().contains("cannot read it: the daemon will not start"), "{found:?}");
    }
}
