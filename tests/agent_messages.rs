//! Messages of our agents: on a terminal, about the key, and about words that are misspelt.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::agent::{AgentRun, OURS, Programs, run_on_stdin};
use common::{Dir, Suite, key_bytes, ready, require, root};
use nix::pty::openpty;

fn run(args: &[&str]) -> AgentRun {
    Command::new(OURS).args(args).stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn on_a_terminal_the_agent_says_that_it_reads_options() {
    let dir = Dir::new();
    let programs = Programs::of(Suite::Ours, &dir);
    for (program, name) in [(&programs.xvm, "fence_xvm"), (&programs.virt, "fence_virt")] {
        let pty = openpty(None, None).unwrap();
        let mut child = Command::new(program)
            .stdin(pty.slave)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        ready(stderr.get_ref());
        let mut hint = String::new();
        stderr.read_line(&mut hint).unwrap();
        let expected = format!(
            "{name}: reading options from standard input, name=value on each line; end with Ctrl-D; see {name} -h\n"
        );
        assert_eq!(hint, expected, "before anything is typed");
        // What is typed then counts; byte 4 is Ctrl-D.
        File::from(pty.master.try_clone().unwrap()).write_all(b"action=metadata\n\x04").unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let ran = child.wait_with_output().unwrap();
        assert!(ran.status.success() && rest.is_empty(), "{rest}");
        assert!(String::from_utf8_lossy(&ran.stdout).contains("<resource-agent"));
    }
}

#[test]
fn elsewhere_it_does_not() {
    let ran = run_on_stdin(Command::new(OURS), "action=metadata\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let ran: AgentRun = Command::new(OURS).stdin(Stdio::null()).output().unwrap().into();
    assert_eq!(ran.stderr, "fence_virt: no VM given: use -n (plug= or port= on stdin)\n");
    // Nor with options on the command line.
    let pty = openpty(None, None).unwrap();
    let ran: AgentRun = Command::new(OURS).args(["-o", "metadata"]).stdin(pty.slave).output().unwrap().into();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn misspelt_words_are_recognised() {
    for (args, words) in [
        (&["-n", "a", "-o", "stauts"][..], "Unrecognised action \"stauts\"; did you mean \"status\"?"),
        (&["-n", "a", "-c", "sha265"], "did you mean \"sha256\"?"),
        (&["-n", "a", "-C", "sha-512"], "did you mean \"sha512\"?"),
        (&["--tmeout", "3"], "did you mean --timeout?"),
        (&["status", "a"], "write -o status"),
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    let ran = run_on_stdin(Command::new(OURS), "ipadr=127.0.0.1\nhello\naction=validate-all\nkey_file=/\n");
    assert!(ran.stderr.contains("unknown option \"ipadr\" on stdin; did you mean ipaddr?"), "{ran:?}");
    assert!(ran.stderr.contains("ignoring \"hello\" on stdin: it is not name=value"), "{ran:?}");
}

#[test]
fn an_error_of_the_system_has_no_number_and_nobody_is_told_to_do_without_a_key() {
    let dir = Dir::new();
    let missing = dir.path("missing").display().to_string();
    let folder = dir.path("").display().to_string();
    for (args, words) in [
        (
            ["-T", "127.0.0.1", "-k", &missing],
            "No such file or directory; copy it from the host, or name it with -k",
        ),
        (["-T", "127.0.0.1", "-k", &folder], "not a regular file; name another with -k"),
        (["-D", &missing, "-t", "5"], "No such file or directory; -D names the VM's serial port"),
        // No daemon: the port is closed.
        (["-A", "127.0.0.1", "-p", "1"], "Connection refused); does this VM have a vmchannel"),
    ] {
        let ran = run(&[&["-o", "status", "-n", "a"], &args[..]].concat());
        assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
        assert!(!ran.stderr.contains("os error") && !ran.stderr.contains("none"), "{ran:?}");
    }
}

#[test]
fn another_user_is_told_who_may_read_the_key() {
    require!(root("to become another user"));
    let dir = Dir::new();
    let key = dir.key("key", b'k');
    // A copy that the other user may run.
    let agent = dir.path("agent");
    std::fs::copy(OURS, &agent).unwrap();
    std::fs::set_permissions(dir.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(agent);
    let ran: AgentRun = command.args(["-T", "127.0.0.1", "-n", "a", "-k"]).arg(key).output().unwrap().into();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.trim_end().ends_with("Permission denied; run this as root"), "{ran:?}");
}

#[test]
fn the_fingerprint_tells_keys_apart_and_is_nowhere_else() {
    let dir = Dir::new();
    let key = dir.key("key", b'k').display().to_string();
    let fingerprint = |key: &str| {
        let ran = run(&["--key-fingerprint", "-k", key]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        ran.stdout
    };
    let ours = fingerprint(&key);
    assert_eq!(ours.len(), 9, "8 digits and the end of the line: {ours:?}");
    assert!(ours.trim_end().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    assert_eq!(fingerprint(&dir.key("copy", b'k').display().to_string()), ours);
    assert_ne!(fingerprint(&dir.key("other", b'l').display().to_string()), ours);
    // As the documents say it is made.
    let mut command = Command::new("sha256sum");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let text = [b"fence_virt key fingerprint\0".as_slice(), &key_bytes(b'k')].concat();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let sum = child.wait_with_output().unwrap().stdout;
    assert_eq!(sum[..8], ours.as_bytes()[..8]);
    let ran = run(&["-o", "validate-all", "-n", "a", "-T", "127.0.0.1", "-k", &key, "-d"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stderr.contains(ours.trim_end()), "{ran:?}");
    // It never fences, and needs a key.
    let ran = run(&["-o", "off", "-n", "a", "-T", "127.0.0.1", "-k", &key, "--key-fingerprint"]);
    assert_eq!((ran.code, ran.stdout), (0, ours));
    let empty = dir.write("empty", "").display().to_string();
    let ran = run(&["--key-fingerprint", "-k", &empty]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("is empty"), "{ran:?}");
}
