//! Outputs of the log: stderr, syslog, journald, or JSON on stdout.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use log::Level;

use super::line::{FieldValue, LogLine, word};
use crate::json::JsonObject;
use fence_virt::fence::printable;
use fence_virt::sys::syslog::{self, Priority};

/// Socket of journald for messages with fields: systemd-journald.service(8).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Form of a line on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextForm {
    /// `fence_virtd: info: ...`
    Plain,
    /// The same after the time.
    Timed,
    /// The message after its priority, see sd-daemon(3).
    Prioritised,
}

/// Destination of lines.
pub(crate) enum Output {
    /// Stderr. A service manager that started this process notes the time of each line itself.
    Stderr { is_managed: bool },
    /// Stderr with the priority of each line, for journald.
    Prioritised,
    /// Journald, with fields; stderr, which journald reads too, for messages that the socket rejects.
    Journal(UnixDatagram),
    /// Stdout, as JSON.
    Json,
    /// Syslog.
    Syslog,
}

impl Output {
    /// Returns the output for a process that has just been started.
    pub(crate) fn of_process(is_json: bool) -> Output {
        if is_json {
            return Output::Json;
        }
        match std::env::var("JOURNAL_STREAM") {
            Ok(stream) if is_stderr(&stream) => connect().map_or(Output::Prioritised, Output::Journal),
            Ok(_) => Output::Prioritised,
            Err(_) => {
                let managers = [std::env::var_os("INVOCATION_ID"), std::env::var_os("NOTIFY_SOCKET")];
                Output::Stderr { is_managed: managers.iter().any(Option::is_some) }
            }
        }
    }

    /// Writes a line of a daemon that stays in the foreground, or does not. A failure to log cannot be logged.
    pub(crate) fn write(&self, line: &LogLine, is_foreground: bool) {
        match self {
            Output::Stderr { is_managed: false } if is_foreground => write_to_stderr(line, TextForm::Timed),
            Output::Stderr { .. } => write_to_stderr(line, TextForm::Plain),
            Output::Prioritised => write_to_stderr(line, TextForm::Prioritised),
            Output::Journal(socket) => {
                // Too long for a datagram, or journald is being restarted.
                if socket.send(&journal(line)).is_err() {
                    write_to_stderr(line, TextForm::Prioritised);
                }
            }
            Output::Json => {
                let _ = writeln!(io::stdout(), "{}", json(line));
            }
            Output::Syslog => syslog::write(priority(line.level), &line.message),
        }
    }
}

/// Writes a line with one call, so that those of several processes do not mix.
fn write_to_stderr(line: &LogLine, form: TextForm) {
    let _ = io::stderr().write_all(text(line, form).as_bytes());
}

fn text(line: &LogLine, form: TextForm) -> String {
    let LogLine { time, level, message, .. } = line;
    match form {
        TextForm::Plain => format!("fence_virtd: {}: {message}\n", word(*level)),
        TextForm::Timed => format!("{time} fence_virtd: {}: {message}\n", word(*level)),
        TextForm::Prioritised => format!("<{}>{message}\n", priority(*level) as i32),
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL)?;
    Ok(socket)
}

/// Returns true if `$JOURNAL_STREAM` (device and inode, see systemd.exec(5)) is our stderr.
fn is_stderr(stream: &str) -> bool {
    let Ok(own) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", own.dev(), own.ino())
}

/// Returns a line in journald's native protocol. One field a line is enough: our values have no line feeds.
fn journal(line: &LogLine) -> Vec<u8> {
    let mut out = format!(
        "MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=fence_virtd\n",
        line.message,
        priority(line.level) as i32
    );
    for (name, value) in &line.fields {
        let value = printable(&value.to_string());
        out.push_str(&format!("FENCE_{}={value}\n", name.to_uppercase()));
    }
    out.into_bytes()
}

fn json(line: &LogLine) -> String {
    let millis = line.time.millis();
    let object = JsonObject::new()
        .value("time", format_args!("{}.{:03}", millis / 1000, millis % 1000))
        .string("level", word(line.level))
        .string("message", &line.message);
    let add = |object: JsonObject, (name, value): &(String, FieldValue)| match value {
        FieldValue::Number(number) => object.value(name, number),
        FieldValue::Text(text) => object.string(name, text),
    };
    line.fields.iter().fold(object, add).finish()
}

fn priority(level: Level) -> Priority {
    match level {
        Level::Error => Priority::Error,
        Level::Warn => Priority::Warning,
        Level::Info => Priority::Info,
        Level::Debug | Level::Trace => Priority::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::power_log::WallTime;
    use log::Record;
    use log::kv::Value;

    fn line(message: &str, fields: &[(&str, FieldValue)]) -> LogLine {
        let fields = fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let time = WallTime::from_millis(12_034);
        LogLine { time, fields, ..LogLine::new(Level::Info, message.to_owned()) }
    }

    fn text_field(text: &str) -> FieldValue {
        FieldValue::Text(text.to_owned())
    }

    #[test]
    fn journald_and_json_get_the_fields() {
        let fields = [("verdict", text_field("success")), ("milliseconds", FieldValue::Number(9))];
        let line = line("a \"b\" c", &fields);
        let expected = "MESSAGE=a \"b\" c\nPRIORITY=6\nSYSLOG_IDENTIFIER=fence_virtd\n\
            FENCE_VERDICT=success\nFENCE_MILLISECONDS=9\n";
        assert_eq!(String::from_utf8(journal(&line)).unwrap(), expected);
        let expected = "{\"time\":12.034,\"level\":\"info\",\"message\":\"a \\\"b\\\" c\",\
            \"verdict\":\"success\",\"milliseconds\":9}";
        assert_eq!(json(&line), expected);
        let evil = LogLine { fields: vec![("x".into(), text_field("1\nMESSAGE=forged"))], ..line };
        assert!(!String::from_utf8(journal(&evil)).unwrap().contains("\nMESSAGE=forged"));
    }

    #[test]
    fn a_line_of_text_has_the_same_end_in_each_form() {
        let line = line("ready", &[]);
        assert_eq!(text(&line, TextForm::Plain), "fence_virtd: info: ready\n");
        assert_eq!(text(&line, TextForm::Timed), "1970-01-01T00:00:12.034Z fence_virtd: info: ready\n");
        assert_eq!(text(&line, TextForm::Prioritised), "<6>ready\n");
    }

    #[test]
    fn names_from_outside_cannot_reorder_or_break_a_line() {
        let name = "a\u{202e}b\u{2028}c\u{1b}[2J";
        let fields = [("domain", Value::from(name))];
        let mut record = Record::builder();
        record.level(Level::Info).key_values(&fields);
        let line = LogLine::of(&record.args(format_args!("libvirt says: {name} {name:?}")).build());
        let escaped = "a\\u{202e}b\\u{2028}c\\u{1b}[2J";
        assert_eq!(line.message, format!("libvirt says: {escaped} \"{escaped}\""));
        let journal = String::from_utf8(journal(&line)).unwrap();
        assert!(journal.ends_with(&format!("\nFENCE_DOMAIN={escaped}\n")), "{journal}");
        // A reader of JSON gets the name itself.
        let json = json(&line);
        assert!(json.ends_with("\"domain\":\"a\\u202eb\\u2028c\\u001b[2J\"}"), "{json}");
    }

    #[test]
    fn another_process_stream_is_not_our_stderr() {
        assert!(!is_stderr("1:1") && !is_stderr("") && !is_stderr("x"));
    }
}
