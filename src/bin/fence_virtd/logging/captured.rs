//! Lines of the log that a test's own thread writes.

use std::cell::RefCell;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::line::LogLine;

thread_local! {
    static LINES: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
}

struct Captured;

impl Log for Captured {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(LogLine::of(record)));
    }

    fn flush(&self) {}
}

/// Lines since the last call, without those for debugging; none before the first one.
pub(crate) fn captured() -> Vec<String> {
    take(Level::Info)
}

/// The same with those for debugging.
pub(crate) fn captured_for_debugging() -> Vec<String> {
    take(Level::Trace)
}

fn take(max: Level) -> Vec<String> {
    // Of several tests the first one sets it.
    let _ = log::set_logger(&Captured);
    log::set_max_level(LevelFilter::Trace);
    let lines = LINES.take().into_iter().filter(|line| line.level <= max);
    lines.map(|line| format!("{}: {}", line.level, line.message)).collect()
}
