//! Crowds of connections, which keep no good client out.

use common::daemon::OURS;

use super::*;

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
    let place = format!("address = \"{HOST_V4}\";");
    let harness = require!(SessionHarness::built("tcp", &place, "", |builder| {
        builder.command(&["prlimit", "--nofile=64:64", OURS])
    }));
    let daemon = &harness.daemon;
    daemon.await_log("the limit of open files is 64");
    harness.pair.guest.ip(&["addr", "add", "192.0.2.66/24", "dev", "eth0"]);
    harness.pair.guest.inside(serves_among_a_crowd);
    assert!(!daemon.log().contains("cannot accept"), "{}", daemon.log());
}

#[test]
fn a_daemon_whose_descriptors_are_taken_serves_a_good_client_among_a_crowd() {
    let harness = require!(SessionHarness::new("tcp", ""));
    let daemon = &harness.daemon;
    harness.pair.guest.ip(&["addr", "add", "192.0.2.66/24", "dev", "eth0"]);
    harness.pair.guest.inside(|| {
        assert_eq!(client().ask(&packet(Operation::Off, "node1", SHA)).unwrap(), 0);
        // As if lines of VMs had the rest: room for eight sessions.
        let used = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
        let limit = format!("--nofile={}", used + 8);
        let pid = daemon.pid().to_string();
        let prlimit = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(prlimit.unwrap().success());
        serves_among_a_crowd();
    });
    daemon.await_log("closed to make room: no file descriptor is left");
}

#[test]
fn a_flood_from_one_ipv6_address_evicts_no_session_of_its_neighbours() {
    let harness =
        require!(SessionHarness::built("tcp", "address = \"::\";", "", |builder| builder.args(&["-d9"])));
    let SessionHarness { pair, daemon, .. } = &harness;
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

/// Twenty good requests while the address 192.0.2.66 has 200 connections open.
fn serves_among_a_crowd() {
    let attacker = Ipv4Addr::new(192, 0, 2, 66).into();
    let crowd: Vec<TcpStream> = (0..200).map(|_| socket_from(attacker, address())).collect();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(client().ask(&packet(Operation::Off, "node1", SHA)).unwrap(), 0);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    drop(crowd);
}
