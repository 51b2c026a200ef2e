//! Clients that stall, forge, flood and replay, on real sockets: none
//! can block, forge or replay another client's request.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::agent::{Agent, AgentTransport, Programs};
use common::client::{Client, packet};
use common::daemon::{Daemon, OURS, auth_keys, conf};
use common::net::{GUEST_V4, HOST_V4, NamespacePair};
use common::node::{self, NODE1, RUNNING, node, vm};
use common::{Dir, Missing, key_bytes, require, root_and_c_suite, until};
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
        root_and_c_suite()?;
        let dir = Dir::new();
        let pair = NamespacePair::new();
        let key = dir.key("key", b'k');
        let place = match listener {
            "tcp" => format!("address = \"{HOST_V4}\";"),
            _ => "interface = \"eth0\";".to_owned(),
        };
        let keys = format!("{place} {}", auth_keys(&key, "sha256", "sha256"));
        let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
        let daemon = Daemon::builder(&dir, &pair.host).start(&conf(listener, &keys, &[uri], groups));
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
fn two_hundred_stalled_clients_do_not_delay_a_good_one() {
    let harness = require!(SessionHarness::new("tcp", ""));
    harness.pair.guest.inside(|| {
        let begun = Instant::now();
        let mut stalled: Vec<Client> = (0..200)
            .map(|at| {
                let mut client = harness.client();
                let bytes = status().encode_signed(&client.key);
                // Stalls after: nothing, half a request, a request, half a challenge, a challenge.
                match at % 5 {
                    0 => {}
                    1 => client.stream.write_all(&bytes[..88]).unwrap(),
                    2 => client.stream.write_all(&bytes).unwrap(),
                    3 => client.stream.write_all(&[&bytes[..], &[5; 32]].concat()).unwrap(),
                    _ => client.stream.write_all(&[&bytes[..], &[5; 64]].concat()).unwrap(),
                }
                client
            })
            .collect();
        for _ in 0..50 {
            let asked = Instant::now();
            assert_eq!(harness.client().ask(&status()).unwrap(), 0);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
        for client in &mut stalled {
            let mut rest = Vec::new();
            let _ = client.stream.read_to_end(&mut rest);
            assert!(matches!(rest.len(), 0 | 128), "no answer without a proof");
        }
        assert!(begun.elapsed() < Duration::from_secs(14), "the handshake's 10 s are kept");
    });
    harness.assert_carried_out("status \"node1\": success", 50);
}

#[test]
fn a_flood_evicts_its_own_sessions_and_no_other() {
    let harness = require!(SessionHarness::new("tcp", ""));
    harness.pair.guest.ip(&["addr", "add", "192.0.2.66/24", "dev", "eth0"]);
    harness.pair.guest.inside(|| {
        let mut patient = harness.client();
        let request = packet(Operation::Off, "node1", SHA);
        patient.send(&request).unwrap();
        let flood = |_| {
            let socket = socket_from(Ipv4Addr::new(192, 0, 2, 66).into(), address());
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket
        };
        let mut flood: Vec<TcpStream> = (0..400).map(flood).collect();
        assert!(is_closed_unanswered(&mut flood[0]), "the flood's oldest session is evicted");
        patient.authenticate().unwrap();
        assert_eq!(patient.verdict().unwrap(), 0);
    });
    harness.daemon.await_log("to make room");
}

#[test]
fn with_64_descriptors_a_crowd_of_connections_does_not_delay_a_good_one() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pair = NamespacePair::new();
    let key = dir.key("key", b'k');
    let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let daemon = Daemon::builder(&dir, &pair.host)
        .command(&["prlimit", "--nofile=64:64", OURS])
        .start(&conf("tcp", &keys, &[uri], ""));
    daemon.await_log("the limit of open files is 64");
    pair.guest.ip(&["addr", "add", "192.0.2.66/24", "dev", "eth0"]);
    pair.guest.inside(|| {
        let attacker = Ipv4Addr::new(192, 0, 2, 66).into();
        let crowd: Vec<TcpStream> = (0..200).map(|_| socket_from(attacker, address())).collect();
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(client().ask(&packet(Operation::Off, "node1", SHA)).unwrap(), 0);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
        drop(crowd);
    });
    assert!(!daemon.log().contains("cannot accept"), "{}", daemon.log());
}

#[test]
fn a_daemon_whose_descriptors_are_taken_serves_a_good_client_among_a_crowd() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pair = NamespacePair::new();
    let key = dir.key("key", b'k');
    let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let daemon = Daemon::builder(&dir, &pair.host).start(&conf("tcp", &keys, &[uri], ""));
    pair.guest.ip(&["addr", "add", "192.0.2.66/24", "dev", "eth0"]);
    pair.guest.inside(|| {
        assert_eq!(client().ask(&packet(Operation::Off, "node1", SHA)).unwrap(), 0);
        // As if lines of VMs had the rest: room for eight sessions.
        let used = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
        let limit = format!("--nofile={}", used + 8);
        let pid = daemon.pid().to_string();
        let prlimit = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(prlimit.unwrap().success());
        let attacker = Ipv4Addr::new(192, 0, 2, 66).into();
        let crowd: Vec<TcpStream> = (0..200).map(|_| socket_from(attacker, address())).collect();
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(client().ask(&packet(Operation::Status, "node1", SHA)).unwrap(), 2);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
        drop(crowd);
    });
    daemon.await_log("closed to make room: no file descriptor is left");
}

#[test]
fn a_flood_from_one_ipv6_address_evicts_no_session_of_its_neighbours() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pair = NamespacePair::new();
    let key = dir.key("key", b'k');
    let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let keys = format!("address = \"::\"; {}", auth_keys(&key, "sha256", "sha256"));
    let daemon = Daemon::builder(&dir, &pair.host).args(&["-d9"]).start(&conf("tcp", &keys, &[uri], ""));
    // The second network exists only from now on.
    for (namespace, address) in [(&pair.host, "fd00:3::1/64"), (&pair.guest, "fd00:3::2/64")] {
        namespace.ip(&["addr", "add", address, "dev", "eth0", "nodad"]);
    }
    daemon.await_log("fd00:3::/64");
    for network in ["fd00:2", "fd00:3"] {
        let host = format!("[{network}::1]:1229").parse().unwrap();
        let attacker = format!("{network}::66");
        pair.guest.ip(&["addr", "add", &format!("{attacker}/64"), "dev", "eth0", "nodad"]);
        pair.guest.inside(|| {
            let connect = |source: &str| {
                let stream = socket_from(source.parse().unwrap(), host);
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream
            };
            let key = fence_virt::auth::Key::new(key_bytes(b'k'));
            let mut patient = Client { stream: connect(&format!("{network}::2")), key, auth: SHA };
            patient.send(&status()).unwrap();
            let mut flood: Vec<TcpStream> = (0..400).map(|_| connect(&attacker)).collect();
            assert!(is_closed_unanswered(&mut flood[0]), "the flood's oldest session is evicted");
            patient.authenticate().unwrap();
            assert_eq!(patient.verdict().unwrap(), 0);
        });
    }
}

fn socket_from(source: IpAddr, host: SocketAddr) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0))).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(host)).unwrap();
    TcpStream::from(fd)
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
fn what_a_client_without_auth_sent_while_the_daemon_stood_still_is_a_failure() {
    let harness = require!(SessionHarness::new("tcp", ""));
    let conf = std::fs::read_to_string(harness.daemon.conf()).unwrap();
    harness.daemon.reload(&harness.dir, &conf.replace("auth = \"sha256\"", "auth = \"none\""));
    let client = || Client::connect(address(), &key_bytes(b'k'), HashKind::None, LIMIT).unwrap();
    let off = packet(Operation::Off, "node1", SHA);
    harness.pair.guest.inside(|| {
        // One is connected before, one comes meanwhile.
        let mut before = client();
        assert_eq!(client().ask(&status()).unwrap(), 0);
        harness.daemon.freeze();
        let mut meanwhile = client();
        before.send(&off).unwrap();
        meanwhile.send(&Packet { random: [8; 6], ..packet(Operation::Off, "node1", SHA) }).unwrap();
        common::elapse(FROZEN);
        harness.daemon.signal(Signal::SIGCONT);
        assert_eq!((before.verdict().unwrap(), meanwhile.verdict().unwrap()), (1, 1));
        assert_eq!(client().ask(&status()).unwrap(), 0, "it runs");
        assert_eq!(client().ask(&off).unwrap(), 0, "the same request, sent now");
    });
    harness.daemon.await_log("refused: it may have waited for");
    harness.assert_carried_out("off \"node1\": success", 1);
}

#[test]
fn a_datagram_that_came_while_the_daemon_stood_still_is_not_called_back() {
    let harness = require!(SessionHarness::new("multicast", ""));
    let key = fence_virt::auth::Key::new(key_bytes(b'k'));
    let guest: Ipv4Addr = GUEST_V4.parse().unwrap();
    harness.pair.guest.inside(|| {
        let socket = UdpSocket::bind((guest, 0)).unwrap();
        let waiting = TcpListener::bind((guest, 0)).unwrap();
        let off = multicast(Operation::Off, guest, waiting.local_addr().unwrap().port()).encode_signed(&key);
        harness.daemon.freeze();
        socket.send_to(&off, ("225.0.0.12", 1229)).unwrap();
        common::elapse(FROZEN);
        harness.daemon.signal(Signal::SIGCONT);
        harness.daemon.await_log("dropped a datagram: it may have waited for");
        waiting.set_nonblocking(true).unwrap();
        assert!(waiting.accept().is_err(), "no call-back");
        waiting.set_nonblocking(false).unwrap();
        // The agent's next repetition.
        socket.send_to(&off, ("225.0.0.12", 1229)).unwrap();
        waiting.accept().unwrap();
    });
}

/// Configuration of the harness with another key.
fn with_other_key(harness: &SessionHarness) -> String {
    let conf = std::fs::read_to_string(harness.daemon.conf()).unwrap();
    let other = harness.dir.key("other", b'x');
    conf.replace(harness.dir.path("key").to_str().unwrap(), other.to_str().unwrap())
}

#[test]
fn a_reload_ends_the_sessions_of_a_key_that_is_gone() {
    let harness = require!(SessionHarness::new("tcp", ""));
    harness.pair.guest.inside(|| {
        let (mut requested, mut challenged) = (harness.client(), harness.client());
        requested.send(&status()).unwrap();
        challenged.send(&status()).unwrap();
        challenged.stream.write_all(&[0xA5; 64]).unwrap();
        challenged.stream.read_exact(&mut [0; 128]).unwrap();
        let begun = Instant::now();
        harness.daemon.reload(&harness.dir, &with_other_key(&harness));
        assert!(is_closed_unanswered(&mut requested.stream));
        assert!(is_closed_unanswered(&mut challenged.stream));
        assert!(begun.elapsed() < Duration::from_secs(5), "the handshake's 10 s are not awaited");
    });
    harness.daemon.await_log("a reload has put its key, hash or auth out of force");
}

#[test]
fn a_reload_ends_the_call_backs_of_a_key_that_is_gone() {
    let harness = require!(SessionHarness::new("multicast", ""));
    let key = fence_virt::auth::Key::new(key_bytes(b'k'));
    let guest: Ipv4Addr = GUEST_V4.parse().unwrap();
    harness.pair.guest.inside(|| {
        let socket = UdpSocket::bind((guest, 0)).unwrap();
        let waiting = TcpListener::bind((guest, 0)).unwrap();
        let off = multicast(Operation::Off, guest, waiting.local_addr().unwrap().port());
        socket.send_to(&off.encode_signed(&key), ("225.0.0.12", 1229)).unwrap();
        let (mut back, _) = waiting.accept().unwrap();
        back.set_read_timeout(Some(LIMIT)).unwrap();
        back.write_all(&[0xA5; 64]).unwrap();
        let mut both = [0; 128];
        back.read_exact(&mut both).unwrap();
        harness.daemon.reload(&harness.dir, &with_other_key(&harness));
        assert!(is_closed_unanswered(&mut back));
    });
    harness.daemon.await_log("a reload has put its key, hash or auth out of force");
    assert_eq!(harness.daemon.log().matches("destroyed").count(), 0);
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
