use super::*;
use crate::fence::Carrier;

const TCP: Endpoint = Endpoint { carrier: Carrier::Tcp, port: 1229 };
const REQUEST: [u8; PACKET_LEN] = [7; PACKET_LEN];

fn keys(letter: u8) -> Arc<MacKeys> {
    Arc::new(MacKeys::derive(&[letter; 64]))
}

/// Transcripts of both sides up to the proof.
fn exchange(agent: &Arc<MacKeys>, daemon: &Arc<MacKeys>) -> (Transcript, Transcript) {
    let mut daemon = Transcript::new(daemon.clone(), TCP, &REQUEST);
    let mut agent = Transcript::new(agent.clone(), TCP, &REQUEST);
    assert!(agent.accept_challenge(&daemon.challenge(&[1; 32])));
    assert!(daemon.accept_proof(&agent.proof()));
    (agent, daemon)
}

#[test]
fn keys_are_derived_by_hkdf() {
    // python3: hmac.new(hmac.new(b"fence_virt 2", bytes(range(32)), "sha256").digest(), b"request\1", "sha256")
    let keys = MacKeys::derive(&(0..32).collect::<Vec<u8>>());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&keys.id.to_bytes()), "b872924a99791c4fb1cc471bada14c60");
    for (key, expected) in [
        (&keys.secret.request, "55195cfc9e7a614bd9bf9f4aa3195305764cedde0d0328988132be533271a957"),
        (&keys.secret.challenge, "9f680863596dedb43a8e0a4f26a7e85c24e3f6ec20259eb5bb40be59d95fa25c"),
        (&keys.secret.proof, "8d87b1cd7c2de822071c7e3688e953318c328bcf16fef88307135a1e7c94451e"),
        (&keys.secret.answer, "566a8ffaa2c014dad1b8298314b91967bad30868c9d087b163b771cc6f89bc8f"),
    ] {
        assert_eq!(hex(key), expected);
    }
}

#[test]
fn a_request_is_signed_for_one_endpoint_in_every_byte() {
    let keys = keys(1);
    let mut request = REQUEST;
    keys.sign(TCP, &mut request);
    assert!(keys.has_signed(TCP, &request));
    assert!(!super::tests::keys(2).has_signed(TCP, &request));
    for other in [
        Endpoint { port: 1230, ..TCP },
        Endpoint { port: 1229 + 0x10000, ..TCP },
        Endpoint { carrier: Carrier::Vsock, ..TCP },
        Endpoint { carrier: Carrier::Multicast, ..TCP },
    ] {
        assert!(!keys.has_signed(other, &request), "{other:?}");
    }
    for at in 0..PACKET_LEN {
        let mut altered = request;
        altered[at] ^= 1;
        assert!(!keys.has_signed(TCP, &altered), "byte {at}");
    }
}

#[test]
fn a_challenge_is_for_one_request_and_verifies_in_every_byte() {
    let challenge = Transcript::new(keys(1), TCP, &REQUEST).challenge(&[1; 32]);
    let accepts = |keys: &Arc<MacKeys>, endpoint, request: &[u8; PACKET_LEN], challenge: &[u8; 64]| {
        Transcript::new(keys.clone(), endpoint, request).accept_challenge(challenge)
    };
    assert!(accepts(&keys(1), TCP, &REQUEST, &challenge));
    assert!(!accepts(&keys(2), TCP, &REQUEST, &challenge));
    assert!(!accepts(&keys(1), Endpoint { port: 1, ..TCP }, &REQUEST, &challenge));
    for at in 0..PACKET_LEN {
        let mut other = REQUEST;
        other[at] ^= 1;
        assert!(!accepts(&keys(1), TCP, &other, &challenge), "byte {at} of the request");
    }
    for at in 0..CHALLENGE_2_LEN {
        let mut altered = challenge;
        altered[at] ^= 1;
        assert!(!accepts(&keys(1), TCP, &REQUEST, &altered), "byte {at} of the challenge");
    }
}

#[test]
fn a_proof_is_for_one_challenge() {
    let agent = keys(1);
    let mut first = Transcript::new(agent.clone(), TCP, &REQUEST);
    let challenge = first.challenge(&[1; 32]);
    let mut asked = Transcript::new(agent.clone(), TCP, &REQUEST);
    assert!(asked.accept_challenge(&challenge));
    let proof = asked.proof();
    let mut second = Transcript::new(agent, TCP, &REQUEST);
    second.challenge(&[2; 32]);
    assert!(!second.accept_proof(&proof), "a replay");
    for at in 0..MAC_LEN {
        let mut altered = proof;
        altered[at] ^= 1;
        assert!(!first.clone().accept_proof(&altered), "byte {at}");
    }
    assert!(first.accept_proof(&proof));
}

#[test]
fn items_of_an_answer_verify_in_their_order_alone() {
    let (agent, daemon) = exchange(&keys(1), &keys(1));
    let mut macs = daemon.answer();
    let items = [macs.mac(b"a"), macs.mac(b"b")];
    let mut reader = agent.clone().answer();
    assert!(reader.verify(b"a", &items[0]) && reader.verify(b"b", &items[1]));
    assert!(!agent.clone().answer().verify(b"b", &items[1]), "the first item is missing");
    assert!(!agent.clone().answer().verify(b"b", &items[0]));
    let mut repeated = agent.answer();
    assert!(repeated.verify(b"a", &items[0]) && !repeated.verify(b"a", &items[0]));
    let (_, other) = exchange(&keys(2), &keys(2));
    assert_ne!(other.answer().mac(b"a"), items[0]);
}

#[test]
fn no_key_is_shown() {
    assert_eq!(format!("{:?}", MacKeys::derive(b"secret")), "MacKeys(2301ffb4)");
    let keys = keys(1);
    let shown = format!("{:?}", Transcript::new(keys.clone(), TCP, &REQUEST));
    let MacSecret { request, challenge, proof, answer } = &*keys.secret;
    for key in [request, challenge, proof, answer] {
        let bytes = format!("{:?}", &key[..4]);
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}
