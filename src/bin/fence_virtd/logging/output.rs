//! The forms of the log: lines on stderr, syslog, journald, JSON on stdout.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Record};

use fence_virt::sys::syslog::{self, Priority};

/// Where journald takes messages with fields: systemd-journald.service(8).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) message: String,
    /// Name and value, of a line about a request.
    pub(crate) fields: Vec<(String, String)>,
}

impl Line {
    /// A message has no line breaks and other control characters: what libvirt
    /// says may have several lines, and each of ours is one.
    pub(crate) fn of(record: &Record<'_>) -> Line {
        let mut fields = Fields(Vec::new());
        // Our own fields cannot fail to be visited.
        let _ = record.key_values().visit(&mut fields);
        let message = record.args().to_string().replace(char::is_control, " ");
        Line { level: record.level(), message, fields: fields.0 }
    }
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

/// Where lines go.
pub(crate) enum Output {
    /// To stderr.
    Stderr(env_logger::Logger),
    /// To journald, with fields; to stderr, which it reads, what it does not take so.
    Journal(UnixDatagram, env_logger::Logger),
    /// To stdout, as JSON.
    Json,
    /// To syslog.
    Syslog,
}

impl Output {
    /// What fits a process that has just been started.
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

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// write(2)'s: nobody takes it.
    pub(crate) fn write(&self, line: &Line) -> io::Result<()> {
        let Line { level, message, .. } = line;
        match self {
            Output::Stderr(stderr) => {
                log_to(stderr, line);
                Ok(())
            }
            Output::Journal(socket, stderr) => {
                // Too long for a datagram, or journald is being restarted.
                if socket.send(&journal(line)).is_err() {
                    log_to(stderr, line);
                }
                Ok(())
            }
            Output::Json => {
                let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                writeln!(io::stdout(), "{}", json(line, time.as_millis()))
            }
            Output::Syslog => {
                syslog::write(priority(*level), message);
                Ok(())
            }
        }
    }
}

/// Under systemd each line begins with its priority, as in sd-daemon(3).
fn stderr(under_systemd: bool) -> env_logger::Logger {
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .format(move |out, record| match under_systemd {
            true => writeln!(out, "<{}>{}", priority(record.level()) as i32, record.args()),
            false => writeln!(out, "fence_virtd: {}: {}", word(record.level()), record.args()),
        })
        .build()
}

fn log_to(stderr: &env_logger::Logger, line: &Line) {
    stderr.log(&Record::builder().level(line.level).args(format_args!("{}", line.message)).build());
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL)?;
    Ok(socket)
}

/// Whether `$JOURNAL_STREAM`, device and inode, means our stderr: systemd.exec(5).
fn is_stderr(stream: &str) -> bool {
    let Ok(own) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", own.dev(), own.ino())
}

/// The native protocol of journald: a field a line, as no value of ours has a line feed.
fn journal(line: &Line) -> Vec<u8> {
    let mut out = format!(
        "MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=fence_virtd\n",
        line.message,
        priority(line.level) as i32
    );
    for (name, value) in &line.fields {
        let value = value.replace(char::is_control, " ");
        out.push_str(&format!("FENCE_{}={value}\n", name.to_uppercase()));
    }
    out.into_bytes()
}

fn json(line: &Line, millis: u128) -> String {
    let Line { level, message, fields } = line;
    let mut out = format!("{{\"time\":{}.{:03},\"level\":\"{}\"", millis / 1000, millis % 1000, word(*level));
    out.push_str(&format!(",\"message\":{}", quoted(message)));
    for (name, value) in fields {
        out.push_str(&format!(",{}:{}", quoted(name), quoted(value)));
    }
    out + "}"
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // To a String it cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
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

    fn line() -> Line {
        let verdict = "success";
        let fields = [("verdict", log::kv::Value::from(verdict))];
        Line::of(
            &Record::builder()
                .level(Level::Info)
                .args(format_args!("a \"b\"\nc"))
                .key_values(&fields)
                .build(),
        )
    }

    #[test]
    fn a_record_is_one_line_with_its_fields() {
        let expected = Line {
            level: Level::Info,
            message: "a \"b\" c".to_owned(),
            fields: vec![("verdict".to_owned(), "success".to_owned())],
        };
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
        let evil = Line { fields: vec![("x".into(), "1\nMESSAGE=forged".into())], ..line() };
        assert!(!String::from_utf8(journal(&evil)).unwrap().contains("\nMESSAGE=forged"));
    }

    #[test]
    fn the_stream_of_another_is_not_ours() {
        assert!(!is_stderr("1:1") && !is_stderr("") && !is_stderr("x"));
    }
}
