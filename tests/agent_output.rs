//! Our agent with blocked or full outputs: they change neither its result nor
//! its duration.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;

use common::agent_harness::{AgentHarness, SOON};
use common::peer::Peer;
use common::{ready, until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, write};

/// Full pipe. Keep both ends open.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while write(&writer, &[0; 4096]).is_ok() {}
    while write(&writer, &[0]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_nothing() {
    let harness = AgentHarness::new();
    for (args, answer) in [("-o off -n node1 -t 20 -d", 0), ("-o monitor -t 20", 1)] {
        let (_unread, full) = full_pipe();
        let begin = Instant::now();
        let code = thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = Peer::new(ready(&harness.listener).accept().unwrap().0);
                peer.request();
                peer.authenticate();
                peer.send(&[answer]);
            });
            harness.agent(args).stderr(full).status().unwrap().code()
        });
        assert_eq!(code, Some(answer.into()), "{args}");
        assert!(begin.elapsed() < SOON, "{args}");
    }
}

#[test]
fn a_stdout_that_takes_nothing_does_not_change_what_happened() {
    let harness = AgentHarness::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let code = |args: &str, answers: &[&[u8]]| {
        thread::scope(|scope| {
            scope.spawn(|| {
                for bytes in answers {
                    let mut peer = Peer::new(ready(&harness.listener).accept().unwrap().0);
                    peer.request();
                    peer.authenticate();
                    peer.send(bytes);
                }
            });
            harness.agent(args).stdout(full()).stderr(full()).status().unwrap().code().unwrap()
        })
    };
    let empty = fence_virt::wire::encode_host_list(&[]);
    // After status off comes a list, after an empty list a status.
    assert_eq!(code("-o status -n node1 -t 20", &[&[2], &empty]), 2);
    assert_eq!(code("-o off -n node1 -t 20", &[&[0]]), 0);
    assert_eq!(code("-o list -t 20", &[&empty, &[3]]), 0, "nothing to print");
    let entry = fence_virt::fence::HostEntry {
        name: "node1".to_owned(),
        uuid: "u".to_owned(),
        state: fence_virt::fence::PowerState::Off,
    };
    assert_eq!(code("-o list -t 20", &[&fence_virt::wire::encode_host_list(&[entry])]), 1);
    until("no connection is left over", SOON, || {
        harness.listener.set_nonblocking(true).unwrap();
        harness.listener.accept().is_err()
    });
}
