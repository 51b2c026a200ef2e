//! Clients that stall, forge, flood and replay, on real sockets: none
//! can block, forge or replay another client's request.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

#[path = "sessions/crowds.rs"]
mod crowds;
#[path = "sessions/interruptions.rs"]
mod interruptions;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::agent::{Agent, AgentTransport, Programs};
use common::client::{Client, packet};
use common::daemon::{Daemon, DaemonBuilder, auth_keys, conf};
use common::net::{GUEST_V4, HOST_V4, NamespacePair};
use common::node::{self, NODE1, RUNNING, node, vm};
use common::{Dir, Missing, key_bytes, ready, require, root_and_c_suite, until};
use fence_virt::auth::HashKind;
use fence_virt::fence::Operation;
use fence_virt::time::Instant;
use fence_virt::wire::{FAMILY_IPV4, Packet};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(15);
/// Time for which a daemon stands still; input may wait for 1 s.
const FROZEN: Duration = Duration::from_secs(3);
const SHA: HashKind = HashKind::Sha256;

struct SessionHarness {
    dir: Dir,
    pair: NamespacePair,
    daemon: Daemon,
}

impl SessionHarness {
    fn new(listener: &str, groups: &str) -> Result<SessionHarness, Missing> {
        let place = match listener {
            "tcp" => format!("address = \"{HOST_V4}\";"),
            _ => "interface = \"eth0\";".to_owned(),
        };
        SessionHarness::built(listener, &place, groups, |builder| builder)
    }

    /// The same with other settings of the listener's section, and of the daemon.
    fn built(
        listener: &str,
        place: &str,
        groups: &str,
        configure: impl Fn(DaemonBuilder<'_>) -> DaemonBuilder<'_>,
    ) -> Result<SessionHarness, Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        let pair = NamespacePair::new();
        let key = dir.key("key", b'k');
        let keys = format!("{place} {}", auth_keys(&key, "sha256", "sha256"));
        let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
        let builder = configure(Daemon::builder(&dir, &pair.host));
        let daemon = builder.start(&conf(listener, &keys, &[uri], groups));
        Ok(SessionHarness { dir, pair, daemon })
    }

    fn client(&self) -> Client {
        client()
    }

    /// Waits until the log has these words `times` times, then stops the daemon: no more must follow.
    fn assert_carried_out(&self, words: &str, times: usize) {
        let count = || self.daemon.log().matches(words).count();
        until(&format!("{words:?} {times} times\n{}", self.daemon.log()), LIMIT, || count() >= times);
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.await_log("finishing requests in flight");
        assert_eq!(count(), times, "{words:?} in\n{}", self.daemon.log());
    }
}

fn address() -> SocketAddr {
    SocketAddr::new(HOST_V4.parse().unwrap(), 1229)
}

/// Connection from inside the guest's network namespace.
fn client() -> Client {
    Client::connect(address(), &key_bytes(b'k'), SHA, LIMIT).unwrap()
}

fn status() -> Packet {
    packet(Operation::Status, "node1", SHA)
}

/// Returns true if the daemon closes the connection without sending a byte.
fn is_closed_unanswered(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => rest.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset && rest.is_empty(),
    }
}

#[test]
fn never_carried_out_twice() {
    let harness = require!(SessionHarness::new("tcp", ""));
    harness.pair.guest.inside(|| {
        let request = packet(Operation::Reboot, "node1", SHA);
        // Both authenticate in parallel; one wins.
        let mut one = harness.client();
        let mut other = harness.client();
        one.send(&request).unwrap();
        other.send(&request).unwrap();
        one.authenticate().unwrap();
        let _ = other.authenticate();
        let verdicts = [one.verdict().ok(), other.verdict().ok()];
        assert_eq!(verdicts.iter().flatten().count(), 1, "{verdicts:?}");
        // A later duplicate is dropped at its request.
        let mut late = harness.client();
        late.send(&request).unwrap();
        assert!(is_closed_unanswered(&mut late.stream));
        // Only an authenticated request counts.
        let unproven = packet(Operation::Reboot, "node1", SHA);
        let mut silent = harness.client();
        silent.send(&unproven).unwrap();
        assert_eq!(harness.client().ask(&unproven).unwrap(), 0);
    });
    harness.assert_carried_out("reboot \"node1\": success", 2);
}

#[test]
fn never_without_key_or_permission() {
    let groups = "groups { group { ip = \"198.51.100.1\"; uuid = \"node1\"; } }";
    let harness = require!(SessionHarness::new("tcp", groups));
    harness.pair.guest.inside(|| {
        let off = || packet(Operation::Off, "node1", SHA);
        assert_eq!(harness.client().ask(&off()).unwrap(), 3);
        let mut forger = Client::connect(address(), &key_bytes(b'x'), SHA, LIMIT).unwrap();
        forger.send(&off()).unwrap();
        assert!(is_closed_unanswered(&mut forger.stream), "a wrong signature");
        // A valid signature, as captured by a sniffer, but no answer to the challenge.
        let mut replay = harness.client();
        replay.send(&off()).unwrap();
        replay.key = fence_virt::auth::Key::new(key_bytes(b'x'));
        assert!(replay.authenticate().is_err());
        replay.stream.write_all(&[1; 64]).unwrap();
        let mut rest = Vec::new();
        let _ = replay.stream.read_to_end(&mut rest);
        assert!(rest.len() <= 64, "challenge at most: {rest:?}");
    });
    harness.assert_carried_out("destroyed", 0);
}

#[test]
fn an_oracle_answers_no_reflected_challenge() {
    let harness = require!(SessionHarness::new("tcp", ""));
    harness.pair.guest.inside(|| {
        let key = fence_virt::auth::Key::new(key_bytes(b'k'));
        let issued = |stream: &mut TcpStream, challenge: &[u8; 64]| {
            stream.write_all(&status().encode_signed(&key)).unwrap();
            stream.write_all(challenge).unwrap();
            let mut both = [0; 128];
            stream.read_exact(&mut both).map(|()| <[u8; 64]>::try_from(&both[64..]).unwrap())
        };
        let challenge = issued(&mut harness.client().stream, &[0xA5; 64]).unwrap();
        assert!(issued(&mut harness.client().stream, &challenge).is_err(), "reflection");
        let head = packet(Operation::Off, "node1", SHA).encode_signed(&key);
        let head: [u8; 64] = head[..64].try_into().unwrap();
        assert!(issued(&mut harness.client().stream, &head).is_err(), "extension");
    });
    harness.daemon.await_log("reflection attack");
    harness.daemon.await_log("extension attack");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_closed() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pair = NamespacePair::new();
    let key = dir.key("key", b'k');
    let uri = node::crowd(&dir, "crowd.xml", 5000);
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let daemon = Daemon::builder(&dir, &pair.host).start(&conf("tcp", &keys, &[uri], ""));
    pair.guest.inside(|| {
        let mut deaf = client();
        // Too small for the whole answer.
        nix::sys::socket::setsockopt(&deaf.stream, nix::sys::socket::sockopt::RcvBuf, &2048).unwrap();
        deaf.send(&packet(Operation::HostList, "", SHA)).unwrap();
        deaf.authenticate().unwrap();
        daemon.await_log("5000 VMs listed");
        assert_eq!(client().ask(&packet(Operation::Devstatus, "", SHA)).unwrap(), 0);
        daemon.await_log("timed out waiting for it to read the answer");
        assert_eq!(client().ask(&packet(Operation::Devstatus, "", SHA)).unwrap(), 0);
    });
}

#[test]
fn a_stop_in_the_middle_answers_what_is_in_flight() {
    let mut harness = require!(SessionHarness::new("tcp", ""));
    harness.pair.guest.inside(|| {
        let clients: Vec<Client> = (0..60)
            .map(|_| {
                let mut client = harness.client();
                client.send(&status()).unwrap();
                client.authenticate().unwrap();
                client
            })
            .collect();
        let mut silent = harness.client();
        harness.daemon.signal(Signal::SIGTERM);
        for mut client in clients {
            match client.verdict() {
                Ok(verdict) => assert_eq!(verdict, 0),
                // The daemon had not read its proof yet.
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
                    ),
                    "{error}"
                ),
            }
        }
        assert!(is_closed_unanswered(&mut silent.stream));
    });
    assert!(harness.daemon.await_exit(Duration::from_secs(6)).success());
    assert!(harness.daemon.log().contains("stopped"));
}

#[test]
fn a_log_that_nobody_reads_delays_nothing() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pair = NamespacePair::new();
    let key = dir.key("key", b'k');
    let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let builder = Daemon::builder(&dir, &pair.host).args(&["-d9"]);
    let (mut daemon, _unread) = builder.start_with_unread_log(&conf("tcp", &keys, &[uri], ""));
    pair.guest.inside(|| {
        // Each writes a line with -d; the pipe has a buffer of 64 KiB.
        for _ in 0..4000 {
            drop(client());
        }
        assert_eq!(client().ask(&status()).unwrap(), 0);
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.await_exit(Duration::from_secs(10)).success());
}

/// Multicast request with the call-back address `address`:`port`.
fn multicast(operation: Operation, address: Ipv4Addr, port: u16) -> Packet {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&address.octets());
    Packet { address: bytes, address_len: 4, family: FAMILY_IPV4, port, ..packet(operation, "node1", SHA) }
}

#[test]
fn datagrams_of_all_kinds_and_then_a_good_one() {
    let harness = require!(SessionHarness::new("multicast", ""));
    let key = fence_virt::auth::Key::new(key_bytes(b'k'));
    let guest: Ipv4Addr = GUEST_V4.parse().unwrap();
    harness.pair.guest.inside(|| {
        let socket = UdpSocket::bind((guest, 0)).unwrap();
        let send = |bytes: &[u8]| socket.send_to(bytes, ("225.0.0.12", 1229)).map(|_| ()).unwrap();
        let off = |address, port| multicast(Operation::Off, address, port);
        // Few enough that no line is suppressed.
        for length in [0, 175, 177] {
            send(&vec![0x5A; length]);
        }
        send(&off(guest, 0).encode_signed(&key));
        send(&off(Ipv4Addr::UNSPECIFIED, 9).encode_signed(&key));
        send(&off(Ipv4Addr::BROADCAST, 9).encode_signed(&key));
        send(&Packet { address_len: 16, ..off(guest, 9) }.encode_signed(&key));
        send(&off(guest, 9).encode_signed(&fence_virt::auth::Key::new(key_bytes(b'x'))));
        // Without a listener, at the sender and at another address.
        send(&off(guest, 9).encode_signed(&key));
        send(&off(Ipv4Addr::LOCALHOST, 9).encode_signed(&key));

        // Called back, then silent or with a wrong proof: no effect.
        let waiting = TcpListener::bind((guest, 0)).unwrap();
        let replayed = off(guest, waiting.local_addr().unwrap().port()).encode_signed(&key);
        send(&replayed);
        let (mut back, _) = waiting.accept().unwrap();
        // A duplicate during the call-back causes no second one.
        send(&replayed);
        back.write_all(&[0xA5; 64]).unwrap();
        let mut both = [0; 128];
        back.read_exact(&mut both).unwrap();
        back.write_all(&[0; 64]).unwrap();
        assert!(is_closed_unanswered(&mut back));
    });
    harness.daemon.await_log("192.0.2.2: dropped a datagram: it asks for a call-back to port 0");
    harness.daemon.await_log("192.0.2.2: dropped a datagram: its sha256 signature is invalid");
    harness.daemon.await_log("192.0.2.2: a datagram of 177 bytes is not a fence request");
    harness.daemon.await_log("192.0.2.2: cannot call back to TCP port 9");
    harness.daemon.await_log("127.0.0.1: cannot call back to TCP port 9");
    harness.daemon.await_log("; the datagram came from 192.0.2.2");
    harness.daemon.await_log("its answer to the challenge is wrong");
    assert_eq!(harness.daemon.log().matches("destroyed").count(), 0);
    let key = harness.dir.path("key");
    let way = AgentTransport::Multicast("ipv4");
    let programs = Programs::deployed();
    let agent = Agent::new(&programs, &harness.pair.guest, way, &key);
    assert_eq!(agent.code("off", "node1"), 0);
    harness.assert_carried_out("destroyed", 1);
}

#[test]
fn an_interface_that_comes_back_is_joined_again() {
    let harness = require!(SessionHarness::new("multicast", ""));
    let key = harness.dir.path("key");
    let way = AgentTransport::Multicast("ipv4");
    let programs = Programs::deployed();
    let agent = Agent::new(&programs, &harness.pair.guest, way, &key);
    assert_eq!(agent.code("status", "node1"), 0);
    // More often than the limit of memberships (igmp_max_memberships is 20).
    for round in 2..25 {
        harness.pair.host.ip(&["link", "del", "eth0"]);
        harness.pair.plug();
        until(&format!("joined for the {round}th time"), Duration::from_secs(10), || {
            harness.daemon.log().matches("multicast: listening on eth0").count() == round
        });
    }
    harness.daemon.await_log("the interface eth0 is gone");
    assert_eq!(agent.code("status", "node1"), 0);
}

#[test]
fn random_bytes_neither_stop_nor_grow_it() {
    let harness = require!(SessionHarness::new("tcp", ""));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", harness.daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    harness.pair.guest.inside(|| {
        let mut flood = |rounds: usize| {
            for _ in 0..rounds {
                let mut client = harness.client();
                let mut bytes = status().encode_signed(&client.key).to_vec();
                for _ in 0..next() % 4 {
                    let at = next() as usize % bytes.len();
                    bytes[at] = next() as u8;
                }
                bytes.truncate(next() as usize % (bytes.len() + 1));
                bytes.extend((0..next() % 300).map(|_| 0x3C_u8));
                let _ = client.stream.write_all(&bytes);
            }
        };
        flood(1000);
        let before = resident();
        flood(4000);
        assert_eq!(harness.client().ask(&status()).unwrap(), 0);
        let after = resident();
        assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
    });
}
