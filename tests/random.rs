//! Seeded random input for each parser of outside bytes: the stand-in for the
//! fuzzers where there is no toolchain for them. `FENCE_RANDOM` says how many
//! inputs of each kind (a million takes a release build).
#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fence_virt::auth::{HashKind, Key};
use fence_virt::session::{Event, Policy, ServerSession};
use fence_virt::wire::{PACKET_LEN, Packet};

/// xorshift64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A copy of a seed with some bytes changed, cut or repeated.
    fn mutated(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..self.below(5) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
            bytes.truncate(4096);
        }
        bytes
    }
}

fn rounds(default: usize) -> usize {
    std::env::var("FENCE_RANDOM").map_or(default, |text| text.parse().unwrap())
}

const GOLDEN: [&[u8]; 6] = [
    include_bytes!("golden/tcp-off-sha256"),
    include_bytes!("golden/tcp-reboot-sha512"),
    include_bytes!("golden/tcp-status-sha1"),
    include_bytes!("golden/tcp-list-none"),
    include_bytes!("golden/multicast4-off-sha256"),
    include_bytes!("golden/multicast6-on-sha1"),
];

#[test]
fn packets() {
    let mut random = Random(0x5EED_0001);
    let mut decoded = 0;
    for round in 0..rounds(100_000) {
        let mut bytes = random.mutated(GOLDEN[round % GOLDEN.len()]);
        bytes.resize(PACKET_LEN, 0);
        let bytes: &[u8; PACKET_LEN] = bytes.first_chunk().unwrap();
        if let Ok(packet) = Packet::decode(bytes) {
            decoded += 1;
            assert_eq!(Packet::decode(&packet.encode()).as_ref(), Ok(&packet));
            let _ = packet.callback(1);
        }
    }
    assert!(decoded > 0);
}

#[test]
fn sessions() {
    let mut random = Random(0x5EED_0002);
    let now = Instant::now();
    let policy = |hash| Arc::new(Policy { hash, auth: HashKind::Sha256, key: Key::new(vec![1; 64]) });
    let policies = [policy(HashKind::None), policy(HashKind::Sha256)];
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(GOLDEN[round % GOLDEN.len()]);
        let mut session = ServerSession::accepted(policies[round % 2].clone(), [7; 32], now);
        let step = 1 + random.below(200);
        'pieces: for mut piece in bytes.chunks(step) {
            loop {
                match session.receive(&mut piece) {
                    Ok(Some(Event::Authenticated(_))) => panic!("authenticated without the key: {bytes:?}"),
                    Ok(Some(Event::Requested(_))) => {}
                    Ok(None) => break,
                    Err(_) => break 'pieces,
                }
            }
        }
        assert!(session.output().len() <= 128 && !session.is_authenticated());
    }
}

#[test]
fn configurations() {
    let mut random = Random(0x5EED_0003);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fence_virt.conf.example"),
        include_bytes!("../fuzz/seeds/config/distribution.conf"),
        include_bytes!("../fuzz/seeds/config/mistakes.conf"),
    ];
    for round in 0..rounds(2_000) {
        let text = random.mutated(seeds[round % seeds.len()]);
        let outcome = fence_virt::config::parse(Path::new("random.conf"), &text);
        let _ = outcome.diagnostics.render(true);
        if let Some(config) = outcome.config {
            let _ = config.summary();
        }
    }
}
