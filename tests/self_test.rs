//! `fence_virtd --self-test` beside a daemon on the same host.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "self_test/agents.rs"]
mod agents;
mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::daemon::{Daemon, OURS, auth_keys};
use common::line::{Pty, run_directory};
use common::net::{GUEST_V4, HOST_V4, NamespacePair};
use common::node::{NODE1, NODE2, OFF, RUNNING, node, vm};
use common::{Dir, Missing, require, root_and_c_suite, until};
use nix::sys::signal::Signal;

/// Limit of a test in which one listener does not answer: its time limit is 10 s.
const BOUND: Duration = Duration::from_secs(25);

/// Host with the VMs node1, running, and node2, off, and another host in its network.
struct Site {
    dir: Dir,
    pair: NamespacePair,
    uri: String,
}

/// Exit code and output.
struct SelfTest {
    code: Option<i32>,
    text: String,
}

impl SelfTest {
    fn assert_code(&self, expected: i32) -> &SelfTest {
        assert_eq!(self.code, Some(expected), "{}", self.text);
        self
    }

    /// Asserts that a line begins and goes on like this.
    fn assert_line(&self, begin: &str, words: &str) -> &SelfTest {
        let is_meant = |line: &str| line.starts_with(begin) && line.contains(words);
        assert!(self.text.lines().any(is_meant), "{begin:?} with {words:?} in\n{}", self.text);
        self
    }

    fn assert_last(&self, expected: &str) -> &SelfTest {
        assert_eq!(self.text.lines().last(), Some(expected), "{}", self.text);
        self
    }
}

impl From<Output> for SelfTest {
    fn from(output: Output) -> SelfTest {
        let text = String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout);
        SelfTest { code: output.status.code(), text }
    }
}

impl Site {
    fn new() -> Result<Site, Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        dir.key("key", b'k');
        let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)]);
        Ok(Site { dir, pair: NamespacePair::new(), uri })
    }

    fn keys(&self, key: &str) -> String {
        auth_keys(&self.dir.path(key), "sha256", "sha256")
    }

    /// Configuration with these listeners, their sections, and groups.
    fn conf(&self, listeners: &str, sections: &str, groups: &str) -> String {
        format!(
            "fence_virtd {{ listener = \"{listeners}\"; backend = \"libvirt\"; }}\n\
             listeners {{ {sections} }}\nbackends {{ libvirt {{ uri = \"{}\"; }} }}\n{groups}\n",
            self.uri
        )
    }

    /// Configuration with a tcp listener and these groups.
    fn tcp(&self, groups: &str) -> String {
        let section = format!("tcp {{ {} address = \"{HOST_V4}\"; }}", self.keys("key"));
        self.conf("tcp", &section, groups)
    }

    fn start(&self, conf: &str) -> Daemon {
        Daemon::builder(&self.dir, &self.pair.host).start(conf)
    }

    /// Program with a directory of the test as /run, where agents mark requests in flight.
    fn command(&self, conf: &Path, args: &[&str]) -> Command {
        let mut command = self.pair.host.command("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""]);
        command.arg(run_directory(&self.dir)).arg(OURS).arg("--self-test").arg("-f").arg(conf).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn test(&self, conf: &Path, args: &[&str]) -> SelfTest {
        self.command(conf, args).output().unwrap().into()
    }

    /// Changes the configuration of a running daemon, which does not know of it. `text` is what it was started with.
    fn edit(&self, daemon: &Daemon, text: &str, from: &str, to: &str) {
        assert!(text.contains(from), "{from} in {text}");
        daemon.replace(&self.dir, &text.replace(from, to));
    }

    /// Answers the question on a terminal.
    fn answer(&self, daemon: &Daemon, answer: &str) -> SelfTest {
        let terminal = Pty::new();
        let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut command = self.command(daemon.conf(), &["--fence", "node1"]);
        let child = command.stdin(slave()).stdout(Stdio::piped()).stderr(slave()).spawn().unwrap();
        (&terminal.master).write_all(answer.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }
}

/// Time for what a daemon logs: a thread of its own writes the lines.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for so many reboots in the daemon's log.
fn await_reboots(daemon: &Daemon, count: usize) {
    until(&format!("{count} reboots"), LIMIT, || reboots(daemon) == count);
}

/// Number of reboots in the daemon's log.
fn reboots(daemon: &Daemon) -> usize {
    daemon.log().matches(": reboot \"node1\": success").count()
}

#[test]
fn every_listener_answers() {
    let site = require!(Site::new());
    let keys = site.keys("key");
    site.dir.key("other", b'o');
    let lines = site.dir.path("lines");
    fs::create_dir(&lines).unwrap();
    let sections = format!(
        "multicast {{ {keys} interface = \"eth0\"; }} multicast = \"six\" {{ {keys} family = \"ipv6\"; port = \"1230\"; }}\n\
         tcp {{ {keys} address = \"0.0.0.0\"; port = \"1231\"; }}\n\
         tcp = \"b\" {{ {} family = \"ipv6\"; address = \"::\"; port = \"1232\"; }} serial {{ path = \"{}\"; }}",
        auth_keys(&site.dir.path("other"), "sha512", "sha1"),
        lines.display()
    );
    let daemon = site.start(&site.conf("multicast, multicast:six, tcp, tcp:b, serial", &sections, ""));
    let test = site.test(daemon.conf(), &[]);
    test.assert_code(0).assert_last("listeners: 4 passed, 0 failed, 1 not tried");
    test.assert_line("ok       daemon: fence_virtd ", &format!("pid {}", daemon.pid()));
    for (listener, way) in [
        ("multicast", "multicast to 225.0.0.12 port 1229"),
        ("multicast:six", "multicast to ff05::3:1 port 1230"),
        ("tcp", "tcp to 127.0.0.1 port 1231"),
        ("tcp:b", "tcp to ::1 port 1232"),
    ] {
        test.assert_line(&format!("ok       {listener}: monitor: success after "), way);
        test.assert_line(&format!("ok       {listener}: list: 2 VMs after "), " ms");
    }
    test.assert_line("note     serial: not tried", "belong to the guests");
    until("each listener has been asked", LIMIT, || {
        let lines_with = |words: &str| daemon.log().matches(words).count();
        [": devstatus: success", ": hostlist: "].map(lines_with) == [4, 4]
    });
}

#[test]
fn another_host_in_the_group_is_not_asked() {
    let site = require!(Site::new());
    let section = format!("multicast {{ {} interface = \"eth0\"; }}", site.keys("key"));
    let conf = site.conf("multicast", &section, "");
    let other = Daemon::builder(&site.dir, &site.pair.guest).start(&conf);
    // The other host alone would answer an agent: no daemon runs here.
    let path = site.dir.write(
        "here.conf",
        &conf.replacen("fence_virtd {", "fence_virtd { status_socket = \"/nonexistent/s\";", 1),
    );
    let test = site.test(&path, &[]);
    test.assert_code(2).assert_line("ERROR    multicast: monitor failed", "no host called back");
    let daemon = site.start(&conf);
    site.test(daemon.conf(), &["--fence", "node1", "--yes"]).assert_code(0);
    await_reboots(&daemon, 1);
    assert_eq!(reboots(&other), 0, "{}", other.log());
    assert!(!other.log().contains(": devstatus: "), "{}", other.log());
}

#[test]
fn a_daemon_of_another_host_at_the_address_is_not_asked() {
    let site = require!(Site::new());
    let conf = site.tcp("");
    let foreign = conf.replace(HOST_V4, GUEST_V4);
    let other = Daemon::builder(&site.dir, &site.pair.guest).start(&foreign);
    let daemon = site.start(&conf);
    let text = fs::read_to_string(daemon.conf()).unwrap();
    // The daemon that answers at the socket may be another one than the one that listens there.
    let path = site.dir.write("other.conf", &text.replace(HOST_V4, GUEST_V4));
    let test = site.test(&path, &["--fence", "node1", "--yes"]);
    test.assert_code(2)
        .assert_last("nothing was tried: it is not known which daemon would carry out the reboot");
    site.edit(&daemon, &text, HOST_V4, GUEST_V4);
    let test = site.test(daemon.conf(), &["--fence", "node1", "--yes"]);
    test.assert_code(1)
        .assert_line("ERROR    tcp: monitor failed: this host does not have the address", GUEST_V4);
    assert!(!other.log().contains(": devstatus: "), "{}", other.log());
}

#[test]
fn a_listener_with_another_key_or_that_does_not_listen() {
    let site = require!(Site::new());
    site.dir.key("other", b'o');
    let keys = site.keys("key");
    let sections = format!(
        "tcp {{ {keys} }} tcp = \"b\" {{ {keys} port = \"1230\"; }} multicast {{ {keys} interface = \"eth0\"; }}"
    );
    let daemon = site.start(&site.conf("tcp, tcp:b, multicast", &sections, ""));
    let (path, text) = (daemon.conf(), fs::read_to_string(daemon.conf()).unwrap());
    site.edit(&daemon, &text, "port = \"1230\"", "port = \"1231\"");
    let test = site.test(path, &[]);
    test.assert_code(1).assert_last("listeners: 2 passed, 1 failed, 0 not tried");
    test.assert_line("ERROR    tcp:b: monitor failed", "Connection refused");
    test.assert_line("note     tcp:b: list: not tried", "");
    test.assert_line("             -> ", &format!("fence_virtd --doctor -f {}", path.display()));
    // As an administrator that has replaced the key, and not reloaded the daemon.
    site.edit(&daemon, &text, "/key\"", "/other\"");
    let began = Instant::now();
    let test = site.test(path, &["--fence", "node1", "--yes"]);
    assert!(began.elapsed() < BOUND, "all listeners are asked at the same time");
    test.assert_code(1).assert_last("listeners: 0 passed, 3 failed, 0 not tried; reboot: not tried");
    test.assert_line("ERROR    tcp: monitor failed", "the key, hash or auth differs");
    test.assert_line("ERROR    multicast: monitor failed", "no host called back");
    test.assert_line("             -> ", "reload it");
    test.assert_line("note     reboot: no listener passed", "");
    assert_eq!(reboots(&daemon), 0);
    assert!(!test.text.contains("tcp: list: 2 VMs"), "{}", test.text);
    // A key that is gone is no fault of the listener.
    site.edit(&daemon, &text, "/key\"; hash = \"sha256\"; auth = \"sha256\"; port", "/gone\"; port");
    let test = site.test(path, &[]);
    test.assert_code(1).assert_last("listeners: 2 passed, 0 failed, 1 not tried");
    test.assert_line("ERROR    tcp:b: not tried: cannot read the key file", "gone");
}

#[test]
fn what_cannot_be_tried() {
    let site = require!(Site::new());
    let conf = site.dir.write(
        "a.conf",
        &site.tcp("").replacen("fence_virtd {", "fence_virtd { status_socket = \"/nonexistent/s\";", 1),
    );
    let test = site.test(&conf, &[]);
    test.assert_code(2).assert_last("listeners: 0 passed, 1 failed, 0 not tried");
    test.assert_line("warning  daemon: cannot query /nonexistent/s", "no fence_virtd is running");
    site.test(&site.dir.path("none.conf"), &[])
        .assert_code(2)
        .assert_line("fence_virtd: cannot read", "none.conf");
    let daemon = site.start(&site.conf("serial", "serial { path = \"/nonexistent\"; }", ""));
    let test = site.test(daemon.conf(), &[]);
    test.assert_code(2).assert_last("listeners: 0 passed, 0 failed, 1 not tried");
    for (name, words) in [("x".repeat(64).as_str(), "longer than 63"), ("", "needs the name")] {
        site.test(&conf, &["--yes", "--fence", name]).assert_code(2).assert_line("fence_virtd: ", words);
    }
}

#[test]
fn a_daemon_that_stands_still() {
    let site = require!(Site::new());
    let daemon = site.start(&site.tcp(""));
    daemon.freeze();
    let test = site.test(daemon.conf(), &[]);
    daemon.signal(Signal::SIGCONT);
    test.assert_code(1).assert_last("listeners: 0 passed, 1 failed, 0 not tried");
    test.assert_line("warning  daemon: cannot query", "the daemon does not respond");
    test.assert_line("ERROR    tcp: monitor failed: timed out after 10 s", "was reached, but did not send");
}

#[test]
fn a_backend_that_fails_and_groups_that_deny() {
    let site = require!(Site::new());
    let groups = "groups { group { name = \"g\"; uuid = \"node1\"; ip = \"192.0.2.2\"; } }";
    let daemon = site.start(&site.tcp(groups));
    let test = site.test(daemon.conf(), &["--fence", "node1", "--yes"]);
    test.assert_code(2).assert_last("listeners: 1 passed, 0 failed, 0 not tried; reboot: not tried");
    test.assert_line("ok       tcp: monitor: success", "");
    test.assert_line("note     tcp: list: no VM", "no group permits this host");
    test.assert_line("note     tcp: no group permits this host to fence \"node1\"", "");
    site.test(daemon.conf(), &[]).assert_code(0);
    assert_eq!(reboots(&daemon), 0);
    drop(daemon);
    let dead = format!("test+unix:///default?socket={}", site.dir.path("nobody").display());
    let conf = site.tcp("").replace(&site.uri, &dead);
    let daemon = Daemon::builder(&site.dir, &site.pair.host).args(&["-w"]).spawn(&conf);
    daemon.await_log("tcp: listening");
    let test = site.test(daemon.conf(), &[]);
    test.assert_code(1).assert_last("listeners: 0 passed, 1 failed, 0 not tried");
    test.assert_line("ERROR    tcp: monitor failed: the daemon answers, but cannot reach a hypervisor", "");
    test.assert_line("             -> ", "checks the backend");
    test.assert_line("warning  daemon: fence_virtd ", "it reports problems");
}

#[test]
fn a_reboot_and_its_verification() {
    let site = require!(Site::new());
    let daemon = site.start(&site.tcp(""));
    let test = site.test(daemon.conf(), &["--fence", "node1", "--yes"]);
    test.assert_code(0).assert_last("listeners: 1 passed, 0 failed, 0 not tried; reboot: verified");
    test.assert_line("ok       tcp: status of \"node1\" before: on", "");
    test.assert_line("ok       tcp: reboot of \"node1\": success", "");
    test.assert_line("ok       tcp: status of \"node1\" after: on", "");
    await_reboots(&daemon, 1);
    // By its UUID too.
    site.test(daemon.conf(), &["--fence", NODE1, "--yes"]).assert_code(0);
    for name in ["node2", NODE2, "nobody"] {
        let test = site.test(daemon.conf(), &["--fence", name, "--yes"]);
        test.assert_code(2).assert_line(&format!("note     tcp: \"{name}\" is off"), "nothing was rebooted");
        assert!(!daemon.log().contains(&format!("reboot \"{name}\"")), "{}", daemon.log());
    }
}

#[test]
fn the_question_before_a_reboot() {
    let site = require!(Site::new());
    let daemon = site.start(&site.tcp(""));
    let test = site.test(daemon.conf(), &["--fence", "node1"]);
    test.assert_code(2).assert_line("fence_virtd: --fence reboots \"node1\"", "--yes answers it");
    assert!(!daemon.log().contains("devstatus"), "nothing is tried without a terminal: {}", daemon.log());
    for no in ["\n", "n\n", "yesterday\n", "Y e s\n"] {
        let test = site.answer(&daemon, no);
        test.assert_code(2).assert_line("note     tcp: nothing was rebooted: \"node1\" is on", "");
    }
    assert_eq!(reboots(&daemon), 0);
    for (at, yes) in ["y\n", " YES \n"].into_iter().enumerate() {
        site.answer(&daemon, yes)
            .assert_code(0)
            .assert_last("listeners: 1 passed, 0 failed, 0 not tried; reboot: verified");
        await_reboots(&daemon, at + 1);
    }
}

#[test]
fn output_that_cannot_be_written_ends_it_before_the_reboot() {
    let site = require!(Site::new());
    let daemon = site.start(&site.tcp(""));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = site.command(daemon.conf(), &["--fence", "node1", "--yes"]);
    let test = SelfTest::from(command.stdout(full).output().unwrap());
    test.assert_code(2).assert_line("fence_virtd: cannot print the answers", "No space left");
    assert_eq!(reboots(&daemon), 0);
}
