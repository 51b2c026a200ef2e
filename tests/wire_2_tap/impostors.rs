//! Recorded challenges and answers to agents, from an impostor in the place of the daemon.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::thread;

use fence_virt::fence::Operation;
use fence_virt::wire::PACKET_LEN;

use crate::common::agent::AgentRun;
use crate::common::net::{GUEST_V4, HOST_V4};
use crate::common::{ready, require, until};
use crate::exchange::{Exchange, Listener, PROOF};
use crate::lab::{Lab, assert_failed};
use crate::recorded::recorded;
use crate::relay::{LIMIT, limited};

/// Gives an agent a recorded challenge, and a recorded answer to its proof. Asserts that it gives no proof.
pub fn deceive(stream: &mut (impl Read + Write), challenge: &Exchange, answer: &Exchange) {
    stream.write_all(&challenge.challenge).unwrap();
    let mut proof = [0; PROOF];
    let read = stream.read(&mut proof);
    // It may have closed.
    let _ = stream.write_all(&answer.answer);
    match read {
        Ok(length) => assert_eq!(length, 0, "the agent gives a proof: {challenge:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it neither proves nor closes"),
    }
}

#[test]
fn an_agent_believes_no_recorded_messages_by_tcp() {
    let recorded = require!(recorded());
    let lab = require!(Lab::new());
    let impostor = |listener: Listener| {
        let waiting = lab.pair.host.inside(|| TcpListener::bind((HOST_V4, listener.port())).unwrap());
        for challenge in recorded {
            for answer in recorded {
                let mut agent = lab.agent(&lab.pair.guest, listener, answer.operation(), "node1", 60);
                let agent = agent.spawn().unwrap();
                let (stream, _) = ready(&waiting).accept().unwrap();
                let mut stream = limited(stream);
                stream.read_exact(&mut [0; PACKET_LEN]).unwrap();
                deceive(&mut stream, challenge, answer);
                let ran: AgentRun = agent.wait_with_output().unwrap().into();
                assert_failed(&ran, "recorded messages");
                assert!(ran.stderr.contains("its challenge is not valid for our request"), "{ran:?}");
            }
        }
    };
    thread::scope(|scope| {
        for listener in [Listener::Tcp, Listener::TcpB] {
            scope.spawn(move || impostor(listener));
        }
    });
}

/// Calls an agent that waits in the guest.
///
/// # Errors
///
/// Those of connect(2) if no agent waits.
fn call(lab: &Lab, challenge: &Exchange, answer: &Exchange) -> io::Result<()> {
    lab.pair.host.inside(|| {
        TcpStream::connect((GUEST_V4, 1229)).map(|stream| deceive(&mut limited(stream), challenge, answer))
    })
}

/// Starts an agent that waits in the guest, and calls it with recorded messages.
fn called_agent(lab: &Lab, operation: Operation, seconds: u32, recorded: &Exchange) -> Child {
    let agent = lab.agent(&lab.pair.guest, Listener::Multicast, operation, "node1", seconds).spawn().unwrap();
    until("the agent waits for a call", LIMIT, || call(lab, recorded, recorded).is_ok());
    agent
}

#[test]
fn an_agent_that_waits_for_a_call_believes_no_recorded_messages() {
    let recorded = require!(recorded());
    let lab = require!(Lab::new());
    for (operation, stdout) in [
        (Operation::Status, "Status: ON"),
        (Operation::Off, ""),
        (Operation::HostList, "node1"),
        (Operation::On, ""),
    ] {
        let mut agent = called_agent(&lab, operation, 120, &recorded[0]);
        for challenge in recorded {
            for answer in recorded {
                call(&lab, challenge, answer).unwrap();
            }
        }
        assert!(agent.try_wait().unwrap().is_none(), "{operation}: it still waits for the host");
        // Now the host calls.
        let daemon = lab.daemon();
        let ran: AgentRun = agent.wait_with_output().unwrap().into();
        assert_eq!((ran.code, ran.stdout.is_empty()), (0, stdout.is_empty()), "{operation}: {ran:?}");
        assert!(ran.stdout.contains(stdout), "{operation}: {ran:?}");
        let counters = lab.counters_after(&daemon, Listener::Multicast, 1);
        assert_eq!(counters.all_carried_out(), 1, "{operation}: {}", daemon.log());
    }
}

#[test]
fn an_agent_that_only_an_impostor_calls_fails() {
    let recorded = require!(recorded());
    let lab = require!(Lab::new());
    let agent = called_agent(&lab, Operation::Status, 2, &recorded[0]);
    let ran: AgentRun = agent.wait_with_output().unwrap().into();
    assert_failed(&ran, "an impostor");
    assert!(ran.stderr.contains("its challenge is not valid for our request"), "{ran:?}");
}
