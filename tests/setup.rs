//! `fence_virtd -c`: questions and answers over a pipe and over a terminal, and
//! the files that they leave.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::daemon::OURS;
use common::line::Pty;
use common::{Dir, require, root, until};
use fence_virt::sys::poll::{Interest, PollSet};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::{Pid, geteuid};

const LIMIT: Duration = Duration::from_secs(30);

/// Content of /etc/fence_virt.conf as Debian ships it, with this key.
fn debian(key: &Path) -> String {
    format!(
        r#"fence_virtd {{
	listener = "multicast";
	backend = "libvirt";
}}

listeners {{
	multicast {{
		key_file = "{}";
		address = "225.0.0.12";
		# Needed on Fedora systems
		interface = "virbr0";
	}}
}}

backends {{
	libvirt {{ 
		uri = "qemu:///system";
	}}
}}

"#,
        key.display()
    )
}

fn command(file: &Path) -> Command {
    let mut command = Command::new(OURS);
    command.arg("-c").arg("-f").arg(file).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn answered_by(mut command: Command, answers: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // The set-up may end before it has read all of them.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}

struct SetupRun {
    code: i32,
    out: String,
    err: String,
}

fn ran(output: Output) -> SetupRun {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    SetupRun { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn set_up(file: &Path, answers: &str) -> SetupRun {
    ran(answered_by(command(file), answers))
}

/// Runs the set-up, asserts that it succeeds, and returns its output.
fn assert_written(file: &Path, answers: &str) -> String {
    let ran = set_up(file, answers);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("fence_virtd --check -f "), "{}", ran.out);
    ran.out
}

/// Output of `--check` for the file.
fn checked(file: &Path) -> String {
    let output = Command::new(OURS).arg("--check").arg("-f").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn names(dir: &Dir) -> Vec<String> {
    let entries = fs::read_dir(dir.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_file_and_a_new_key() {
    let dir = Dir::new();
    let (file, key) = (dir.path("f.conf"), dir.path("keys/fence.key"));
    // Without a first URI, the set-up does not ask for a second one.
    let answers = format!("multicast\n\n{}\n\n\n\n\n1230\n\nlibvirt\n\ny\ny\n", key.display());
    let out = assert_written(&file, &answers);
    let expected = format!(
        "fence_virtd {{\n\tlistener = \"multicast\";\n\tbackend = \"libvirt\";\n}}\n\n\
         listeners {{\n\tmulticast {{\n\t\tkey_file = \"{}\";\n\t\tport = \"1230\";\n\t}}\n}}\n",
        key.display()
    );
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected);
    assert!(
        out.contains("+\t\tport = \"1230\";\n") && out.contains("Copy it to all hosts and guests"),
        "{out}"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&file), mode(&key), mode(&dir.path("keys"))), (0o600, 0o600, 0o700));
    let bytes = fs::read(&key).unwrap();
    assert_eq!(bytes.len(), 4096);
    assert!(checked(&file).contains("0 errors"), "{}", checked(&file));
    // A second run keeps the key.
    let out = assert_written(&file, "\n\n\n\n\n\n\n\n\n\n\n");
    assert!(out.contains("No changes") && !out.contains("does not exist"), "{out}");
    assert_eq!((fs::read(&key).unwrap(), fs::read_to_string(&file).unwrap()), (bytes, text));
    assert_eq!(names(&dir), ["f.conf", "keys"]);
}

#[test]
fn a_file_with_comments_keeps_all_but_what_changes() {
    let dir = Dir::new();
    let key = dir.key("fence.key", b'a');
    let before = debian(&key);
    let file = dir.write("f.conf", &before);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let is_root = geteuid().is_root();
    if is_root {
        chown(&file, Some(65534), Some(12)).unwrap();
    }
    let answers = format!(
        "multicast, tcp\n\n\n\n\n\n\n1230\n\n{}\n\n\n\n192.168.122.1\n1231\n\n\n\ny\n",
        key.display()
    );
    let out = assert_written(&file, &answers);
    let expected = before
        .replace("\"multicast\"", "\"multicast, tcp\"")
        .replace("\"virbr0\";\n\t}\n", &format!(
            "\"virbr0\";\n\t\tport = \"1230\";\n\t}}\n\ttcp {{\n\t\tkey_file = \"{}\";\n\t\taddress = \"192.168.122.1\";\n\t\tport = \"1231\";\n\t}}\n",
            key.display()
        ));
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    for line in ["-\tlistener = \"multicast\";", "+\tlistener = \"multicast, tcp\";", "+\t\tport = \"1230\";"]
    {
        assert!(out.contains(&format!("\n{line}\n")), "{line}: {out}");
    }
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    if is_root {
        assert_eq!((metadata.uid(), metadata.gid()), (65534, 12));
    }
    assert!(checked(&file).contains("listener: tcp 192.168.122.1 port 1231"), "{}", checked(&file));
    assert_eq!(names(&dir), ["f.conf", "fence.key"]);
}

#[test]
fn vsock_serial_and_cpg() {
    let dir = Dir::new();
    let (key, file) = (dir.key("fence.key", b'a'), dir.path("f.conf"));
    let answers = format!(
        "vsock, serial\n\n{}\nsha512\n\n2000\n\n/var/lib/lines\nvmchannel\ncpg\nqemu:///system\nlxc:///system\n\nuuid\nnone\n60\noff\ny\n",
        key.display()
    );
    assert_written(&file, &answers);
    let text = checked(&file);
    for line in [
        "listener: vsock port 2000, hash sha512, auth sha256",
        "listener: serial mode vmchannel, sockets in /var/lib/lines",
        "backend: cpg at qemu:///system, lxc:///system, VMs by UUID, a lost host counts as off after 60 s, unknown VMs count as off",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// Failures before the last answer leave the disk unchanged.
#[test]
fn a_wrong_answer_an_early_end_or_a_no_changes_nothing() {
    let dir = Dir::new();
    let (key, file) = (dir.path("keys/fence.key"), dir.path("f.conf"));
    let before = debian(&key);
    fs::write(&file, &before).unwrap();
    for (answers, reason) in [
        (
            "\n\n\nmd5\n",
            "\"hash (none, sha1, sha256, sha512, hmac-sha256) [default: sha256]\" is wrong: invalid hash algorithm",
        ),
        ("\n\n\n\n\n\n\n70000\n", "invalid port \"70000\"; expected 1 to 65535"),
        ("multicast, tcp:b c\n", "unknown listener \"c\""),
        ("", "the answers ended before \"listeners "),
        ("\n\n\n\n", "the answers ended before \"auth "),
        ("\n\n\n\n\n\n\n1230\n\n\n\n\ny\n", "the answers ended before \"Write it? [y/N]\""),
        ("\n\n\n\n\n\n\n1230\n\n\n\n\ny\ny", "the answers ended before \"Write it? [y/N]\""),
        ("\n\n\n\n\n\n\n1230\n\n\n\n\ny\nperhaps\n", "answer y or n"),
        ("\n\n\n\n\n\n\n1230\n\n\n\n\ny\nn\n", "fence_virtd: nothing was written"),
    ] {
        let ran = set_up(&file, answers);
        assert_eq!(ran.code, 1, "{answers:?}");
        assert!(
            ran.err.contains(reason) && ran.err.contains("nothing was written"),
            "{answers:?}: {}",
            ran.err
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        assert_eq!(names(&dir), ["f.conf"], "{answers:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_kept_beside_the_new_one() {
    let dir = Dir::new();
    let key = dir.key("fence.key", b'a');
    let wrong = "fence_virtd { listener = tcp; }\n# mine\n";
    let file = dir.write("f.conf", wrong);
    dir.write("f.conf.old", "older");
    let out = assert_written(&file, &format!("\n\n{}\n\n\n\n\n\n\n\n\ny\n", key.display()));
    assert!(out.contains("f.conf:1:26: error: ") && out.contains("f.conf.old.1"), "{out}");
    assert_eq!(fs::read_to_string(dir.path("f.conf.old")).unwrap(), "older");
    let backup = dir.path("f.conf.old.1");
    assert_eq!(fs::read_to_string(&backup).unwrap(), wrong);
    assert_eq!(fs::metadata(backup).unwrap().mode() & 0o777, 0o600);
    assert!(checked(&file).contains("0 errors"));
    assert_eq!(names(&dir), ["f.conf", "f.conf.old", "f.conf.old.1", "fence.key"]);
}

#[test]
fn a_link_stays_a_link() {
    let dir = Dir::new();
    let key = dir.key("fence.key", b'a');
    fs::create_dir(dir.path("real")).unwrap();
    let real = dir.write("real/f.conf", &debian(&key));
    symlink("real/f.conf", dir.path("f.conf")).unwrap();
    assert_written(&dir.path("f.conf"), "\n\n\n\n\n\n\n1230\n\n\n\n\ny\n");
    assert_eq!(fs::read_link(dir.path("f.conf")).unwrap(), Path::new("real/f.conf"));
    assert!(fs::read_to_string(real).unwrap().contains("port = \"1230\";"));
    assert_eq!(names(&dir), ["f.conf", "fence.key", "real"]);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named_before_the_first_question() {
    let dir = Dir::new();
    let ran = set_up(&dir.path("no/f.conf"), "");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.err.contains("/no is not writable") && ran.err.contains("create the directory"),
        "{}",
        ran.err
    );
    require!(root("to become another user"));
    // A copy, because the build directory may be accessible to root only.
    let program = dir.path("fence_virtd");
    fs::copy(OURS, &program).unwrap();
    fs::set_permissions(dir.path(""), Permissions::from_mode(0o755)).unwrap();
    let file = dir.write("f.conf", &debian(&dir.path("key")));
    let mut command = Command::new(program);
    command.arg("-c").arg("-f").arg(&file).uid(65534).gid(65534);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = self::ran(answered_by(command, ""));
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("Permission denied; run it as root"), "{}", ran.err);
}

/// Set-up on a pty, and a user who waits for its questions and types answers.
struct TerminalUser {
    pty: Pty,
    child: Child,
    output: String,
}

impl TerminalUser {
    fn new(file: &Path) -> TerminalUser {
        let pty = Pty::new();
        let mut command = command(file);
        // SAFETY: between fork and exec the closure only calls signal(2), which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // A test run in the background inherits SIGINT as ignored.
                signal(Signal::SIGINT, SigHandler::SigDfl)?;
                Ok(())
            })
        };
        let end = || Stdio::from(File::options().read(true).write(true).open(&pty.path).unwrap());
        let child = command.stdin(end()).stdout(end()).spawn().unwrap();
        TerminalUser { pty, child, output: String::new() }
    }

    /// Reads output up to and including `words`, and drops it.
    fn expect(&mut self, words: &str) {
        let mut bytes = [0; 4096];
        while !self.output.contains(words) {
            let mut set = PollSet::new();
            let slot = set.add(self.pty.master.as_fd(), Interest::Read);
            set.wait(Some(LIMIT)).unwrap();
            assert!(set.ready(slot).any(), "no {words:?} within {LIMIT:?}: {}", self.output);
            let count = self.pty.master.read(&mut bytes).unwrap();
            self.output += &String::from_utf8_lossy(&bytes[..count]);
        }
        let end = self.output.find(words).unwrap() + words.len();
        self.output.drain(..end);
    }

    fn answer(&mut self, answer: &str) {
        self.pty.master.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    fn await_exit(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the set-up has ended", LIMIT, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for TerminalUser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn at_a_terminal_a_wrong_answer_is_asked_for_again() {
    let dir = Dir::new();
    let (key, file) = (dir.key("fence.key", b'a'), dir.path("f.conf"));
    let mut user = TerminalUser::new(&file);
    for (question, answer) in [
        ("[default: multicast]: ", "udp"),
        ("unknown listener \"udp\"", "vsock"),
        ("agents of the C suite ", ""),
        ("key_file ", key.to_str().unwrap()),
        ("hash ", "sha3"),
        ("invalid hash algorithm \"sha3\"; expected one of: none, sha1, sha256, sha512", "sha1"),
        ("auth ", ""),
        ("port ", "?"),
        ("The vsock port, 1 to 4294967294.", "2000"),
        ("backend ", ""),
        ("uri ", ""),
    ] {
        user.expect(question);
        user.answer(answer);
    }
    user.expect("+\t\tport = \"2000\";");
    user.expect("Write it? [y/N] ");
    user.answer("maybe");
    user.expect("answer y or n");
    user.answer("y");
    user.expect("systemctl restart");
    assert!(user.await_exit().success());
    assert!(checked(&file).contains("vsock port 2000, hash sha1, auth sha256"), "{}", checked(&file));
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let dir = Dir::new();
    let file = dir.write("f.conf", &debian(&dir.path("keys/fence.key")));
    let before = fs::read(&file).unwrap();
    let mut user = TerminalUser::new(&file);
    for question in [
        "listeners ",
        "agents of the C suite ",
        "key_file ",
        "hash ",
        "auth ",
        "family ",
        "address ",
        "port ",
    ] {
        user.expect(question);
        user.answer(if question == "port " { "1230" } else { "" });
    }
    for question in ["interface ", "backend ", "uri ", "uri1 ", "Create it, "] {
        user.expect(question);
        user.answer(if question == "Create it, " { "y" } else { "" });
    }
    user.expect("Write it? [y/N] ");
    kill(Pid::from_raw(user.child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(user.await_exit().code(), None, "ended by the signal");
    assert_eq!((fs::read(&file).unwrap(), names(&dir)), (before, vec!["f.conf".to_string()]));
}
