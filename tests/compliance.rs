//! Agents against a daemon: `FENCE_UNDER_TEST` selects the daemon, ours (the
//! default) or the C one, and `FENCE_AGENT` the agents. The tests branch where
//! they differ; docs/DIFFERENCES.md gives the reasons.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::agent::{self, Agent, AgentTransport, OptionForm, Programs};
use common::daemon::{Daemon, auth_keys, conf};
use common::net::{GUEST_V4, GUEST_V6, HOST_V4, HOST_V6, NamespacePair};
use common::node::{self, NODE1, NODE2, NODE3, OFF, PAUSED, RUNNING, Vm, vm};
use common::{Dir, Missing, Suite, require, root_and_c_suite, under_test, until};

/// Time for what a daemon logs.
const LIMIT: Duration = Duration::from_secs(60);

const KINDS: [&str; 4] = ["none", "sha1", "sha256", "sha512"];

/// Listener and address family of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp4,
    Tcp6,
    Multicast4,
    Multicast6,
}

use Transport::{Multicast4, Multicast6, Tcp4, Tcp6};

impl Transport {
    fn listener(self) -> &'static str {
        if matches!(self, Tcp4 | Tcp6) { "tcp" } else { "multicast" }
    }

    fn keys(self) -> String {
        match self {
            Tcp4 => format!("family = \"ipv4\"; address = \"{HOST_V4}\";"),
            Tcp6 => format!("family = \"ipv6\"; address = \"{HOST_V6}\";"),
            Multicast4 => "family = \"ipv4\"; interface = \"eth0\";".to_owned(),
            Multicast6 => "family = \"ipv6\"; address = \"ff05::3:1\"; interface = \"eth0\";".to_owned(),
        }
    }

    fn way(self) -> AgentTransport<'static> {
        match self {
            Tcp4 => AgentTransport::Tcp(HOST_V4),
            Tcp6 => AgentTransport::Tcp(HOST_V6),
            Multicast4 => AgentTransport::Multicast("ipv4"),
            Multicast6 => AgentTransport::Multicast("ipv6"),
        }
    }

    fn guest_address(self) -> &'static str {
        if matches!(self, Tcp4 | Multicast4) { GUEST_V4 } else { GUEST_V6 }
    }
}

const TRANSPORTS: [Transport; 4] = [Tcp4, Tcp6, Multicast4, Multicast6];

/// Namespaces of a host and a guest, the agents and the suite of the daemon, and a key.
struct ComplianceHarness {
    suite: Suite,
    programs: Programs,
    dir: Dir,
    key: PathBuf,
    pair: NamespacePair,
}

impl ComplianceHarness {
    fn new() -> Result<ComplianceHarness, Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        let key = dir.key("key", b'k');
        let programs = Programs::of(agent::under_test(), &dir);
        Ok(ComplianceHarness { suite: under_test(), programs, dir, key, pair: NamespacePair::new() })
    }

    fn daemon(&self, transport: Transport, hash: &str, auth: &str, uris: &[String], groups: &str) -> Daemon {
        let keys = format!("{} {}", transport.keys(), auth_keys(&self.key, hash, auth));
        let text = conf(transport.listener(), &keys, uris, groups);
        Daemon::builder(&self.dir, &self.pair.host).suite(self.suite).start(&text)
    }

    fn agent(&self, transport: Transport) -> Agent<'_> {
        Agent::new(&self.programs, &self.pair.guest, transport.way(), &self.key)
    }

    fn node(&self, vms: &[Vm]) -> String {
        node::node(&self.dir, &format!("{}.xml", common::unique()), vms)
    }
}

fn every_pair_of_hash_and_auth(transport: Transport) {
    let harness = require!(ComplianceHarness::new());
    let uri = harness.node(&[vm("node1", NODE1, RUNNING)]);
    for hash in KINDS {
        for auth in KINDS {
            let daemon = harness.daemon(transport, hash, auth, std::slice::from_ref(&uri), "");
            let agent = Agent { hash, auth, ..harness.agent(transport) };
            // The C daemon takes `auth` of tcp as the minimum hash, and always challenges with sha256.
            let is_lost = harness.suite == Suite::Theirs
                && transport.listener() == "tcp"
                && (auth != "sha256" || matches!(hash, "none" | "sha1"));
            if is_lost {
                let agent = Agent { timeout: 1, ..agent };
                assert_ne!(agent.code("status", "node1"), 0, "{transport:?} {hash} {auth}");
                continue;
            }
            let codes = ["status", "off", "status", "on", "status"].map(|op| agent.code(op, "node1"));
            assert_eq!(codes, [0, 0, 2, 0, 0], "{transport:?} {hash} {auth}\n{}", daemon.log());
        }
    }
}

#[test]
fn every_pair_of_hash_and_auth_tcp_ipv4() {
    every_pair_of_hash_and_auth(Tcp4);
}

#[test]
fn every_pair_of_hash_and_auth_tcp_ipv6() {
    every_pair_of_hash_and_auth(Tcp6);
}

#[test]
fn every_pair_of_hash_and_auth_multicast_ipv4() {
    every_pair_of_hash_and_auth(Multicast4);
}

#[test]
fn every_pair_of_hash_and_auth_multicast_ipv6() {
    every_pair_of_hash_and_auth(Multicast6);
}

#[test]
fn the_table_of_answers_and_what_agents_print() {
    the_table(OptionForm::Short);
}

#[test]
fn the_table_of_answers_with_options_on_stdin() {
    the_table(OptionForm::Stdin);
}

#[test]
fn the_table_of_answers_with_long_options() {
    // The C agents have no long options.
    if agent::under_test() == Suite::Ours {
        the_table(OptionForm::Long);
    }
}

fn the_table(form: OptionForm) {
    let harness = require!(ComplianceHarness::new());
    for transport in TRANSPORTS {
        let uri = harness.node(&[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)]);
        let daemon = harness.daemon(transport, "sha256", "sha256", &[uri], "");
        let agent = Agent { form, ..harness.agent(transport) };
        let codes = |ops: &[(&str, &str)]| ops.iter().map(|(op, vm)| agent.code(op, vm)).collect::<Vec<_>>();

        let list = agent.run("list", "");
        assert_eq!(list.code, 0, "{list:?}");
        let mut lines: Vec<_> = list.stdout.lines().collect();
        lines.sort_unstable();
        let expected = [format!("{:32} {NODE1} on", "node1"), format!("{:32} {NODE2} off", "node2")];
        assert_eq!(lines, expected, "{transport:?}");
        assert_eq!(agent.run("status", "node1").stdout.trim(), "Status: ON");
        assert_eq!(agent.run("status", "node2").stdout.trim(), "Status: OFF");
        assert_eq!(codes(&[("monitor", ""), ("status", NODE1), ("status", NODE2)]), [0, 0, 2]);
        assert_eq!(codes(&[("off", "node2"), ("reboot", "node2"), ("status", "node2")]), [0, 0, 2]);
        assert_eq!(codes(&[("reboot", "node1"), ("status", "node1"), ("on", "node1")]), [0, 0, 0]);
        assert_eq!(
            codes(&[("off", NODE1), ("status", "node1"), ("on", NODE1), ("status", NODE1)]),
            [0, 2, 0, 0]
        );
        let quick = Agent { timeout: 2, ..agent.clone() };
        assert_eq!(quick.code("status", "nobody"), 2, "{transport:?}");
        for operation in ["off", "on", "reboot"] {
            assert_ne!(quick.code(operation, "nobody"), 0, "{transport:?} {operation}\n{}", daemon.log());
        }
    }
}

#[test]
fn a_vm_that_is_neither_running_nor_off_runs() {
    let harness = require!(ComplianceHarness::new());
    let states = [("node1", NODE1, PAUSED), ("node2", NODE2, node::CRASHED)];
    for (name, uuid, state) in states {
        let uri = harness.node(&[vm(name, uuid, state)]);
        let _daemon = harness.daemon(Tcp4, "sha256", "sha256", &[uri], "");
        let agent = harness.agent(Tcp4);
        let status = agent.code("status", name);
        let off = agent.code("off", name);
        match harness.suite {
            Suite::Ours => assert_eq!((status, off, agent.code("status", name)), (0, 0, 2), "state {state}"),
            Suite::Theirs => assert_eq!(status, 0, "state {state}"),
        }
    }
}

#[test]
fn a_transient_vm_is_rebooted_and_powered_off() {
    let harness = require!(ComplianceHarness::new());
    let uri = harness.node(&[Vm { transient: true, ..vm("node1", NODE1, RUNNING) }]);
    let _daemon = harness.daemon(Tcp4, "sha256", "sha256", &[uri], "");
    let agent = harness.agent(Tcp4);
    assert_eq!(agent.code("reboot", "node1"), 0);
    assert_eq!(agent.code("status", "node1"), 0, "it is there again");
    assert_eq!(agent.code("off", "node1"), 0);
    assert_eq!(agent.code("status", "node1"), 2);
}

#[test]
fn wrong_keys_and_weak_hashes_get_nothing() {
    let harness = require!(ComplianceHarness::new());
    let wrong = harness.dir.key("wrong", b'w');
    for transport in [Tcp4, Multicast4] {
        let uri = harness.node(&[vm("node1", NODE1, RUNNING)]);
        let daemon = harness.daemon(transport, "sha256", "sha256", &[uri], "");
        let agent = Agent { timeout: 2, ..harness.agent(transport) };
        let tries = [
            Agent { key: &wrong, ..agent.clone() },
            Agent { hash: "sha1", ..agent.clone() },
            Agent { hash: "none", ..agent.clone() },
            Agent { auth: "sha512", ..agent.clone() },
            Agent { auth: "none", ..agent.clone() },
        ];
        for (at, attempt) in tries.iter().enumerate() {
            assert_ne!(attempt.code("off", "node1"), 0, "{transport:?} attempt {at}");
        }
        assert_eq!(Agent { hash: "sha512", ..agent }.code("status", "node1"), 0, "stronger is taken");
        if harness.suite == Suite::Ours {
            let reasons = [
                "signature is invalid",
                "its hash is sha1",
                "its hash is none",
                "its answer to the challenge",
            ];
            for (attempt, reason) in tries.iter().zip(reasons) {
                // The lines before it may have used up the rate limit of lines.
                until(reason, LIMIT, || {
                    daemon.log().contains(reason) || {
                        attempt.code("off", "node1");
                        false
                    }
                });
            }
        }
    }
}

#[test]
fn version_2_serves_its_own_and_refuses_what_is_older() {
    let harness = require!(ComplianceHarness::new());
    let new = "hmac-sha256";
    let is_ours = agent::under_test() == Suite::Ours;
    if harness.suite == Suite::Theirs && !is_ours {
        // Neither side has it.
        return;
    }
    for transport in TRANSPORTS {
        let uri = harness.node(&[vm("node1", NODE1, RUNNING), vm("node2", NODE2, OFF)]);
        let minimum = if harness.suite == Suite::Ours { new } else { "sha256" };
        let daemon = harness.daemon(transport, minimum, "sha256", std::slice::from_ref(&uri), "");
        let agent = Agent { hash: new, ..harness.agent(transport) };
        if harness.suite == Suite::Theirs || !is_ours {
            // A C daemon drops version 2, and C agents speak none of it: nothing is done, and each side says why.
            let hash = if is_ours { new } else { "sha512" };
            let refused = Agent { hash, timeout: 2, ..agent }.run("off", "node1");
            assert_ne!(refused.code, 0, "{transport:?}: {refused:?}");
            if is_ours {
                let reasons = ["takes no hmac-sha256 (C daemons)", "C daemons do not answer hmac-sha256"];
                let says = |reason: &&str| refused.stderr.contains(*reason);
                assert!(reasons.iter().any(says), "{transport:?}: {refused:?}");
            } else {
                until("the reason", LIMIT, || daemon.log().contains("requires hmac-sha256"));
            }
            continue;
        }
        let codes = ["status", "off", "status", "on", "reboot", "status"].map(|op| agent.code(op, "node1"));
        assert_eq!(codes, [0, 0, 2, 0, 0, 0], "{transport:?}\n{}", daemon.log());
        let list = agent.run("list", "");
        assert_eq!((list.code, list.stdout.lines().count()), (0, 2), "{transport:?}: {list:?}");
        let on_stdin = Agent { form: OptionForm::Stdin, ..agent.clone() };
        assert_eq!(on_stdin.code("status", "node2"), 2, "{transport:?}");
        // Off is said by a host that has the VM alone: an attacker may have led the agent to another one.
        let unknown = Agent { timeout: 4, ..agent.clone() }.run("status", "nobody");
        assert_eq!(unknown.code, 1, "{transport:?}: {unknown:?}");
        assert!(unknown.stderr.contains("with this name or UUID"), "{transport:?}: {unknown:?}");
        let wrong = harness.dir.key("wrong", b'w');
        for (refused, reason) in [
            (
                Agent { hash: "sha512", timeout: 2, ..agent.clone() },
                "its hash is sha512, but this listener requires hmac-sha256",
            ),
            (
                Agent { key: &wrong, timeout: 2, ..agent.clone() },
                "neither this listener nor a VM has the key",
            ),
        ] {
            assert_eq!(refused.code("off", "node1"), 1, "{transport:?}");
            // The lines before it may have used up the rate limit of lines.
            until(reason, LIMIT, || {
                daemon.log().contains(reason) || {
                    assert_eq!(refused.code("off", "node1"), 1, "{transport:?}");
                    false
                }
            });
        }
        drop(daemon);
        // An older minimum takes both.
        let daemon = harness.daemon(transport, "sha256", "sha256", &[uri], "");
        let both = [new, "sha256"].map(|hash| Agent { hash, ..agent.clone() }.code("status", "node1"));
        assert_eq!(both, [0, 0], "{transport:?}\n{}", daemon.log());
    }
}

#[test]
fn groups_say_who_may_fence_whom() {
    let harness = require!(ComplianceHarness::new());
    for transport in TRANSPORTS {
        let uri = harness.node(&[
            vm("node1", NODE1, RUNNING),
            vm("node2", NODE2, RUNNING),
            vm("node3", NODE3, RUNNING),
        ]);
        let groups = format!(
            "groups {{\n group {{ name = \"ours\"; ip = \"{}\"; uuid = \"NODE1\"; uuid = \"{NODE2}\"; }}\n\
             group {{ ip = \"198.51.100.7\"; uuid = \"node3\"; }}\n}}",
            transport.guest_address()
        );
        let daemon = harness.daemon(transport, "sha256", "sha256", &[uri], &groups);
        let agent = harness.agent(transport);
        let codes = |vms: [&str; 4]| vms.map(|vm| agent.code("status", vm));
        let expected = match harness.suite {
            Suite::Ours => [0, 0, 3, 3],
            // The C daemon compares the group's members with the name in the request only.
            Suite::Theirs => [0, 3, 3, 3],
        };
        assert_eq!(codes(["node1", "node2", "node3", "nobody"]), expected, "{transport:?}\n{}", daemon.log());
        assert_eq!(agent.code("status", NODE2), 0, "{transport:?}");
        assert_eq!(agent.code("status", NODE1), if harness.suite == Suite::Ours { 0 } else { 3 });
        assert_eq!(agent.code("off", "node3"), 3);
        let list = agent.run("list", "").stdout;
        assert!(list.contains("node1") && list.contains("node2") && !list.contains("node3"), "{list}");
        assert_eq!(agent.code("monitor", ""), 0);
    }
}

#[test]
fn several_uris_are_one_host() {
    let harness = require!(ComplianceHarness::new());
    let uris = [
        harness.node(&[vm("node1", NODE1, RUNNING)]),
        harness.node(&[vm("node2", NODE2, RUNNING), vm("twice", NODE3, OFF)]),
        harness.node(&[vm("twice", NODE3, RUNNING)]),
    ];
    let _daemon = harness.daemon(Tcp4, "sha256", "sha256", &uris, "");
    let agent = harness.agent(Tcp4);
    for name in ["node1", "node2"] {
        let codes = ["status", "off", "status", "reboot", "on", "status"].map(|op| agent.code(op, name));
        assert_eq!(codes, [0, 0, 2, 0, 0, 0], "{name}");
    }
    if harness.suite == Suite::Theirs {
        return; // The C list is garbage here, and the C daemon sees one copy of a VM only.
    }
    let list = agent.run("list", "");
    let mut names: Vec<_> =
        list.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    names.sort_unstable();
    let expected = [format!("node1 {NODE1} on"), format!("node2 {NODE2} on"), format!("twice {NODE3} on")];
    assert_eq!(names, expected);
    assert_eq!(agent.code("off", "twice"), 0);
    assert_eq!(agent.code("status", "twice"), 2);
    assert_eq!(Agent { timeout: 2, ..agent }.code("on", "twice"), 1, "nobody can tell on which");
}

#[test]
fn a_multi_homed_agent_fences_once() {
    let harness = require!(ComplianceHarness::new());
    for more in ["192.0.2.22/24", "192.0.2.23/24", "198.51.100.2/24"] {
        harness.pair.guest.ip(&["addr", "add", more, "dev", "eth0"]);
    }
    let uri = harness.node(&[vm("node1", NODE1, RUNNING)]);
    let daemon = harness.daemon(Multicast4, "sha256", "sha256", &[uri], "");
    assert_eq!(harness.agent(Multicast4).code("off", "node1"), 0);
    if harness.suite == Suite::Ours {
        daemon.await_log(": off \"node1\": ");
        let log = daemon.log();
        assert_eq!(log.matches("destroyed on").count(), 1, "{log}");
        assert_eq!(log.matches(": off \"node1\": ").count(), 1, "{log}");
    }
}
