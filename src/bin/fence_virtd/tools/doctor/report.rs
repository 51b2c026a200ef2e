//! Output of findings, and the exit code.

use std::io::{self, Write};

use super::finding::{Finding, Level};
use crate::console::Palette;

/// Printer of findings, which counts them.
pub(super) struct FindingPrinter<W> {
    out: W,
    palette: Palette,
    errors: usize,
    warnings: usize,
}

impl<W: Write> FindingPrinter<W> {
    pub(super) fn new(out: W, palette: Palette) -> FindingPrinter<W> {
        FindingPrinter { out, palette, errors: 0, warnings: 0 }
    }

    /// Prints findings.
    /// Errors: those of the output.
    pub(super) fn print(&mut self, findings: impl IntoIterator<Item = Finding>) -> io::Result<()> {
        for finding in findings {
            match finding.level {
                Level::Error => self.errors += 1,
                Level::Warning => self.warnings += 1,
                Level::Ok | Level::Note => {}
            }
            self.out.write_all(self.palette.colour(&finding.render()).as_bytes())?;
        }
        self.out.flush()
    }

    /// Prints the counts, and returns the exit code: 0 without problems, 1 with warnings, 2 with errors.
    /// Errors: those of the output.
    pub(super) fn finish(mut self) -> io::Result<u8> {
        writeln!(self.out, "{} errors, {} warnings", self.errors, self.warnings)?;
        self.out.flush()?;
        Ok(match (self.errors, self.warnings) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: Vec<Finding>) -> (String, u8) {
        let mut out = Vec::new();
        let mut printer = FindingPrinter::new(&mut out, Palette::default());
        printer.print(findings).unwrap();
        let code = printer.finish().unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn findings_with_remedies_and_counts() {
        let findings = vec![
            Finding::ok("a", "fine"),
            Finding::error("b", "broken", "mend it"),
            Finding::warning("c", "x", "y"),
        ];
        let expected = "ok       a: fine\nERROR    b: broken\n             -> mend it\n\
                        warning  c: x\n             -> y\n1 errors, 1 warnings\n";
        assert_eq!(shown(findings), (expected.to_owned(), 2));
    }

    #[test]
    fn the_exit_code_follows_the_worst_finding_but_not_notes() {
        assert_eq!(shown(vec![Finding::ok("a", "b"), Finding::note("a", "b", "c")]).1, 0);
        assert_eq!(shown(vec![Finding::warning("a", "b", "c"), Finding::note("a", "b", "c")]).1, 1);
        assert_eq!(shown(vec![Finding::error("a", "b", "c")]).1, 2);
    }

    #[test]
    fn names_do_not_control_the_terminal() {
        let (text, _) = shown(vec![Finding::warning("x\n", "\u{1b}[2J\nok", "y\r")]);
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }
}
