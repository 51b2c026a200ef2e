//! SIGHUP and --reload: settings that change while the daemon runs, and settings that do not.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use common::agent::{Agent, AgentTransport, Programs};
use common::client::{Client, packet};
use common::daemon::{Daemon, OURS, auth_keys, conf};
use common::libvirtd::{Libvirtd, libvirtd_installed};
use common::net::{GUEST_V4, HOST_V4, NamespacePair};
use common::node::{NODE1, RUNNING, node, vm};
use common::{Dir, Missing, Suite, key_bytes, require, root_and_c_suite, until};
use fence_virt::auth::HashKind;
use fence_virt::fence::Operation;

const LIMIT: Duration = Duration::from_secs(10);

struct ReloadHarness {
    dir: Dir,
    pair: NamespacePair,
    uri: String,
    programs: Programs,
}

impl ReloadHarness {
    fn new() -> Result<ReloadHarness, Missing> {
        root_and_c_suite()?;
        let (dir, pair) = (Dir::new(), NamespacePair::new());
        let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING)]);
        let programs = Programs::of(Suite::Ours, &dir);
        Ok(ReloadHarness { dir, pair, uri, programs })
    }

    /// Configuration with a tcp listener with these settings, and groups.
    fn conf(&self, keys: &str, groups: &str) -> String {
        conf("tcp", &format!("address = \"{HOST_V4}\"; {keys}"), std::slice::from_ref(&self.uri), groups)
    }

    fn daemon(&self, conf: &str) -> Daemon {
        Daemon::builder(&self.dir, &self.pair.host).start(conf)
    }

    fn agent<'a>(&'a self, key: &'a Path) -> Agent<'a> {
        Agent {
            timeout: 3,
            ..Agent::new(&self.programs, &self.pair.guest, AgentTransport::Tcp(HOST_V4), key)
        }
    }
}

fn group(ip: &str) -> String {
    format!("groups {{ group {{ uuid = \"node1\"; ip = \"{ip}\"; }} }}")
}

#[test]
fn groups_come_change_and_go() {
    let harness = require!(ReloadHarness::new());
    let key = harness.dir.key("key", b'k');
    let keys = auth_keys(&key, "sha256", "sha256");
    let daemon = harness.daemon(&harness.conf(&keys, ""));
    let (agent, denied) = (harness.agent(&key), 3);
    assert_eq!(agent.code("status", "node1"), 0);
    daemon.reload(&harness.dir, &harness.conf(&keys, &group("192.0.2.77")));
    daemon.await_log("1 group instead of 0");
    assert_eq!(agent.code("status", "node1"), denied);
    daemon.reload(&harness.dir, &harness.conf(&keys, &group(GUEST_V4)));
    assert_eq!(agent.code("status", "node1"), 0);
    daemon.reload(&harness.dir, &harness.conf(&keys, ""));
    assert_eq!(agent.code("status", "node1"), 0);
    daemon.await_log("0 groups instead of 1");
}

/// Runs `--reload` with a configuration; returns exit code, stdout and stderr.
fn ordered(harness: &ReloadHarness, conf: &Path) -> (i32, String, String) {
    let mut command = harness.pair.host.command(OURS);
    let output = command.args(["--reload", "-w", "-f"]).arg(conf).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_client_that_orders_a_reload_is_told_its_result() {
    let harness = require!(ReloadHarness::new());
    let key = harness.dir.key("key", b'k');
    let keys = auth_keys(&key, "sha256", "sha256");
    let daemon = harness.daemon(&harness.conf(&keys, ""));
    let agent = harness.agent(&key);
    let shown = daemon.conf().display();
    let reload = |conf: &str| {
        daemon.replace(&harness.dir, conf);
        ordered(&harness, daemon.conf())
    };

    let (code, out, err) = reload(&harness.conf(&keys, &group("192.0.2.77")));
    let changes = format!("reloaded {shown}: 1 group instead of 0, 1 key file read again\n");
    assert_eq!((code, out, err), (0, changes, String::new()));
    daemon.await_state("RELOADING=1");
    daemon.await_state("READY=1");
    assert_eq!(agent.code("status", "node1"), 3, "it is in force when the client ends");

    let wrong = harness.conf(&keys.replacen("sha256", "sha255", 1), "");
    let (code, out, err) = reload(&wrong);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("fence_virtd: reload refused: the configuration ") && err.contains("has errors"),
        "{err}"
    );
    daemon.await_log("reload refused: the configuration");
    daemon.await_state("READY=1");
    assert_eq!(agent.code("status", "node1"), 3, "nothing has changed");

    // The same socket, another file.
    let other = harness.dir.write("other.conf", &fs::read_to_string(daemon.conf()).unwrap());
    let (code, _, err) = ordered(&harness, &other);
    let reason = format!("this daemon runs with {shown}, not {}: nothing has changed\n", other.display());
    assert!(code == 1 && err.ends_with(&reason), "{err}");

    // Orders that come together are all answered.
    daemon.replace(&harness.dir, &harness.conf(&keys, ""));
    let (harness, own, begin) = (&harness, daemon.conf(), Instant::now());
    let codes = thread::scope(|scope| {
        let orders = [&other, &other, own, &other, &other, own, &other];
        let orders = orders.map(|conf| scope.spawn(move || ordered(harness, conf).0));
        orders.map(|order| order.join().unwrap())
    });
    assert_eq!(codes, [1, 1, 0, 1, 1, 0, 1]);
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "no order waits for another event: {:?}",
        begin.elapsed()
    );

    let conf = daemon.conf().to_owned();
    assert!(daemon.stop(LIMIT).success());
    let (code, _, err) = ordered(harness, &conf);
    assert!(code == 1 && err.contains("no fence_virtd is running with this configuration"), "{err}");
}

#[test]
fn an_order_is_refused_while_the_daemon_stops() {
    let harness = require!(ReloadHarness::new());
    require!(libvirtd_installed());
    let key = harness.dir.key("key", b'k');
    let libvirtd = Libvirtd::started(&harness.dir, &harness.pair.host, "one");
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    let daemon = harness.daemon(&conf("tcp", &keys, &[libvirtd.uri()], ""));
    // A request that waits for a frozen libvirtd holds up the end for the grace period.
    libvirtd.freeze();
    let client = harness.pair.guest.inside(|| {
        let address = SocketAddr::new(HOST_V4.parse().unwrap(), 1229);
        let mut client = Client::connect(address, &key_bytes(b'k'), HashKind::Sha256, LIMIT).unwrap();
        client.send(&packet(Operation::Status, "node1", HashKind::Sha256)).unwrap();
        client.authenticate().unwrap();
        client
    });
    daemon.signal(Signal::SIGTERM);
    daemon.await_log("finishing requests in flight");
    let (code, out, err) = ordered(&harness, daemon.conf());
    libvirtd.thaw();
    assert!((code, out.as_str()) == (1, "") && err.contains("the daemon is stopping"), "{out}{err}");
    drop(client);
}

#[test]
fn keys_are_changed_without_an_outage() {
    let harness = require!(ReloadHarness::new());
    let (old, new) = (harness.dir.key("old", b'o'), harness.dir.key("new", b'n'));
    let (with_old, with_new) = (harness.agent(&old), harness.agent(&new));
    let keys = |key: &Path| auth_keys(key, "sha256", "sha256");
    let daemon = harness.daemon(&harness.conf(&keys(&old), ""));
    assert_eq!((with_old.code("status", "node1"), with_new.code("status", "node1")), (0, 1));
    let both = format!("{} old_key_file = \"{}\";", keys(&new), old.display());
    daemon.reload(&harness.dir, &harness.conf(&both, ""));
    assert_eq!((with_old.code("status", "node1"), with_new.code("status", "node1")), (0, 0));
    daemon.reload(&harness.dir, &harness.conf(&keys(&new), ""));
    assert_eq!((with_old.code("status", "node1"), with_new.code("status", "node1")), (1, 0));
    // Same file name, other key.
    fs::copy(&old, &new).unwrap();
    daemon.reload(&harness.dir, &harness.conf(&keys(&new), ""));
    assert_eq!(with_old.code("status", "node1"), 0);
}

#[test]
fn a_stronger_hash_is_asked_for() {
    let harness = require!(ReloadHarness::new());
    let key = harness.dir.key("key", b'k');
    let daemon = harness.daemon(&harness.conf(&auth_keys(&key, "sha256", "sha256"), ""));
    let weak = harness.agent(&key);
    let strong = Agent { hash: "sha512", ..weak.clone() };
    assert_eq!(weak.code("status", "node1"), 0);
    daemon.reload(&harness.dir, &harness.conf(&auth_keys(&key, "sha512", "sha256"), ""));
    assert_eq!((weak.code("status", "node1"), strong.code("status", "node1")), (1, 0));
}

#[test]
fn with_anything_wrong_nothing_changes() {
    let harness = require!(ReloadHarness::new());
    let key = harness.dir.key("key", b'k');
    let keys = auth_keys(&key, "sha256", "sha256");
    let daemon = harness.daemon(&harness.conf(&keys, ""));
    let agent = harness.agent(&key);
    let denies_all = group("192.0.2.77");
    let open = harness.dir.key("open", b'k');
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let wrong = [
        (harness.conf(&keys, &format!("{denies_all} groups {{")), "unclosed section"),
        (harness.conf(&auth_keys(&open, "sha256", "sha256"), &denies_all), "chmod 0600"),
        (harness.conf(&format!("{keys} old_key_file = \"/nowhere\";"), &denies_all), "/nowhere"),
        (
            harness.conf(&keys, &denies_all).replace("backend = \"libvirt\"", "backend = \"xen\""),
            "unknown backend",
        ),
        (
            harness.conf(&keys, "").replace("listeners {", &format!("listeners {{ {denies_all}")),
            "misplaced section",
        ),
        (harness.conf(&keys, &format!("{denies_all} groups {{ }}")), "is already on line"),
        (harness.conf(&keys, &group("192.168.122.1/24")), "write 192.168.122.0/24"),
        (harness.conf(&keys, &denies_all).replace("key_file = \"/", "key_file = \""), "absolute file path"),
    ];
    let refusals = wrong.len();
    for (conf, words) in wrong {
        daemon.reload(&harness.dir, &conf);
        daemon.await_log(words);
        assert_eq!(agent.code("status", "node1"), 0, "{words}");
    }
    let count = || daemon.log().matches("nothing has changed").count();
    until("each was refused", LIMIT, || count() == refusals);
}

#[test]
fn what_needs_a_restart_is_named_and_left() {
    let harness = require!(ReloadHarness::new());
    let key = harness.dir.key("key", b'k');
    let keys = auth_keys(&key, "sha256", "sha256");
    let daemon = harness.daemon(&harness.conf(&keys, ""));
    let denies_all = harness.conf(&keys, &group("192.0.2.77"));
    let weak = auth_keys(&key, "none", "none");
    let elsewhere = harness.conf(&format!("{weak} port = \"1300\";"), &group(GUEST_V4));
    daemon.reload(&harness.dir, &elsewhere);
    daemon.await_log("changing where tcp listens needs a restart: nothing has changed");
    let weak = Agent { hash: "none", auth: "none", ..harness.agent(&key) };
    assert_eq!(weak.code("status", "node1"), 1, "keys go with what listens");
    daemon.reload(&harness.dir, &denies_all.replace("node.xml\"", "other.xml\""));
    daemon.await_log("until the daemon is restarted: backend settings");
    let denied = harness.agent(&key).run("status", "node1");
    assert_eq!(denied.code, 3, "with the new groups");
    daemon.await_log("status \"node1\": permission denied");
}

#[test]
fn listeners_of_one_kind_have_their_own_keys_and_groups() {
    let harness = require!(ReloadHarness::new());
    let (key, other) = (harness.dir.key("key", b'k'), harness.dir.key("other", b'o'));
    let section = |label: &str, port: u16, key: &Path| {
        let keys = auth_keys(key, "sha256", "sha256");
        format!("tcp{label} {{ address = \"{HOST_V4}\"; port = \"{port}\"; {keys} }}")
    };
    let conf = format!(
        "fence_virtd {{ listener = \"tcp, tcp:cluster-b\"; backend = \"libvirt\"; }}
         listeners {{ {} {} }} backends {{ libvirt {{ uri = \"{}\"; }} }}
         groups {{ group {{ uuid = \"node1\"; ip = \"{GUEST_V4}\"; listener = \"tcp:cluster-b\"; }} }}",
        section("", 1229, &key),
        section(" = \"cluster-b\"", 1300, &other),
        harness.uri,
    );
    let daemon = harness.daemon(&conf);
    daemon.await_log("no group applies to listener tcp");
    // The harness has no option for the port.
    let ask = |port: &str, key: &Path| {
        let mut command = harness.pair.guest.command(&harness.programs.virt);
        command.args(["-T", HOST_V4, "-p", port, "-t", "3", "-o", "status", "-n", "node1", "-k"]).arg(key);
        command.output().unwrap().status.code()
    };
    assert_eq!(ask("1300", &other), Some(0));
    assert_eq!(ask("1300", &key), Some(1), "the key of another cluster");
    assert_eq!(ask("1229", &other), Some(1));
    assert_eq!(ask("1229", &key), Some(3), "known, and in no group");
    daemon.await_log("tcp: 192.0.2.2: status \"node1\": permission denied");
    daemon.await_log("tcp:cluster-b: 192.0.2.2: status \"node1\": success");
}

#[test]
fn a_signal_that_comes_during_the_start_is_obeyed_after_it() {
    require!(libvirtd_installed());
    let harness = require!(ReloadHarness::new());
    let libvirtd = Libvirtd::started(&harness.dir, &harness.pair.host, "one");
    let key = harness.dir.key("key", b'k');
    let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
    // The start waits for a frozen libvirtd.
    libvirtd.freeze();
    let conf = conf("tcp", &keys, &[libvirtd.uri()], "");
    // Without a service manager nothing else wakes the main thread.
    let builder = Daemon::builder(&harness.dir, &harness.pair.host);
    let daemon = builder.command(&["env", "-u", "NOTIFY_SOCKET", OURS]).spawn(&conf);
    daemon.await_log("listening on");
    let pending = |wanted: bool| {
        // Bit 0 of ShdPnd is SIGHUP, which is blocked before the wait for libvirt.
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let bits = |name: &str| {
            let hex = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            u64::from_str_radix(hex, 16).unwrap() & 1 == 1
        };
        bits("SigBlk:") && bits("ShdPnd:") == wanted
    };
    until("it takes signals", LIMIT, || pending(false));
    daemon.signal(Signal::SIGHUP);
    until("it has taken it", LIMIT, || pending(false));
    libvirtd.thaw();
    daemon.await_log("is ready");
    daemon.await_log("reloaded ");
}
