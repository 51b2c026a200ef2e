//! Recorded messages over vsock: to the daemon, and to agents from an impostor.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Carrier, Endpoint, Operation, Request, SignatureKind, Target};
use fence_virt::session::{AgentSession, ClientSession, Policy};
use fence_virt::sys::vsock;
use fence_virt::wire::{PACKET_LEN, Packet, Signature};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::common::agent::AgentRun;
use crate::common::{Missing, key_bytes, met, ready, require};
use crate::exchange::{CHALLENGE, Exchange, Listener, PROOF};
use crate::impostors::deceive;
use crate::lab::{Lab, assert_failed};
use crate::relay::{LIMIT, rest};
use crate::to_daemon::prove;

const OPERATIONS: [Operation; 4] = [Operation::Off, Operation::Status, Operation::HostList, Operation::On];

/// Nothing can stand between an agent and the daemon here, so a client of the library takes the agent's place.
fn record(operation: Operation) -> Exchange {
    let endpoint = Endpoint { carrier: Carrier::Vsock, port: Listener::Vsock.port().into() };
    let key = Key::new(key_bytes(b'k'));
    let packet = Packet {
        request: Request {
            operation,
            target: Target::new(b"node1").unwrap(),
            seqno: u32::from_le_bytes(random()),
        },
        signature: Signature::without_mac(key.id(), random()),
        ..Packet::decode(&[0; PACKET_LEN]).unwrap()
    };
    let policy = Arc::new(Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, key, endpoint));
    let mut session = ClientSession::opening(policy, &packet, random());
    let mut stream = connected();
    let request = *session.output().first_chunk().unwrap();
    stream.write_all(&request).unwrap();
    session.sent(PACKET_LEN);
    let mut challenge = [0; CHALLENGE];
    stream.read_exact(&mut challenge).unwrap();
    assert_eq!(session.receive(&mut &challenge[..]), Ok(None));
    let proof: [u8; PROOF] = session.output().try_into().unwrap();
    stream.write_all(&proof).unwrap();
    session.sent(PROOF);
    let answer = rest(&mut stream);
    assert!(session.receive(&mut &answer[..]).is_ok_and(|answer| answer.is_some()), "{operation}");
    Exchange { listener: Listener::Vsock, request, challenge, proof, answer }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Blocking stream whose reads have a limit.
fn blocking(fd: OwnedFd) -> File {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let limit = TimeVal::seconds(LIMIT.as_secs().try_into().unwrap());
    setsockopt(&fd, sockopt::ReceiveTimeout, &limit).unwrap();
    File::from(fd)
}

/// Connection to the daemon.
fn connected() -> File {
    let fd = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let address = VsockAddr::new(libc::VMADDR_CID_LOCAL, Listener::Vsock.port().into());
    connect(fd.as_raw_fd(), &address).unwrap();
    blocking(fd)
}

fn loopback() -> Result<(), Missing> {
    met(vsock::has_loopback(), "it needs vsock connections to this machine (modprobe vsock_loopback)")
}

#[test]
#[ignore = "needs vsock loopback: tests/e2e/vsock-tap.sh runs it in a guest"]
fn recorded_messages_are_nothing_over_vsock() {
    require!(loopback());
    let lab = require!(Lab::new());
    let agent = |operation| lab.agent(&lab.pair.host, Listener::Vsock, operation, "node1", 60);
    let daemon = lab.daemon_with(&[Listener::Vsock]);
    let rounds = OPERATIONS.iter().chain(&OPERATIONS);
    let recorded: Vec<Exchange> = rounds.map(|operation| record(*operation)).collect();
    assert!(daemon.stop(LIMIT).success());
    let daemon = lab.daemon_with(&[Listener::Vsock]);
    for request in &recorded {
        for proof in &recorded {
            let mut stream = connected();
            stream.write_all(&request.request).unwrap();
            assert!(prove(&mut stream, proof), "{request:?} is not challenged");
        }
    }
    let counters = lab.counters(&daemon);
    assert_eq!(counters.all_carried_out(), 0, "{}", daemon.log());
    assert_eq!(counters.refused(Listener::Vsock, "proof"), recorded.len() * recorded.len());
    // The agent finds this daemon: it would find an impostor.
    let ran: AgentRun = agent(Operation::Status).output().unwrap().into();
    assert_eq!((ran.code, ran.stdout.trim()), (0, "Status: ON"), "{ran:?}");
    assert!(daemon.stop(LIMIT).success());
    let waiting = vsock::listen(Listener::Vsock.port().into()).unwrap();
    for challenge in &recorded {
        for answer in &recorded {
            let agent = agent(answer.operation()).spawn().unwrap();
            let (stream, _) = vsock::accept(ready(&waiting)).unwrap();
            let mut stream = blocking(stream);
            stream.read_exact(&mut [0; PACKET_LEN]).unwrap();
            deceive(&mut stream, challenge, answer);
            let ran: AgentRun = agent.wait_with_output().unwrap().into();
            assert_failed(&ran, "recorded messages");
            assert!(ran.stderr.contains("its challenge is not valid for our request"), "{ran:?}");
        }
    }
}
