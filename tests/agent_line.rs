//! The agents on serial lines and vmchannels: against a peer that does what a
//! test says, and against the C daemon's serial listener.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{OURS, Ran, VIRT};
use common::line::{LinePeer, Pty, REQUEST_LEN, list, response, run_folder, with_run};
use common::{Dir, have_peers, until};

/// Ours and the deployed one.
const AGENTS: [&str; 2] = [OURS, VIRT];

const LIMIT: Duration = Duration::from_secs(30);

/// `fence_virt` on a line, with a /run of its own.
fn on_line(dir: &Dir, agent: &str, line: &Path) -> Command {
    let mut command = with_run(&run_folder(dir), Path::new(agent));
    command.arg("-D").arg(line).stdin(Stdio::null());
    command
}

fn run(command: &mut Command, args: &str) -> Ran {
    command.args(args.split_whitespace()).output().unwrap().into()
}

#[test]
fn requests_on_a_line_are_those_of_the_c_agent() {
    if !have_peers("requests_on_a_line_are_those_of_the_c_agent") {
        return;
    }
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
                // The number is another each time.
                requests[0][..70].to_vec()
            });
        assert_eq!(bytes[0], bytes[1], "{args}");
    }
}

#[test]
fn answers_on_a_line_are_exit_codes() {
    if !have_peers("answers_on_a_line_are_exit_codes") {
        return;
    }
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
            // The second question after a failure finds the VM.
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

/// Noise, and what comes of it when the answer 0 follows.
const NOISE: [&[u8]; 7] =
    [b"", b"a", b"abb", b"abba", b"login: root\r\n# abbabb", b"abba\xffabba\x07", b"\0\0\0\xff\xfe"];

#[test]
fn noise_before_between_and_inside_does_not_hide_the_answer() {
    if !have_peers("noise_before_between_and_inside_does_not_hide_the_answer") {
        return;
    }
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
    if !have_peers("silence_other_answers_and_a_line_that_breaks") {
        return;
    }
    let dir = Dir::new();
    let whole = list(&[("node1", 1)]);
    let mut spoilt = whole.clone();
    spoilt.insert(40, b'x');
    for (what, operation, answer) in [
        ("nothing", "off", vec![]),
        ("half a response", "off", b"abb".to_vec()),
        ("no answer to this", "off", response(2)),
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
    // The host's side of the line goes away.
    let Pty { master, slave, path } = Pty::new();
    let child = on_line(&dir, OURS, &path)
        .args(["-o", "off", "-n", "node1", "-t", "20"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let peer = LinePeer::new(master.try_clone().unwrap(), |_| Vec::new());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Ran::from(child.wait_with_output().unwrap()));
        until("the request is here", LIMIT, || peer.count() > 0);
        drop((peer, master, slave));
        let ran = waiting.join().unwrap();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(!ran.stderr.contains("imed out"), "{ran:?}");
    });
}

#[test]
fn what_is_no_serial_line_is_named() {
    if !have_peers("what_is_no_serial_line_is_named") {
        return;
    }
    let dir = Dir::new();
    let file = dir.write("file", "");
    for (path, words) in [
        (Path::new("/dev/null"), "/dev/null is no serial line"),
        (&file, "no character device"),
        (Path::new("/dev/no-such-line"), "/dev/no-such-line: No such file"),
    ] {
        let ran = run(&mut on_line(&dir, OURS, path), "-o off -n node1 -t 5");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

/// Stands between an agent and its C library: a pty has neither modem lines
/// nor parity, and says nothing of what it was asked for.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

static void note(const char *what, int lines) {
    FILE *log = fopen(getenv("SHIM_LOG"), "a");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fprintf(log, "%s %d %lld\n", what, lines, now.tv_sec * 1000LL + now.tv_nsec / 1000000);
    fclose(log);
}

int tcsetattr(int fd, int when, const struct termios *t) {
    FILE *log = fopen(getenv("SHIM_LOG"), "a");
    fprintf(log, "termios %o %o %o %o\n", t->c_iflag, t->c_oflag, t->c_cflag, t->c_lflag);
    fclose(log);
    int (*next)(int, int, const struct termios *) = dlsym(RTLD_NEXT, "tcsetattr");
    return next(fd, when, t);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (request == TIOCMGET) {
        *(int *)argument = 0x166;
        note("get", 0x166);
        return 0;
    }
    if (request == TIOCMSET) {
        note("set", *(int *)argument);
        return 0;
    }
    int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}
"#;

/// Runs an agent behind the shim, and gives what it noted, line by line.
fn shimmed(dir: &Dir, agent: &str, params: &str) -> Vec<String> {
    let library = dir.path("shim.so");
    if !library.exists() {
        let source = dir.write("shim.c", SHIM);
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.unwrap().success());
    }
    let pty = Pty::new();
    let peer = LinePeer::new(pty.peer_end(), |_| response(0));
    let log = dir.path(&common::unique());
    let mut command = on_line(dir, agent, &pty.path);
    command.env("LD_PRELOAD", &library).env("SHIM_LOG", &log);
    let ran = run(&mut command, &format!("-P {params} -o status -n node1 -t 20"));
    assert_eq!(ran.code, 0, "{agent} {params}: {ran:?}");
    drop(peer);
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_line_is_set_as_the_c_agent_sets_it() {
    if !have_peers("the_line_is_set_as_the_c_agent_sets_it") {
        return;
    }
    let dir = Dir::new();
    let set = |agent, params| shimmed(&dir, agent, params)[0].clone();
    for params in ["115200,8N1", "9600", "2400,7E2", "19200,5o1", "38400,6N2", "57600,8e1"] {
        assert_eq!(set(OURS, params), set(VIRT, params), "{params}");
    }
    // The C agent has neither these speeds nor these parities.
    let control = libc::CREAD | libc::CLOCAL | libc::CRTSCTS | libc::CS7 | libc::PARENB | libc::CMSPAR;
    let mark = control | libc::B4000000 | libc::PARODD;
    assert_eq!(set(OURS, "4000000,7M1"), format!("termios 0 0 {mark:o} 0"));
    assert_eq!(set(OURS, "300,7S1"), format!("termios 0 0 {:o} 0", control | libc::B300));
}

#[test]
fn modem_lines_are_dropped_once_and_left_as_they_were() {
    if !have_peers("modem_lines_are_dropped_once_and_left_as_they_were") {
        return;
    }
    let dir = Dir::new();
    let told = [OURS, VIRT].map(|agent| {
        let lines = shimmed(&dir, agent, "115200,8N1");
        let words: Vec<Vec<&str>> = lines[1..].iter().map(|line| line.split(' ').collect()).collect();
        let at = |line: usize| words[line][2].parse::<u64>().unwrap();
        assert!(at(2) - at(1) >= 300, "{agent}: {lines:?}");
        words.iter().map(|words| words[..2].join(" ")).collect::<Vec<_>>()
    });
    assert_eq!(told[0], ["get 358", "set 0", "set 358"]);
    assert_eq!(told[0], told[1]);
}

#[test]
fn a_line_has_one_agent_at_a_time() {
    if !have_peers("a_line_has_one_agent_at_a_time") {
        return;
    }
    let dir = Dir::new();
    let pty = Pty::new();
    let line = File::options().read(true).write(true).open(&pty.path).unwrap();
    fence_virt::sys::lock::lock(&line, Instant::now() + LIMIT).unwrap();
    let ran = run(&mut on_line(&dir, OURS, &pty.path), "-o off -n node1 -t 1");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("timed out after 1 s: another agent has the serial line"), "{ran:?}");
    // One that waits gets it when it is free.
    let peer = LinePeer::new(pty.peer_end(), |_| response(0));
    let child = on_line(&dir, OURS, &pty.path)
        .args(["-d", "-o", "off", "-n", "node1", "-t", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    until("it waits in a thread", LIMIT, || fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() == 2));
    assert_eq!(peer.count(), 0);
    drop(line);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// A vmchannel: a TCP port whose connections are all the same line.
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

    /// Runs an agent, and answers it as `answer` says.
    fn run(
        &self,
        command: &mut Command,
        args: &str,
        answer: impl FnMut(&[u8; REQUEST_LEN]) -> Vec<u8> + Send + 'static,
    ) -> (Ran, Vec<[u8; REQUEST_LEN]>) {
        thread::scope(|scope| {
            let peer = scope.spawn(|| {
                let stream: TcpStream = self.listener.accept().unwrap().0;
                LinePeer::new(stream, answer)
            });
            let ran = run(command, args);
            (ran, peer.join().unwrap().requests())
        })
    }
}

#[test]
fn a_vmchannel_carries_the_same_as_a_line() {
    if !have_peers("a_vmchannel_carries_the_same_as_a_line") {
        return;
    }
    let dir = Dir::new();
    let channel = Channel::new();
    let command = |agent| channel.command(&run_folder(&dir), agent);
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
        let answer = [noise, &response(2)].concat();
        let (ran, _) = channel.run(&mut command(OURS), "-o status -n node1 -t 20", move |_| answer.clone());
        assert_eq!(ran.code, 2, "{noise:?}: {ran:?}");
    }
    let (ran, requests) = channel.run(&mut command(OURS), "-o off -n node1 -t 1", |_| Vec::new());
    assert_eq!((ran.code, requests.len()), (1, 1));
    assert!(ran.stderr.contains("timed out after 1 s"), "{ran:?}");
}

/// What a daemon of either kind answers to the questions that do nothing.
fn harmless(request: &[u8; REQUEST_LEN]) -> Option<Vec<u8>> {
    match request[4] {
        0 => Some(response(1)),
        4 if request[6..].starts_with(b"no-vm-") => Some(response(2)),
        _ => None,
    }
}

#[test]
fn a_late_answer_to_another_agent_is_not_taken() {
    if !have_peers("a_late_answer_to_another_agent_is_not_taken") {
        return;
    }
    let dir = Dir::new();
    let pty = Pty::new();
    let folder: PathBuf = run_folder(&dir);
    let agent = || {
        let mut command = with_run(&folder, Path::new(OURS));
        command.arg("-D").arg(&pty.path).stdin(Stdio::null());
        command
    };
    // The answer to the first comes when the second has begun to ask.
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
    // All is heard: the next one asks at once.
    let ran = run(&mut agent(), "-o status -n third -t 20");
    assert_eq!(ran.code, 1, "{ran:?}");
    let requests = peer.requests();
    assert_eq!(requests.len(), 1 + 20 + 2 + 1, "first, row, second and its list, third");
    // With no folder for the note, an agent does without.
    let peer = LinePeer::new(pty.peer_end(), |_| response(0));
    let mut command = with_run(Path::new("/proc/self/fdinfo"), Path::new(OURS));
    let ran = run(command.arg("-D").arg(&pty.path), "-o off -n first -t 20");
    assert_eq!(ran.code, 0, "{ran:?}");
    drop(peer);
}

#[test]
fn agents_that_are_killed_leave_a_note() {
    if !have_peers("agents_that_are_killed_leave_a_note") {
        return;
    }
    let dir = Dir::new();
    let pty = Pty::new();
    let folder = run_folder(&dir);
    let peer = LinePeer::new(pty.peer_end(), |request| harmless(request).unwrap_or_default());
    let mut command = with_run(&folder, Path::new(OURS));
    let mut child = command.arg("-D").arg(&pty.path).args(["-o", "off", "-n", "first"]).spawn().unwrap();
    until("its request is here", LIMIT, || peer.count() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let notes: Vec<u64> =
        fs::read_dir(&folder).unwrap().map(|note| note.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(notes, [1]);
    // The answer that was its own comes now, and another's after it.
    pty.peer_end().write_all(&response(0)).unwrap();
    let mut command = with_run(&folder, Path::new(OURS));
    let ran = run(command.arg("-D").arg(&pty.path), "-o off -n second -t 2");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("timed out"), "{ran:?}");
    assert_eq!(peer.requests().len(), 1 + 20 + 1);
}
