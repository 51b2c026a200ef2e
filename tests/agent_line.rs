//! Agents on serial lines and vmchannels, ours and the C ones, against a peer
//! that a test scripts.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{AgentRun, OURS, VIRT};
use common::line::{LinePeer, Pty, REQUEST_LEN, list, on_line, response, run, run_directory, with_run};
use common::{Dir, ready, require, root_and_c_suite, until};
use fence_virt::session::SYNC_PROBE_LEN;

/// Our agent and the C agent.
const AGENTS: [&str; 2] = [OURS, VIRT];

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn requests_on_a_line_are_those_of_the_c_agent() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    for args in ["-o off -n node1", "-o list", "-o monitor", "-o on -n 11111111-aaaa-4111-8111-111111111111"]
    {
        let bytes =
            AGENTS.map(|agent| {
                let pty = Pty::new();
                let peer = LinePeer::new(pty.peer_end(), |request| {
                    if request[4] == 6 { list(&[("a", 1)]) } else { response(0) }
                });
                let ran = run(&mut on_line(&dir, agent, &pty.path), args);
                assert_eq!(ran.code, 0, "{agent} {args}: {ran:?}");
                let requests = peer.requests();
                assert_eq!(requests.len(), 1, "{agent} {args}");
                // The sequence number differs each time.
                requests[0][..70].to_vec()
            });
        assert_eq!(bytes[0], bytes[1], "{args}");
    }
}

#[test]
fn answers_on_a_line_are_exit_codes() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    for agent in AGENTS {
        let pty = Pty::new();
        for (operation, byte, code) in [
            ("status", 0, 0),
            ("status", 2, 2),
            ("status", 1, 1),
            ("status", 3, 3),
            ("off", 0, 0),
            ("off", 1, 1),
            ("off", 3, 3),
            ("reboot", 0, 0),
            ("on", 0, 0),
            ("monitor", 0, 0),
            ("monitor", 1, 1),
        ] {
            // After a failure the agent asks for the list, which has the VM.
            let peer = LinePeer::new(pty.peer_end(), move |request| match request[4] {
                6 => list(&[("node1", 1)]),
                _ => response(byte),
            });
            let ran = run(&mut on_line(&dir, agent, &pty.path), &format!("-o {operation} -n node1 -t 20"));
            assert_eq!(ran.code, code, "{agent} {operation} {byte}: {ran:?}");
            drop(peer);
        }
        let peer = LinePeer::new(pty.peer_end(), |_| list(&[("node1", 1), ("node2", 5)]));
        let ran = run(&mut on_line(&dir, agent, &pty.path), "-o list -t 20");
        let expected = format!("{:32} uuid-node1 on\n{:32} uuid-node2 off\n", "node1", "node2");
        assert_eq!((ran.code, ran.stdout), (0, expected), "{agent}");
        drop(peer);
    }
}

/// Noise around responses.
const NOISE: [&[u8]; 7] =
    [b"", b"a", b"abb", b"abba", b"login: root\r\n# abbabb", b"abba\xffabba\x07", b"\0\0\0\xff\xfe"];

#[test]
fn noise_before_between_and_inside_does_not_hide_the_answer() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pty = Pty::new();
    for noise in NOISE {
        for split in 0..=4 {
            if split == 4 && noise.first() == Some(&0) {
                continue; // Together they are a response.
            }
            // The beginning of a response, noise, then the whole response.
            let answer = [noise, &response(0)[..split], noise, &response(2)].concat();
            let peer = LinePeer::new(pty.peer_end(), move |_| answer.clone());
            let ran = run(&mut on_line(&dir, OURS, &pty.path), "-o status -n node1 -t 20");
            drop(peer);
            assert_eq!(ran.code, 2, "{noise:?} {split}: {ran:?}");
        }
        let answer = [noise, &list(&[("node1", 1)])].concat();
        let peer = LinePeer::new(pty.peer_end(), move |_| answer.clone());
        let ran = run(&mut on_line(&dir, OURS, &pty.path), "-o list -t 20");
        drop(peer);
        assert_eq!(ran.code, 0, "{noise:?}: {ran:?}");
        assert!(ran.stdout.starts_with("node1 "), "{noise:?}: {ran:?}");
    }
}

#[test]
fn silence_other_answers_and_a_line_that_breaks_are_failures_in_time() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let whole = list(&[("node1", 1)]);
    let mut spoilt = whole.clone();
    spoilt.insert(40, b'x');
    for (what, operation, answer) in [
        ("nothing", "off", vec![]),
        ("half a response", "off", b"abb".to_vec()),
        ("not a valid answer", "off", response(2)),
        ("an unknown byte", "off", response(9)),
        ("a list", "off", whole.clone()),
        ("success to a list", "list", response(0)),
        ("half a list", "list", whole[..200].to_vec()),
        ("a list without its end", "list", whole[..whole.len() - 5].to_vec()),
        ("a spoilt list", "list", spoilt),
    ] {
        let pty = Pty::new();
        let peer = LinePeer::new(pty.peer_end(), move |_| answer.clone());
        let begin = Instant::now();
        let ran = run(&mut on_line(&dir, OURS, &pty.path), &format!("-o {operation} -n node1 -t 1"));
        drop(peer);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{what}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{what}: {ran:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
    }
    // The host closes its side of the line.
    let Pty { master, slave, path } = Pty::new();
    let child = on_line(&dir, OURS, &path)
        .args(["-o", "off", "-n", "node1", "-t", "20"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let peer = LinePeer::new(master.try_clone().unwrap(), |_| Vec::new());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| AgentRun::from(child.wait_with_output().unwrap()));
        until("the request is here", LIMIT, || peer.count() > 0);
        drop((peer, master, slave));
        let ran = waiting.join().unwrap();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(!ran.stderr.contains("imed out"), "{ran:?}");
    });
}

/// Vmchannel: a TCP port whose connections are all the same line.
struct Channel {
    listener: TcpListener,
}

impl Channel {
    fn new() -> Channel {
        Channel { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn command(&self, run: &Path, agent: &str) -> Command {
        let port = self.listener.local_addr().unwrap().port().to_string();
        let mut command = with_run(run, Path::new(agent));
        command.args(["-A", "127.0.0.1", "-p", &port]).stdin(Stdio::null());
        command
    }

    /// Runs an agent and answers each request with the bytes of `answer`.
    fn run(
        &self,
        command: &mut Command,
        args: &str,
        answer: impl FnMut(&[u8; REQUEST_LEN]) -> Vec<u8> + Send + 'static,
    ) -> (AgentRun, Vec<[u8; REQUEST_LEN]>) {
        thread::scope(|scope| {
            let peer = scope.spawn(|| {
                let stream: TcpStream = ready(&self.listener).accept().unwrap().0;
                LinePeer::new(stream, answer)
            });
            let ran = run(command, args);
            (ran, peer.join().unwrap().requests())
        })
    }
}

#[test]
fn a_vmchannel_carries_the_same_as_a_line() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let channel = Channel::new();
    let command = |agent| channel.command(&run_directory(&dir), agent);
    for args in ["-o off -n node1", "-o list"] {
        let requests = AGENTS.map(|agent| {
            let answer = |request: &[u8; 74]| if request[4] == 6 { list(&[("a", 1)]) } else { response(0) };
            let (ran, requests) = channel.run(&mut command(agent), args, answer);
            assert_eq!(ran.code, 0, "{agent}: {ran:?}");
            requests.iter().map(|request| request[..70].to_vec()).collect::<Vec<_>>()
        });
        assert_eq!(requests[0], requests[1], "{args}");
    }
    for noise in NOISE {
        let answer = [noise, &response(0)].concat();
        let (ran, _) = channel.run(&mut command(OURS), "-o status -n node1 -t 20", move |_| answer.clone());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "Status: ON\n"), "{noise:?}: {ran:?}");
    }
    let (ran, requests) = channel.run(&mut command(OURS), "-o off -n node1 -t 1", |_| Vec::new());
    assert_eq!((ran.code, requests.len()), (1, 1));
    assert!(ran.stderr.contains("timed out after 1 s"), "{ran:?}");
}

/// Response of either daemon to a sync probe; `None` for other requests.
fn harmless(request: &[u8; REQUEST_LEN]) -> Option<Vec<u8>> {
    match request[4] {
        0 => Some(response(1)),
        4 if request[6..].starts_with(b"no-vm-") => Some(response(2)),
        _ => None,
    }
}

#[test]
fn what_was_left_on_a_vmchannel_is_not_an_answer() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let channel = Channel::new();
    let (ran, requests) = thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let (mut stream, _) = ready(&channel.listener).accept().unwrap();
            // End of a list that another agent left unread.
            stream.write_all(&response(0)).unwrap();
            let answer = |request: &[u8; REQUEST_LEN]| harmless(request).unwrap_or_else(|| response(1));
            let peer = LinePeer::new(stream, answer);
            let (second, _) = ready(&channel.listener).accept().unwrap();
            let list = LinePeer::new(second, |_| list(&[("node1", 1)]));
            (peer, list)
        });
        let ran = run(&mut channel.command(&run_directory(&dir), OURS), "-o off -n node1 -t 20");
        let (peer, list) = peer.join().unwrap();
        assert_eq!(list.requests().len(), 1);
        (ran, peer.requests())
    });
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("the daemon answered failure"), "{ran:?}");
    assert_eq!(requests.len(), SYNC_PROBE_LEN + 1);
}

#[test]
fn noise_without_an_end_does_not_outlast_the_timeout() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let channel = Channel::new();
    let begin = Instant::now();
    let ran: AgentRun = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = ready(&channel.listener).accept().unwrap();
            while stream.write_all(&[b'a'; 65536]).is_ok() {}
        });
        run(&mut channel.command(&run_directory(&dir), OURS), "-o off -n node1 -t 1")
    });
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("timed out after 1 s"), "{ran:?}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_late_answer_to_another_agent_is_not_taken() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pty = Pty::new();
    let directory: PathBuf = run_directory(&dir);
    let agent = || {
        let mut command = with_run(&directory, Path::new(OURS));
        command.arg("-D").arg(&pty.path).stdin(Stdio::null());
        command
    };
    // The answer to the first agent arrives after the second has started.
    let mut late = Some(response(0));
    let peer = LinePeer::new(pty.peer_end(), move |request| {
        if request[6..].starts_with(b"first") {
            return Vec::new();
        }
        let mut answer = late.take().unwrap_or_default();
        answer.extend(harmless(request).unwrap_or_else(|| match request[4] {
            6 => list(&[("second", 1)]),
            _ => response(1),
        }));
        answer
    });
    let ran = run(&mut agent(), "-o off -n first -t 1");
    assert_eq!(ran.code, 1, "{ran:?}");
    let ran = run(&mut agent(), "-o off -n second -t 20");
    assert_eq!(ran.code, 1, "the success was the first one's: {ran:?}");
    assert!(ran.stderr.contains("the daemon answered failure"), "{ran:?}");
    // All answers have arrived: the next agent sends its request at once.
    let ran = run(&mut agent(), "-o status -n third -t 20");
    assert_eq!(ran.code, 1, "{ran:?}");
    let requests = peer.requests();
    assert_eq!(requests.len(), 1 + SYNC_PROBE_LEN + 2 + 1, "first, row, second and its list, third");
    // Without a directory for the marker, older requests cannot be ruled out.
    let peer = LinePeer::new(pty.peer_end(), |request| harmless(request).unwrap_or_else(|| response(0)));
    let mut command = with_run(Path::new("/proc/self/fdinfo"), Path::new(OURS));
    let ran = run(command.arg("-D").arg(&pty.path), "-o off -n first -t 20");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(peer.requests().len(), SYNC_PROBE_LEN + 1);
}

#[test]
fn agents_that_are_killed_leave_a_note() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pty = Pty::new();
    let directory = run_directory(&dir);
    let peer = LinePeer::new(pty.peer_end(), |request| harmless(request).unwrap_or_default());
    let mut command = with_run(&directory, Path::new(OURS));
    let mut child = command.arg("-D").arg(&pty.path).args(["-o", "off", "-n", "first"]).spawn().unwrap();
    until("its request is here", LIMIT, || peer.count() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let notes: Vec<u64> =
        fs::read_dir(&directory).unwrap().map(|note| note.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(notes, [1]);
    // The killed agent's answer arrives now.
    pty.peer_end().write_all(&response(0)).unwrap();
    let mut command = with_run(&directory, Path::new(OURS));
    let ran = run(command.arg("-D").arg(&pty.path), "-o off -n second -t 2");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("timed out"), "{ran:?}");
    assert_eq!(peer.requests().len(), 1 + SYNC_PROBE_LEN + 1);
}
