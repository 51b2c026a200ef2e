//! Seeded random input for each parser of untrusted bytes, for machines without
//! the fuzzers' toolchain. `FENCE_RANDOM` is the number of inputs of each kind
//! (use a release build for a million).
#![allow(clippy::panic, clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use fence_virt::auth::{HashKind, Key, Transcript};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{Endpoint, Operation, Request, SignatureKind, Target, Verdict};
use fence_virt::fence_agent::{AgentMetadata, parse_list, plug_problem};
use fence_virt::groups::{Requesters, RequestersError};
use fence_virt::power_log;
use fence_virt::restraints::{decode_holds, encode_holds};
use fence_virt::routing::{
    Evidence, JobOutcome, Membership, Names, Peer, Router, RouterAction, Rules, Unknown,
};
use fence_virt::session::{
    AgentSession, ClientSession, LineSession, Policy, STALL_LIMIT, Scanner, ServerSession, SessionEvent,
    SyncProbe,
};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::{ClusterMessage, NodeId, RequestNumber};
use fence_virt::wire::{PACKET_LEN, Packet, encode_line_request};

/// xorshift64 with a fixed seed: every run is the same.
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

    /// Copies a seed with some bytes changed, cut or repeated.
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

const GOLDEN: [&[u8]; 7] = [
    include_bytes!("golden/tcp-off-sha256"),
    include_bytes!("golden/tcp-reboot-sha512"),
    include_bytes!("golden/tcp-status-sha1"),
    include_bytes!("golden/tcp-list-none"),
    include_bytes!("golden/multicast4-off-sha256"),
    include_bytes!("golden/multicast6-on-sha1"),
    include_bytes!("../fuzz/seeds/packet/version-2"),
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
    let policy = |hash| Arc::new(Policy::new(hash, HashKind::Sha256, Key::new(vec![1; 64]), Endpoint::LINE));
    let policies = [policy(HashKind::None), policy(HashKind::Sha256)];
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(GOLDEN[round % GOLDEN.len()]);
        let mut session = ServerSession::accepted(policies[round % 2].clone(), [7; 32], now);
        let step = 1 + random.below(200);
        'pieces: for mut piece in bytes.chunks(step) {
            loop {
                match session.receive(&mut piece) {
                    Ok(Some(SessionEvent::Authenticated(..))) => {
                        panic!("authenticated without the key: {bytes:?}")
                    }
                    Ok(Some(SessionEvent::Requested(..))) => {}
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
    let seeds: [&[u8]; 6] = [
        include_bytes!("../fence_virt.conf.example"),
        include_bytes!("../fuzz/seeds/config/distribution.conf"),
        include_bytes!("../fuzz/seeds/config/mistakes.conf"),
        include_bytes!("../fuzz/seeds/config/groups.conf"),
        include_bytes!("../fuzz/seeds/config/keys.conf"),
        include_bytes!("../fuzz/seeds/config/agents.conf"),
    ];
    let (mut with_groups, mut with_rights) = (0, 0);
    for round in 0..rounds(2_000) {
        let text = random.mutated(seeds[round % seeds.len()]);
        let outcome = fence_virt::config::parse(Path::new("random.conf"), &text);
        let _ = outcome.diagnostics.render(true);
        if let Some(config) = outcome.config {
            let _ = config.summary();
            // The parser refuses each `ip` that a group would ignore.
            for ip in config.groups.iter().flat_map(|group| &group.ips) {
                with_groups += 1;
                assert!(matches!(Requesters::parse(ip), Ok(_) | Err(RequestersError::Word)), "{ip}");
            }
            for group in &config.groups {
                assert!(
                    group.sources.iter().all(|source| Requesters::parse_source(source).is_ok()),
                    "{group}"
                );
                with_rights += usize::from(!group.rights.is_all());
            }
        }
    }
    assert!(with_groups > 0 && with_rights > 0);
}

#[test]
fn networks_of_requesters() {
    let mut random = Random(0x5EED_000A);
    let seeds = ["192.168.122.0/24", "fd00:0:0:1::/64", "::ffff:10.0.0.0/104", "fe80::%eth0/10", "0.0.0.0/0"];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..rounds(200_000) {
        let bytes = random.mutated(seeds[round % seeds.len()].as_bytes());
        let text = String::from_utf8_lossy(&bytes);
        let Ok(Requesters::Network(network)) = Requesters::parse(&text) else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let shown = network.to_string();
        assert_eq!(Requesters::parse(&shown), Ok(Requesters::Network(network)), "{text}");
        let address: IpAddr = shown.split('/').next().unwrap().parse().unwrap();
        assert!(network.contains(address), "{text}");
        // A random address is in the network if the first bits are the same.
        let (bits, length) = (random.next() as u32, shown.split('/').nth(1).unwrap().parse::<u32>().unwrap());
        if let IpAddr::V4(address) = address {
            let other = Ipv4Addr::from_bits(address.to_bits() ^ bits);
            assert_eq!(network.contains(other.into()), bits.leading_zeros() >= length, "{text} {other}");
            assert_eq!(network.contains(other.to_ipv6_mapped().into()), network.contains(other.into()));
        }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
}

/// Makes input of an agent; the first byte selects the requested operation.
const ANSWERS: [&[u8]; 4] = [
    include_bytes!("../fuzz/seeds/answer/list"),
    include_bytes!("../fuzz/seeds/answer/status-off"),
    include_bytes!("../fuzz/seeds/answer/authenticated"),
    include_bytes!("../fuzz/seeds/line/stale"),
];

#[test]
fn answers() {
    let mut random = Random(0x5EED_0004);
    let policy = |auth| Arc::new(Policy::new(HashKind::None, auth, Key::new(vec![1; 64]), Endpoint::LINE));
    let policies = [policy(HashKind::None), policy(HashKind::Sha256)];
    let mut answered = 0;
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(&ANSWERS[round % ANSWERS.len()][2..]);
        let operation = Operation::ALL[random.below(Operation::ALL.len())];
        let policy = &policies[round % 2];
        let mut session = ClientSession::called_back(policy.clone(), operation, &[], [7; 64]);
        let step = 1 + random.below(200);
        for mut piece in bytes.chunks(step) {
            match session.receive(&mut piece) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    assert_eq!(policy.auth, HashKind::None, "an answer without the key");
                    answered += 1;
                    break;
                }
                Err(_) => break,
            }
        }
    }
    assert!(answered > 0);
}

/// Without right MACs, nothing is an answer of version 2.
#[test]
fn answers_of_version_2() {
    let mut random = Random(0x5EED_0014);
    let key = Key::new(vec![1; 64]);
    let mac_keys = key.mac_keys().clone();
    let packet = Packet::decode(include_bytes!("../fuzz/seeds/packet/version-2")).unwrap();
    let policy = Arc::new(Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, key, Endpoint::LINE));
    let mut committed = 0;
    for _ in 0..rounds(20_000) {
        let mut session = ClientSession::opening(policy.clone(), &packet, [7; 64]);
        let mut transcript = Transcript::new(mac_keys.clone(), &policy.sign(&packet));
        session.sent(PACKET_LEN);
        let mut heard = transcript.challenge(&[9; 32]).to_vec();
        let is_altered = random.below(4) == 0;
        if is_altered {
            heard = random.mutated(&heard);
        }
        let _ = session.receive(&mut heard.as_slice());
        committed += usize::from(session.is_committed());
        let proof: Option<[u8; 32]> = session.output().try_into().ok();
        session.sent(session.output().len());
        let is_proven = proof.is_some_and(|proof| transcript.accept_proof(&proof));
        let mut right = vec![0; 33];
        right[1..].copy_from_slice(&transcript.answer().mac(&[0]));
        let answer = random.mutated(&right);
        let got = session.receive(&mut answer.as_slice());
        let is_right = is_proven && answer == right;
        assert_eq!(matches!(got, Ok(Some(_))), is_right, "{answer:?}");
    }
    assert!(committed > rounds(20_000) / 2);
}

#[test]
fn lines() {
    let mut random = Random(0x5EED_0005);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fuzz/seeds/line/off"),
        include_bytes!("../fuzz/seeds/line/list"),
        include_bytes!("../fuzz/seeds/line/stale"),
    ];
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(&seeds[round % seeds.len()][2..]);
        let operation = Operation::ALL[random.below(Operation::ALL.len())];
        let request = Request { operation, target: Target::default(), seqno: 1 };
        let is_stale = random.below(2) == 1;
        let run = |step: usize| {
            let mut session = match is_stale {
                false => LineSession::new(&request, 0),
                true => LineSession::after_silence(&request, 0, SyncProbe::new(0x5A5), &Target::default()),
            };
            session.sent(session.output().len());
            for mut piece in bytes.chunks(step) {
                match session.receive(&mut piece) {
                    // Sent at once, as on a line with enough buffer.
                    Ok(None) => session.sent(session.output().len()),
                    end => return end,
                }
            }
            Ok(None)
        };
        if is_stale {
            run(1 + random.below(200)).unwrap_or(None);
            continue;
        }
        assert_eq!(run(bytes.len().max(1)), run(1 + random.below(200)));
    }
}

#[test]
fn options() {
    let mut random = Random(0x5EED_0006);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fuzz/seeds/stdin/pacemaker"),
        include_bytes!("../fuzz/seeds/stdin/all"),
        include_bytes!("../fuzz/seeds/stdin/virt"),
    ];
    for round in 0..rounds(50_000) {
        fence_virt::client::try_options(&random.mutated(seeds[round % seeds.len()]));
    }
}

#[test]
fn requests_on_lines() {
    let mut random = Random(0x5EED_0007);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fuzz/seeds/scanner/two"),
        include_bytes!("../fuzz/seeds/scanner/half"),
        include_bytes!("../fuzz/seeds/scanner/overlap"),
    ];
    let target = Target::new(b"last").unwrap();
    let last = Request { operation: Operation::Off, target, seqno: 9 };
    let start = Instant::now();
    let mut found_any = 0;
    for round in 0..rounds(20_000) {
        let bytes = random.mutated(&seeds[round % seeds.len()][1..]);
        let run = |step: usize| {
            let mut scanner = Scanner::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(step) {
                scanner.push(piece, start, |request| found.push(request));
            }
            scanner.expire(start + STALL_LIMIT, |request| found.push(request));
            scanner.push(&encode_line_request(&last, 0), start + STALL_LIMIT, |request| found.push(request));
            found
        };
        let found = run(bytes.len().max(1));
        assert_eq!(found, run(1 + random.below(200)));
        assert_eq!(found.last(), Some(&last));
        found_any += found.len() - 1;
    }
    assert!(found_any > 0);
}

#[test]
fn xml_of_vms() {
    let mut random = Random(0x5EED_0008);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fuzz/seeds/xml/serial"),
        include_bytes!("../fuzz/seeds/xml/channel"),
        include_bytes!("../fuzz/seeds/xml/vsock"),
    ];
    let mut read = 0;
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(seeds[round % seeds.len()]);
        read += usize::from(Devices::parse(&String::from_utf8_lossy(&bytes)).is_ok());
    }
    assert!(read > 0);
}

#[test]
fn output_of_fence_agents() {
    let mut random = Random(0x5EED_000F);
    let seeds: [&[u8]; 3] = [
        include_bytes!("../fuzz/seeds/agent/list"),
        include_bytes!("../fuzz/seeds/agent/uuids"),
        include_bytes!("../fuzz/seeds/agent/metadata"),
    ];
    let (mut vms, mut read) = (0, 0);
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(seeds[round % seeds.len()]);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok((found, _)) = parse_list(&text, "agent", round % 2 == 0) {
            assert!(found.iter().all(|vm| plug_problem(&vm.plug).is_none()), "{found:?}");
            vms += found.len();
        }
        read += usize::from(AgentMetadata::parse(&text).is_ok());
    }
    assert!(vms > 0 && read > 0);
}

#[test]
fn messages_of_the_group() {
    let mut random = Random(0x5EED_0009);
    let seeds: [&[u8]; 6] = [
        include_bytes!("../fuzz/seeds/group/request"),
        include_bytes!("../fuzz/seeds/group/reply"),
        include_bytes!("../fuzz/seeds/group/store"),
        include_bytes!("../fuzz/seeds/group/gone"),
        include_bytes!("../fuzz/seeds/group/table"),
        include_bytes!("../fuzz/seeds/group/tell_all"),
    ];
    let rules = Rules { names: Names::Both, host_fence_delay: None, unknown: Unknown::Fail };
    let now = Instant::now();
    let peers = [1, 2, 3].map(|node| Peer { node: NodeId(node), pid: node });
    let mut router = Router::new(rules, 0, RequestNumber(0));
    router.joined(peers[0], now);
    router.changed(&Membership { members: peers.into(), left: Vec::new(), joined: peers.into() }, now);
    let mut decoded = 0;
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(seeds[round % seeds.len()]);
        if let Ok(message) = ClusterMessage::decode(&bytes) {
            assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
            decoded += 1;
        }
        router.heard(peers[1 + round % 2], &bytes, now, false, now);
        while let Some(action) = router.next_action() {
            match action {
                RouterAction::Begin { job, .. } => {
                    let (verdict, evidence, reason) = (Verdict::Failure, Evidence::None, String::new());
                    router.done(job, JobOutcome { verdict, evidence, reason }, now);
                }
                RouterAction::Find { job, .. } => router.found(job, Ok(Vec::new()), now),
                RouterAction::ProveCaller { question, .. } => router.caller_proved(question, true),
                _ => {}
            }
        }
        while router.next_message(now).is_some() {}
    }
    assert!(decoded > 100, "some inputs are decoded");
    assert!(router.under_way() < 1000, "no requests accumulate");
}

#[test]
fn history_files() {
    let mut random = Random(0x5EED_000B);
    let seeds: [&[u8]; 2] =
        [include_bytes!("../fuzz/seeds/history/all"), include_bytes!("../fuzz/seeds/history/torn")];
    let (mut read, mut skipped) = (0, 0);
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(seeds[round % seeds.len()]);
        let Some(kept) = power_log::decode(&bytes) else { continue };
        let text: String = kept.records.iter().map(power_log::encode).collect();
        assert!(!text.contains(|c: char| c.is_control() && c != '\t' && c != '\n'), "{text:?}");
        let again = power_log::decode((power_log::HEADER.to_owned() + &text).as_bytes()).unwrap();
        assert_eq!((&again.records, again.skipped), (&kept.records, 0));
        read += kept.records.len();
        skipped += kept.skipped;
    }
    assert!(read > 0 && skipped > 0, "{read} records, {skipped} other lines");
}

#[test]
fn files_of_holds() {
    let mut random = Random(0x5EED_000C);
    let seeds: [&[u8]; 2] =
        [include_bytes!("../fuzz/seeds/holds/two"), include_bytes!("../fuzz/seeds/holds/none")];
    let (mut read, mut refused) = (0, 0);
    for round in 0..rounds(50_000) {
        let bytes = random.mutated(seeds[round % seeds.len()]);
        let Ok(holds) = decode_holds(&bytes) else {
            refused += 1;
            continue;
        };
        let text = encode_holds(&holds);
        assert!(!text.contains(|c: char| c.is_control() && c != '\t' && c != '\n'), "{text:?}");
        read += holds.iter().count();
        assert_eq!(decode_holds(text.as_bytes()), Ok(holds));
    }
    assert!(read > 0 && refused > 0, "{read} holds, {refused} files refused");
}
