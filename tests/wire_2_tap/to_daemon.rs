//! Recorded requests, datagrams and proofs to the daemon.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use fence_virt::wire::PACKET_LEN;

use crate::common::net::{GUEST_V4, HOST_V4};
use crate::common::{require, until};
use crate::exchange::{CHALLENGE, Exchange, LISTENERS, Listener};
use crate::lab::{GROUP, Lab};
use crate::recorded::{at, record, recorded};
use crate::relay::{LIMIT, called_back, limited, rest};

/// Listeners of the network that a client connects to.
const STREAMS: [Listener; 2] = [Listener::Tcp, Listener::TcpB];

/// Reads the challenge and gives a recorded proof. Asserts that there is no answer. False if there is no challenge.
pub fn prove(stream: &mut (impl Read + Write), exchange: &Exchange) -> bool {
    let mut challenge = [0; CHALLENGE];
    match stream.read_exact(&mut challenge) {
        Ok(()) => {}
        Err(error) => {
            let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "the daemon neither challenges nor closes: {error}");
            return false;
        }
    }
    stream.write_all(&exchange.proof).unwrap();
    assert_eq!(rest(stream), [], "the daemon answers a recorded proof");
    true
}

/// Gives the daemon every request with every proof, by tcp. `is_expected` says if it challenges for a request, where
/// that is sure.
fn splice(
    lab: &Lab,
    recorded: &[Exchange],
    is_expected: impl Fn(&Exchange, Listener) -> Option<bool> + Sync,
) {
    let splice_at = |listener: Listener| {
        for request in recorded {
            for proof in recorded {
                let mut stream = limited(TcpStream::connect((HOST_V4, listener.port())).unwrap());
                stream.write_all(&request.request).unwrap();
                let is_challenged = prove(&mut stream, proof);
                let expected = is_expected(request, listener);
                assert_eq!(is_challenged, expected.unwrap_or(is_challenged), "{request:?} at {listener:?}");
            }
        }
    };
    lab.pair.guest.inside(|| {
        thread::scope(|scope| {
            for listener in STREAMS {
                scope.spawn(move || splice_at(listener));
            }
        });
    });
}

#[test]
fn a_recorded_request_with_a_recorded_proof_is_nothing_by_tcp() {
    let recorded = require!(recorded());
    let lab = require!(Lab::new());
    let daemon = lab.daemon();
    splice(&lab, recorded, |request, listener| Some(request.listener == listener));
    let counters = lab.counters(&daemon);
    assert_eq!(counters.all_carried_out(), 0, "{}", daemon.log());
    for listener in STREAMS {
        let own = at(recorded, listener).count();
        assert_eq!(counters.refused(listener, "proof"), own * recorded.len(), "{listener:?}");
        let others = (recorded.len() - own) * recorded.len();
        assert_eq!(counters.refused(listener, "signature"), others, "{listener:?}");
    }
}

#[test]
fn a_recorded_request_with_a_recorded_proof_is_nothing_at_once() {
    let lab = require!(Lab::new());
    let daemon = lab.daemon();
    let recorded = record(&lab, &daemon);
    // Duplicates get no challenge; but some may have been forgotten by then.
    splice(&lab, &recorded, |request, listener| (request.listener != listener).then_some(false));
    for listener in LISTENERS {
        let own = at(&recorded, listener).count();
        let counters = lab.counters_after(&daemon, listener, own);
        assert_eq!(counters.carried_out(listener, None), own, "{}", daemon.log());
    }
}

#[test]
fn a_recorded_datagram_with_a_recorded_proof_is_nothing() {
    let recorded = require!(recorded());
    let lab = require!(Lab::new());
    let daemon = lab.daemon();
    let own = at(recorded, Listener::Multicast).count();
    lab.pair.guest.inside(|| {
        let sender = UdpSocket::bind((GUEST_V4, 0)).unwrap();
        let send = |request: &[u8; PACKET_LEN]| {
            sender.send_to(request, (GROUP, 1229)).unwrap();
        };
        // The agent's address and port.
        let waiting = TcpListener::bind((GUEST_V4, 1229)).unwrap();
        for datagram in at(recorded, Listener::Multicast) {
            for proof in recorded {
                let mut stream = called_back(&waiting, || send(&datagram.request));
                assert!(prove(&mut stream, proof), "{datagram:?}");
            }
        }
        for request in recorded.iter().filter(|exchange| exchange.listener != Listener::Multicast) {
            send(&request.request);
        }
        until("the requests of tcp are refused as datagrams", LIMIT, || {
            lab.counters(&daemon).refused_datagrams() >= recorded.len() - own
        });
        waiting.set_nonblocking(true).unwrap();
        assert!(waiting.accept().is_err(), "nobody is called back for a request of tcp");
    });
    let counters = lab.counters(&daemon);
    assert_eq!(counters.all_carried_out(), 0, "{}", daemon.log());
    assert_eq!(counters.refused(Listener::Multicast, "proof"), own * recorded.len());
}
