//! Holds (`--hold`, `--release`) and caps of power-offs (`max_power_off`).
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use common::daemon::Daemon;
use common::net::GUEST_V4;
use common::node::{NODE1, NODE2, NODE3, RUNNING, vm};
use common::tcp_host::TcpHost;
use common::{Missing, require};

const LIMIT: Duration = Duration::from_secs(20);
const HOLD: [&str; 5] = ["--hold", "node1", "--for", "1h", "--reason"];
/// Exit codes of the agents for a status.
const ON: i32 = 0;
const FAILURE: i32 = 1;

/// Host with three VMs that run, and a place of the status socket that outlives a daemon.
struct HoldHarness {
    host: TcpHost,
}

impl HoldHarness {
    fn new() -> Result<HoldHarness, Missing> {
        let vms = [vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING), vm("node3", NODE3, RUNNING)];
        Ok(HoldHarness { host: TcpHost::new(&vms)? })
    }

    fn socket(&self) -> PathBuf {
        self.host.dir.path("sock")
    }

    /// File of the holds.
    fn file(&self) -> PathBuf {
        self.host.dir.path("sock.holds")
    }

    /// Configuration of a group web with node2 and node3 and these further lines, and of one with all.
    fn conf(&self, lines: &str) -> String {
        let groups = format!(
            "group {{ name = \"web\"; uuid = \"node2\"; uuid = \"{NODE3}\"; ip = \"{GUEST_V4}\"; {lines} }} \
             group {{ uuid = \"node1\"; ip = \"{GUEST_V4}\"; }}"
        );
        let conf = self.host.conf(&self.host.uri, &groups);
        let socket = format!("fence_virtd {{ status_socket = \"{}\";", self.socket().display());
        conf.replacen("fence_virtd {", &socket, 1)
    }

    fn start(&self) -> Daemon {
        Daemon::builder(&self.host.dir, &self.host.pair.host).start(&self.conf(""))
    }

    fn run(&self, daemon: &Daemon, args: &[&str]) -> (Option<i32>, String) {
        self.host.run(args, daemon.conf())
    }

    /// Runs a program that succeeds, and returns its output.
    fn succeed(&self, daemon: &Daemon, args: &[&str]) -> String {
        let (code, text) = self.run(daemon, args);
        assert_eq!(code, Some(0), "{args:?}: {text}");
        text
    }

    fn hold(&self, daemon: &Daemon, subject: &str, time: &str) -> String {
        self.succeed(daemon, &["--hold", subject, "--for", time, "--reason", "new kernel"])
    }

    fn codes(&self, operations: &[&str], vm: &str) -> Vec<i32> {
        operations.iter().map(|operation| self.host.code(operation, vm)).collect()
    }
}

#[test]
fn a_held_vm_is_not_fenced_until_it_is_released() {
    let harness = require!(HoldHarness::new());
    let daemon = harness.start();
    let text = harness.hold(&daemon, "Node1", "1h");
    assert!(text.starts_with("on \"Node1\" until 2") && text.contains("Z: new kernel\n"), "{text}");
    assert_eq!(fs::metadata(harness.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(harness.codes(&["off", "reboot", "on", "off"], "node1"), [FAILURE; 4]);
    assert_eq!(harness.codes(&["off", "status"], NODE1), [FAILURE, ON]);
    assert_eq!(harness.codes(&["off", "on"], "node2"), [0; 2], "it is not held");
    daemon.await_log("off \"node1\": failure: the VM is held until 2");
    daemon.await_log("(hold on \"Node1\"): new kernel");

    let text = harness.succeed(&daemon, &["--status"]);
    assert!(text.contains("\nhold on \"Node1\": since 2") && text.contains("Z: new kernel\n"), "{text}");
    assert!(text.contains("refused because of holds: 5 power operations\n"), "{text}");
    assert!(
        text.contains("warning  holds (1, the last one until 2") && text.contains("no problems"),
        "{text}"
    );
    let (_, text) = harness.run(&daemon, &["--self-test"]);
    assert!(text.contains("\nwarning  daemon: holds (1, the last one until 2"), "{text}");
    let json = harness.succeed(&daemon, &["--status", "--json"]);
    assert!(
        json.contains("\"holds\":[{\"on\":\"Node1\",") && json.contains("\"refused_by_hold\":5"),
        "{json}"
    );
    let metrics = harness.succeed(&daemon, &["--status", "--openmetrics"]);
    assert!(metrics.contains("\nfence_virtd_holds 1\n"), "{metrics}");
    assert!(metrics.contains("\nfence_virtd_restrained_total{by=\"hold\"} 5\n"), "{metrics}");
    let history = harness.succeed(&daemon, &["--history", "--vm", NODE1]);
    assert!(history.contains(" failure ") && history.contains("): new kernel"), "{history}");

    // The hold is on the name, as it was written.
    assert_eq!(harness.run(&daemon, &["--release", NODE1]).0, Some(1));
    let text = harness.succeed(&daemon, &["--release", "NODE1"]);
    assert!(text.starts_with("released: on \"Node1\" until 2"), "{text}");
    daemon.await_log("hold begins: on \"Node1\" until 2");
    daemon.await_log("hold released: on \"Node1\" until 2");
    assert!(!harness.file().exists());
    assert_eq!(harness.host.code("off", "node1"), 0);
    let (code, text) = harness.run(&daemon, &["--release", "node1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("refused: there is no hold on \"node1\": nothing has changed"), "{text}");
}

#[test]
fn holds_survive_restarts() {
    let harness = require!(HoldHarness::new());
    let mut daemon = harness.start();
    harness.hold(&daemon, NODE1, "1h");
    harness.hold(&daemon, "web", "7d");
    daemon.signal(Signal::SIGKILL);
    daemon.await_exit(LIMIT);
    let daemon = harness.start();
    daemon.await_log(&format!("hold goes on: on \"{NODE1}\" until 2"));
    assert_eq!((harness.host.code("off", "node1"), harness.host.code("off", "node3")), (FAILURE, FAILURE));
    harness.succeed(&daemon, &["--release", "WEB"]);
    assert_eq!(harness.host.code("off", "node3"), 0);
    assert!(daemon.stop(LIMIT).success());
    let daemon = harness.start();
    let status = harness.succeed(&daemon, &["--status"]);
    assert_eq!(status.matches("\nhold on ").count(), 1, "{status}");
    assert_eq!((harness.host.code("off", "node1"), harness.host.code("status", "node1")), (FAILURE, ON));
}

#[test]
fn a_hold_ends_by_itself() {
    let harness = require!(HoldHarness::new());
    let daemon = harness.start();
    harness.hold(&daemon, "node2", "1h");
    let begin = Instant::now();
    harness.hold(&daemon, "node1", "2s");
    daemon.await_log("hold ended: on \"node1\" until 2");
    assert!(begin.elapsed() < Duration::from_secs(7), "it waits for no other event: {:?}", begin.elapsed());
    assert_eq!((harness.host.code("off", "node1"), harness.host.code("off", "node2")), (0, FAILURE));
    // It is out of the file, too, and a later one replaces the other.
    let text = harness.hold(&daemon, "NODE2", "1s");
    assert!(text.contains("\nit replaces the hold on \"node2\" until 2"), "{text}");
    daemon.await_log("hold ended: on \"NODE2\" until 2");
    assert!(!harness.file().exists());
}

#[test]
fn a_group_holds_the_vms_that_it_lists() {
    let harness = require!(HoldHarness::new());
    let daemon = harness.start();
    let text = harness.hold(&daemon, "Web", "1h");
    assert!(text.ends_with("\nthe group \"web\" lists 2 VMs\n"), "{text}");
    let off = |vm| harness.host.code("off", vm);
    assert_eq!((off("node1"), off("node2"), off("node3")), (0, FAILURE, FAILURE));
    let (code, text) = harness.run(&daemon, &["--release", "node2"]);
    assert!(code == Some(1) && text.contains("its groups are held: release \"Web\""), "{text}");
    let without = harness.conf("").replace("uuid = \"node2\"", "uuid = \"node9\"");
    daemon.reload(
        &harness.host.dir,
        &without.replace("uuid = \"node1\"", "uuid = \"node1\"; uuid = \"node2\""),
    );
    assert_eq!((off("node2"), off("node3")), (0, FAILURE), "a reload changes the group");
    // A hold on what is not there is taken, with a note.
    let text = harness.hold(&daemon, "node7", "1h");
    assert!(text.contains("\nnote: no VM that is known here has exactly this name now"), "{text}");
    let text = harness.hold(&daemon, "node1", "1h");
    assert!(!text.contains("note:"), "{text}");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let harness = require!(HoldHarness::new());
    let daemon = harness.start();
    let new = harness.host.dir.path("sock.holds.new");
    fs::create_dir_all(new.join("in the way")).unwrap();
    let (code, text) = harness.run(&daemon, &[&HOLD[..], &["kernel"]].concat());
    assert!(code == Some(1) && text.contains("refused: cannot write the holds to "), "{text}");
    assert_eq!(harness.host.code("off", "node1"), 0, "it is not in force");
    // The same socket, another configuration.
    let other = harness.host.dir.write("other.conf", &fs::read_to_string(daemon.conf()).unwrap());
    let (code, text) = harness.host.run(&[&HOLD[..], &["kernel"]].concat(), &other);
    assert!(code == Some(1) && text.contains("this daemon runs with "), "{text}");
    let conf = daemon.conf().to_owned();
    assert!(daemon.stop(LIMIT).success());
    let (code, text) = harness.host.run(&[&HOLD[..], &["kernel"]].concat(), &conf);
    assert!(code == Some(1) && text.contains("no fence_virtd is running with this configuration"), "{text}");
}

#[test]
fn the_daemon_does_not_start_without_its_holds() {
    let harness = require!(HoldHarness::new());
    let whole = "# fence_virtd holds 1\n1796020802125\t1796024402125\tnode1\tnew kernel\nend\t1\n";
    for (text, words) in [
        (whole.replace("end\t1\n", ""), "line 3: the end of the file is missing"),
        (whole.replace("1796024402125", "soon"), "line 2: it is not a hold"),
        (String::new(), "line 1: "),
    ] {
        fs::write(harness.file(), &text).unwrap();
        let mut daemon = Daemon::builder(&harness.host.dir, &harness.host.pair.host).spawn(&harness.conf(""));
        assert_eq!(daemon.await_exit(LIMIT).code(), Some(1));
        let log = daemon.log();
        assert!(log.contains("cannot read the holds in ") && log.contains(words), "{log}");
        assert!(log.contains("or remove it, which ends all holds"), "{log}");
        assert_eq!(fs::read_to_string(harness.file()).unwrap(), text, "it is left as it was");
        for args in [&["--check"][..], &["--check", "--lenient"], &["--doctor", "--errors-only"]] {
            let (code, text) = harness.run(&daemon, args);
            assert!(code != Some(0) && text.contains(words), "{args:?}: {text}");
            assert!(text.contains("the daemon will not start"), "{args:?}: {text}");
        }
    }
    fs::remove_file(harness.file()).unwrap();
    let _daemon = harness.start();
    assert_eq!(harness.host.code("off", "node1"), 0);
}

#[test]
fn a_cap_limits_the_power_offs_of_a_group() {
    let harness = require!(HoldHarness::new());
    let daemon = Daemon::builder(&harness.host.dir, &harness.host.pair.host)
        .start(&harness.conf("max_power_off = \"2/1d\";"));
    assert_eq!(harness.codes(&["off", "on", "status"], "node2"), [0, 0, ON]);
    assert_eq!(harness.codes(&["reboot", "off", "reboot", "status"], "node3"), [0, FAILURE, FAILURE, ON]);
    assert_eq!(harness.codes(&["off", "status", "on"], "node2"), [FAILURE, ON, 0]);
    assert_eq!(harness.codes(&["off", "on", "off"], "node1"), [0; 3], "it is in another group");
    daemon.await_log("off \"node3\": failure: max_power_off 2/86400s of group \"web\" is reached");
    let status = harness.succeed(&daemon, &["--status"]);
    assert!(status.contains("\nmax_power_off: \"web\" 2/86400s; refused: 3 power operations\n"), "{status}");
    let check = harness.succeed(&daemon, &["--check"]);
    assert!(check.contains("; max_power_off 2/86400s\n"), "{check}");
    // What was counted stays so.
    daemon.reload(&harness.host.dir, &harness.conf("max_power_off = \"3/1d\";"));
    assert_eq!(harness.codes(&["off", "reboot"], "node2"), [0, FAILURE]);
    daemon.reload(&harness.host.dir, &harness.conf(""));
    assert_eq!(harness.codes(&["off", "reboot"], "node2"), [0; 2]);
}
