//! Input of an agent from a daemon, in pieces of any size: without the key it
//! never is an answer; with auth none, only if it answers the operation.
#![no_main]

use std::sync::Arc;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Endpoint, Operation};
use fence_virt::session::{AgentSession, ClientSession, Policy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [choice, step, bytes @ ..] = bytes else { return };
    let auth = if choice & 0x80 == 0 { HashKind::None } else { HashKind::Sha256 };
    let operation = Operation::ALL[usize::from(choice & 0x7f) % Operation::ALL.len()];
    let policy = Arc::new(Policy::new(HashKind::None, auth, Key::new(vec![1; 64]), Endpoint::LINE));
    let run = |step: usize| {
        let mut session = ClientSession::called_back(policy.clone(), operation, &[], [7; 64]);
        session.sent(session.output().len());
        for mut piece in bytes.chunks(step) {
            match session.receive(&mut piece) {
                Ok(Some(_)) if auth != HashKind::None => panic!("an answer without the key"),
                Ok(None) => assert!(piece.is_empty()),
                end => return end,
            }
        }
        Ok(None)
    };
    let whole = run(bytes.len().max(1));
    let pieces = run(usize::from(*step).max(1));
    // Bytes after a verdict are the only result that depends on the pieces.
    if !matches!(whole, Err(fence_virt::session::ProtocolError::Trailing)) {
        assert_eq!(whole, pieces);
    }
});
