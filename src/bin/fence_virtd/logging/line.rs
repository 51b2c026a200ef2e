//! Line of the log, for all outputs.

use std::fmt;

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};

use fence_virt::fence::printable;
use fence_virt::power_log::WallTime;
use fence_virt::sys::clock::wall_millis;

/// Line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// Time at which it was logged, which may be before it is written.
    pub(crate) time: WallTime,
    pub(crate) level: Level,
    pub(crate) message: String,
    /// Names and values of a line about a request.
    pub(crate) fields: Vec<(String, FieldValue)>,
}

/// Value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldValue {
    Number(u64),
    Text(String),
}

impl LogLine {
    /// Makes a line of the present time.
    pub(crate) fn new(level: Level, message: String) -> LogLine {
        LogLine { time: WallTime::from_millis(wall_millis()), level, message, fields: Vec::new() }
    }

    /// Converts a record. The message becomes printable: those of libvirt may have several lines,
    /// and the names of VMs; one of ours is always one line. The outputs escape the fields.
    pub(crate) fn of(record: &Record<'_>) -> LogLine {
        let mut fields = FieldCollector(Vec::new());
        // Visiting our own fields cannot fail.
        let _ = record.key_values().visit(&mut fields);
        let message = printable(&record.args().to_string());
        LogLine { fields: fields.0, ..LogLine::new(record.level(), message) }
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldValue::Number(number) => number.fmt(f),
            FieldValue::Text(text) => text.fmt(f),
        }
    }
}

/// Collector of a record's fields.
struct FieldCollector(Vec<(String, FieldValue)>);

impl<'kvs> VisitSource<'kvs> for FieldCollector {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let text = || FieldValue::Text(value.to_string());
        self.0.push((key.to_string(), value.to_u64().map_or_else(text, FieldValue::Number)));
        Ok(())
    }
}

/// Name of a level in the text and JSON forms of the log.
pub(super) fn word(level: Level) -> &'static str {
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
    fn a_record_is_one_line_with_its_fields() {
        let fields = [("verdict", Value::from("1")), ("milliseconds", Value::from(7_u64))];
        let mut record = Record::builder();
        record.level(Level::Info).key_values(&fields);
        let line = LogLine::of(&record.args(format_args!("a \"b\"\nc")).build());
        let fields = vec![
            ("verdict".to_owned(), FieldValue::Text("1".to_owned())),
            ("milliseconds".to_owned(), FieldValue::Number(7)),
        ];
        let message = "a \"b\" c".to_owned();
        assert_eq!(line, LogLine { time: line.time, level: Level::Info, message, fields });
    }
}
