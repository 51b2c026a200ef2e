//! Lines of the log that a test's own thread writes.

use std::cell::RefCell;

use log::{LevelFilter, Log, Metadata, Record};

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

/// Lines since the last call; none before the first one.
pub(crate) fn captured() -> Vec<String> {
    // Of several tests the first one sets it.
    let _ = log::set_logger(&Captured);
    log::set_max_level(LevelFilter::Info);
    let lines = LINES.take();
    lines.into_iter().map(|line| format!("{}: {}", line.level, line.message)).collect()
}
