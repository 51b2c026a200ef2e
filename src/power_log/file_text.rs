//! Text of a history file: [`HEADER`], then one line a record, with tabs between the fields.
//!
//! In a field, what is not printable is written as `\u{1b}`, and a backslash twice. So a file can be shown on
//! a terminal.

use std::collections::VecDeque;

use super::{PowerRecord, PowerVerdict, WallTime};
use crate::fence::{Operation, is_printable};

/// First line of a history file. It tells one from any other file.
pub const HEADER: &str = "# fence_virtd history 1\n";

/// Maximum size of a history file, in bytes: more than the longest one of as many records as are kept.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// Maximum of records that are taken from a file. One that the daemon has written has fewer: those that it
/// keeps, and those appended since. A record takes about 20 bytes of a file at least, and hundreds in memory.
pub const FILE_RECORDS_MAX: usize = 4096;

/// Records of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptHistory {
    /// Last records, [`FILE_RECORDS_MAX`] at most, oldest first.
    pub records: Vec<PowerRecord>,
    /// Number of lines that are no records, a torn last line included.
    pub skipped: usize,
}

/// Line of a record, with its line feed.
pub fn encode(record: &PowerRecord) -> String {
    let PowerRecord { time, listener, requester, share, operation, vm, verdict, reason, millis } = record;
    let texts = [listener, requester, share, vm, reason].map(|text| escaped(text));
    let [listener, requester, share, vm, reason] = texts;
    let millis = millis.map_or_else(|| "-".to_owned(), |millis| millis.to_string());
    let (time, verdict) = (time.millis(), verdict.word());
    format!("{time}\t{listener}\t{requester}\t{share}\t{operation}\t{vm}\t{verdict}\t{millis}\t{reason}\n")
}

/// Reads the text of a history file; none if it does not begin with [`HEADER`]. An empty file has no records.
pub fn decode(bytes: &[u8]) -> Option<KeptHistory> {
    let mut kept = KeptHistory::default();
    if bytes.is_empty() {
        return Some(kept);
    }
    let body = bytes.strip_prefix(HEADER.as_bytes())?;
    let mut records = VecDeque::new();
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\n").and_then(decode_line) {
            Some(record) => {
                if records.len() == FILE_RECORDS_MAX {
                    records.pop_front();
                }
                records.push_back(record);
            }
            None => kept.skipped += 1,
        }
    }
    kept.records = records.into();
    Some(kept)
}

fn decode_line(line: &[u8]) -> Option<PowerRecord> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split('\t');
    let time = WallTime::from_millis(fields.next()?.parse().ok()?);
    let [listener, requester, share] = [fields.next()?, fields.next()?, fields.next()?].map(unescaped);
    let operation = operation(fields.next()?)?;
    let vm = unescaped(fields.next()?);
    let verdict = PowerVerdict::of_word(fields.next()?)?;
    let millis = match fields.next()? {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    let reason = unescaped(fields.next()?);
    let record = PowerRecord {
        time,
        listener: listener?,
        requester: requester?,
        share: share?,
        operation,
        vm: vm?,
        verdict,
        reason: reason?,
        millis,
    };
    fields.next().is_none().then_some(record)
}

fn operation(word: &str) -> Option<Operation> {
    Operation::ALL.into_iter().find(|operation| operation.is_power() && operation.to_string() == word)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if is_printable(c) => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        rest = match after.strip_prefix('\\') {
            Some(rest) => {
                out.push('\\');
                rest
            }
            None => {
                let (digits, rest) = after.strip_prefix("u{")?.split_once('}')?;
                out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                rest
            }
        };
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::record;
    use super::*;

    fn file(lines: &[&str]) -> Vec<u8> {
        (HEADER.to_owned() + &lines.concat()).into_bytes()
    }

    #[test]
    fn a_record_survives_its_file() {
        let odd = PowerRecord {
            vm: "a\tb\\u{9}\n\u{202e}é".to_owned(),
            reason: String::new(),
            millis: None,
            ..record("fe80::/10", 1_796_020_802_125, PowerVerdict::Refused)
        };
        let line = encode(&odd);
        let expected =
            "1796020802125\ttcp\tfe80::/10\tfe80::/10\toff\ta\\u{9}b\\\\u{9}\\u{a}\\u{202e}é\trefused\t-\t\n";
        assert_eq!(line, expected);
        let plain = record("192.0.2.1", 5, PowerVerdict::Success);
        let kept = decode(&file(&[&line, &encode(&plain)])).unwrap();
        assert_eq!(kept, KeptHistory { records: vec![odd, plain], skipped: 0 });
    }

    #[test]
    fn torn_and_foreign_lines_are_passed_by() {
        let line = encode(&record("192.0.2.1", 5, PowerVerdict::Failure));
        for end in 0..line.len() {
            let kept = decode(&file(&[&line, &line[..end]])).unwrap();
            assert_eq!((kept.records.len(), kept.skipped), (1, usize::from(end > 0)), "{end}");
        }
        let wrong = [
            "\n".to_owned(),
            line.replace("off", "status"),
            line.replace("failure", "off"),
            line.replace("because", "\\x"),
            line.replace("because", "\\u{110000}"),
            line.replace("because", "\\u{}"),
            line.replace("because", "be\tcause"),
            line.replace("\t9\t", "\t-9\t"),
            line.replacen('5', "now", 1),
        ];
        for wrong in &wrong {
            let kept = decode(&file(&[wrong, &line])).unwrap();
            assert_eq!((kept.records.len(), kept.skipped), (1, 1), "{wrong}");
        }
        let mut bytes = file(&[&line]);
        bytes.extend(b"\xff\n");
        assert_eq!(decode(&bytes).unwrap().skipped, 1);
    }

    #[test]
    fn the_last_records_of_a_long_file_are_taken() {
        let max = FILE_RECORDS_MAX as u64;
        let lines: String = (0..2 * max).map(|at| encode(&record("", at, PowerVerdict::Denied))).collect();
        let kept = decode(&file(&["x\n", &lines])).unwrap();
        assert_eq!((kept.records.len(), kept.skipped), (FILE_RECORDS_MAX, 1));
        let ends = [kept.records.first(), kept.records.last()].map(|end| end.unwrap().time.millis());
        assert_eq!(ends, [max, 2 * max - 1]);
    }

    #[test]
    fn another_file_is_no_history() {
        assert_eq!(decode(b"fence_virtd { listener = \"tcp\"; }\n"), None);
        assert_eq!(decode(&HEADER.as_bytes()[1..]), None);
        assert_eq!(decode(b""), Some(KeptHistory::default()));
    }
}
