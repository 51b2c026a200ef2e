//! Requests in progress while the daemon stands still, or reloads its key.

use super::*;

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
        // The agent's next repetition; on a slow machine the daemon may have stood still again.
        until("the datagram is called back", LIMIT, || {
            socket.send_to(&off, ("225.0.0.12", 1229)).unwrap();
            common::elapse(Duration::from_millis(100));
            waiting.accept().is_ok()
        });
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
        let (mut back, _) = ready(&waiting).accept().unwrap();
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
