//! Replay of an authenticated request: at once, later, after a restart, and elsewhere.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fence_virt::fence::Operation;
use fence_virt::history::HOLD;
use fence_virt::wire::PACKET_LEN;

use crate::clients::{LIMIT, Recording, SHA, client, connect_from, exchange, key, multicast, rest};
use crate::common::agent::{Agent, AgentTransport, Programs};
use crate::common::client::{Client, packet};
use crate::common::daemon::{Daemon, auth_keys};
use crate::common::multicast::{GROUP, MulticastReceiver};
use crate::common::net::{GUEST_V4, HOST_V4};
use crate::common::{Suite, key_bytes, require, until};
use crate::host::{AttackedHost, guest, port, tcp4};

/// Margin of a clock that the test reads before or after the daemon does.
const MARGIN: Duration = Duration::from_millis(500);

/// Sends everything that was recorded, step by step. Returns what the daemon sends.
fn replay(recording: &Recording, to: SocketAddr) -> Vec<u8> {
    let mut stream = connect_from(guest(66), to).unwrap();
    stream.write_all(&recording.request).unwrap();
    // The daemon may close after the request.
    let Ok(both) = exchange(&mut stream, &recording.challenge) else { return Vec::new() };
    stream.write_all(&recording.proof).unwrap();
    [both.concat(), rest(&mut stream)].concat()
}

/// Asserts that a replay gets as far as the challenges, which are new, and no further.
fn assert_stopped_by_the_challenge(recording: &Recording, to: SocketAddr, place: &str) {
    let sent = replay(recording, to);
    assert_eq!(sent.len(), 128, "{place}: both challenges, and no verdict");
    assert_eq!(sent[..64], recording.answer, "{place}: the old answer to the old challenge");
    assert_ne!(sent[64..], recording.issued, "{place}: a new challenge");
}

fn runs(at: SocketAddr, vm: &str) -> bool {
    client(at).ask(&packet(Operation::Status, vm, SHA)).unwrap() == 0
}

fn offs(daemon: &Daemon) -> usize {
    daemon.log().matches("off \"victim0\": success").count()
}

#[test]
fn a_recorded_request_is_not_carried_out_again() {
    let host = require!(AttackedHost::new());
    host.own(&[66]);
    let place = format!("address = \"{HOST_V4}\";");
    let listeners = [
        host.listener("tcp", &place),
        host.listener("tcp:other", &format!("{place} port = \"1300\";")),
        host.listener("multicast", "interface = \"eth0\";"),
    ];
    let conf = host.conf(&listeners, "");
    let daemon = host.start(&conf);
    let second = host.start(&host.conf(&[host.listener("tcp", &format!("{place} port = \"1301\";"))], ""));
    let recording = host.pair.guest.inside(|| {
        let recording = Recording::of(tcp4(), Operation::Off, "victim0");
        let carried_out = Instant::now();
        assert_eq!(client(tcp4()).ask(&packet(Operation::On, "victim0", SHA)).unwrap(), 0);
        assert_eq!(replay(&recording, tcp4()), [], "at once: a duplicate");
        assert_stopped_by_the_challenge(&recording, port(1300), "another listener");
        assert_stopped_by_the_challenge(&recording, port(1301), "another host");
        let datagrams = UdpSocket::bind((guest(66), 0)).unwrap();
        datagrams.send_to(&recording.request, (GROUP, 1229)).unwrap();
        daemon.await_log("family and length of the call-back address do not match");
        // Until it is forgotten.
        until("the request counts as new", HOLD + LIMIT, || !replay(&recording, tcp4()).is_empty());
        assert!(carried_out.elapsed() > HOLD - MARGIN, "{:?}", carried_out.elapsed());
        assert_stopped_by_the_challenge(&recording, tcp4(), "after 10 s");
        assert!(runs(tcp4(), "victim0"));
        recording
    });
    assert_eq!((offs(&daemon), offs(&second)), (1, 0));
    assert!(daemon.stop(LIMIT).success());
    let restarted = host.start(&conf);
    host.pair.guest.inside(|| {
        assert_stopped_by_the_challenge(&recording, tcp4(), "after a restart");
        assert!(runs(tcp4(), "victim0"));
    });
    assert_eq!(offs(&restarted), 0);
}

#[test]
fn without_auth_a_recorded_request_is_carried_out_again() {
    // As SECURITY.md says: the wire has nothing else than the challenges that tells when a request was made.
    let host = require!(AttackedHost::new());
    let listener = |port: u16| {
        let keys = auth_keys(&host.dir.path("key"), "sha256", "none");
        format!("address = \"{HOST_V4}\"; port = \"{port}\"; {keys}")
    };
    let listeners = [("tcp".to_owned(), listener(1229)), ("tcp:other".to_owned(), listener(1300))];
    let daemon = host.start(&host.conf(&listeners, ""));
    host.pair.guest.inside(|| {
        let ask = |at, operation| {
            let mut client =
                Client::connect(at, &key_bytes(b'k'), fence_virt::auth::HashKind::None, LIMIT).unwrap();
            client.ask(&packet(operation, "victim0", SHA)).unwrap()
        };
        let recorded: [u8; PACKET_LEN] = packet(Operation::Off, "victim0", SHA).encode_signed(&key());
        let replay = |at| {
            let mut stream = connect_from(guest(2), at).unwrap();
            stream.write_all(&recorded).unwrap();
            rest(&mut stream)
        };
        assert_eq!((replay(tcp4()), ask(tcp4(), Operation::On)), (vec![0], 0));
        assert_eq!(replay(tcp4()), [], "at once: a duplicate");
        assert_eq!((replay(port(1300)), ask(tcp4(), Operation::On)), (vec![0], 0), "another listener");
        until("it counts as new", HOLD + LIMIT, || replay(tcp4()) == [0]);
        assert_eq!(ask(tcp4(), Operation::Status), 2, "it is off");
    });
    assert_eq!(offs(&daemon), 3);
}

/// Host with a multicast listener, a recorded off of `victim0` by multicast that was carried out, and
/// forgotten since.
fn recorded_multicast(host: &AttackedHost, daemon: &Daemon) -> [u8; PACKET_LEN] {
    let programs = Programs::of(Suite::Ours, &host.dir);
    let key = host.dir.path("key");
    let agent = Agent::new(&programs, &host.pair.guest, AgentTransport::Multicast("ipv4"), &key);
    // Another machine of the network's segment hears it: here a socket of the host.
    let receiver = host.pair.host.inside(|| MulticastReceiver::new(HOST_V4.parse().unwrap()));
    assert_eq!((agent.code("off", "victim0"), agent.code("on", "victim0")), (0, 0));
    let packet = loop {
        let (packet, _) = receiver.receive();
        if packet.request.operation == Operation::Off {
            break packet;
        }
    };
    assert_eq!(offs(daemon), 1);
    packet.encode()
}

/// Sends the datagram until the daemon calls back: it drops duplicates for 10 s.
fn await_call_back(recorded: &[u8; PACKET_LEN], daemon: &Daemon, done: impl Fn() -> bool) {
    let datagrams = UdpSocket::bind((GUEST_V4, 0)).unwrap();
    until(&format!("it is called back\n{}", daemon.log()), HOLD + 2 * LIMIT, || {
        datagrams.send_to(recorded, (GROUP, 1229)).unwrap();
        done()
    });
}

#[test]
fn a_recorded_datagram_is_called_back_and_needs_a_proof() {
    let host = require!(AttackedHost::new());
    let daemon = host.start(&host.conf(&[host.listener("multicast", "interface = \"eth0\";")], ""));
    let recorded = recorded_multicast(&host, &daemon);
    // An attacker who has the client's address, and nobody else.
    host.pair.guest.inside(|| {
        let waiting = TcpListener::bind((GUEST_V4, 1229)).unwrap();
        waiting.set_nonblocking(true).unwrap();
        let back = std::cell::RefCell::new(None);
        await_call_back(&recorded, &daemon, || {
            *back.borrow_mut() = waiting.accept().ok();
            back.borrow().is_some()
        });
        let mut stream: TcpStream = back.into_inner().unwrap().0;
        stream.set_nonblocking(false).unwrap();
        exchange(&mut stream, &[0xA5; 64]).unwrap();
        stream.write_all(&recorded[112..]).unwrap();
        assert_eq!(rest(&mut stream), []);
    });
    daemon.await_log("its answer to the challenge is wrong");
    // An agent of ours that waits at the port for another answer recognises it.
    let requests = |agents: &Programs| {
        let key = host.dir.path("key");
        let mut agent = host.pair.guest.command(&agents.xvm);
        // Its datagrams go nowhere: to a group without a host.
        agent.args(["-a", "225.0.0.99", "-o", "status", "-n", "victim1", "-t", "20", "-k"]).arg(key);
        agent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ours = requests(&Programs::of(Suite::Ours, &host.dir));
    host.pair.guest.inside(|| {
        await_call_back(&recorded, &daemon, || {
            daemon.log().contains("before sending its answer to the challenge")
        });
    });
    assert_eq!(offs(&daemon), 1, "the off that was recorded, and no other");
    let ran = ours.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    // A C agent answers any challenge, as SECURITY.md says: the wire does not tie one to a request.
    let theirs = requests(&Programs::deployed());
    host.pair.guest.inside(|| await_call_back(&recorded, &daemon, || offs(&daemon) == 2));
    theirs.wait_with_output().unwrap();
}

#[test]
fn a_recorded_datagram_is_no_request_on_tcp() {
    let host = require!(AttackedHost::new());
    let daemon = host.tcp();
    host.pair.guest.inside(|| {
        let datagram = multicast(Operation::Off, "victim0", SocketAddr::new(guest(2), 1229));
        let mut stream = connect_from(guest(2), tcp4()).unwrap();
        stream.write_all(&datagram.encode_signed(&key())).unwrap();
        assert!(exchange(&mut stream, &[0xA5; 64]).is_err(), "it is not asked for a proof");
        assert!(runs(tcp4(), "victim0"));
    });
    daemon.await_log("replay of a multicast request");
}
