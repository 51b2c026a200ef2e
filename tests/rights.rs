//! Operations that groups allow, and their sources and targets: a daemon and its agents over tcp.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::agent::{Agent, AgentTransport, Programs};
use common::daemon::Daemon;
use common::net::{GUEST_V4 as GUEST, HOST_V4};
use common::node::{NODE1, NODE2, OFF, RUNNING, vm};
use common::tcp_host::TcpHost;
use common::{Suite, require};

/// Exit codes of the agents (fence_virt(8)).
const SUCCESS: i32 = 0;
const IS_OFF: i32 = 2;
const DENIED: i32 = 3;

/// Exit codes of an agent for each operation on a VM, and the VMs that it lists.
fn asked(host: &TcpHost, vm: &str) -> ([i32; 4], Vec<String>) {
    // The order in which each operation finds the VM in the state that it changes.
    let codes = ["status", "reboot", "off", "on"].map(|operation| host.code(operation, vm));
    let programs = Programs::of(Suite::Ours, &host.dir);
    let key = host.dir.path("key");
    let list = Agent::new(&programs, &host.pair.guest, AgentTransport::Tcp(HOST_V4), &key).run("list", "");
    assert_eq!(list.code, SUCCESS, "{}", list.stderr);
    let names = list.stdout.lines().map(|line| line.split([',', '\t', ' ']).next().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    (codes, names)
}

#[test]
fn a_requester_has_the_operations_that_its_groups_allow() {
    let host = require!(TcpHost::new(&[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)]));
    let group = |allow: &str| {
        let lines = format!("ip = \"{GUEST}\"; uuid = \"node1\"; uuid = \"{NODE2}\"; {allow}");
        host.conf(&host.uri, &format!("group {{ name = \"watch\"; {lines} }}"))
    };
    let daemon = Daemon::builder(&host.dir, &host.pair.host).start(&group("allow = \"list, status\";"));
    let (codes, names) = asked(&host, "node1");
    assert_eq!(codes, [SUCCESS, DENIED, DENIED, DENIED]);
    assert_eq!(names, ["node1", "node2"]);
    assert_eq!(host.code("status", "node2"), IS_OFF);
    assert_eq!(host.code("monitor", ""), SUCCESS, "it needs no group");
    daemon.await_log("no group with both requester and VM allows reboot: \"watch\" (allows status, list)");
    for operation in ["status", "list", "off", "reboot", "on"] {
        let explain = ["--explain", GUEST, NODE1, "--operation", operation];
        let (code, text) = host.run(&explain, daemon.conf());
        let is_allowed = ["status", "list"].contains(&operation);
        assert_eq!(code, Some(i32::from(!is_allowed)), "{text}");
    }
    let (code, text) = host.run(&["--explain", GUEST, NODE1], daemon.conf());
    assert!(
        code == Some(1) && text.ends_with("\nallowed: status, list; denied: off, reboot, on\n"),
        "{text}"
    );
    let (_, text) = host.run(&["--check"], daemon.conf());
    assert!(text.contains("; requests from: 192.0.2.2; allows status, list only\n"), "{text}");
    // The line that --explain names lets the operation through, and no other.
    let line = text_after(&host.run(&["--explain", GUEST, NODE1, "--operation", "off"], daemon.conf()).1);
    daemon.reload(&host.dir, &group(&line));
    assert_eq!(asked(&host, "node1").0, [SUCCESS, DENIED, SUCCESS, DENIED], "{line}");
    daemon.reload(&host.dir, &group("allow = \"status\";"));
    assert_eq!(asked(&host, "node1").1, [""; 0], "the status shows no VM in a list");
    daemon.reload(&host.dir, &group("allow = \"on\";"));
    let (codes, names) = asked(&host, "node1");
    assert_eq!((codes, names.len()), ([DENIED, DENIED, DENIED, SUCCESS], 0));
    daemon.reload(&host.dir, &group(""));
    assert_eq!(asked(&host, "node1").0, [SUCCESS; 4], "without the line everything");
}

/// The line of the configuration that `--explain` names.
fn text_after(text: &str) -> String {
    let (_, advice) =
        text.split_once("replace the line allow of group \"watch\" (number 1 of the file) by:\n").unwrap();
    advice.lines().next().unwrap().trim().to_owned()
}

#[test]
fn a_source_may_ask_for_the_targets_alone() {
    let host = require!(TcpHost::new(&[vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING)]));
    let group = |source: &str| {
        let target = format!("group {{ source = \"{source}\"; target = \"node1\"; }}");
        host.conf(&host.uri, &format!("{target} group {{ ip = \"192.0.2.99\"; uuid = \"node2\"; }}"))
    };
    let daemon = Daemon::builder(&host.dir, &host.pair.host).start(&group("192.0.2.0/29"));
    let (codes, names) = asked(&host, "node2");
    assert_eq!((codes, names), ([DENIED; 4], vec!["node1".to_owned()]));
    assert_eq!(asked(&host, "node1").0, [SUCCESS; 4]);
    daemon.reload(&host.dir, &group("192.0.2.98"));
    let (codes, names) = asked(&host, "node1");
    assert_eq!((codes, names.len()), ([DENIED; 4], 0));
}
