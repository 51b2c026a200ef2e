//! What comes in on a serial line: the same answer in pieces of any size, and
//! none while an older one may be under way.
#![no_main]

use fence_virt::fence::{Operation, Request, Target};
use fence_virt::session::LineSession;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [choice, step, bytes @ ..] = bytes else { return };
    let operation = Operation::ALL[usize::from(choice & 0x7f) % Operation::ALL.len()];
    let request = Request { operation, target: Target::default(), seqno: 1 };
    let run = |step: usize| {
        let mut session = match choice & 0x80 {
            0 => LineSession::new(&request, 0),
            _ => LineSession::after_silence(&request, 0, &Target::default(), 0x5_A5A5),
        };
        session.sent(session.output().len());
        for mut piece in bytes.chunks(step) {
            match session.receive(&mut piece) {
                Ok(None) => assert!(piece.is_empty()),
                end => {
                    assert!(
                        choice & 0x80 == 0 || !session.output().is_empty(),
                        "answered before it was asked"
                    );
                    return end;
                }
            }
        }
        Ok(None)
    };
    assert_eq!(run(bytes.len().max(1)), run(usize::from(*step).max(1)));
});
