//! Output of the findings, and the exit code.

use crate::json::{JsonObject, array};
use crate::tools::finding::{Finding, Level};
use fence_virt::fence::counted;

/// Findings of a run.
#[derive(Debug, Default)]
pub(super) struct DoctorReport {
    findings: Vec<Finding>,
}

impl DoctorReport {
    pub(super) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// Returns the counts in one line, and the findings below it.
    pub(super) fn text(&self, errors_only: bool) -> String {
        let summary = format!(
            "{}, {}, {} passed\n",
            counted(self.count(Level::Error), "error"),
            counted(self.count(Level::Warning), "warning"),
            counted(self.count(Level::Ok), "check"),
        );
        summary + &self.shown(errors_only).map(Finding::render).collect::<String>()
    }

    /// Returns one object with the counts of all findings, and the findings, in one line.
    pub(super) fn json(&self, errors_only: bool) -> String {
        let levels = [
            ("errors", Level::Error),
            ("warnings", Level::Warning),
            ("notes", Level::Note),
            ("passed", Level::Ok),
        ];
        let counts = levels
            .into_iter()
            .fold(JsonObject::new(), |object, (key, level)| object.value(key, self.count(level)));
        counts.value("findings", array(self.shown(errors_only).map(Finding::json))).finish() + "\n"
    }

    /// Returns the exit code: 0 without problems, 1 with warnings, 2 with errors.
    pub(super) fn exit_code(&self) -> u8 {
        match (self.count(Level::Error), self.count(Level::Warning)) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    fn shown(&self, errors_only: bool) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| !errors_only || finding.level == Level::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> DoctorReport {
        let mut report = DoctorReport::default();
        report.add(findings);
        report
    }

    fn mixed() -> DoctorReport {
        report(vec![
            Finding::ok("a", "fine"),
            Finding::error("b", "broken", "mend it"),
            Finding::warning("c", "x", "y"),
            Finding::note("d", "e", "f"),
        ])
    }

    #[test]
    fn the_counts_stand_above_the_findings() {
        let expected = "1 error, 1 warning, 1 check passed\nok       a: fine\nERROR    b: broken\n             -> mend it\n\
                        warning  c: x\n             -> y\nnote     d: e\n             -> f\n";
        assert_eq!(mixed().text(false), expected);
        assert_eq!(report(Vec::new()).text(false), "0 errors, 0 warnings, 0 checks passed\n");
    }

    #[test]
    fn errors_alone_with_the_counts_of_all() {
        let expected = "1 error, 1 warning, 1 check passed\nERROR    b: broken\n             -> mend it\n";
        assert_eq!(mixed().text(true), expected);
    }

    #[test]
    fn one_object_for_programs() {
        let counts = r#"{"errors":1,"warnings":1,"notes":1,"passed":1,"findings":["#;
        let error = r#"{"level":"error","subject":"b","text":"broken","remedy":"mend it"}"#;
        assert_eq!(mixed().json(true), format!("{counts}{error}]}}\n"));
        let all = mixed().json(false);
        assert!(
            all.starts_with(counts) && all.contains(error) && all.matches("\"level\"").count() == 4,
            "{all}"
        );
    }

    #[test]
    fn the_exit_code_follows_the_worst_finding_but_not_notes() {
        let code = |findings| report(findings).exit_code();
        assert_eq!(code(vec![Finding::ok("a", "b"), Finding::note("a", "b", "c")]), 0);
        assert_eq!(code(vec![Finding::warning("a", "b", "c"), Finding::note("a", "b", "c")]), 1);
        assert_eq!(code(vec![Finding::error("a", "b", "c")]), 2);
    }

    #[test]
    fn names_do_not_control_the_terminal() {
        let text = report(vec![Finding::warning("x\n", "\u{1b}[2J\nok", "y\r")]).text(false);
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }
}
