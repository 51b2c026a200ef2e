//! Version 2 of the wire between the agent's machine and the daemon's.

use std::sync::Arc;

use super::*;
use crate::auth::{HashKind, Key, KeyRing, MacKeys, VmKey};
use crate::fence::{
    Answer, Carrier, Endpoint, HostEntry, KeyHolder, Operation, PowerState, Request, SignatureKind, Target,
    Verdict,
};
use crate::time::Instant;
use crate::wire::{PACKET_LEN, Packet, Signature};

const TCP: Endpoint = Endpoint { carrier: Carrier::Tcp, port: 1229 };
const SHARED: u8 = b's';
const NODE1: u8 = b'1';

fn key(letter: u8) -> Key {
    Key::new(vec![letter; 4096])
}

/// Policy of an agent with this key.
fn agent_policy(letter: u8) -> Arc<Policy> {
    Arc::new(Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, key(letter), TCP))
}

/// Policy of a listener that takes this and stronger signatures. The VM node1 has a key of its own.
fn listener_policy(hash: SignatureKind) -> Policy {
    let mac_keys = Arc::new(MacKeys::derive(&[NODE1; 4096]));
    let holder = Arc::new(KeyHolder { name: "node1".into(), uuid: None, key: mac_keys.id() });
    let mut ring = KeyRing::default();
    assert_eq!(ring.insert(VmKey { holder, mac_keys }), None);
    let policy = Policy::new(hash, HashKind::Sha256, key(SHARED), TCP);
    Policy { vm_keys: Arc::new(ring), ..policy }
}

fn packet(operation: Operation, policy: &Policy) -> Packet {
    let request = Request { operation, target: Target::new(b"node2").unwrap(), seqno: 7 };
    let signature = Signature::without_mac(policy.key.id(), [5; 16]);
    Packet { request, signature, random: [1; 6], ..Packet::decode(&[0; PACKET_LEN]).unwrap() }
}

fn client(operation: Operation, policy: &Arc<Policy>) -> ClientSession {
    ClientSession::opening(policy.clone(), &packet(operation, policy), [0x11; 64])
}

fn server(policy: Policy) -> ServerSession {
    ServerSession::accepted(Arc::new(policy), [9; 32], Instant::now())
}

/// Gives the server what the client has to send, and returns its events.
fn hear(server: &mut ServerSession, client: &mut ClientSession) -> Result<Vec<SessionEvent>, Misconduct> {
    let sent = client.output().to_vec();
    client.sent(sent.len());
    feed(server, &sent)
}

fn feed(server: &mut ServerSession, mut input: &[u8]) -> Result<Vec<SessionEvent>, Misconduct> {
    let mut events = Vec::new();
    while let Some(event) = server.receive(&mut input)? {
        events.push(event);
    }
    Ok(events)
}

/// Gives the client what the server has to send.
fn reply(server: &mut ServerSession, client: &mut ClientSession) -> Result<Option<Answer>, ProtocolError> {
    let sent = server.output().to_vec();
    server.sent(sent.len());
    client.receive(&mut sent.as_slice())
}

#[test]
fn a_whole_exchange_with_either_key() {
    let list = vec![HostEntry { name: "a".into(), uuid: "u".into(), state: PowerState::Off }];
    for (letter, holder) in [(SHARED, None), (NODE1, Some("node1"))] {
        for (operation, answer) in [
            (Operation::Status, Answer::from(Verdict::Off)),
            (Operation::HostList, Answer::HostList(list.clone())),
        ] {
            let mut client = client(operation, &agent_policy(letter));
            let mut server = server(listener_policy(HashKind::Sha256.into()));
            let events = hear(&mut server, &mut client).unwrap();
            assert!(matches!(events.as_slice(), [SessionEvent::Requested(..)]));
            assert_eq!(server.output().len(), 64, "the challenge waits for nothing");
            assert_eq!(server.holder(), None, "nothing is proven yet");
            assert_eq!(reply(&mut server, &mut client), Ok(None));
            assert!(client.is_bound() && client.is_committed());
            assert!(matches!(
                hear(&mut server, &mut client).as_deref(),
                Ok([SessionEvent::Authenticated(..)])
            ));
            assert_eq!(server.holder().map(|holder| holder.name.as_str()), holder);
            server.answer(&answer, Instant::now());
            assert_eq!(reply(&mut server, &mut client), Ok(Some(answer)));
            assert!(server.is_done());
        }
    }
}

#[test]
fn a_minimum_of_version_2_refuses_what_is_older_and_an_agent_of_version_2_speaks_nothing_older() {
    let sha512 = Policy::new(HashKind::Sha512, HashKind::Sha512, key(SHARED), TCP);
    let older =
        Packet { signature: Signature::unsigned(HashKind::Sha512), ..packet(Operation::Off, &sha512) };
    let wanted = SignatureKind::HmacSha256;
    let refusal = Misconduct::WeakHash { sent: HashKind::Sha512.into(), wanted };
    let mut minimum = server(listener_policy(wanted));
    assert_eq!(feed(&mut minimum, &older.encode_signed(&sha512.key)), Err(refusal));
    // What a daemon of version 1 sends is no challenge of version 2.
    let mut client = client(Operation::Off, &agent_policy(SHARED));
    let proof = key(SHARED).expected(HashKind::Sha256, &[0x91; 64]);
    assert_eq!(client.receive(&mut proof.as_bytes().as_slice()), Err(ProtocolError::ChallengeMac));
}

#[test]
fn keys_that_the_listener_does_not_have_are_named() {
    let mut stranger = client(Operation::Off, &agent_policy(b'x'));
    let refused = hear(&mut server(listener_policy(HashKind::Sha256.into())), &mut stranger);
    assert_eq!(refused, Err(Misconduct::UnknownKey(key(b'x').id())));
    // The empty key stands for none: everybody knows it.
    let empty = Arc::new(Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, Key::new(Vec::new()), TCP));
    let open = Policy::new(HashKind::None, HashKind::None, Key::new(Vec::new()), TCP);
    let refused = hear(&mut server(open), &mut client(Operation::Off, &empty));
    assert_eq!(refused, Err(Misconduct::UnknownKey(Key::new(Vec::new()).id())));
}

#[test]
fn a_request_for_another_listener_is_refused() {
    for endpoint in [Endpoint { port: 1230, ..TCP }, Endpoint { carrier: Carrier::Vsock, ..TCP }] {
        let policy = Policy { endpoint, ..listener_policy(HashKind::Sha256.into()) };
        let refused = hear(&mut server(policy), &mut client(Operation::Off, &agent_policy(SHARED)));
        assert_eq!(refused, Err(Misconduct::Mac(key(SHARED).id())), "{endpoint:?}");
    }
}

#[test]
fn a_recorded_exchange_is_worth_nothing_against_a_new_challenge() {
    let mut asked = client(Operation::Off, &agent_policy(SHARED));
    let request = asked.output().to_vec();
    let mut first = server(listener_policy(HashKind::Sha256.into()));
    hear(&mut first, &mut asked).unwrap();
    reply(&mut first, &mut asked).unwrap();
    let proof = asked.output().to_vec();
    assert!(matches!(feed(&mut first, &proof).as_deref(), Ok([SessionEvent::Authenticated(..)])));
    let policy = Arc::new(listener_policy(HashKind::Sha256.into()));
    let mut second = ServerSession::accepted(policy, [8; 32], Instant::now());
    feed(&mut second, &request).unwrap();
    assert_eq!(feed(&mut second, &proof), Err(Misconduct::ProofMac));
}

#[test]
fn an_answer_that_is_altered_is_a_failure_and_bytes_behind_it_too() {
    for (at, extra, expected) in [
        (0, 0, ProtocolError::AnswerMac),
        (32, 0, ProtocolError::AnswerMac),
        (99, 1, ProtocolError::Trailing),
    ] {
        let mut client = client(Operation::Off, &agent_policy(SHARED));
        let mut server = server(listener_policy(HashKind::Sha256.into()));
        hear(&mut server, &mut client).unwrap();
        reply(&mut server, &mut client).unwrap();
        hear(&mut server, &mut client).unwrap();
        server.answer(&Verdict::Failure.into(), Instant::now());
        let mut sent = server.output().to_vec();
        assert_eq!(sent.len(), 33);
        if let Some(byte) = sent.get_mut(at) {
            *byte ^= 1;
        }
        sent.extend(vec![0; extra]);
        assert_eq!(client.receive(&mut sent.as_slice()), Err(expected));
    }
}

#[test]
fn an_answer_before_the_proof_is_sent_is_bogus() {
    let mut client = client(Operation::Off, &agent_policy(SHARED));
    let mut server = server(listener_policy(HashKind::Sha256.into()));
    hear(&mut server, &mut client).unwrap();
    let mut sent = server.output().to_vec();
    sent.push(0);
    assert_eq!(client.receive(&mut sent.as_slice()), Err(ProtocolError::Early));
}

#[test]
fn a_reload_without_the_key_ends_what_is_not_proven_and_keeps_what_is() {
    let ask = |steps: usize| {
        let mut client = client(Operation::Off, &agent_policy(NODE1));
        let mut server = server(listener_policy(HashKind::Sha256.into()));
        hear(&mut server, &mut client).unwrap();
        if steps > 1 {
            reply(&mut server, &mut client).unwrap();
            hear(&mut server, &mut client).unwrap();
        }
        server
    };
    let same = Arc::new(listener_policy(HashKind::Sha256.into()));
    let without = Arc::new(Policy { vm_keys: Arc::default(), ..listener_policy(HashKind::Sha256.into()) });
    assert_eq!(ask(1).set_policy(&same), Ok(()));
    // The key is that of another VM from now on.
    let mac_keys = Arc::new(MacKeys::derive(&[NODE1; 4096]));
    let holder = Arc::new(KeyHolder { name: "node9".into(), uuid: None, key: mac_keys.id() });
    let mut ring = KeyRing::default();
    assert_eq!(ring.insert(VmKey { holder, mac_keys }), None);
    let renamed = Policy { vm_keys: Arc::new(ring), ..listener_policy(HashKind::Sha256.into()) };
    let mut client = client(Operation::Off, &agent_policy(NODE1));
    let mut asked = server(listener_policy(HashKind::Sha256.into()));
    hear(&mut asked, &mut client).unwrap();
    reply(&mut asked, &mut client).unwrap();
    assert_eq!(asked.set_policy(&Arc::new(renamed)), Ok(()));
    hear(&mut asked, &mut client).unwrap();
    assert_eq!(asked.holder().map(|holder| holder.name.as_str()), Some("node9"));
    assert_eq!(ask(1).set_policy(&without), Err(Misconduct::Revoked));
    assert_eq!(ask(2).set_policy(&without), Ok(()), "its request is being carried out");
}

#[test]
fn requests_with_different_keys_are_never_duplicates() {
    let identity = |letter| {
        let mut server = server(listener_policy(HashKind::Sha256.into()));
        match hear(&mut server, &mut client(Operation::Off, &agent_policy(letter))).unwrap().remove(0) {
            SessionEvent::Requested(_, identity) => identity,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(identity(SHARED), identity(SHARED));
    assert_ne!(identity(SHARED), identity(NODE1));
}
