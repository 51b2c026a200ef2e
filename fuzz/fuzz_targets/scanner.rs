//! Input of a guest's line: pieces of any size give the same requests, and a
//! complete request after a silence is never missed.
#![no_main]

use std::time::Duration;

use fence_virt::fence::{Operation, Request, Target};
use fence_virt::session::{STALL_LIMIT, Scanner};
use fence_virt::time::Instant;
use fence_virt::wire::encode_line_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [step, bytes @ ..] = bytes else { return };
    let start = Instant::now();
    let run = |step: usize| {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(step) {
            scanner.push(piece, start, |request| found.push(request));
        }
        let later = start + STALL_LIMIT;
        scanner.expire(later, |request| found.push(request));
        assert_eq!(scanner.deadline(), None, "no input is kept longer");
        let last = Request { operation: Operation::Off, target: Target::new(b"last").unwrap(), seqno: 9 };
        let later = later + Duration::from_secs(1);
        scanner.push(&encode_line_request(&last, 0), later, |request| found.push(request));
        assert_eq!(found.last(), Some(&last));
        found
    };
    assert_eq!(run(bytes.len().max(1)), run(usize::from(*step).max(1)));
});
