//! `fence_virtd --history`, and the history file.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use common::daemon::{Daemon, OURS};
use common::net::GUEST_V4;
use common::node::{NODE1, NODE2, OFF, RUNNING, vm};
use common::tcp_host::TcpHost;
use common::{Missing, require};

const LIMIT: Duration = Duration::from_secs(20);

/// Host with the VMs node1, running, and node2, off.
struct HistoryHarness {
    host: TcpHost,
}

impl HistoryHarness {
    fn new() -> Result<HistoryHarness, Missing> {
        let host = TcpHost::new(&[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)])?;
        Ok(HistoryHarness { host })
    }

    /// Configuration with this line in the section fence_virtd. Only node1 may be fenced.
    fn conf(&self, line: &str) -> String {
        let group = format!("group {{ name = \"a\"; uuid = \"node1\"; ip = \"{GUEST_V4}\"; }}");
        let conf = self.host.conf(&self.host.uri, &group);
        conf.replacen("fence_virtd {", &format!("fence_virtd {{ {line}"), 1)
    }

    fn start(&self, line: &str) -> Daemon {
        Daemon::builder(&self.host.dir, &self.host.pair.host).start(&self.conf(line))
    }

    /// The VMs of the history, in its order.
    fn vms(&self, daemon: &Daemon) -> Vec<String> {
        let (code, text) = self.host.run(&["--history", "--json"], daemon.conf());
        assert_eq!(code, Some(0), "{text}");
        let vm = |line: &str| line.split_once("\"vm\":\"").unwrap().1.split('"').next().unwrap().to_owned();
        text.lines().map(vm).collect()
    }
}

/// Time of the wall clock in RFC 3339, as far as the form goes.
fn is_time(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(c, form): (char, char)| if form == 'd' { c.is_ascii_digit() } else { c == form };
    text.len() == form.len() && text.chars().zip(form.chars()).all(fits)
}

#[test]
fn operations_and_denials_are_shown_and_questions_are_not() {
    let harness = require!(HistoryHarness::new());
    let daemon = harness.start("");
    assert_eq!(
        harness.host.run(&["--history"], daemon.conf()),
        (Some(0), "no power operations\n".to_owned())
    );
    assert_eq!((harness.host.code("off", "node1"), harness.host.code("status", "node1")), (0, 2));
    assert_ne!(harness.host.code("off", "node2"), 0);
    let (code, text) = harness.host.run(&["--history"], daemon.conf());
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((code, rows.len()), (Some(0), 3), "{text}");
    assert!(rows[1..].iter().all(|row| is_time(row[0])), "{text}");
    assert_eq!(rows[1][1..6], ["tcp", "192.0.2.2", "off", "node1", "success"], "{text}");
    assert_eq!(rows[2][1..6], ["tcp", "192.0.2.2", "off", "node2", "denied"], "{text}");
    assert!(text.contains("verified off") && text.contains("no group lists both"), "{text}");
    assert!(text.contains("; groups of the requester: \"a\", of the VM: none"), "{text}");
    let (_, text) = harness.host.run(&["--history", "--json", "--vm", "NODE1"], daemon.conf());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("{\"time\":\"2") && text.contains("\"verdict\":\"success\""), "{text}");
    let (code, text) = harness.host.run(&["--status"], daemon.conf());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("last power operations:\n  2") && text.ends_with("no problems\n"), "{text}");
    let (_, text) = harness.host.run(&["--status", "--json"], daemon.conf());
    assert!(text.contains("\"last_operations\":[{\"time\":\"2"), "{text}");
    let (_, text) = harness.host.run(&["--status", "--openmetrics"], daemon.conf());
    assert!(!text.contains("node1"), "{text}");
    let conf = daemon.conf().to_owned();
    daemon.stop(LIMIT);
    let output = harness.host.pair.host.command(OURS).arg("--history").arg("-f").arg(conf).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn the_file_keeps_the_history_over_restarts() {
    let harness = require!(HistoryHarness::new());
    let path = harness.host.dir.path("state").join("history");
    let line = format!("history_file = \"{}\";", path.display());
    let mut daemon = harness.start(&line);
    assert_eq!((harness.host.code("off", "node1"), harness.host.code("on", "node1")), (0, 0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // It is written without an orderly end, too.
    common::until("the file has both", LIMIT, || lines(&path).len() == 3);
    daemon.signal(Signal::SIGKILL);
    daemon.await_exit(LIMIT);
    // A write that the crash has cut.
    fs::File::options().append(true).open(&path).unwrap().write_all(b"17960208").unwrap();
    let daemon = harness.start(&line);
    daemon.await_log("dropped lines that are unreadable: 1");
    assert_eq!(harness.vms(&daemon), ["node1", "node1"]);
    assert_ne!(harness.host.code("off", "node2"), 0);
    assert_eq!(harness.vms(&daemon), ["node1", "node1", "node2"]);
    // A reload does not move it.
    daemon.reload(&harness.host.dir, &harness.conf(""));
    daemon.await_log("unchanged until the daemon is restarted: history_file");
    assert!(daemon.stop(LIMIT).success());
    assert_eq!(lines(&path).len(), 4);
    assert!(fs::read_dir(path.parent().unwrap()).unwrap().count() == 1, "nothing else is left there");
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_disk_that_is_full_holds_up_no_operation() {
    let harness = require!(HistoryHarness::new());
    // A disk of one page, in a mount namespace of the daemon: too small for the file and its replacement.
    let disk = harness.host.dir.path("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4k none {0} && head -c 4096 /dev/zero >{0}/full; exec {OURS} \"$@\"",
        disk.display()
    );
    let words = ["unshare", "-m", "sh", "-c", &script, "fence_virtd"];
    let line = format!("history_file = \"{}\";", disk.join("history").display());
    let daemon = Daemon::builder(&harness.host.dir, &harness.host.pair.host)
        .command(&words)
        .start(&harness.conf(&line));
    daemon.await_log("cannot write it: No space left on device: trying again every 10 s");
    for _ in 0..10 {
        assert_eq!((harness.host.code("off", "node1"), harness.host.code("on", "node1")), (0, 0));
    }
    assert_eq!(harness.vms(&daemon).len(), 20);
    let warnings = daemon.log().matches("cannot write it").count();
    assert_eq!(warnings, 1, "{}", daemon.log());
}
