//! Queries over the status socket.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::form::{Form, HistoryForm};
use crate::restraints::HoldChange;
use fence_virt::restraints::{HoldReason, HoldSubject, HoldTime};

/// First line of the reply with a status, if there are no problems.
pub(crate) const WELL: &str = "well";
/// First line of the reply with a status, if there are problems, and of a refusal.
pub(crate) const UNWELL: &str = "unwell";
/// First line of the reply to a reload that was taken.
pub(crate) const RELOADED: &str = "reloaded";
/// First line of the reply to an order that was refused.
pub(crate) const REFUSED: &str = "refused";
/// First line of the reply to an order that has placed a hold.
pub(crate) const HELD: &str = "held";
/// First line of the reply to an order that has ended a hold.
pub(crate) const RELEASED: &str = "released";
/// Words of the queries that place and end a hold.
const HOLD: &str = "hold ";
const RELEASE: &str = "release ";
/// Word of the query that reloads the configuration.
const RELOAD: &str = "reload";
/// First line of the reply with a history.
pub(crate) const HISTORY: &str = "history";

/// Query: one line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    /// The state of the daemon.
    Status(Form),
    /// The last power operations, of one VM if it is named.
    History { form: HistoryForm, vm: Option<String> },
    /// Read the configuration again, if it is this one. The reply comes when that is done.
    Reload(PathBuf),
    /// Place or release a hold, if the daemon runs with this configuration.
    Hold { change: HoldChange, config: PathBuf },
}

/// First line of a reply, without its line feed: a word, and the path of the daemon's configuration in
/// hexadecimal digits, since a path may have any bytes.
pub(super) fn reply_head(word: &str, config: &Path) -> String {
    format!("{word} {}", digits(config.as_os_str().as_bytes()))
}

/// Writes bytes as hexadecimal digits.
fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |line, byte| format!("{line}{byte:02x}"))
}

/// Reads hexadecimal digits; none if they are none, or of half a byte.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// Reads the hexadecimal digits of a text.
fn text(digits: &str) -> Option<String> {
    String::from_utf8(bytes(digits)?).ok()
}

/// Parses the first line of a reply. The path is none in a refusal.
pub(crate) fn parse_reply_head(line: &str) -> (&str, Option<PathBuf>) {
    let Some((word, digits)) = line.split_once(' ') else { return (line, None) };
    (word, bytes(digits).map(|bytes| OsString::from_vec(bytes).into()))
}

impl Query {
    /// Returns the line of the query, without its line feed.
    pub(crate) fn line(&self) -> String {
        match self {
            Query::Status(form) => form.word().to_owned(),
            Query::History { form, vm: None } => format!("{HISTORY} {}", form.word()),
            Query::History { form, vm: Some(vm) } => format!("{HISTORY} {} {vm}", form.word()),
            Query::Reload(path) => format!("{RELOAD} {}", path.display()),
            Query::Hold { change: HoldChange::Place { subject, reason, time }, config } => {
                let [subject, reason] =
                    [subject.as_str(), reason.as_str()].map(|text| digits(text.as_bytes()));
                format!("{HOLD}{} {subject} {reason} {}", time.duration().as_secs(), config.display())
            }
            Query::Hold { change: HoldChange::Release(subject), config } => {
                format!("{RELEASE}{} {}", digits(subject.as_str().as_bytes()), config.display())
            }
        }
    }

    /// Parses a line; none if it is not a query.
    pub(super) fn parse(line: &str) -> Option<Query> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        if let Some(path) = line.strip_prefix(RELOAD) {
            return Some(Query::Reload(absolute(path.strip_prefix(' ')?)?));
        }
        if let Some(words) = line.strip_prefix(HOLD) {
            return parse_hold(words);
        }
        if let Some(words) = line.strip_prefix(RELEASE) {
            let (subject, path) = words.split_once(' ')?;
            let subject = HoldSubject::new(&text(subject)?).ok()?;
            return Some(Query::Hold { change: HoldChange::Release(subject), config: absolute(path)? });
        }
        let Some(history) = line.strip_prefix(HISTORY) else { return Form::of_word(line).map(Query::Status) };
        let history = history.strip_prefix(' ')?;
        let (word, vm) = history.split_once(' ').map_or((history, None), |(word, vm)| (word, Some(vm)));
        Some(Query::History { form: HistoryForm::of_word(word)?, vm: vm.map(str::to_owned) })
    }
}

fn parse_hold(words: &str) -> Option<Query> {
    let mut words = words.splitn(4, ' ');
    let seconds = words.next()?.parse().ok()?;
    let time = HoldTime::new(Duration::from_secs(seconds))?;
    let [subject, reason] = [words.next()?, words.next()?].map(text);
    let subject = HoldSubject::new(&subject?).ok()?;
    let reason = HoldReason::new(&reason?).ok()?;
    Some(Query::Hold {
        change: HoldChange::Place { subject, reason, time },
        config: absolute(words.next()?)?,
    })
}

fn absolute(path: &str) -> Option<PathBuf> {
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_arrives_whatever_its_bytes() {
        for path in [&b"/etc/fence_virt.conf"[..], b"/a b\n\xff", b""] {
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            assert_eq!(parse_reply_head(&reply_head(WELL, &path)), (WELL, Some(path)));
        }
        assert_eq!(parse_reply_head(UNWELL), (UNWELL, None));
        for wrong in ["well 2", "well 2f6", "well zz", "well +f"] {
            assert_eq!(parse_reply_head(wrong), (WELL, None), "{wrong}");
        }
    }

    #[test]
    fn what_is_asked_arrives() {
        let history = |form, vm: Option<&str>| Query::History { form, vm: vm.map(str::to_owned) };
        for query in [
            Query::Status(Form::Text),
            Query::Status(Form::OpenMetrics),
            history(HistoryForm::Text, None),
            history(HistoryForm::Json, Some("node 1")),
            Query::Reload("/etc/a b.conf".into()),
            Query::Hold {
                change: HoldChange::Place {
                    subject: HoldSubject::new("web 1 é").unwrap(),
                    reason: HoldReason::new("new kernel").unwrap(),
                    time: HoldTime::parse("7d").unwrap(),
                },
                config: "/etc/a b.conf".into(),
            },
            Query::Hold {
                change: HoldChange::Release(HoldSubject::new("web 1").unwrap()),
                config: "/etc/a b.conf".into(),
            },
        ] {
            assert_eq!(Query::parse(&format!("{}\n", query.line())), Some(query));
        }
        for wrong in [
            "",
            "\n",
            "texts",
            "history",
            "history ",
            "historytext",
            "history xml",
            "history openmetrics",
            "reload",
            "reload ",
            "reload a",
            "reload/a",
            "hold",
            "hold 60 61 61",
            "hold 60 61 61 a",
            "hold 0 61 61 /a",
            "hold 604801 61 61 /a",
            "hold 60  61 /a",
            "hold 60 61 0a /a",
            "hold 60 ff 61 /a",
            "hold 60 6 61 /a",
            "release",
            "release 61",
            "release 61 a",
            "release /a",
            "release 0a /a",
        ] {
            assert_eq!(Query::parse(wrong), None, "{wrong:?}");
        }
    }
}
