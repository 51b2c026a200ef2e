//! The logger. Lines go to stderr (or journald, or as JSON to stdout) in the
//! foreground and until the daemon has detached, then to syslog.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::line::LogLine;
use super::output::Output;
use fence_virt::fence::counted;
use fence_virt::sys::error_text;
use fence_virt::sys::syslog;
use fence_virt::time::Instant;

/// Maximum number of lines that wait for the writer; more are dropped and counted. A log
/// that nobody reads must not block the threads that fence.
const QUEUE_MAX: usize = 1024;
/// Time limit of a flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

struct Logger {
    output: Output,
    is_foreground: AtomicBool,
    to_syslog: AtomicBool,
    lost: AtomicU64,
    writer: OnceLock<Sender<WriterMessage>>,
}

/// Message to the writer thread.
enum WriterMessage {
    Line(LogLine),
    /// Request to confirm that all lines before it were written.
    Flush(Sender<()>),
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Returns the log level for `-d LEVEL`. 0 is the default; 1 adds each step of a session (debug); 2 and more, up
/// to the 99 of the C daemon, the events of libvirt, of the cluster and of the network too (trace).
pub(crate) fn level(debug: u32) -> LevelFilter {
    match debug {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// Starts logging: as JSON to stdout if requested, to journald if it reads stderr, else to stderr.
pub(crate) fn start(debug: u32, is_json: bool) {
    let logger = LOGGER.get_or_init(|| Logger {
        output: Output::of_process(is_json),
        is_foreground: AtomicBool::new(false),
        to_syslog: AtomicBool::new(false),
        lost: AtomicU64::new(0),
        writer: OnceLock::new(),
    });
    // Only the first call of a process sets it, and it is the same logger.
    let _ = log::set_logger(logger);
    log::set_max_level(level(debug));
}

/// Starts the writer thread. Before that, while the daemon may still fork, each thread writes its own lines.
/// Errors: a sentence if the thread cannot be started.
pub(crate) fn start_writer() -> Result<(), String> {
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    let (sender, entries) = bounded(QUEUE_MAX);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            for entry in entries {
                match entry {
                    WriterMessage::Line(line) => logger.write(&line),
                    // The flush may have timed out.
                    WriterMessage::Flush(done) => drop(done.send(())),
                }
            }
        })
        .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
    logger.writer.get_or_init(|| sender);
    Ok(())
}

/// Waits until all lines are written, at most [`FLUSH_TIMEOUT`].
pub(crate) fn flush() {
    let Some(writer) = LOGGER.get().and_then(|logger| logger.writer.get()) else { return };
    let (done, flushed) = bounded(1);
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    if writer.send_timeout(WriterMessage::Flush(done), deadline.remaining()).is_ok() {
        // After a timeout nobody reads the log, so it cannot be reported there.
        let _ = flushed.recv_timeout(deadline.remaining());
    }
}

/// Notes that the daemon stays in the foreground: lines on stderr begin with their time, unless a service
/// manager notes it.
pub(crate) fn stay_in_foreground() {
    if let Some(logger) = LOGGER.get() {
        logger.is_foreground.store(true, Ordering::Release);
    }
}

/// Switches the output to syslog.
pub(crate) fn switch_to_syslog() {
    flush();
    syslog::open(c"fence_virtd");
    if let Some(logger) = LOGGER.get() {
        logger.to_syslog.store(true, Ordering::Release);
    }
}

impl Logger {
    fn write(&self, line: &LogLine) {
        let output = if self.to_syslog.load(Ordering::Acquire) { &Output::Syslog } else { &self.output };
        let is_foreground = self.is_foreground.load(Ordering::Acquire);
        output.write(line, is_foreground);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message = format!("dropped {}: the log is not read fast enough", counted(lost, "log line"));
            output.write(&LogLine::new(Level::Warn, message), is_foreground);
        }
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
        let line = LogLine::of(record);
        let Some(writer) = self.writer.get() else { return self.write(&line) };
        if writer.try_send(WriterMessage::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
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
        assert_eq!((level(2), level(99)), (LevelFilter::Trace, LevelFilter::Trace));
    }
}
