use super::*;
use crate::fence::Carrier;

const TCP: Endpoint = Endpoint { carrier: Carrier::Tcp, port: 1229 };

fn keys(letter: u8) -> Arc<MacKeys> {
    Arc::new(MacKeys::derive(&[letter; 64]))
}

fn request(keys: &MacKeys) -> [u8; PACKET_LEN] {
    let mut request = [7; PACKET_LEN];
    keys.sign(TCP, &mut request);
    request
}

/// Transcripts of both sides up to the proof.
fn exchange(keys: &Arc<MacKeys>) -> (Transcript, Transcript) {
    let mut daemon = Transcript::new(keys.clone(), &request(keys));
    let mut agent = Transcript::new(keys.clone(), &request(keys));
    assert!(agent.accept_challenge(&daemon.challenge(&[1; 32])));
    assert!(daemon.accept_proof(&agent.proof()));
    (agent, daemon)
}

#[test]
fn keys_are_derived_by_hkdf() {
    // python3: hmac.new(hmac.new(hmac.new(b"fence_virt 2", bytes(range(32)), "sha256").digest(), b"request\1",
    // "sha256").digest(), b"x", "sha256")
    let keys = MacKeys::derive(&(0..32).collect::<Vec<u8>>());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&keys.id.to_bytes()), "b872924a99791c4fb1cc471bada14c60");
    for (key, expected) in [
        (&keys.secret.request, "4c2d3ce89cc231ddddc3e25fef6e77a066936b66f1dfcbf6f2034dd03ca49bfa"),
        (&keys.secret.challenge, "b9759c4eacecebfa93a79defa511fecb7bfaf783714a088d1e571345df3375f2"),
        (&keys.secret.proof, "75161f0dd478dc3679b8036e1c7354d25bb9c9844980417bbca901444870f158"),
        (&keys.secret.answer, "e2d27d5fa387f9e01057911c4705f7f598760e18f1442a1907758c6b79f51520"),
    ] {
        assert_eq!(hex(&mac_of(key, &[b"x"])), expected);
    }
}

#[test]
fn a_request_is_signed_for_one_endpoint_in_every_byte() {
    let keys = keys(1);
    let request = request(&keys);
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
    let first = keys(1);
    let challenge = Transcript::new(first.clone(), &request(&first)).challenge(&[1; 32]);
    let accepts = |keys: &Arc<MacKeys>, request: &[u8; PACKET_LEN], challenge: &[u8; 64]| {
        Transcript::new(keys.clone(), request).accept_challenge(challenge)
    };
    assert!(accepts(&first, &request(&first), &challenge));
    assert!(!accepts(&keys(2), &request(&first), &challenge));
    let mut elsewhere = request(&first);
    first.sign(Endpoint { port: 1, ..TCP }, &mut elsewhere);
    assert!(!accepts(&first, &elsewhere, &challenge));
    for at in 0..MAC_AT {
        let mut other = request(&first);
        other[at] ^= 1;
        first.sign(TCP, &mut other);
        assert!(!accepts(&first, &other, &challenge), "byte {at} of the request");
    }
    for at in 0..CHALLENGE_2_LEN {
        let mut altered = challenge;
        altered[at] ^= 1;
        assert!(!accepts(&first, &request(&first), &altered), "byte {at} of the challenge");
    }
}

#[test]
fn a_proof_is_for_one_challenge() {
    let agent = keys(1);
    let mut first = Transcript::new(agent.clone(), &request(&agent));
    let challenge = first.challenge(&[1; 32]);
    let mut asked = Transcript::new(agent.clone(), &request(&agent));
    assert!(asked.accept_challenge(&challenge));
    let proof = asked.proof();
    let mut second = Transcript::new(agent.clone(), &request(&agent));
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
    let (agent, daemon) = exchange(&keys(1));
    let mut macs = daemon.answer();
    let items = [macs.mac(b"a"), macs.mac(b"b")];
    let mut reader = agent.clone().answer();
    assert!(reader.verify(b"a", &items[0]) && reader.verify(b"b", &items[1]));
    assert!(!agent.clone().answer().verify(b"b", &items[1]), "the first item is missing");
    assert!(!agent.clone().answer().verify(b"b", &items[0]));
    let mut repeated = agent.answer();
    assert!(repeated.verify(b"a", &items[0]) && !repeated.verify(b"a", &items[0]));
    let (_, other) = exchange(&keys(2));
    assert_ne!(other.answer().mac(b"a"), items[0]);
}

#[test]
fn no_key_is_shown() {
    assert_eq!(format!("{:?}", MacKeys::derive(b"secret")), "MacKeys(2301ffb4)");
    let shown = format!("{:?}", Transcript::new(keys(1), &request(&keys(1))));
    // The id of the key, and what goes over the wire.
    assert!(shown.starts_with("Transcript { keys: MacKeys(") && shown.contains("), last: ["), "{shown}");
}
