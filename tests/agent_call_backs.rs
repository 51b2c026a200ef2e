//! Call-backs to our fence_xvm: from strangers, from two hosts, and for the
//! request of another agent.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::net::TcpStream;
use std::time::Instant;

use common::multicast::{
    GuestNetwork, MulticastReceiver, SOON, answer_row, await_listening, call_back, call_back_from, wait,
};
use common::net::HOST_V4;
use common::node::{self, NODE1, NODE2, RUNNING, vm};
use common::peer::Peer;
use common::{Suite, require};
use fence_virt::fence::Operation;
use nix::sys::signal::Signal;

#[test]
fn strangers_that_call_back_first_do_not_keep_the_host_away() {
    let network = require!(GuestNetwork::new());
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 20").spawn().unwrap();
        let (packet, _) = receiver.receive();
        // Silent peers, more than are kept; one with a wrong answer; one that hangs up.
        let silent: Vec<Peer> = (0..20).map(|_| call_back(&packet)).collect();
        let mut liar = call_back(&packet);
        liar.take::<64>();
        liar.send(&[0; 128]);
        assert!(liar.rest().is_empty(), "it learns nothing");
        drop(call_back(&packet));
        let mut host = call_back(&packet);
        host.authenticate();
        // After the authentication all other peers are closed.
        for mut peer in silent {
            assert!(peer.is_closed_within(SOON));
        }
        assert!(TcpStream::connect(packet.callback(0).unwrap()).is_err());
        host.send(&[0]);
        wait(child)
    });
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn of_two_hosts_with_the_key_one_gets_the_proof() {
    let network = require!(GuestNetwork::new());
    for _ in 0..10 {
        let ran = network.pair.host.inside(|| {
            let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
            let child = network.agent("-o on -n node1 -t 20").spawn().unwrap();
            let (packet, _) = receiver.receive();
            let mut hosts = [call_back(&packet), call_back(&packet)];
            let asked = hosts.each_mut().map(|host| host.take::<64>());
            // Both authenticate at almost the same time.
            let proofs = [0, 1].map(|at| {
                let answer = *hosts[at].key.answer(hosts[at].auth, &asked[at]).unwrap().as_bytes();
                [answer, [0xC3; 64]].concat()
            });
            hosts[0].send_if_open(&proofs[0]);
            hosts[1].send_if_open(&proofs[1]);
            // The network decides which is first; the other is closed.
            let proven = hosts.each_mut().map(|host| host.try_take::<64>().is_some());
            assert!(proven[0] != proven[1], "one starts the VM, the other may not: {proven:?}");
            hosts[usize::from(proven[1])].send(&[0]);
            wait(child)
        });
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn a_second_agent_does_not_wait_for_the_first_ones_host() {
    let network = require!(GuestNetwork::new());
    let (first, second) = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let first = network.agent("-o off -n node1 -t 30").spawn().unwrap();
        let mut slow = call_back(&receiver.receive().0);
        slow.authenticate();
        // The first agent has released its port and waits for a slow answer.
        let second = network.agent("-o off -n node2 -t 20").spawn().unwrap();
        let (packet, _) = receiver.receive();
        assert_eq!(packet.request.target.as_str(), "node2");
        let mut host = call_back(&packet);
        host.authenticate();
        host.send(&[0]);
        let second = wait(second);
        slow.send(&[0]);
        (wait(first), second)
    });
    assert_eq!((second.code, first.code), (0, 0), "{second:?} {first:?}");
}

#[test]
fn a_request_that_was_never_sent_leaves_no_note() {
    let network = require!(GuestNetwork::new());
    assert!(network.run("-o off -n node1 -t 5 -I eth9").stderr.contains("no such interface"));
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 20").spawn().unwrap();
        let (packet, _) = receiver.receive();
        assert_eq!(packet.request.operation, Operation::Off, "and no question");
        let mut host = call_back(&packet);
        host.authenticate();
        host.send(&[0]);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_crowd_from_one_address_does_not_push_out_the_host() {
    let network = require!(GuestNetwork::new());
    network.pair.host.ip(&["addr", "add", "192.0.2.9/24", "dev", "eth0"]);
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 20").spawn().unwrap();
        let (packet, _) = receiver.receive();
        let mut host = call_back_from("192.0.2.9", &packet);
        let crowd: Vec<Peer> = (0..200).map(|_| call_back(&packet)).collect();
        host.authenticate();
        host.send(&[0]);
        drop(crowd);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// A stopped daemon has queued requests; when it resumes, it calls back for
/// agents that have exited, on a port that now belongs to another agent.
#[test]
fn a_late_call_back_for_another_request_is_not_taken() {
    let network = require!(GuestNetwork::new());
    for suite in [Suite::Ours, Suite::Theirs] {
        for (first, code_of_second) in [("-o monitor", 1), ("-o status -n node1", 1)] {
            let daemon = network.daemon(suite, "interface = \"eth0\";", &[vm("node1", NODE1, RUNNING)]);
            daemon.signal(Signal::SIGSTOP);
            let ran = network.run(&format!("{first} -t 1 -r 2"));
            assert_eq!(ran.code, 1, "{suite:?}: {ran:?}");
            let second = network.agent("-o off -n nobody -t 20 -d").spawn().unwrap();
            await_listening(&network);
            daemon.signal(Signal::SIGCONT);
            let ran = wait(second);
            assert_eq!(ran.code, code_of_second, "{suite:?} {first}: {}", ran.stderr);
            let is_listed = ran.stderr.contains("lists no VM with this name");
            assert_eq!(is_listed, suite == Suite::Ours, "{suite:?}: {}", ran.stderr);
            // The right answer is still accepted.
            let ran = network.run("-o off -n node1 -t 20");
            assert_eq!(ran.code, 0, "{suite:?}: {ran:?}");
        }
    }
}

#[test]
fn an_agent_that_was_killed_leaves_no_answer_to_the_next() {
    let network = require!(GuestNetwork::new());
    for suite in [Suite::Ours, Suite::Theirs] {
        let vms = [vm("node1", NODE1, RUNNING), vm("node2", NODE2, node::OFF)];
        let daemon = network.daemon(suite, "interface = \"eth0\";", &vms);
        daemon.signal(Signal::SIGSTOP);
        let mut killed = network.agent("-o status -n node2 -t 20").spawn().unwrap();
        await_listening(&network);
        // The first datagram has left, but has not been answered.
        assert!(killed.try_wait().unwrap().is_none());
        killed.kill().unwrap();
        killed.wait().unwrap();
        let second = network.agent("-o status -n node1 -t 20 -d").spawn().unwrap();
        await_listening(&network);
        daemon.signal(Signal::SIGCONT);
        let ran = wait(second);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "Status: ON\n"), "{suite:?}: {}", ran.stderr);
    }
}

#[test]
fn a_host_that_may_have_older_answers_gets_no_proof_before_they_are_over() {
    let network = require!(GuestNetwork::new());
    network.pair.host.ip(&["addr", "add", "192.0.2.9/24", "dev", "eth0"]);
    assert_eq!(network.run("-o off -n older -t 1").code, 1);
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 30 -r 100").spawn().unwrap();
        answer_row(&receiver, HOST_V4);
        let (request, _) = receiver.receive();
        assert_eq!(request.request.operation, Operation::Off);
        // A host that has not answered the sync probe calls first.
        let mut other = call_back_from("192.0.2.9", &request);
        other.prove();
        assert!(other.rest().is_empty(), "it gets no proof");
        answer_row(&receiver, "192.0.2.9");
        let (again, _) = receiver.receive();
        assert_eq!(again.request, request.request);
        let mut other = call_back_from("192.0.2.9", &again);
        other.authenticate();
        other.send(&[0]);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_host_that_dies_after_the_proof_is_a_failure_at_once() {
    let network = require!(GuestNetwork::new());
    let begin = Instant::now();
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 30").spawn().unwrap();
        let mut host = call_back(&receiver.receive().0);
        host.authenticate();
        drop(host);
        wait(child)
    });
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("hung up after our answer") && begin.elapsed() < SOON, "{ran:?}");
}

#[test]
fn without_auth_the_first_who_calls_back_is_believed() {
    let network = require!(GuestNetwork::new());
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o status -n node1 -t 20 -C none").spawn().unwrap();
        call_back(&receiver.receive().0).send(&[0]);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}
