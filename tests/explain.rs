//! `fence_virtd --explain`, beside a daemon with the same configuration.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Output;

use common::agent::{Agent, AgentTransport, Programs};
use common::daemon::{Daemon, OURS, auth_keys, conf};
use common::net::{HOST_V4, NamespacePair};
use common::node::{NODE1, NODE2, RUNNING, node, vm};
use common::{Dir, Missing, Suite, require, root_and_c_suite};

/// Address of the guest, from which the agents ask.
const GUEST: &str = "192.0.2.2";

struct ExplainHarness {
    dir: Dir,
    pair: NamespacePair,
    uri: String,
}

impl ExplainHarness {
    fn new() -> Result<ExplainHarness, Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        dir.key("key", b'k');
        let uri = node(&dir, "node.xml", &[vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING)]);
        Ok(ExplainHarness { dir, pair: NamespacePair::new(), uri })
    }

    fn conf(&self, uri: &str, groups: &str) -> String {
        let key = self.dir.path("key");
        let keys = format!("address = \"{HOST_V4}\"; {}", auth_keys(&key, "sha256", "sha256"));
        conf("tcp", &keys, &[uri.to_owned()], &format!("groups {{ {groups} }}"))
    }

    /// Runs `--explain` and returns exit code and output.
    fn explain(&self, conf: &Path, requester: &str, vm: &str) -> (Option<i32>, String) {
        let mut command = self.pair.host.command(OURS);
        let output = command.args(["--explain", requester, vm, "-f"]).arg(conf).output().unwrap();
        let Output { status, stdout, stderr } = output;
        (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8_lossy(&stderr))
    }

    fn code(&self, vm: &str) -> i32 {
        let programs = Programs::of(Suite::Ours, &self.dir);
        let key = self.dir.path("key");
        Agent::new(&programs, &self.pair.guest, AgentTransport::Tcp(HOST_V4), &key).code("off", vm)
    }
}

#[test]
fn the_daemon_decides_as_it_is_explained() {
    let harness = require!(ExplainHarness::new());
    let group =
        |lines: &str| format!("group {{ name = \"web\"; ip = \"{GUEST}\"; uuid = \"node1\"; {lines} }}");
    let daemon =
        Daemon::builder(&harness.dir, &harness.pair.host).start(&harness.conf(&harness.uri, &group("")));
    let (code, text) = harness.explain(daemon.conf(), GUEST, NODE1);
    assert!(code == Some(0) && text.ends_with("\nallowed\n"), "{text}");
    assert_eq!(harness.code(NODE1), 0);
    let (code, text) = harness.explain(daemon.conf(), GUEST, "node2");
    assert!(code == Some(1) && text.ends_with("\ndenied\n"), "{text}");
    assert_ne!(harness.code("node2"), 0);
    // The line that it names, where it names it.
    let (_, advice) = text.split_once("to allow it, add to group \"web\" (number 1 of the file):\n").unwrap();
    let line = advice.lines().next().unwrap().trim();
    assert_eq!(line, format!("uuid = \"{NODE2}\";"));
    daemon.reload(&harness.dir, &harness.conf(&harness.uri, &group(line)));
    let (code, text) = harness.explain(daemon.conf(), GUEST, "node2");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(harness.code("node2"), 0);
}

#[test]
fn without_libvirt_it_says_what_it_cannot_tell() {
    let harness = require!(ExplainHarness::new());
    let group = format!("group {{ ip = \"{GUEST}\"; uuid = \"node1\"; }}");
    let conf = harness.dir.write("f.conf", &harness.conf("test:///nonexistent/node.xml", &group));
    let (code, text) = harness.explain(&conf, GUEST, "node1");
    assert!(
        code == Some(0) && text.contains("libvirt: test:///nonexistent/node.xml cannot be asked"),
        "{text}"
    );
    let (code, text) = harness.explain(&conf, GUEST, NODE1);
    assert!(code == Some(2) && text.contains("by another name, or by its UUID"), "{text}");
    let (code, text) = harness.explain(&harness.dir.path("none.conf"), GUEST, "node1");
    assert!(code == Some(2) && text.contains("cannot read the configuration"), "{text}");
    let (code, text) = harness.explain(&conf, "cid:x", "node1");
    assert!(code == Some(2) && text.contains("is not a CID"), "{text}");
    // Names from outside change no terminal.
    let (_, text) = harness.explain(&conf, GUEST, "a\u{1b}[2J\u{202e}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
}
