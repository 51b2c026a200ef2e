//! The reference implementation, run beside this one.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{
    Answer, Carrier, Endpoint, HostEntry, Operation, PowerState, Request, SignatureKind, Target, Verdict,
};
use fence_virt::session::{AgentSession, ClientSession, Policy, ServerSession, SessionEvent};
use fence_virt::time::Instant;
use fence_virt::wire::{PACKET_LEN, Packet, Signature};

use super::common::{Dir, Missing, require};
use super::vectors;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire_2/reference.py");
const TCP: Endpoint = Endpoint { carrier: Carrier::Tcp, port: 1229 };

fn python() -> Result<(), Missing> {
    let found = Command::new("python3").arg("--version").output();
    found.map(drop).map_err(|_| Missing("python3 is not installed".to_owned()))
}

fn reference(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(PROGRAM).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code and standard error.
fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn policy(dir: &Dir, letter: u8) -> (String, Arc<Policy>) {
    let path = dir.key(&format!("key-{letter}"), letter);
    let key = Key::new(std::fs::read(&path).unwrap());
    let policy = Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, key, TCP);
    (path.to_str().unwrap().to_owned(), Arc::new(policy))
}

/// Gives the session what the peer has written, until it has ended or `until` says so.
fn exchange(child: &mut Child, mut step: impl FnMut(&[u8], &mut dyn Write) -> bool) {
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = [0; 512];
    let mut count = 0;
    while !step(&buffer[..count], &mut stdin) {
        count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
    }
}

#[test]
fn the_document_has_the_vectors_of_the_reference() {
    require!(python());
    let output = reference(&[]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), vectors::block().trim());
}

#[test]
fn our_agent_asks_the_daemon_of_the_reference() {
    require!(python());
    let dir = Dir::new();
    let vm = |name: &str, state| HostEntry { name: name.into(), uuid: format!("u-{name}"), state };
    let list = Answer::HostList(vec![vm("a", PowerState::Running), vm("b", PowerState::Off)]);
    for (operation, told, letter, expected) in [
        (Operation::Status, "off", b'k', Some(Verdict::Off.into())),
        (Operation::Off, "success", b'k', Some(Verdict::Success.into())),
        (Operation::HostList, "list:a/u-a/on,b/u-b/off", b'k', Some(list)),
        (Operation::HostList, "list:", b'k', Some(Answer::HostList(Vec::new()))),
        (Operation::Off, "success", b'w', None),
    ] {
        let (_, ours) = policy(&dir, b'k');
        let (path, _) = policy(&dir, letter);
        let mut child = reference(&["daemon", &path, "tcp", "1229", told]).spawn().unwrap();
        let request = Request { operation, target: Target::new(b"node1").unwrap(), seqno: 5 };
        let signature = Signature::without_mac(ours.key.id(), [3; 16]);
        let packet = Packet { request, signature, ..Packet::decode(&[0; PACKET_LEN]).unwrap() };
        let mut session = ClientSession::opening(ours, &packet, [7; 64]);
        let mut answer = None;
        exchange(&mut child, |mut heard, peer| {
            answer = session.receive(&mut heard).unwrap();
            // It may have ended already.
            let _ = peer.write_all(session.output());
            session.sent(session.output().len());
            answer.is_some()
        });
        let (code, said) = ended(child);
        assert_eq!(answer, expected, "{operation:?} {told}: {said}");
        assert_eq!(code, Some(if expected.is_some() { 0 } else { 1 }), "{said}");
    }
}

#[test]
fn the_agent_of_the_reference_asks_our_daemon() {
    require!(python());
    let dir = Dir::new();
    let entry = HostEntry { name: "a".into(), uuid: "u-a".into(), state: PowerState::Off };
    for (operation, answer, letter, expected) in [
        ("status", Verdict::Off.into(), b'k', Some("off")),
        ("off", Verdict::Failure.into(), b'k', Some("failure")),
        ("hostlist", Answer::HostList(vec![entry]), b'k', Some("a u-a 5")),
        ("off", Verdict::Success.into(), b'w', None),
    ] {
        let (_, ours) = policy(&dir, b'k');
        let (path, _) = policy(&dir, letter);
        let mut child = reference(&["agent", &path, "tcp", "1229", operation, "node1"]).spawn().unwrap();
        let mut session = ServerSession::accepted(ours, [9; 32], Instant::now());
        let mut misconduct = None;
        exchange(&mut child, |mut heard, peer| {
            loop {
                match session.receive(&mut heard) {
                    Ok(Some(SessionEvent::Authenticated(..))) => session.answer(&answer, Instant::now()),
                    Ok(Some(SessionEvent::Requested(..))) => {}
                    Ok(None) => break,
                    Err(error) => {
                        misconduct = Some(error);
                        return true;
                    }
                }
            }
            peer.write_all(session.output()).unwrap();
            session.sent(session.output().len());
            session.is_done()
        });
        let (code, said) = ended(child);
        assert_eq!(code, Some(if expected.is_some() { 0 } else { 1 }), "{operation}: {said}");
        assert_eq!(misconduct.is_some(), expected.is_none(), "{operation}: {misconduct:?}");
        if let Some(expected) = expected {
            assert!(said.lines().any(|line| line == expected), "{operation}: {said:?}");
        }
    }
}
