//! `fence_virtd --status`, the watchdog, and logs in JSON and journald.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;
#[path = "status/health.rs"]
mod health;
#[path = "status/output.rs"]
mod output;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Output;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use common::agent::{Agent, AgentTransport, Programs};
use common::daemon::{Daemon, OURS, auth_keys, conf};
use common::libvirtd::{Libvirtd, libvirtd_installed};
use common::line::run_directory;
use common::net::{HOST_V4, NamespacePair};
use common::node::{NODE1, RUNNING, node, vm};
use common::{Dir, Missing, Suite, require, root_and_c_suite, until};

const LIMIT: Duration = Duration::from_secs(20);

struct StatusHarness {
    dir: Dir,
    pair: NamespacePair,
}

impl StatusHarness {
    fn new() -> Result<StatusHarness, Missing> {
        root_and_c_suite()?;
        Ok(StatusHarness { dir: Dir::new(), pair: NamespacePair::new() })
    }

    fn daemon(&self, uri: &str) -> Daemon {
        let key = self.dir.key("key", b'k');
        let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
        Daemon::builder(&self.dir, &self.pair.host).start(&conf("tcp", &keys, &[uri.to_owned()], ""))
    }

    /// Runs `--status` and returns exit code and output.
    fn status(&self, daemon: &Daemon, args: &[&str]) -> (Option<i32>, String) {
        let mut command = self.pair.host.command(OURS);
        let Output { status, stdout, stderr } =
            command.arg("--status").args(args).arg("-f").arg(daemon.conf()).output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        (status.code(), text)
    }
}

#[test]
fn requests_and_refusals_are_counted() {
    let harness = require!(StatusHarness::new());
    let uri = node(&harness.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let daemon = harness.daemon(&uri);
    let (right, wrong) = (harness.dir.path("key"), harness.dir.key("wrong", b'w'));
    let programs = Programs::of(Suite::Ours, &harness.dir);
    let agent = Agent {
        timeout: 2,
        ..Agent::new(&programs, &harness.pair.guest, AgentTransport::Tcp(HOST_V4), &right)
    };
    assert_eq!((agent.code("off", "node1"), agent.code("status", "node1")), (0, 2));
    assert_eq!(Agent { key: &wrong, ..agent.clone() }.code("status", "node1"), 1);
    let (code, text) = harness.status(&daemon, &[]);
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "listener tcp: ",
        "  off: 1 success",
        "  status: 1 off",
        "1 signature",
        "connected, last",
        "no problems",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let (code, text) = harness.status(&daemon, &["--json"]);
    assert!(
        code == Some(0) && text.contains("{\"operation\":\"off\",\"verdict\":\"success\",\"count\":1}"),
        "{text}"
    );
    let (code, text) = harness.status(&daemon, &["--openmetrics"]);
    let line = "fence_virtd_requests_total{listener=\"tcp\",operation=\"status\",verdict=\"off\"} 1";
    assert!(code == Some(0) && text.contains(line) && text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_libvirtd_that_hangs_is_no_reason_not_to_answer() {
    require!(libvirtd_installed());
    let harness = require!(StatusHarness::new());
    let libvirtd = Libvirtd::started(&harness.dir, &harness.pair.host, "one");
    let daemon = harness.daemon(&libvirtd.uri());
    assert_eq!(harness.status(&daemon, &[]).0, Some(0));
    libvirtd.freeze();
    until("it is seen", LIMIT, || harness.status(&daemon, &[]).0 == Some(2));
    let (_, text) = harness.status(&daemon, &[]);
    assert!(text.contains("ERROR    "), "{text}");
    libvirtd.thaw();
    until("it is well again", LIMIT, || harness.status(&daemon, &[]).0 == Some(0));
}

#[test]
fn the_socket_is_for_root_and_holds_nobody_up() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let socket = daemon.conf().with_extension("status");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Another user is refused, though file modes admit it.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(socket.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(daemon.conf(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = harness.pair.host.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", OURS, "--status", "-f"])
        .arg(daemon.conf());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // A silent client, and one that sends too much.
    let silent = UnixStream::connect(&socket).unwrap();
    let mut noisy = UnixStream::connect(&socket).unwrap();
    noisy.write_all(&[b'x'; 4096]).unwrap();
    let (code, text) = harness.status(&daemon, &[]);
    assert_eq!(code, Some(0), "{text}");
    drop((silent, noisy));
    // A client that keeps sending, each time within the timeout of a single read.
    let mut drips = UnixStream::connect(&socket).unwrap();
    let (stop, stopped) = channel::<()>();
    let dripping = thread::spawn(move || {
        while drips.write_all(b"x").is_ok() {
            if stopped.recv_timeout(Duration::from_millis(1500)) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    });
    let (code, text) = harness.status(&daemon, &[]);
    assert_eq!(code, Some(0), "{text}");
    drop(stop);
    dripping.join().unwrap();
    let (conf, exit) = (daemon.conf().to_owned(), daemon.stop(LIMIT));
    assert!(exit.success() && !socket.exists(), "the socket goes with the daemon");
    let mut command = harness.pair.host.command(OURS);
    let output = command.arg("--status").arg("-f").arg(conf).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no fence_virtd is running with this configuration"),
        "{output:?}"
    );
}

#[test]
fn a_file_that_is_being_edited_is_no_obstacle() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let conf = std::fs::read_to_string(daemon.conf()).unwrap();
    let edits = [
        conf.replace("backend = \"libvirt\";", "backend = "),
        conf.replace("listeners {", "listeners"),
        conf.clone() + "groups { group { uuid = \"x",
    ];
    for edited in edits {
        assert_ne!(edited, conf);
        std::fs::write(daemon.conf(), edited).unwrap();
        let (code, text) = harness.status(&daemon, &[]);
        assert!(code == Some(0) && text.contains("no problems"), "{text}");
    }
    std::fs::remove_file(daemon.conf()).unwrap();
    let (code, text) = harness.status(&daemon, &[]);
    assert!(code == Some(1) && text.contains("cannot read the configuration"), "{text}");
}

#[test]
fn a_watchdog_is_fed_while_the_worker_turns() {
    let harness = require!(StatusHarness::new());
    let key = harness.dir.key("key", b'k');
    let conf = conf("tcp", &auth_keys(&key, "sha256", "sha256"), &["test:///default".to_owned()], "");
    let builder = Daemon::builder(&harness.dir, &harness.pair.host);
    let daemon = builder.watchdog(Duration::from_millis(400)).start(&conf);
    daemon.await_state("STATUS=listeners tcp; backend libvirt; 0 requests, 0 refused");
    for _ in 0..3 {
        daemon.await_state("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGHUP);
    daemon.await_state("RELOADING=1");
    daemon.await_state("READY=1");
    daemon.await_state("STATUS=listeners tcp; backend libvirt; 0 requests, 0 refused; reloaded");
    daemon.await_state("WATCHDOG=1");
}

#[test]
fn a_probe_by_multicast_is_counted_apart_and_quiet() {
    let harness = require!(StatusHarness::new());
    let uri = node(&harness.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let key = harness.dir.key("key", b'k');
    let conf = conf("multicast", &auth_keys(&key, "sha256", "sha256"), &[uri], "");
    let daemon = Daemon::builder(&harness.dir, &harness.pair.host).start(&conf);
    // Marker of an agent that was killed before its answer arrived.
    let run = run_directory(&harness.dir);
    std::fs::write(run.join("fence_virt-call-back-ipv4-1229"), "1").unwrap();
    let xvm = harness.dir.path("fence_xvm");
    std::os::unix::fs::symlink(common::agent::OURS, &xvm).unwrap();
    let mut agent = harness.pair.guest.command("unshare");
    agent.args(["--mount", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""]).arg(run).arg(xvm);
    let ran =
        agent.arg("-k").arg(&key).args(["-d", "-o", "off", "-H", "node1", "-t", "20"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("prob"), "{said}");
    // The call-backs that the agent did not need have ended. A slow machine makes it ask again.
    let counts = || {
        let (code, text) = harness.status(&daemon, &[]);
        assert_eq!(code, Some(0), "{text}");
        let lines = text.lines().skip_while(|line| !line.starts_with("listener "));
        lines
            .take_while(|line| line.starts_with("listener ") || line.starts_with(' '))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let ended = |counts: &[String]| counts[0].ends_with(" 0 open") && counts.len() > 2;
    until("the call-backs have ended", LIMIT, || ended(&counts()));
    let counts = counts();
    let probes = counts[2].strip_prefix("  probes: ").and_then(|count| count.parse::<u64>().ok());
    assert!(
        counts[1] == "  off: 1 success"
            && counts[3] == "  with an older hash: 1"
            && counts.len() == 4
            && probes.is_some_and(|n| n >= 12),
        "{counts:?}"
    );
    let log = daemon.log();
    assert!(!log.contains("no-vm-") && !log.contains("hung up") && !log.contains("null"), "{log}");
}

#[test]
fn the_log_is_json_on_request() {
    let harness = require!(StatusHarness::new());
    let uri = node(&harness.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let key = harness.dir.key("key", b'k');
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let builder = Daemon::builder(&harness.dir, &harness.pair.host).args(&["--log", "json"]);
    let daemon = builder.start(&conf("tcp", &keys, &[uri], ""));
    let programs = Programs::of(Suite::Ours, &harness.dir);
    let agent = Agent::new(&programs, &harness.pair.guest, AgentTransport::Tcp(HOST_V4), &key);
    assert_eq!(agent.code("off", "node1"), 0);
    daemon.await_log(
        "\"listener\":\"tcp\",\"source\":\"192.0.2.2\",\"operation\":\"off\",\"domain\":\"node1\",\"verdict\":\"success\",\
         \"reason\":\"destroyed on test:",
    );
    assert_eq!(agent.run("list", "").code, 0);
    daemon.await_log("\"operation\":\"hostlist\",\"domain\":\"\",\"verdict\":\"list\",\"reason\":");
    let other = harness.dir.key("other", b'o');
    let stranger = Agent::new(&programs, &harness.pair.guest, AgentTransport::Tcp(HOST_V4), &other);
    assert_eq!(stranger.code("status", "node1"), 1);
    daemon.await_log(
        "\"listener\":\"tcp\",\"source\":\"192.0.2.2\",\"verdict\":\"refused\",\"refusal\":\"signature\",\"reason\":\"",
    );
    let log = daemon.log();
    let is_object = |line: &&str| line.starts_with("{\"time\":") && line.ends_with('}');
    assert_eq!(log.lines().filter(is_object).count(), log.lines().count(), "{log}");
    let millis = log.lines().filter_map(|line| line.split_once("\"milliseconds\":"));
    let millis: Vec<&str> = millis.map(|(_, number)| number.trim_end_matches('}')).collect();
    assert!(millis.len() >= 2 && millis.iter().all(|number| number.parse::<u64>().is_ok()), "{log}");
}

#[test]
fn each_level_of_debugging_adds_its_lines() {
    let harness = require!(StatusHarness::new());
    let uri = node(&harness.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let key = harness.dir.key("key", b'k');
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let conf = conf("tcp", &keys, &[uri], "");
    let programs = Programs::of(Suite::Ours, &harness.dir);
    let step = "debug: tcp: 192.0.2.2: status \"node1\": the client has proven itself";
    for (level, shows_steps, shows_events) in [("0", false, false), ("1", true, false), ("2", true, true)] {
        let daemon = Daemon::builder(&harness.dir, &harness.pair.host).args(&["-d", level]).start(&conf);
        let agent = Agent::new(&programs, &harness.pair.guest, AgentTransport::Tcp(HOST_V4), &key);
        assert_eq!(agent.code("status", "node1"), 0);
        daemon.await_log("status \"node1\": success");
        let log = daemon.log();
        let shown = (log.contains(step), log.contains("trace: networks of this host: "));
        assert_eq!(shown, (shows_steps, shows_events), "{level}: {log}");
    }
}

#[test]
fn lines_on_stderr_have_their_time_unless_a_service_manager_notes_it() {
    let harness = require!(StatusHarness::new());
    let uri = node(&harness.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let conf = conf("tcp", "hash = \"none\"; auth = \"none\";", &[uri], "");
    let builder = || Daemon::builder(&harness.dir, &harness.pair.host);
    let managed = builder().start(&conf);
    assert!(managed.log().lines().all(|line| line.starts_with("fence_virtd: ")), "{}", managed.log());
    drop(managed);
    let alone = builder().command(&["env", "-u", "NOTIFY_SOCKET", "-u", "INVOCATION_ID", OURS]).spawn(&conf);
    alone.await_log("is ready");
    let log = alone.log();
    let is_timed = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        time.len() == "2026-11-30T07:20:08.576Z".len()
            && time.ends_with('Z')
            && rest.starts_with("fence_virtd: ")
    };
    assert!(log.lines().all(is_timed), "{log}");
}

#[test]
fn journald_gets_the_fields_of_a_request() {
    let harness = require!(StatusHarness::new());
    let uri = node(&harness.dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
    let key = harness.dir.key("key", b'k');
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let directory = harness.dir.path("journal");
    std::fs::create_dir(&directory).unwrap();
    let journal = UnixDatagram::bind(directory.join("socket")).unwrap();
    journal.set_read_timeout(Some(LIMIT)).unwrap();
    // A private /run with the test's journald socket.
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind {} /run/systemd/journal &&
         JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec {OURS} \"$@\"",
        directory.display()
    );
    let words = ["unshare", "-m", "sh", "-c", &script, "fence_virtd"];
    let builder = Daemon::builder(&harness.dir, &harness.pair.host).command(&words);
    let _daemon = builder.spawn(&conf("tcp", &keys, &[uri], ""));
    let programs = Programs::of(Suite::Ours, &harness.dir);
    let mut buffer = [0; 4096];
    let mut next = || {
        let count = journal.recv(&mut buffer).expect("journald is told");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    while !next().contains("is ready") {}
    let agent = Agent::new(&programs, &harness.pair.guest, AgentTransport::Tcp(HOST_V4), &key);
    assert_eq!(agent.code("status", "nosuch"), 2);
    let entry = std::iter::repeat_with(next).find(|entry| entry.contains("FENCE_")).unwrap();
    let lines: Vec<&str> = entry.lines().collect();
    for line in [
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=fence_virtd",
        "FENCE_LISTENER=tcp",
        "FENCE_SOURCE=192.0.2.2",
        "FENCE_OPERATION=status",
        "FENCE_DOMAIN=nosuch",
        "FENCE_VERDICT=off",
    ] {
        assert!(lines.contains(&line), "{line} in {entry}");
    }
}
