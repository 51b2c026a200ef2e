//! Reflection: what the daemon and honest clients have sent is sent back as an answer or a challenge.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use fence_virt::fence::Operation;

use crate::clients::{Recording, SHA, client, connect_from, exchange, key, multicast, rest};
use crate::common::client::packet;
use crate::common::net::HOST_V4;
use crate::common::{ready, require};
use crate::host::{AttackedHost, guest, port, tcp4};

/// Challenge that the daemon answers.
const HARMLESS: [u8; 64] = [0xA5; 64];

/// Connection with a signed request that was recorded, but has not arrived: the daemon waits for
/// the challenge.
fn challenged(to: SocketAddr) -> TcpStream {
    let mut stream = connect_from(guest(2), to).unwrap();
    stream.write_all(&packet(Operation::Off, "victim0", SHA).encode_signed(&key())).unwrap();
    stream
}

/// Connection of a call-back for a recorded datagram.
fn called_back(datagrams: &UdpSocket) -> TcpStream {
    let waiting = TcpListener::bind((guest(2), 0)).unwrap();
    let request = multicast(Operation::Off, "victim0", waiting.local_addr().unwrap());
    datagrams.send_to(&request.encode_signed(&key()), ("225.0.0.12", 1229)).unwrap();
    let stream = ready(&waiting).accept().unwrap().0;
    stream.set_read_timeout(Some(crate::clients::LIMIT)).unwrap();
    stream
}

/// Sends a proof; the daemon must close without an answer.
fn assert_no_proof(mut stream: TcpStream, proof: &[u8], what: &str) {
    // The daemon may have closed it.
    let _ = stream.write_all(proof);
    assert_eq!(rest(&mut stream), [], "{what}");
}

#[test]
fn nothing_that_was_sent_before_is_a_proof_or_gets_an_answer() {
    let host = require!(AttackedHost::new());
    let place = format!("address = \"{HOST_V4}\";");
    let conf = host.conf(
        &[
            host.listener("tcp", &place),
            host.listener("tcp:other", &format!("{place} port = \"1300\";")),
            host.listener("multicast", "interface = \"eth0\";"),
        ],
        "",
    );
    let daemon = host.start(&conf);
    // Another daemon with the key, as on another host.
    let second = host.start(&host.conf(&[host.listener("tcp", &format!("{place} port = \"1301\";"))], ""));
    host.pair.guest.inside(|| {
        let recorded = Recording::of(tcp4(), Operation::On, "victim0");
        let datagrams = UdpSocket::bind((guest(2), 0)).unwrap();
        let connections: [(&str, &dyn Fn() -> TcpStream); 4] = [
            ("tcp", &|| challenged(tcp4())),
            ("another listener", &|| challenged(port(1300))),
            ("another daemon", &|| challenged(port(1301))),
            ("call-back", &|| called_back(&datagrams)),
        ];
        for (name, connect) in connections {
            // As a proof: the daemon's own bytes, and those of an honest client.
            for what in ["its challenge", "its answer", "an old proof", "a signature", "zeros"] {
                let mut stream = connect();
                let [answer, issued] = exchange(&mut stream, &HARMLESS).unwrap();
                let proof = match what {
                    "its challenge" => issued,
                    "its answer" => answer,
                    "an old proof" => recorded.proof,
                    "a signature" => recorded.request[112..].try_into().unwrap(),
                    _ => [0; 64],
                };
                assert_no_proof(stream, &proof, &format!("{name}: {what}"));
            }
            // As a challenge: that of each other connection, to get it answered.
            for (other, ask) in connections {
                let mut open = connect();
                let [_, issued] = exchange(&mut open, &HARMLESS).unwrap();
                let what = format!("the challenge of {name} sent to {other}");
                assert!(exchange(&mut ask(), &issued).is_err(), "{what}");
                // One that is altered is answered, and the answer is worth nothing.
                let mut altered = issued;
                altered[40] ^= 1;
                let [answer, _] = exchange(&mut ask(), &altered).unwrap();
                assert_no_proof(open, &answer, &what);
            }
        }
        // Each byte counts: only the true answer is one.
        let mut stream = challenged(tcp4());
        let [_, issued] = exchange(&mut stream, &HARMLESS).unwrap();
        let mut proof = *key().expected(SHA, &issued).as_bytes();
        proof[63] ^= 1;
        assert_no_proof(stream, &proof, "the last byte");
        assert_eq!(client(tcp4()).ask(&packet(Operation::Status, "victim0", SHA)).unwrap(), 0, "it runs");
    });
    daemon.await_log("reflection attack");
    second.await_log("reflection attack");
    for daemon in [daemon, second] {
        assert!(!daemon.log().contains("off \"victim0\": success"), "{}", daemon.log());
    }
}
