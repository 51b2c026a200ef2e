//! Bytes captured from the C agents (Debian's 4.12.1) with a known key: the
//! library decodes them, verifies them, and encodes the same bytes.
//!
//! A tcp capture has the agent's bytes: the request, its challenge, and its
//! answer to the challenge 0x80, 0x81, ... of the daemon.
#![allow(clippy::panic, clippy::unwrap_used)]

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::Operation;
use fence_virt::wire::{PACKET_LEN, Packet};

fn key() -> Key {
    Key::new((0..4096u32).map(|at| b'k' ^ (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect())
}

fn packet(bytes: &[u8]) -> Packet {
    let bytes: &[u8; PACKET_LEN] = bytes.first_chunk().unwrap();
    let packet = Packet::decode(bytes).unwrap();
    assert!(packet.is_signed_by(bytes, &key()));
    assert_eq!(packet.encode_signed(&key()), *bytes, "encodes the same bytes");
    packet
}

#[test]
fn requests_over_tcp() {
    for (bytes, operation, hash, name) in [
        (&include_bytes!("golden/tcp-off-sha256")[..], Operation::Off, HashKind::Sha256, "node1"),
        (
            &include_bytes!("golden/tcp-reboot-sha512")[..],
            Operation::Reboot,
            HashKind::Sha512,
            "11111111-aaaa-4111-8111-111111111111",
        ),
        (&include_bytes!("golden/tcp-status-sha1")[..], Operation::Status, HashKind::Sha1, "node1"),
        (&include_bytes!("golden/tcp-list-none")[..], Operation::HostList, HashKind::None, ""),
    ] {
        let packet = packet(bytes);
        assert_eq!((packet.request.operation, packet.signature.kind()), (operation, hash.into()));
        assert_eq!((packet.request.target.as_str(), packet.address_len), (name, 0));
        if hash == HashKind::None {
            assert_eq!(bytes.len(), PACKET_LEN);
            continue;
        }
        // The agent's answer to the challenge is the expected one.
        let challenge: [u8; 64] = std::array::from_fn(|at| 0x80 | at as u8);
        let proof: [u8; 64] = bytes[PACKET_LEN + 64..].try_into().unwrap();
        assert!(key().expected(hash, &challenge).matches(&proof));
        // The agent's challenge is one that we answer.
        let asked: [u8; 64] = bytes[PACKET_LEN..PACKET_LEN + 64].try_into().unwrap();
        assert!(key().answer(hash, &asked).is_ok());
    }
}

#[test]
fn requests_by_multicast() {
    let off = packet(include_bytes!("golden/multicast4-off-sha256"));
    assert_eq!((off.request.operation, off.request.target.as_str()), (Operation::Off, "node1"));
    assert_eq!(off.callback(1), Ok("127.0.0.1:1229".parse().unwrap()));
    let on = packet(include_bytes!("golden/multicast6-on-sha1"));
    assert_eq!(
        (on.request.operation, on.signature.kind(), on.flags),
        (Operation::On, HashKind::Sha1.into(), 1)
    );
    let callback = on.callback(7).unwrap();
    assert!(callback.is_ipv6() && callback.port() == 1229, "{callback}");
}
