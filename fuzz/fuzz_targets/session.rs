//! Input of a daemon's session, in pieces of any size: only a proof of the key authenticates.
#![no_main]

use std::sync::Arc;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::Endpoint;
use fence_virt::time::Instant;
use fence_virt::session::{Policy, ServerSession, SessionEvent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [step, bytes @ ..] = bytes else { return };
    let now = Instant::now();
    // Hash none accepts all requests, so that the fuzzer reaches the proof.
    let policy =
        Policy::new(HashKind::None, HashKind::Sha256, Key::new(vec![1; 64]), Endpoint::LINE);
    let mut session = ServerSession::accepted(Arc::new(policy), [7; 32], now);
    for mut piece in bytes.chunks(usize::from(*step).max(1)) {
        loop {
            match session.receive(&mut piece) {
                Ok(Some(SessionEvent::Authenticated(..))) => panic!("authenticated without the key"),
                Ok(Some(SessionEvent::Requested(..))) => {}
                Ok(None) => break,
                Err(misconduct) => {
                    let _ = misconduct.to_string();
                    return;
                }
            }
        }
        assert!(session.output().len() <= 128);
    }
});
