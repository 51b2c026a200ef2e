//! Rendering of power operations: as a table, as JSON, and in lines of the status report.

use super::form::HistoryForm;
use super::table;
use crate::json::JsonObject;
use fence_virt::fence::printable;
use fence_virt::groups::listed_text;
use fence_virt::power_log::{NumberedRecord, PowerRecord};

/// Number of operations in a status report.
pub(super) const LAST: usize = 5;
/// Columns of the table.
const HEADS: [&str; 8] =
    ["TIME", "LISTENER", "REQUESTER", "OPERATION", "VM", "VERDICT", "DURATION", "REASON"];

/// Returns the report about all operations, or those on one VM, by the name or UUID that requests had.
pub(super) fn render(records: &[NumberedRecord], form: HistoryForm, vm: Option<&str>) -> String {
    let vm = vm.map(listed_text);
    let is_meant = |record: &&PowerRecord| vm.as_ref().is_none_or(|vm| listed_text(&record.vm) == *vm);
    let records: Vec<&PowerRecord> = records.iter().map(|record| &*record.record).filter(is_meant).collect();
    match form {
        HistoryForm::Text => table(&records),
        HistoryForm::Json => records.iter().map(|record| json(record) + "\n").collect(),
    }
}

/// Returns the object of a record.
pub(super) fn json(record: &PowerRecord) -> String {
    let PowerRecord { time, listener, requester, operation, vm, verdict, reason, millis, .. } = record;
    JsonObject::new()
        .string("time", &time.to_string())
        .string("listener", listener)
        .string("requester", requester)
        .string("operation", &operation.to_string())
        .string("vm", vm)
        .string("verdict", verdict.word())
        .string("reason", reason)
        .value("milliseconds", millis.map_or_else(|| "null".to_owned(), |millis| millis.to_string()))
        .finish()
}

/// Returns the line of a record in a status report.
pub(super) fn line(record: &PowerRecord) -> String {
    let PowerRecord { time, listener, requester, operation, vm, verdict, reason, .. } = record;
    let (duration, verdict) = (duration(record), verdict.word());
    format!("{time} {listener}: {requester}: {operation} {vm:?}: {verdict}: {reason}: {duration}")
}

fn duration(record: &PowerRecord) -> String {
    record.millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms"))
}

fn row(record: &PowerRecord) -> [String; HEADS.len()] {
    let PowerRecord { time, listener, requester, operation, vm, verdict, reason, .. } = record;
    [
        time.to_string(),
        printable(listener),
        printable(requester),
        operation.to_string(),
        printable(vm),
        verdict.word().to_owned(),
        duration(record),
        printable(reason),
    ]
}

/// Returns the table, the newest operation last: next to the prompt, as in a log.
fn table(records: &[&PowerRecord]) -> String {
    if records.is_empty() {
        return "no power operations\n".to_owned();
    }
    let heads = HEADS.map(str::to_owned).to_vec();
    let rows: Vec<_> =
        std::iter::once(heads).chain(records.iter().map(|record| row(record).to_vec())).collect();
    table::table(&rows).iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_journal::sample::record;
    use fence_virt::fence::Operation;
    use fence_virt::power_log::{PowerLog, PowerVerdict};

    fn records(of: impl IntoIterator<Item = PowerRecord>) -> Vec<NumberedRecord> {
        let mut log = PowerLog::default();
        of.into_iter().for_each(|record| drop(log.add(record)));
        log.records()
    }

    #[test]
    fn the_table_has_columns_and_nothing_that_changes_a_terminal() {
        let refused = PowerRecord {
            listener: "tcp:cluster-b".to_owned(),
            operation: Operation::Reboot,
            verdict: PowerVerdict::Refused,
            reason: "a\nb\u{202e}".to_owned(),
            millis: None,
            ..record("\u{1b}[2J")
        };
        let text = render(&records([record("node1"), refused]), HistoryForm::Text, None);
        let expected = "\
TIME                      LISTENER       REQUESTER  OPERATION  VM         VERDICT  DURATION  REASON
2026-11-30T06:40:02.125Z  tcp            192.0.2.7  off        node1      success  9 ms      destroyed
2026-11-30T06:40:02.125Z  tcp:cluster-b  192.0.2.7  reboot     \\u{1b}[2J  refused  -         a b\\u{202e}
";
        assert_eq!(text, expected);
        assert_eq!(render(&[], HistoryForm::Text, None), "no power operations\n");
        let long = render(&records([record(&"x".repeat(60)), record("y")]), HistoryForm::Text, None);
        let last = long.lines().last().unwrap();
        assert!(last.contains(&format!("y{}  success", " ".repeat(table::WIDTH_MAX - 1))), "{long}");
    }

    #[test]
    fn json_is_an_object_a_line_with_numbers_as_numbers() {
        let denied = PowerRecord { verdict: PowerVerdict::Denied, millis: None, ..record("a\"\u{1b}") };
        let text = render(&records([record("node1"), denied]), HistoryForm::Json, None);
        let expected = "{\"time\":\"2026-11-30T06:40:02.125Z\",\"listener\":\"tcp\",\"requester\":\"192.0.2.7\",\
            \"operation\":\"off\",\"vm\":\"node1\",\"verdict\":\"success\",\"reason\":\"destroyed\",\"milliseconds\":9}\n\
            {\"time\":\"2026-11-30T06:40:02.125Z\",\"listener\":\"tcp\",\"requester\":\"192.0.2.7\",\
            \"operation\":\"off\",\"vm\":\"a\\\"\\u001b\",\"verdict\":\"denied\",\"reason\":\"destroyed\",\"milliseconds\":null}\n";
        assert_eq!(text, expected);
        assert_eq!(render(&[], HistoryForm::Json, None), "");
    }

    #[test]
    fn one_vm_is_picked_by_name_or_uuid_as_requested() {
        let uuid = "44179d3f-6c63-474f-a212-20c8b4b25b16";
        let all = records([record("Node1"), record("node2"), record(uuid)]);
        let found = |vm| render(&all, HistoryForm::Json, Some(vm)).lines().count();
        assert_eq!(found("node1"), 1);
        assert_eq!(found("44179D3F6C63474FA21220C8B4B25B16"), 1);
        assert_eq!(found("node"), 0);
    }
}
