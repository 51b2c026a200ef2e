//! Where log lines go: to stderr in the foreground and until the daemon has
//! detached, then to syslog.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::sys::syslog::{self, Priority};

struct Logger {
    stderr: env_logger::Logger,
    to_syslog: AtomicBool,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// The log level for `-d LEVEL`, as far as the C daemon's levels go: 0 as
/// without it, 1 to 4 debug, 5 and more trace.
pub(crate) fn level(debug: u32) -> LevelFilter {
    match debug {
        0 => LevelFilter::Info,
        1..=4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// Begins logging to stderr. Under systemd each line begins with its
/// priority, as in sd-daemon(3).
pub(crate) fn start(debug: u32) {
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let stderr = env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .format(move |out, record| match under_systemd {
            true => writeln!(out, "<{}>{}", priority(record.level()) as i32, one_line(record.args())),
            false => writeln!(out, "fence_virtd: {}: {}", word(record.level()), one_line(record.args())),
        })
        .build();
    let logger = LOGGER.get_or_init(|| Logger { stderr, to_syslog: AtomicBool::new(false) });
    // Only the first call of a process sets it, and it is the same logger.
    let _ = log::set_logger(logger);
    log::set_max_level(level(debug));
}

/// From now on log to syslog.
pub(crate) fn switch_to_syslog() {
    syslog::open();
    if let Some(logger) = LOGGER.get() {
        logger.to_syslog.store(true, Ordering::Release);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if self.to_syslog.load(Ordering::Acquire) {
            syslog::write(priority(record.level()), &one_line(record.args()));
        } else {
            self.stderr.log(record);
        }
    }

    fn flush(&self) {
        self.stderr.flush();
    }
}

/// A message without line breaks and other control characters: what libvirt
/// says may have several lines, and each of ours is one.
fn one_line(message: &fmt::Arguments<'_>) -> String {
    message.to_string().replace(char::is_control, " ")
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

    #[test]
    fn debug_levels_become_log_levels() {
        assert_eq!(level(0), LevelFilter::Info);
        assert_eq!(level(1), LevelFilter::Debug);
        assert_eq!(level(99), LevelFilter::Trace);
    }
}
