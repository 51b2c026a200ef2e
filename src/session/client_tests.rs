use super::*;
use crate::auth::{ChallengeRefusal, Key};
use crate::fence::{Endpoint, HostEntry, PowerState, Request, Target, Verdict};
use crate::session::{CheckedPacket, ServerSession, SessionEvent, Signer, WhichKey};
use crate::time::Instant;
use crate::wire::{PACKET_LEN, Signature, encode_host_list};

fn policy(hash: HashKind, auth: HashKind, letter: u8) -> Arc<Policy> {
    Arc::new(Policy::new(hash, auth, Key::new(vec![letter; 4096]), Endpoint::LINE))
}

fn packet(operation: Operation, policy: &Policy) -> Packet {
    let target = Target::new(b"node1").unwrap();
    let request = Request { operation, target, seqno: 7 };
    let signature = match policy.hash {
        SignatureKind::Hash(hash) => Signature::unsigned(hash),
        SignatureKind::HmacSha256 => Signature::without_mac(policy.key.id(), [5; 16]),
    };
    Packet { request, signature, random: [1; 6], ..Packet::decode(&[0; PACKET_LEN]).unwrap() }
}

fn client(operation: Operation, policy: &Arc<Policy>) -> ClientSession {
    ClientSession::opening(policy.clone(), &packet(operation, policy), [0x11; 64])
}

/// Returns a client that has sent its challenge, and a daemon's proof for it.
fn challenged(policy: &Arc<Policy>) -> (ClientSession, Vec<u8>) {
    let mut client = client(Operation::Off, policy);
    let challenge: Challenge = client.output()[PACKET_LEN..].try_into().unwrap();
    assert!(policy.key.answer(HashKind::Sha256, &challenge).is_ok(), "no daemon refuses it");
    client.sent(client.output().len());
    (client, policy.key.expected(HashKind::Sha256, &challenge).as_bytes().to_vec())
}

fn list() -> Vec<HostEntry> {
    let entry = |name: &str, state| HostEntry { name: name.into(), uuid: format!("u-{name}"), state };
    vec![entry("a", PowerState::Running), entry("b", PowerState::Off)]
}

/// Runs a client and a daemon of ours, `step` bytes at a time.
fn converse(
    operation: Operation,
    ours: &Arc<Policy>,
    theirs: &Arc<Policy>,
    answer: &Answer,
    step: usize,
) -> Result<Option<Answer>, ProtocolError> {
    let now = Instant::now();
    let mut client = client(operation, ours);
    let mut server = ServerSession::accepted(theirs.clone(), [3; 32], now);
    loop {
        let piece: Vec<u8> = client.output().iter().copied().take(step).collect();
        client.sent(piece.len());
        let mut input = piece.as_slice();
        let mut moved = !input.is_empty();
        loop {
            match server.receive(&mut input) {
                Ok(Some(SessionEvent::Authenticated(..))) => server.answer(answer, now),
                Ok(Some(SessionEvent::Requested(..))) => {}
                Ok(None) => break,
                Err(_) => return Err(ProtocolError::HungUp(client.awaited())),
            }
        }
        let piece: Vec<u8> = server.output().iter().copied().take(step).collect();
        server.sent(piece.len());
        moved |= !piece.is_empty();
        if let Some(answer) = client.receive(&mut piece.as_slice())? {
            return Ok(Some(answer));
        }
        if !moved {
            return Ok(None);
        }
    }
}

#[test]
fn every_pair_of_hash_and_auth_in_pieces_of_every_size() {
    for hash in HashKind::ALL {
        for auth in HashKind::ALL {
            let both = policy(hash, auth, b'k');
            for step in (1..=400).step_by(if auth == HashKind::Sha256 { 1 } else { 23 }) {
                let off = Answer::Verdict(Verdict::Off);
                let got = converse(Operation::Status, &both, &both, &off, step);
                assert_eq!(got, Ok(Some(off)), "{hash} {auth} {step}");
                let vms = Answer::HostList(list());
                let got = converse(Operation::HostList, &both, &both, &vms, step);
                assert_eq!(got, Ok(Some(vms)), "{hash} {auth} {step}");
            }
        }
    }
}

#[test]
fn another_key_or_auth_fails_with_the_missing_message() {
    let ours = policy(HashKind::Sha256, HashKind::Sha256, b'k');
    let success = Answer::Verdict(Verdict::Success);
    let outcome = |theirs: &Arc<Policy>| converse(Operation::Off, &ours, theirs, &success, 400);
    let key = policy(HashKind::Sha256, HashKind::Sha256, b'w');
    assert_eq!(outcome(&key), Err(ProtocolError::HungUp(Awaited::Anything)));
    let hash = policy(HashKind::Sha512, HashKind::Sha256, b'k');
    assert_eq!(outcome(&hash), Err(ProtocolError::HungUp(Awaited::Anything)));
    let auth = policy(HashKind::Sha256, HashKind::Sha512, b'k');
    assert_eq!(outcome(&auth), Err(ProtocolError::Proof));
}

#[test]
fn one_wrong_bit_of_the_daemons_proof_ends_it_before_ours_is_given() {
    let both = policy(HashKind::Sha256, HashKind::Sha256, b'k');
    for at in 0..CHALLENGE_LEN {
        let (mut client, mut reply) = challenged(&both);
        reply[at] ^= 0x04;
        reply.extend([0xA5; 64]);
        assert_eq!(client.receive(&mut reply.as_slice()), Err(ProtocolError::Proof), "byte {at}");
        assert!(client.output().is_empty() && !client.is_committed());
    }
}

#[test]
fn nothing_from_an_impostor_is_an_answer() {
    let both = policy(HashKind::Sha256, HashKind::Sha256, b'k');
    for byte in 0..=u8::MAX {
        let mut client = client(Operation::Off, &both);
        let got = client.receive(&mut [byte; 300].as_slice());
        assert_eq!(got, Err(ProtocolError::Proof), "{byte}");
    }
}

/// Makes a client behind the challenges.
fn committed(operation: Operation) -> ClientSession {
    let mut client = client(operation, &policy(HashKind::None, HashKind::None, b'k'));
    assert!(client.is_committed());
    client.sent(client.output().len());
    client
}

#[test]
fn only_what_answers_the_request_is_an_answer() {
    for operation in Operation::ALL {
        for byte in 0..=u8::MAX {
            let got = committed(operation).receive(&mut [byte].as_slice());
            let expected = match Verdict::from_wire(byte, operation) {
                Some(verdict) => Ok(Some(Answer::Verdict(verdict))),
                None if byte == 253 && operation == Operation::HostList => Ok(None),
                None => Err(ProtocolError::Answer(byte)),
            };
            assert_eq!(got, expected, "{operation} {byte}");
        }
    }
}

#[test]
fn more_than_one_answer_is_an_error() {
    let mut client = committed(Operation::Off);
    assert_eq!(client.receive(&mut [0, 0].as_slice()), Err(ProtocolError::Trailing));
}

#[test]
fn a_list_counts_only_when_it_is_complete() {
    let bytes = encode_host_list(&list());
    // Without the byte after the record of zeros, which means nothing.
    let whole = bytes.len() - 1;
    for cut in 0..whole {
        let mut client = committed(Operation::HostList);
        assert_eq!(client.receive(&mut &bytes[..cut]), Ok(None), "{cut}");
        let awaited = if cut == 0 { Awaited::Unproven } else { Awaited::List };
        assert_eq!(client.awaited(), awaited);
    }
    let mut client = committed(Operation::HostList);
    assert_eq!(client.receive(&mut bytes.as_slice()), Ok(Some(Answer::HostList(list()))));
    let mut bad = bytes.clone();
    bad[1] = 0;
    assert_eq!(committed(Operation::HostList).receive(&mut bad.as_slice()), Err(ProtocolError::Record));
}

#[test]
fn an_endless_list_is_an_error() {
    let mut client = committed(Operation::HostList);
    assert_eq!(client.receive(&mut [253].as_slice()), Ok(None));
    let record = &encode_host_list(&list())[1..131];
    for _ in 0..crate::session::LIST_MAX {
        assert_eq!(client.receive(&mut &*record), Ok(None));
    }
    assert_eq!(client.receive(&mut &*record), Err(ProtocolError::Endless));
}

#[test]
fn a_challenge_that_reads_as_a_request_is_not_answered() {
    let both = policy(HashKind::Sha256, HashKind::Sha256, b'k');
    let (mut client, mut reply) = challenged(&both);
    reply.extend([1; 64]);
    reply[64..68].copy_from_slice(&[1, 2, 4, 0]);
    let got = client.receive(&mut reply.as_slice());
    assert_eq!(got, Err(ProtocolError::Challenge(ChallengeRefusal::RequestHead)));
    assert!(client.output().is_empty(), "nothing was given away");
}

#[test]
fn a_daemon_that_answers_another_request_gets_no_proof() {
    let both = policy(HashKind::Sha256, HashKind::Sha256, b'k');
    let older = Packet { port: 1229, ..packet(Operation::Status, &both) };
    let newer = Packet { random: [2; 6], ..older.clone() };
    for (asked, is_ours) in [(&older, true), (&newer, false)] {
        let now = Instant::now();
        let bytes = asked.encode_signed(&both.key);
        let asked = CheckedPacket { packet: asked.clone(), signer: Signer::Shared(WhichKey::Current), bytes };
        let mut server = ServerSession::called_back(both.clone(), [3; 32], &asked, now);
        let mut client = ClientSession::called_back(
            both.clone(),
            Operation::Status,
            std::slice::from_ref(&older),
            [0x11; 64],
        );
        server.receive(&mut client.output()).unwrap();
        client.sent(client.output().len());
        let got = client.receive(&mut server.output());
        if is_ours {
            assert_eq!((got, client.output().len()), (Ok(None), 64));
            assert!(client.is_bound() && client.is_committed());
        } else {
            assert_eq!(got, Err(ProtocolError::Challenge(ChallengeRefusal::OtherRequest)));
            assert!(client.output().is_empty() && !client.is_committed());
        }
    }
}

#[test]
fn an_answer_before_our_proof_is_sent_is_an_error() {
    let both = policy(HashKind::Sha256, HashKind::Sha256, b'k');
    let (mut client, mut reply) = challenged(&both);
    reply.extend([0xC3; 64]);
    reply.push(0);
    assert_eq!(client.receive(&mut reply.as_slice()), Err(ProtocolError::Early));
}
