use super::*;
use crate::auth::{Challenge, ChallengeRefusal, Key};
use crate::fence::{Endpoint, Operation, Request, Target, Verdict};
use crate::wire::{FAMILY_IPV4, Packet, Signature};

fn policy(hash: HashKind, auth: HashKind) -> Arc<Policy> {
    Arc::new(Policy::new(hash, auth, Key::new(vec![3; 4096]), Endpoint::LINE))
}

fn request() -> Request {
    Request { operation: Operation::Off, target: Target::new(b"node1").unwrap(), seqno: 77 }
}

fn packet(hash: HashKind) -> [u8; PACKET_LEN] {
    plain(hash).encode_signed(&Key::new(vec![3; 4096]))
}

fn plain(hash: HashKind) -> Packet {
    let zeros = Packet::decode(&[0; PACKET_LEN]).unwrap();
    Packet {
        request: request(),
        signature: Signature::unsigned(hash),
        random: [9; 6],
        family: FAMILY_IPV4,
        ..zeros
    }
}

fn accepted(policy: &Arc<Policy>) -> ServerSession {
    ServerSession::accepted(policy.clone(), [1; 32], Instant::now())
}

fn called_back(policy: &Arc<Policy>) -> ServerSession {
    let bytes = packet(HashKind::Sha256);
    let checked =
        CheckedPacket { packet: plain(HashKind::Sha256), signer: Signer::Shared(WhichKey::Current), bytes };
    ServerSession::called_back(policy.clone(), [1; 32], &checked, Instant::now())
}

/// Client at the other end of a session.
struct Client {
    auth: HashKind,
    key: Key,
    outbox: Vec<u8>,
    inbox: Vec<u8>,
    proven: bool,
}

impl Client {
    fn new(hash: HashKind, auth: HashKind, key: Key) -> Client {
        let mut outbox = plain(hash).encode_signed(&key).to_vec();
        let proven = auth == HashKind::None;
        if !proven {
            outbox.extend([0xEE; CHALLENGE_LEN]);
        }
        Client { auth, key, outbox, inbox: Vec::new(), proven }
    }

    /// Receives the daemon's bytes; answers its challenge once it is complete.
    fn hear(&mut self, session: &mut ServerSession) {
        let bytes = session.output().to_vec();
        session.sent(bytes.len());
        self.inbox.extend(bytes);
        if !self.proven && self.inbox.len() >= 2 * CHALLENGE_LEN {
            let answer: [u8; 64] = self.inbox[..64].try_into().unwrap();
            assert!(self.key.expected(self.auth, &[0xEE; CHALLENGE_LEN]).matches(&answer));
            let challenge: [u8; 64] = self.inbox[64..128].try_into().unwrap();
            self.outbox.extend(self.key.expected(self.auth, &challenge).as_bytes());
            self.inbox.drain(..128);
            self.proven = true;
        }
    }
}

/// Runs a session to its end with at most `step` bytes per turn; returns its events and the client's inbox.
fn run(hash: HashKind, auth: HashKind, step: usize) -> (Vec<SessionEvent>, Vec<u8>) {
    let now = Instant::now();
    let mut session = accepted(&policy(hash, auth));
    let mut client = Client::new(hash, auth, Key::new(vec![3; 4096]));
    let mut events = Vec::new();
    while !client.outbox.is_empty() {
        let rest = client.outbox.split_off(step.min(client.outbox.len()));
        let piece = std::mem::replace(&mut client.outbox, rest);
        let mut input = piece.as_slice();
        while let Some(event) = session.receive(&mut input).unwrap() {
            if let SessionEvent::Authenticated(..) = event {
                session.answer(&Verdict::Success.into(), now);
            }
            events.push(event);
        }
        client.hear(&mut session);
    }
    assert!(session.is_done());
    (events, client.inbox)
}

#[test]
fn every_pair_of_hash_and_auth_in_pieces_of_every_size() {
    for hash in HashKind::ALL {
        for auth in HashKind::ALL {
            for step in (1..=305).step_by(if auth == HashKind::Sha256 { 1 } else { 19 }) {
                let (events, inbox) = run(hash, auth, step);
                let expected = [
                    SessionEvent::Requested(request(), request().identity()),
                    SessionEvent::Authenticated(request(), request().identity()),
                ];
                assert_eq!(events, expected, "{hash} {auth} {step}");
                assert_eq!(inbox, [0], "{hash} {auth} {step}");
            }
        }
    }
}

#[test]
fn a_call_back_begins_with_the_challenge() {
    let mut session = called_back(&policy(HashKind::Sha256, HashKind::Sha256));
    assert_eq!(session.receive(&mut [0xEE; 64].as_slice()), Ok(None));
    assert_eq!(session.output().len(), 128);
    let mut open = called_back(&policy(HashKind::Sha256, HashKind::None));
    assert_eq!(
        open.receive(&mut [].as_slice()),
        Ok(Some(SessionEvent::Authenticated(request(), request().identity())))
    );
}

#[test]
fn a_weaker_hash_is_refused_and_a_stronger_one_accepted() {
    for wanted in HashKind::ALL {
        for sent in HashKind::ALL {
            let mut session = accepted(&policy(wanted, HashKind::Sha1));
            let got = session.receive(&mut packet(sent).as_slice());
            if sent < wanted {
                assert_eq!(got, Err(Misconduct::WeakHash { sent: sent.into(), wanted: wanted.into() }));
            } else {
                assert_eq!(got, Ok(Some(SessionEvent::Requested(request(), request().identity()))));
            }
        }
    }
}

#[test]
fn a_wrong_byte_at_any_stage_ends_it_unauthenticated() {
    let both = policy(HashKind::Sha256, HashKind::Sha256);
    for at in 0..PACKET_LEN {
        let mut bytes = packet(HashKind::Sha256);
        bytes[at] ^= 0x10;
        let mut session = accepted(&both);
        assert!(session.receive(&mut bytes.as_slice()).is_err(), "byte {at} of the request");
    }
    for at in 0..CHALLENGE_LEN {
        let mut session = called_back(&both);
        session.receive(&mut [0xEE; 64].as_slice()).unwrap();
        let challenge: [u8; 64] = session.output()[64..].try_into().unwrap();
        let mut proof = *both.key.expected(HashKind::Sha256, &challenge).as_bytes();
        proof[at] ^= 0x10;
        assert_eq!(session.receive(&mut proof.as_slice()), Err(Misconduct::Proof), "byte {at} of the proof");
        assert!(!session.is_authenticated());
    }
}

#[test]
fn a_reflected_challenge_is_not_answered() {
    let both = policy(HashKind::Sha256, HashKind::Sha256);
    let mut victim = called_back(&both);
    victim.receive(&mut [0xEE; 64].as_slice()).unwrap();
    let issued = victim.output()[64..].to_vec();
    let mut oracle = ServerSession { nonce: [2; 32], ..called_back(&both) };
    let got = oracle.receive(&mut issued.as_slice());
    assert_eq!(got, Err(Misconduct::Challenge(ChallengeRefusal::Reflected)));
    assert!(oracle.output().is_empty(), "nothing was given away");
}

#[test]
fn a_multicast_request_is_refused_on_other_transports() {
    let both = policy(HashKind::Sha256, HashKind::Sha256);
    let heard = Packet { address_len: 4, port: 1229, ..plain(HashKind::Sha256) }.encode_signed(&both.key);
    let mut session = accepted(&both);
    assert_eq!(session.receive(&mut heard.as_slice()), Err(Misconduct::Callback));
    assert!(session.output().is_empty());
}

#[test]
fn bytes_after_the_proof_are_misconduct() {
    let mut session = called_back(&policy(HashKind::None, HashKind::None));
    session.receive(&mut [].as_slice()).unwrap();
    assert_eq!(session.receive(&mut [].as_slice()), Ok(None));
    assert_eq!(session.receive(&mut [1].as_slice()), Err(Misconduct::Trailing));
}

#[test]
fn each_stage_has_its_deadline_and_names_the_missing_message() {
    let now = Instant::now();
    let both = policy(HashKind::Sha256, HashKind::Sha256);
    let mut session = ServerSession::accepted(both.clone(), [1; 32], now);
    let late = |session: &ServerSession| session.on_timeout().to_string();
    assert_eq!(session.deadline(), Some(now + HANDSHAKE_LIMIT));
    assert!(late(&session).contains("its request"));
    session.receive(&mut packet(HashKind::Sha256).as_slice()).unwrap();
    assert!(late(&session).contains("its challenge"));
    session.receive(&mut [0xEE; 64].as_slice()).unwrap();
    assert!(late(&session).contains("its answer"));
    assert_eq!(session.deadline(), Some(now + HANDSHAKE_LIMIT), "progress does not move the deadline");
    let challenge: [u8; 64] = session.output()[64..].try_into().unwrap();
    session.sent(128);
    session.receive(&mut both.key.expected(HashKind::Sha256, &challenge).as_bytes().as_slice()).unwrap();
    assert_eq!(session.deadline(), None, "the worker has it");
    let later = now + Duration::from_secs(20);
    session.answer(&Verdict::Failure.into(), later);
    assert_eq!(session.deadline(), Some(later + REPLY_LIMIT));
    session.answer(&Verdict::Success.into(), later);
    assert_eq!(session.output(), [1], "only the first answer counts");
    assert!(!session.is_done());
    session.sent(1);
    assert!(session.is_done());
}

#[test]
fn no_answer_before_the_proof() {
    let mut session = accepted(&policy(HashKind::Sha256, HashKind::Sha256));
    session.answer(&Verdict::Success.into(), Instant::now());
    assert!(session.output().is_empty());
}

/// Makes a policy with two keys, and a client with one of them.
fn changing(hash: HashKind, letter: u8) -> (Arc<Policy>, Client) {
    let auth = HashKind::Sha256;
    let old_key = Some(Key::new(vec![2; 4096]));
    let policy =
        Arc::new(Policy { old_key, ..Policy::new(hash, auth, Key::new(vec![3; 4096]), Endpoint::LINE) });
    (policy, Client::new(hash, auth, Key::new(vec![letter; 4096])))
}

#[test]
fn during_a_key_change_each_client_is_served_with_its_own_key() {
    for (letter, is_known) in [(3, true), (2, true), (1, false)] {
        let (policy, mut client) = changing(HashKind::Sha256, letter);
        let mut session = accepted(&policy);
        let mut events = Vec::new();
        loop {
            let outbox = std::mem::take(&mut client.outbox);
            let mut input = outbox.as_slice();
            match session.receive(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => {}
                Err(misconduct) => {
                    assert_eq!(misconduct, Misconduct::Signature(HashKind::Sha256.into()));
                    break;
                }
            }
            client.outbox = input.to_vec();
            client.hear(&mut session);
            if client.outbox.is_empty() {
                break;
            }
        }
        assert_eq!(events.len(), if is_known { 2 } else { 0 }, "{letter}");
        assert_eq!(session.is_authenticated(), is_known, "{letter}");
    }
}

#[test]
fn a_proof_counts_only_with_the_key_that_signed_the_request() {
    let (policy, mut client) = changing(HashKind::Sha256, 2);
    let mut session = accepted(&policy);
    let outbox = std::mem::take(&mut client.outbox);
    let mut input = outbox.as_slice();
    while session.receive(&mut input).unwrap().is_some() {}
    let own: Challenge = session.output()[64..].try_into().unwrap();
    let proof = Key::new(vec![3; 4096]).expected(HashKind::Sha256, &own);
    assert_eq!(session.receive(&mut proof.as_bytes().as_slice()), Err(Misconduct::Proof));
}

#[test]
fn during_a_key_change_no_challenge_of_ours_is_answered_with_either_key() {
    for letter in [2, 3] {
        for own in [2, 3] {
            let (policy, client) = changing(HashKind::Sha256, letter);
            let mut session = accepted(&policy);
            let mut input = client.outbox[..PACKET_LEN].to_vec();
            input.extend(Key::new(vec![own; 4096]).issue([7; 32], &plain(HashKind::Sha256).binding()));
            let mut input = input.as_slice();
            assert!(matches!(session.receive(&mut input), Ok(Some(SessionEvent::Requested(..)))));
            let refused = Err(Misconduct::Challenge(ChallengeRefusal::Reflected));
            assert_eq!(session.receive(&mut input), refused, "{letter} {own}");
        }
    }
}

#[test]
fn an_incomplete_request_is_checked_by_the_latest_policy() {
    let old = policy(HashKind::None, HashKind::None);
    let new = policy(HashKind::Sha256, HashKind::Sha256);
    let unsigned = packet(HashKind::None);
    let mut session = accepted(&old);
    session.receive(&mut &unsigned[..100]).unwrap();
    session.set_policy(&new).unwrap();
    let refused = session.receive(&mut &unsigned[100..]);
    assert!(matches!(refused, Err(Misconduct::WeakHash { .. })), "{refused:?}");
    // A complete one too, until the client has proven itself.
    let mut session = accepted(&old);
    let mut input = unsigned.as_slice();
    assert!(matches!(session.receive(&mut input), Ok(Some(SessionEvent::Requested(..)))));
    assert_eq!(session.set_policy(&new), Err(Misconduct::Revoked));
}

/// Steps of a client before a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Requested,
    Challenged,
    CalledBack,
    Proven,
}

/// Outcome of a reload after this step of a client with key 3 and hash and auth sha256.
fn reloaded(step: Step, new: Policy) -> Result<(), Misconduct> {
    let both = policy(HashKind::Sha256, HashKind::Sha256);
    let mut client = Client::new(HashKind::Sha256, HashKind::Sha256, Key::new(vec![3; 4096]));
    let mut session = if step == Step::CalledBack { called_back(&both) } else { accepted(&both) };
    let length = match step {
        Step::CalledBack => 0,
        Step::Requested => PACKET_LEN,
        Step::Challenged | Step::Proven => PACKET_LEN + CHALLENGE_LEN,
    };
    let mut sent = &client.outbox[..length];
    while session.receive(&mut sent).unwrap().is_some() {}
    if step == Step::Proven {
        let own = session.output()[CHALLENGE_LEN..].try_into().unwrap();
        let proof = client.key.expected(HashKind::Sha256, own);
        session.receive(&mut proof.as_bytes().as_slice()).unwrap();
        assert!(session.is_waiting());
        return session.set_policy(&Arc::new(new));
    }
    let outcome = session.set_policy(&Arc::new(new));
    if outcome.is_ok() {
        // It goes on to the proof.
        client.outbox.drain(..if step == Step::CalledBack { PACKET_LEN } else { length });
        session.receive(&mut client.outbox.as_slice()).unwrap();
        let own = session.output()[CHALLENGE_LEN..].try_into().unwrap();
        let proof = client.key.expected(HashKind::Sha256, own);
        let proven = session.receive(&mut proof.as_bytes().as_slice());
        assert!(matches!(proven, Ok(Some(SessionEvent::Authenticated(..)))), "{step:?}: {proven:?}");
    }
    outcome
}

#[test]
fn a_reload_ends_unproven_sessions_whose_key_hash_or_auth_no_longer_counts() {
    use HashKind::{Sha256, Sha512};
    let key = |letter: u8| Key::new(vec![letter; 4096]);
    for step in [Step::Requested, Step::Challenged, Step::CalledBack, Step::Proven] {
        let expected = if step == Step::Proven { Ok(()) } else { Err(Misconduct::Revoked) };
        let other = Policy::new(Sha256, Sha256, key(4), Endpoint::LINE);
        assert_eq!(reloaded(step, other), expected, "{step:?}: key");
        let strong = Policy::new(Sha512, Sha256, key(3), Endpoint::LINE);
        assert_eq!(reloaded(step, strong), expected, "{step:?}: hash");
        let both = Policy { old_key: Some(key(3)), ..Policy::new(Sha256, Sha256, key(4), Endpoint::LINE) };
        assert_eq!(reloaded(step, both), Ok(()), "{step:?}: the old key still counts");
    }
    let auth = Policy::new(Sha256, Sha512, key(3), Endpoint::LINE);
    assert_eq!(reloaded(Step::Challenged, auth), Err(Misconduct::Revoked));
    // Without a signature, the key of the challenges counts.
    let unsigned = policy(HashKind::None, Sha256);
    let mut session = accepted(&unsigned);
    let client = Client::new(HashKind::None, Sha256, key(3));
    let mut sent = client.outbox.as_slice();
    while session.receive(&mut sent).unwrap().is_some() {}
    let other = Policy::new(HashKind::None, Sha256, key(4), Endpoint::LINE);
    assert_eq!(session.set_policy(&Arc::new(other)), Err(Misconduct::Revoked));
}
