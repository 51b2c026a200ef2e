//! History file: no bytes cause a panic, each record survives another file, and a journal of any file is bounded.
#![no_main]

use fence_virt::power_log::{HEADER, OPERATIONS_MAX, PowerLog, REFUSALS_MAX, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(kept) = decode(bytes) else { return };
    let text: String = kept.records.iter().map(encode).collect();
    assert!(!text.contains(|c: char| c.is_control() && c != '\t' && c != '\n'));
    let again = decode((HEADER.to_owned() + &text).as_bytes());
    assert!(again.is_some_and(|again| again.records == kept.records && again.skipped == 0));
    let mut log = PowerLog::default();
    log.add_older(PowerLog::of_file(kept.records));
    assert!(log.records().len() <= OPERATIONS_MAX + REFUSALS_MAX);
});
