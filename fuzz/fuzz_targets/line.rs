//! Input of an agent from a serial line: pieces of any size give the same
//! answer, and none while an older one may be pending.
#![no_main]

use fence_virt::fence::{Operation, Request, Target};
use fence_virt::session::{AgentSession, LineSession, SyncProbe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [choice, step, bytes @ ..] = bytes else { return };
    let operation = Operation::ALL[usize::from(choice & 0x7f) % Operation::ALL.len()];
    let request = Request { operation, target: Target::default(), seqno: 1 };
    let run = |step: usize| {
        let mut session = match choice & 0x80 {
            0 => LineSession::new(&request, 0),
            _ => LineSession::after_silence(&request, 0, SyncProbe::new(0x5A5), &Target::default()),
        };
        session.sent(session.output().len());
        let mut asked = false;
        for mut piece in bytes.chunks(step) {
            match session.receive(&mut piece) {
                Ok(None) => {
                    assert!(piece.is_empty());
                    asked |= !session.output().is_empty();
                    session.sent(session.output().len());
                }
                end => {
                    // The daemon cannot answer earlier.
                    assert!(choice & 0x80 == 0 || asked || end.is_err());
                    return end;
                }
            }
        }
        Ok(None)
    };
    // Input before the request is sent is dropped, so pieces matter after a probe.
    let (whole, pieces) = (run(bytes.len().max(1)), run(usize::from(*step).max(1)));
    if choice & 0x80 == 0 {
        assert_eq!(whole, pieces);
    }
});
