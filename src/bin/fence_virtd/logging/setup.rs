//! Where log lines go: to stderr (or journald, or as JSON to stdout) in the
//! foreground and until the daemon has detached, then to syslog.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::output::{Line, Output};
use fence_virt::sys::syslog;

/// Lines that may wait for the writer; more are counted and lost. A log that
/// nobody reads must not hold up the threads that fence.
const QUEUE_MAX: usize = 1024;
/// How long a flush may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

struct Logger {
    output: Output,
    to_syslog: AtomicBool,
    lost: AtomicU64,
    writer: OnceLock<Sender<Entry>>,
}

/// What the writer gets.
enum Entry {
    Line(Line),
    /// Everything before it is written.
    Flush(Sender<()>),
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

/// Begins logging: to journald if it reads stderr, to stdout as JSON if that is
/// asked for, else to stderr.
pub(crate) fn start(debug: u32, is_json: bool) {
    let logger = LOGGER.get_or_init(|| Logger {
        output: Output::of_process(is_json),
        to_syslog: AtomicBool::new(false),
        lost: AtomicU64::new(0),
        writer: OnceLock::new(),
    });
    // Only the first call of a process sets it, and it is the same logger.
    let _ = log::set_logger(logger);
    log::set_max_level(level(debug));
}

/// From now on lines are written by a thread of their own. Before it, while
/// the daemon may still fork, each thread writes its own.
///
/// # Errors
///
/// If the system gives no thread.
pub(crate) fn start_writer() -> Result<(), String> {
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    let (sender, entries) = bounded(QUEUE_MAX);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            for entry in entries {
                match entry {
                    Entry::Line(line) => logger.write(&line),
                    // Who flushes may have lost patience.
                    Entry::Flush(done) => drop(done.send(())),
                }
            }
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    logger.writer.get_or_init(|| sender);
    Ok(())
}

/// Waits until what was logged is written, a second at most.
pub(crate) fn flush() {
    let Some(writer) = LOGGER.get().and_then(|logger| logger.writer.get()) else { return };
    let (done, flushed) = bounded(1);
    let deadline = Instant::now() + FLUSH_LIMIT;
    if writer.send_deadline(Entry::Flush(done), deadline).is_ok() {
        // Past the deadline nobody reads the log, and nothing can be said about it.
        let _ = flushed.recv_deadline(deadline);
    }
}

/// From now on log to syslog.
pub(crate) fn switch_to_syslog() {
    flush();
    syslog::open(c"fence_virtd");
    if let Some(logger) = LOGGER.get() {
        logger.to_syslog.store(true, Ordering::Release);
    }
}

impl Logger {
    fn write(&self, line: &Line) {
        self.write_line(line);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message = format!("{lost} lines of the log were lost: nobody read them in time");
            self.write_line(&Line { level: Level::Warn, message, fields: Vec::new() });
        }
    }

    fn write_line(&self, line: &Line) {
        let output = if self.to_syslog.load(Ordering::Acquire) { &Output::Syslog } else { &self.output };
        // Who would be told that nobody takes what we tell?
        let _ = output.write(line);
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
        let line = Line::of(record);
        match self.writer.get() {
            None => self.write(&line),
            Some(writer) => {
                if writer.try_send(Entry::Line(line)).is_err() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn flush(&self) {
        flush();
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
