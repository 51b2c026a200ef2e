//! A key for each VM: who asks with it, how it is made, revoked and replaced.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::agent::{Agent, AgentTransport, Programs};
use common::daemon::{Daemon, OURS, conf};
use common::net::{GUEST_V4, HOST_V4, Namespace, NamespacePair};
use common::node::{NODE1, NODE2, NODE3, RUNNING, node, vm};
use common::{Dir, Missing, Suite, require, root, root_and_c_suite};

/// Exit codes of the agents: success, failure, denial by the groups.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const DENIED: i32 = 3;

/// Host with three VMs, two of which are members of a group that lists no address.
struct KeysHarness {
    dir: Dir,
    pair: NamespacePair,
    uri: String,
    programs: Programs,
}

impl KeysHarness {
    fn new() -> Result<KeysHarness, Missing> {
        root("for network namespaces")?;
        let (dir, pair) = (Dir::new(), NamespacePair::new());
        let vms = [vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING), vm("node3", NODE3, RUNNING)];
        let uri = node(&dir, "node.xml", &vms);
        let programs = Programs::of(Suite::Ours, &dir);
        fs::create_dir(dir.path("keys.d")).unwrap();
        Ok(KeysHarness { dir, pair, uri, programs })
    }

    /// Key of a VM in the folder.
    fn key(&self, file: &str, letter: u8) -> PathBuf {
        self.dir.key(&format!("keys.d/{file}"), letter)
    }

    /// Configuration with these settings of the listener and of the section keys.
    fn conf(&self, listener: &str, keys: &str) -> String {
        let folder = self.dir.path("keys.d");
        let groups = format!(
            "keys {{ {keys} folder = \"{}\"; }} groups {{ group {{ uuid = \"node1\"; uuid = \"node2\"; }} }}",
            folder.display()
        );
        conf("tcp", &format!("address = \"{HOST_V4}\"; {listener}"), std::slice::from_ref(&self.uri), &groups)
    }

    fn own_keys_alone(&self) -> String {
        self.conf("hash = \"hmac-sha256\"; key_file = \"/nonexistent/key\";", "shared = \"no\";")
    }

    fn daemon(&self, conf: &str) -> Daemon {
        Daemon::builder(&self.dir, &self.pair.host).start(conf)
    }

    fn agent<'a>(&'a self, namespace: &'a Namespace, key: &'a Path) -> Agent<'a> {
        let way = AgentTransport::Tcp(HOST_V4);
        Agent { timeout: 3, hash: "hmac-sha256", ..Agent::new(&self.programs, namespace, way, key) }
    }

    /// Exit code of an agent in the guest.
    fn code(&self, key: &Path, operation: &str, vm: &str) -> i32 {
        self.agent(&self.pair.guest, key).code(operation, vm)
    }

    /// Runs the daemon's program with these options and its configuration; returns exit code, stdout and stderr.
    fn tool(&self, conf: &Path, options: &[&str]) -> (i32, String, String) {
        let output = self.pair.host.command(OURS).args(options).arg("-f").arg(conf).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn a_vm_with_a_key_of_its_own_is_the_requester_whatever_its_address() {
    let harness = require!(KeysHarness::new());
    let [own, other, outside] = [("node1.key", b'1'), ("node2.key", b'2'), ("node3.key", b'3')]
        .map(|(file, letter)| harness.key(file, letter));
    let shared = harness.dir.key("shared.key", b's');
    let daemon = harness.daemon(&harness.own_keys_alone());
    assert_eq!(harness.code(&own, "status", "node2"), DONE);
    assert_eq!(harness.code(&own, "status", "node3"), DENIED, "no member");
    assert_eq!(harness.code(&outside, "status", "node2"), DENIED, "its group lists it nowhere");
    daemon.await_log("tcp: key \"node1\" at 192.0.2.2: status \"node3\": permission denied");
    // From the host itself: another address.
    let from_host = harness.agent(&harness.pair.host, &own);
    assert_eq!((from_host.code("off", "node2"), from_host.code("off", "node3")), (DONE, DENIED));
    daemon.await_log("tcp: key \"node1\" at 192.0.2.1: off \"node2\": success");
    assert_eq!(harness.code(&other, "off", "node1"), DONE);

    assert_eq!(harness.code(&shared, "status", "node2"), FAILED);
    daemon.await_log("neither this listener nor a VM has the key");
    let older = Agent { hash: "sha256", ..harness.agent(&harness.pair.guest, &own) };
    assert_eq!(older.code("status", "node2"), FAILED, "the key of a VM is for version 2 alone");
    daemon.await_log("its hash is sha256");

    let (code, status, _) = harness.tool(daemon.conf(), &["--status"]);
    assert!(code == 0 && status.contains("\nkeys of VMs: 3\n"), "{status}");
    assert!(status.contains("key \"node2\" at 192.0.2.2: off \"node1\": success"), "{status}");
    let (_, history, _) = harness.tool(daemon.conf(), &["--history"]);
    let requester = format!("key \"node1\" at {HOST_V4}");
    assert!(history.lines().any(|line| line.contains(&requester) && line.contains("denied")), "{history}");
    let (_, json, _) = harness.tool(daemon.conf(), &["--history", "--json"]);
    assert!(json.contains(&format!("\"requester\":\"key \\\"node2\\\" at {GUEST_V4}\"")), "{json}");
}

#[test]
fn the_shared_key_counts_beside_those_of_vms_unless_it_is_switched_off() {
    let harness = require!(KeysHarness::new());
    let own = harness.key("node1.key", b'1');
    let shared = harness.dir.key("shared.key", b's');
    let listener = format!("key_file = \"{}\";", shared.display());
    let daemon = harness.daemon(&harness.conf(&listener, ""));
    assert_eq!(harness.code(&own, "status", "node2"), DONE, "stronger than the minimum");
    // The shared key says nothing of the requester, and the group lists no address.
    assert_eq!(harness.code(&shared, "status", "node2"), DENIED);
    let listed =
        harness.conf(&listener, "").replace("uuid = \"node2\";", "uuid = \"node2\"; ip = \"192.0.2.0/24\";");
    daemon.reload(&harness.dir, &listed);
    let older = Agent { hash: "sha256", ..harness.agent(&harness.pair.guest, &shared) };
    assert_eq!((harness.code(&shared, "status", "node2"), older.code("status", "node2")), (DONE, DONE));
    daemon.reload(&harness.dir, &harness.own_keys_alone());
    daemon.await_log("tcp with hash hmac-sha256, no shared key");
    assert_eq!((harness.code(&shared, "status", "node2"), older.code("status", "node2")), (FAILED, FAILED));
    assert_eq!(harness.code(&own, "status", "node2"), DONE);

    // The key of a VM is never a shared one, too.
    let both = harness.conf(&format!("key_file = \"{}\";", own.display()), "");
    daemon.reload(&harness.dir, &both);
    daemon.await_log("is also the key of the VM \"node1\"");
    let file = harness.dir.write("both.conf", &both);
    let (code, _, err) = harness.tool(&file, &["--check"]);
    assert!(code == 1 && err.contains("error: tcp: the shared key"), "{err}");
}

#[test]
fn keys_are_revoked_and_replaced_one_by_one() {
    let harness = require!(KeysHarness::new());
    let (own, other) = (harness.key("node1.key", b'1'), harness.key("node2.key", b'2'));
    let held = harness.dir.path("in-node1");
    fs::copy(&own, &held).unwrap();
    let held_2 = harness.dir.path("in-node2");
    fs::copy(&other, &held_2).unwrap();
    let conf = harness.own_keys_alone();
    let daemon = harness.daemon(&conf);
    let codes = |harness: &KeysHarness| [&held, &held_2].map(|key| harness.code(key, "status", "node1"));
    assert_eq!(codes(&harness), [DONE, DONE]);

    fs::remove_file(&own).unwrap();
    daemon.reload(&harness.dir, &conf);
    daemon.await_log("keys of VMs: removed \"node1\"");
    assert_eq!(codes(&harness), [FAILED, DONE]);
    let (_, print, _) = harness.tool(daemon.conf(), &["--check"]);
    assert!(print.contains("keys of VMs: 1; without a uuid"), "{print}");
    daemon.await_log("tcp: 192.0.2.2: neither this listener");
    daemon.await_log("neither this listener nor a VM has the key");

    // The new key beside the old one, which the VM still has.
    let old = harness.dir.path("keys.d/node2.old-key");
    fs::rename(&other, &old).unwrap();
    let new = harness.key("node2.key", b'n');
    daemon.reload(&harness.dir, &conf);
    daemon.await_log("keys of VMs: changed \"node2\"");
    assert_eq!([&held_2, &new].map(|key| harness.code(key, "status", "node1")), [DONE, DONE]);
    fs::remove_file(old).unwrap();
    daemon.reload(&harness.dir, &conf);
    assert_eq!([&held_2, &new].map(|key| harness.code(key, "status", "node1")), [FAILED, DONE]);

    // One key that cannot be used refuses the reload as a whole.
    let open = harness.key("node1.key", b'1');
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(&new).unwrap();
    let (code, _, err) = harness.tool(daemon.conf(), &["--reload"]);
    let shown = open.display();
    assert!(
        code == 1 && err.contains(&format!("keys: key \"node1\": key file {shown} has mode 0644")),
        "{err}"
    );
    let kept = harness.dir.key("kept", b'n');
    assert_eq!(harness.code(&kept, "status", "node1"), DONE, "nothing has changed");
}

#[test]
fn a_key_that_was_made_is_in_force_after_a_reload() {
    let harness = require!(KeysHarness::new());
    harness.key("node1.key", b'1');
    let daemon = harness.daemon(&harness.own_keys_alone());
    let (code, out, err) = harness.tool(daemon.conf(), &["--add-key", "node2"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let path = harness.dir.path("keys.d/node2.key");
    let bytes = fs::read(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((bytes.len(), mode), (4096, 0o600));
    assert!(out.contains(path.to_str().unwrap()) && out.contains("--reload"), "{out}");
    // The fingerprint is that which the agent prints.
    let agent =
        Command::new(common::agent::OURS).arg("--key-fingerprint").arg("-k").arg(&path).output().unwrap();
    let fingerprint = String::from_utf8(agent.stdout).unwrap();
    assert!(
        out.contains(&format!("fingerprint {}", fingerprint.split_whitespace().next().unwrap())),
        "{out}{fingerprint}"
    );
    assert_eq!(harness.code(&path, "status", "node1"), FAILED, "not yet");
    let (code, out, err) = harness.tool(daemon.conf(), &["--reload"]);
    assert!(code == 0 && out.contains("keys of VMs: added \"node2\""), "{out}{err}");
    assert_eq!(harness.code(&path, "status", "node1"), DONE);

    let (code, _, err) = harness.tool(daemon.conf(), &["--add-key", "node2"]);
    assert!(code == 1 && err.contains("exists, and was left unchanged"), "{err}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_c_daemon_takes_the_file_and_knows_the_shared_key_alone() {
    require!(root_and_c_suite());
    let harness = require!(KeysHarness::new());
    let own = harness.key("node1.key", b'1');
    let shared = harness.dir.key("shared.key", b's');
    let key = format!("key = \"node1\" {{ file = \"{}\"; uuid = \"{NODE1}\"; }}", own.display());
    let listener = common::daemon::auth_keys(&shared, "sha256", "sha256");
    let conf =
        harness.conf(&listener, &key).replace("uuid = \"node2\";", "uuid = \"node2\"; ip = \"192.0.2.2\";");
    let ours = harness.daemon(&conf);
    let older = Agent { hash: "sha256", ..harness.agent(&harness.pair.guest, &shared) };
    assert_eq!((older.code("status", "node2"), harness.code(&own, "status", "node2")), (DONE, DONE));
    drop(ours);
    let _theirs = Daemon::builder(&harness.dir, &harness.pair.host).suite(Suite::Theirs).start(&conf);
    assert_eq!((older.code("status", "node2"), harness.code(&own, "status", "node2")), (DONE, FAILED));
}

#[test]
fn of_many_wrong_keys_ten_are_shown() {
    let harness = require!(KeysHarness::new());
    for at in 0..12 {
        fs::write(harness.dir.path(&format!("keys.d/vm{at}.key")), [1; 8]).unwrap();
    }
    let conf = harness.dir.write("f.conf", &harness.own_keys_alone());
    let (code, _, err) = harness.tool(&conf, &["--check"]);
    assert_eq!((code, err.matches("error: keys: key ").count()), (1, 10), "{err}");
    assert!(err.contains("error: keys: and 2 more errors\n"), "{err}");
}

#[test]
fn the_tools_know_the_keys() {
    let harness = require!(KeysHarness::new());
    let own = harness.key("node1.key", b'1');
    harness.key("nowhere.key", b'x');
    fs::write(harness.dir.path("keys.d/weak.key"), [7; 64]).unwrap();
    fs::set_permissions(harness.dir.path("keys.d/weak.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = harness.daemon(&harness.own_keys_alone());
    let tool = |options: &[&str]| harness.tool(daemon.conf(), options);

    let (code, out, err) = tool(&["--check"]);
    assert!(
        code == 0 && err.contains("keys: key \"weak\": key file ") && err.contains("equal bytes"),
        "{err}"
    );
    let note = "keys of VMs: 3; without a uuid, so that only the address tells which VM asks: node1, nowhere, weak\n";
    assert!(out.contains(note) && out.contains("shared keys do not count\n"), "{out}");
    let (_, out, _) = tool(&["--doctor"]);
    assert!(out.contains("warning  keys: key \"weak\": "), "{out}");
    assert!(out.contains("no VM has these names or UUIDs, but keys are for them: nowhere, weak\n"), "{out}");
    assert!(out.contains("so their keys permit nothing: nowhere, weak\n"), "{out}");

    let (code, out, _) = tool(&["--explain", "key:node1", "node2"]);
    assert!(code == 0 && out.contains("comes as key \"node1\", from any address\n"), "{out}");
    let (code, out, _) = tool(&["--explain", "key:node1", "node3"]);
    assert!(code == 1 && out.contains(&format!("uuid = \"{NODE3}\";")), "{out}");
    let (code, out, _) = tool(&["--explain", "key:node9", "node2"]);
    assert!(code == 1 && out.contains("no key of the configuration has the name \"node9\""), "{out}");

    let (code, out, _) = tool(&["--self-test"]);
    assert!(code != 0 && out.contains("it takes keys of VMs alone") && out.contains("--key FILE"), "{out}");
    let (code, out, err) = tool(&["--self-test", "--key", own.to_str().unwrap()]);
    assert!(code == 0 && out.contains("ok       tcp: "), "{out}{err}");
}

/// It runs on until the restart; what the new configuration does not name must not count until then.
#[test]
fn a_listener_that_a_reload_drops_takes_no_requests() {
    let harness = require!(KeysHarness::new());
    let own = harness.key("node1.key", b'1');
    let second = format!(
        "listeners {{ tcp = \"b\" {{ address = \"{HOST_V4}\"; port = \"1230\"; hash = \"hmac-sha256\"; }}"
    );
    let both = harness.own_keys_alone().replace("listener = \"tcp\"", "listener = \"tcp, tcp:b\"");
    let both = both.replace("listeners {", &second);
    let daemon = harness.daemon(&both);
    assert_eq!(harness.code(&own, "status", "node2"), DONE);
    daemon.reload(&harness.dir, &both.replace("listener = \"tcp, tcp:b\"", "listener = \"tcp:b\""));
    assert_eq!(harness.code(&own, "status", "node2"), FAILED);
    daemon.await_log("neither this listener nor a VM has the key");
    daemon.reload(&harness.dir, &both);
    assert_eq!(harness.code(&own, "status", "node2"), DONE);
}
