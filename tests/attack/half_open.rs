//! Half-open sessions over reloads: connections that never speak, or stop inside a message.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use fence_virt::fence::Operation;
use fence_virt::session::HANDSHAKE_LIMIT;

use crate::clients::{LIMIT, SHA, client, connect_from, exchange, key, multicast, rest};
use crate::common::client::{Client, packet};
use crate::common::daemon::auth_keys;
use crate::common::guests::request;
use crate::common::multicast::GROUP;
use crate::common::net::{GUEST_V4, HOST_V4};
use crate::common::{key_bytes, ready, require};
use crate::honest::pause;
use crate::host::{AttackedHost, guest, tcp4};

/// Connections, fewer than a listener has sessions.
const CONNECTIONS: usize = 200;
const CALL_BACKS: usize = 20;
/// Margin of a busy machine.
const MARGIN: Duration = Duration::from_secs(3);

/// Connects, sends a part of an exchange, and stops.
fn stop_inside(part: usize) -> TcpStream {
    let mut stream = connect_from(guest(66), tcp4()).unwrap();
    let bytes = packet(Operation::Off, "victim0", SHA).encode_signed(&key());
    let parts = [&bytes[..], &[0xA5; 64]].concat();
    let end = [0, 1, 88, 175, 176, 176 + 63, 176 + 64][part % 7];
    stream.write_all(&parts[..end]).unwrap();
    stream
}

/// Asserts that a stream is open, and reads what the daemon has sent.
fn assert_open(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 256]) {
            Ok(0) => panic!("closed before its time"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("closed before its time: {error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
}

#[test]
fn half_open_sessions_neither_hold_up_a_reload_nor_outlive_their_limit() {
    let (host, mut line) = require!(AttackedHost::with_line());
    host.own(&[66, 67]);
    let listeners = [
        host.listener("tcp", &format!("address = \"{HOST_V4}\";")),
        host.listener("multicast", "interface = \"eth0\";"),
        host.serial(),
    ];
    let group = format!("ip = \"{GUEST_V4}\"; uuid = \"victim0\"; uuid = \"victim1\";");
    let groups = [String::new(), format!("groups {{ group {{ {group} }} }}")];
    let daemon = host.start(&host.conf(&listeners, &groups[0]));
    line.accept();
    host.pair.guest.inside(|| {
        let begun = Instant::now();
        let mut half_open: Vec<TcpStream> = (0..CONNECTIONS).map(stop_inside).collect();
        let silent = TcpListener::bind((guest(67), 0)).unwrap();
        let datagrams = UdpSocket::bind((guest(67), 0)).unwrap();
        for _ in 0..CALL_BACKS {
            let request = multicast(Operation::Off, "victim0", silent.local_addr().unwrap());
            datagrams.send_to(&request.encode_signed(&key()), (GROUP, 1229)).unwrap();
            let stream = ready(&silent).accept().unwrap().0;
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            half_open.push(stream);
        }
        line.line().write_all(&request(Operation::Off, "victim0", 1)[..40]).unwrap();
        let opened = begun.elapsed();
        for round in 1..=4 {
            daemon.reload(&host.dir, &host.conf(&listeners, &groups[round % 2]));
            let asked = Instant::now();
            assert_eq!(client(tcp4()).ask(&packet(Operation::Off, "victim1", SHA)).unwrap(), 0);
            assert_eq!(client(tcp4()).ask(&packet(Operation::On, "victim1", SHA)).unwrap(), 0);
            assert!(asked.elapsed() < MARGIN, "{:?}", asked.elapsed());
            pause((2 * round as u32 * Duration::from_secs(1)).saturating_sub(begun.elapsed()));
        }
        assert!(daemon.log().matches("reloaded ").count() == 4, "{}", daemon.log());
        if begun.elapsed() < HANDSHAKE_LIMIT - Duration::from_secs(1) {
            half_open.iter_mut().for_each(assert_open);
        }
        for stream in &mut half_open {
            assert!(matches!(rest(stream).len(), 0 | 128), "no verdict without a proof");
        }
        let took = begun.elapsed();
        assert!(took < opened + HANDSHAKE_LIMIT + MARGIN, "a reload starts no limit anew: {took:?}");
    });
    assert_eq!(line.ask(Operation::Status, "victim1"), 0, "half a request is noise\n{}", daemon.log());
    assert!(!daemon.log().contains("off \"victim0\": success"), "{}", daemon.log());
}

#[test]
fn a_key_that_a_reload_takes_away_finishes_no_request_that_had_not_arrived() {
    let host = require!(AttackedHost::new());
    host.dir.key("new", b'n');
    let conf = |key: &str, groups: &str| {
        let keys = auth_keys(&host.dir.path(key), "sha256", "sha256");
        host.conf(&[("tcp".to_owned(), format!("address = \"{HOST_V4}\"; {keys}"))], groups)
    };
    let daemon = host.start(&conf("key", ""));
    host.pair.guest.inside(|| {
        let connect = |to: SocketAddr, key: u8| Client::connect(to, &key_bytes(key), SHA, LIMIT).unwrap();
        let bytes = packet(Operation::Off, "victim0", SHA).encode_signed(&key());
        let mut silent = connect(tcp4(), b'k');
        let mut half = connect(tcp4(), b'k');
        half.stream.write_all(&bytes[..88]).unwrap();
        let mut arrived = connect(tcp4(), b'k');
        arrived.send(&packet(Operation::Off, "victim1", SHA)).unwrap();
        // The daemon has read it.
        let [_, _] = exchange(&mut arrived.stream, &[0xA5; 64]).unwrap();
        let denies = "groups { group { ip = \"192.0.2.99\"; uuid = \"victim1\"; } }";
        daemon.reload(&host.dir, &conf("new", denies));
        half.stream.write_all(&bytes[88..]).unwrap();
        assert_eq!(rest(&mut half.stream), []);
        silent.send(&packet(Operation::Off, "victim0", SHA)).unwrap();
        assert_eq!(rest(&mut silent.stream), []);
        assert_eq!(rest(&mut arrived.stream), [], "nor one that had arrived, without its proof");
        assert_eq!(connect(tcp4(), b'n').ask(&packet(Operation::Status, "victim1", SHA)).unwrap(), 3);
    });
    daemon.await_log("its sha256 signature is invalid");
}
