//! Answer of version 2 of the wire, in pieces of any size: without right MACs it never is an answer; with them it is
//! what the same bytes are in version 1.
#![no_main]

use std::sync::Arc;

use fence_virt::auth::{HashKind, Key, MacKeys, Transcript};
use fence_virt::fence::{Answer, Endpoint, Operation, Request, SignatureKind, Target};
use fence_virt::session::{AgentSession, ClientSession, Policy, ProtocolError};
use fence_virt::wire::{PACKET_LEN, Packet, RECORD_LEN, Signature};
use libfuzzer_sys::fuzz_target;

const KEY: [u8; 64] = [1; 64];

fn packet(operation: Operation, signature: Signature) -> Packet {
    let zeros = Packet::decode(&[0; PACKET_LEN]).expect("zeros are a packet");
    let request = Request { operation, target: Target::default(), seqno: 1 };
    Packet { request, signature, ..zeros }
}

fn read(session: &mut ClientSession, bytes: &[u8], step: usize) -> Result<Option<Answer>, ProtocolError> {
    for mut piece in bytes.chunks(step.max(1)) {
        match session.receive(&mut piece) {
            Ok(None) => assert!(piece.is_empty()),
            end => return end,
        }
    }
    Ok(None)
}

/// Session of version 2 that waits for its answer, and the transcript at the daemon.
fn committed(operation: Operation) -> (ClientSession, Transcript) {
    let policy = Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, Key::new(KEY.to_vec()), Endpoint::LINE);
    let packet = packet(operation, Signature::without_mac(policy.key.id(), [3; 16]));
    let request = policy.sign(&packet);
    let mut session = ClientSession::opening(Arc::new(policy), &packet, [7; 64]);
    session.sent(PACKET_LEN);
    let mut transcript = Transcript::new(Arc::new(MacKeys::derive(&KEY)), &request);
    let challenge = transcript.challenge(&[9; 32]);
    assert_eq!(session.receive(&mut challenge.as_slice()), Ok(None));
    let proof: [u8; 32] = session.output().try_into().expect("a proof");
    assert!(transcript.accept_proof(&proof));
    session.sent(32);
    (session, transcript)
}

fuzz_target!(|bytes: &[u8]| {
    let [choice, step, bytes @ ..] = bytes else { return };
    let step = usize::from(*step);
    let operation = Operation::ALL[usize::from(choice & 0x7f) % Operation::ALL.len()];
    let (mut session, transcript) = committed(operation);
    if choice & 0x80 != 0 {
        assert!(!matches!(read(&mut session, bytes, step), Ok(Some(_))), "an answer without the key");
        return;
    }
    let [first, records @ ..] = bytes else { return };
    let mut macs = transcript.answer();
    let mut with_macs = Vec::new();
    let items = std::iter::once(std::slice::from_ref(first)).chain(records.chunks_exact(RECORD_LEN));
    for item in items {
        with_macs.extend_from_slice(item);
        with_macs.extend_from_slice(&macs.mac(item));
    }
    let policy = Policy::new(HashKind::None, HashKind::None, Key::new(Vec::new()), Endpoint::LINE);
    let packet = packet(operation, Signature::unsigned(HashKind::None));
    let mut plain = ClientSession::opening(Arc::new(policy), &packet, [7; 64]);
    plain.sent(PACKET_LEN);
    let whole = 1 + records.len() / RECORD_LEN * RECORD_LEN;
    let expected = read(&mut plain, &bytes[..whole], whole);
    let got = read(&mut session, &with_macs, with_macs.len());
    // Version 2 allows nothing behind a list either, and an answer in pieces ends before what follows it.
    if !matches!(got, Err(ProtocolError::Trailing)) {
        assert_eq!(got, expected);
    }
    let (mut session, _) = committed(operation);
    let pieces = read(&mut session, &with_macs, step);
    assert!(matches!(got, Err(ProtocolError::Trailing)) || pieces == got);
});
