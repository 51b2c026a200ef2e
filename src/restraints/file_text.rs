//! Text of the file of holds: [`HOLDS_HEADER`], one line a hold with tabs between the fields, and a last line
//! with their number, so that a file that was cut is noticed.

use std::fmt;

use super::hold::{HoldReason, HoldSubject, HoldTime, PowerHold};
use super::table::HoldTable;
use crate::power_log::WallTime;

/// First line of the file. It tells one from any other file.
pub const HOLDS_HEADER: &str = "# fence_virtd holds 1\n";

/// Maximum size of the file, in bytes: more than the longest one of as many holds as there can be.
pub const HOLDS_BYTES_MAX: usize = 1 << 20;

/// Word of the last line.
const END: &str = "end";

/// Error in a file of holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldsFileError {
    /// Number of the line, from 1 on.
    pub line: usize,
    /// Description.
    pub problem: &'static str,
}

impl fmt::Display for HoldsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// Text of a file with these holds.
pub fn encode_holds(holds: &HoldTable) -> String {
    let line = |hold: &PowerHold| {
        let PowerHold { subject, reason, begun, ends } = hold;
        // Both texts are printable, so they have no tab and no line feed.
        format!("{}\t{}\t{}\t{}\n", begun.millis(), ends.millis(), subject.as_str(), reason.as_str())
    };
    let lines: String = holds.iter().map(line).collect();
    format!("{HOLDS_HEADER}{lines}{END}\t{}\n", holds.iter().count())
}

/// Reads the text of a file.
///
/// # Errors
///
/// The first malformed line. No line is skipped, because that could lose a hold.
pub fn decode_holds(bytes: &[u8]) -> Result<HoldTable, HoldsFileError> {
    let error = |line: usize, problem: &'static str| HoldsFileError { line, problem };
    let text = std::str::from_utf8(bytes).map_err(|wrong| {
        let before = &bytes[..wrong.valid_up_to()];
        error(before.iter().filter(|&&byte| byte == b'\n').count() + 1, "it is not UTF-8 text")
    })?;
    let body =
        text.strip_prefix(HOLDS_HEADER).ok_or(error(1, "it is not the first line of a file of holds"))?;
    let mut holds = HoldTable::default();
    let mut count = 0;
    let mut lines = body.split_inclusive('\n').zip(2..);
    for (line, number) in &mut lines {
        let line = line.strip_suffix('\n').ok_or(error(number, "the line is cut"))?;
        if let Some(total) = line.strip_prefix(END).and_then(|rest| rest.strip_prefix('\t')) {
            if total != count.to_string() {
                return Err(error(number, "the number of holds is wrong"));
            }
            return match lines.next() {
                None => Ok(holds),
                Some((_, number)) => Err(error(number, "there is text after the end")),
            };
        }
        let hold = decode_line(line).ok_or(error(number, "it is not a hold"))?;
        match holds.insert(hold) {
            Ok(None) => count += 1,
            Ok(Some(_)) => return Err(error(number, "it is a second hold on one VM or group")),
            Err(_) => return Err(error(number, "there are too many holds")),
        }
    }
    Err(error(count + 2, "the end of the file is missing"))
}

fn decode_line(line: &str) -> Option<PowerHold> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [begun, ends, subject, reason] = fields[..] else { return None };
    let [begun, ends] = [time(begun)?, time(ends)?];
    let hold = PowerHold {
        subject: HoldSubject::new(subject).ok()?,
        reason: HoldReason::new(reason).ok()?,
        begun,
        ends,
    };
    let is_as_written = hold.subject.as_str() == subject && hold.reason.as_str() == reason;
    let length = ends.millis().checked_sub(begun.millis())?;
    let is_bounded = length > 0 && u128::from(length) <= HoldTime::MAX.as_millis();
    (is_as_written && is_bounded).then_some(hold)
}

fn time(text: &str) -> Option<WallTime> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let millis = text.parse().ok().filter(|_| is_plain)?;
    Some(WallTime::from_millis(millis)).filter(|time| time.millis() == millis)
}

#[cfg(test)]
mod tests {
    use super::super::table::HOLDS_MAX;
    use super::super::table::tests::{hold, table};
    use super::*;

    fn problem(text: &str) -> HoldsFileError {
        decode_holds(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn holds_survive_their_file() {
        for holds in [table(&[]), table(&[hold("web servers", 5), hold("Node é", 604_800)])] {
            assert_eq!(decode_holds(encode_holds(&holds).as_bytes()), Ok(holds));
        }
        let text = encode_holds(&table(&[hold("a", 5)]));
        assert_eq!(text, "# fence_virtd holds 1\n0\t5000\ta\tnew kernel\nend\t1\n");
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let text = encode_holds(&table(&[hold("a", 5), hold("b", 5)]));
        for end in 0..text.len() {
            assert!(decode_holds(&text.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn each_line_is_checked() {
        let good = encode_holds(&table(&[hold("a", 5), hold("b", 5)]));
        for (from, to, line) in [
            ("holds 1", "holds 2", 1),
            ("0\t5000\ta", "x\t5000\ta", 2),
            ("0\t5000\ta", "00\t5000\ta", 2),
            ("0\t5000\ta", "5000\t5000\ta", 2),
            ("0\t5000\ta", "0\t604800001\ta", 2),
            ("0\t5000\ta", "0\t99999999999999999\ta", 2),
            ("\ta\t", "\t a\t", 2),
            ("\ta\t", "\ta\u{1b}\t", 2),
            ("\ta\t", "\ta\ta\t", 2),
            ("\tb\t", "\tA\t", 3),
            ("\tb\tnew kernel", "\tb\t", 3),
            ("end\t2", "end\t1", 4),
            ("end\t2", "end\t02", 4),
            ("end\t2\n", "", 4),
            ("end\t2\n", "end\t2\n\n", 5),
        ] {
            assert_eq!(problem(&good.replacen(from, to, 1)).line, line, "{from:?} {to:?}");
        }
        let mut bytes = good.clone().into_bytes();
        bytes[good.find("\tb").unwrap()] = 0xff;
        assert_eq!(decode_holds(&bytes).unwrap_err().line, 3);
        assert_eq!(problem("").to_string(), "line 1: it is not the first line of a file of holds");
    }

    #[test]
    fn more_holds_than_there_can_be_are_refused() {
        let lines: String = (0..=HOLDS_MAX).map(|at| format!("0\t5000\tvm{at}\tr\n")).collect();
        let text = format!("{HOLDS_HEADER}{lines}end\t{}\n", HOLDS_MAX + 1);
        assert_eq!(problem(&text).problem, "there are too many holds");
    }
}
