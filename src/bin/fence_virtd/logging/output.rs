//! Outputs of the log: stderr, syslog, journald, or JSON on stdout.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Record};

use crate::json::JsonObject;
use fence_virt::fence::printable;
use fence_virt::sys::clock::wall_millis;
use fence_virt::sys::syslog::{self, Priority};

/// Socket of journald for messages with fields: systemd-journald.service(8).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) level: Level,
    pub(crate) message: String,
    /// Names and values of a line about a request.
    pub(crate) fields: Vec<(String, String)>,
}

impl LogLine {
    /// Converts a record. The message becomes printable: those of libvirt may have several lines,
    /// and the names of VMs; one of ours is always one line. The outputs escape the fields.
    pub(crate) fn of(record: &Record<'_>) -> LogLine {
        let mut fields = FieldCollector(Vec::new());
        // Visiting our own fields cannot fail.
        let _ = record.key_values().visit(&mut fields);
        let message = printable(&record.args().to_string());
        LogLine { level: record.level(), message, fields: fields.0 }
    }
}

/// Collector of a record's fields.
struct FieldCollector(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for FieldCollector {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

/// Destination of lines.
pub(crate) enum Output {
    /// Stderr.
    Stderr(env_logger::Logger),
    /// Journald, with fields; stderr, which journald reads too, for messages that the socket rejects.
    Journal(UnixDatagram, env_logger::Logger),
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
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let stderr = stderr(stream.is_some());
        match stream.filter(|stream| is_stderr(stream)).map(|_| connect()) {
            Some(Ok(socket)) => Output::Journal(socket, stderr),
            _ => Output::Stderr(stderr),
        }
    }

    /// Writes a line. A failure to log cannot be logged.
    pub(crate) fn write(&self, line: &LogLine) {
        match self {
            Output::Stderr(stderr) => log_to(stderr, line),
            Output::Journal(socket, stderr) => {
                // Too long for a datagram, or journald is being restarted.
                if socket.send(&journal(line)).is_err() {
                    log_to(stderr, line);
                }
            }
            Output::Json => {
                let _ = writeln!(io::stdout(), "{}", json(line, wall_millis()));
            }
            Output::Syslog => syslog::write(priority(line.level), &line.message),
        }
    }
}

/// Returns a logger to stderr. Under systemd each line begins with its priority, see sd-daemon(3).
fn stderr(under_systemd: bool) -> env_logger::Logger {
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .format(move |out, record| match under_systemd {
            true => writeln!(out, "<{}>{}", priority(record.level()) as i32, record.args()),
            false => writeln!(out, "fence_virtd: {}: {}", word(record.level()), record.args()),
        })
        .build()
}

fn log_to(stderr: &env_logger::Logger, line: &LogLine) {
    stderr.log(&Record::builder().level(line.level).args(format_args!("{}", line.message)).build());
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
        let value = printable(value);
        out.push_str(&format!("FENCE_{}={value}\n", name.to_uppercase()));
    }
    out.into_bytes()
}

fn json(line: &LogLine, millis: u64) -> String {
    let object = JsonObject::new()
        .value("time", format_args!("{}.{:03}", millis / 1000, millis % 1000))
        .string("level", word(line.level))
        .string("message", &line.message);
    line.fields.iter().fold(object, |object, (name, value)| object.string(name, value)).finish()
}

fn priority(level: Level) -> Priority {
    match level {
        Level::Error => Priority::Error,
        Level::Warn => Priority::Warning,
        Level::Info => Priority::Info,
        Level::Debug | Level::Trace => Priority::Debug,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> LogLine {
        let fields = [("verdict", Value::from("success"))];
        let mut record = Record::builder();
        record.level(Level::Info).key_values(&fields);
        LogLine::of(&record.args(format_args!("a \"b\"\nc")).build())
    }

    #[test]
    fn a_record_is_one_line_with_its_fields() {
        let fields = vec![("verdict".to_owned(), "success".to_owned())];
        let expected = LogLine { level: Level::Info, message: "a \"b\" c".to_owned(), fields };
        assert_eq!(line(), expected);
    }

    #[test]
    fn journald_and_json_get_the_fields() {
        let expected =
            "MESSAGE=a \"b\" c\nPRIORITY=6\nSYSLOG_IDENTIFIER=fence_virtd\nFENCE_VERDICT=success\n";
        assert_eq!(String::from_utf8(journal(&line())).unwrap(), expected);
        let expected =
            "{\"time\":12.034,\"level\":\"info\",\"message\":\"a \\\"b\\\" c\",\"verdict\":\"success\"}";
        assert_eq!(json(&line(), 12_034), expected);
        let evil = LogLine { fields: vec![("x".into(), "1\nMESSAGE=forged".into())], ..line() };
        assert!(!String::from_utf8(journal(&evil)).unwrap().contains("\nMESSAGE=forged"));
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
        let json = json(&line, 0);
        assert!(json.ends_with("\"domain\":\"a\\u202eb\\u2028c\\u001b[2J\"}"), "{json}");
    }

    #[test]
    fn another_process_stream_is_not_our_stderr() {
        assert!(!is_stderr("1:1") && !is_stderr("") && !is_stderr("x"));
    }
}
