//! Our agents where a host does not know the VM: several hosts that hear one multicast group, and messages
//! about a VM that no host lists.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use common::agent::AgentRun;
use common::agent_harness::AgentHarness;
use common::daemon::{Daemon, auth_keys, conf};
use common::multicast::{GuestNetwork, MulticastReceiver, SOON, call_back_from, wait};
use common::net::{HOST_V4, Namespace};
use common::node::{self, NODE1, NODE2, OFF, RUNNING, vm};
use common::peer::Peer;
use common::{Dir, Missing, Suite, elapse, ready, require, root_and_c_suite};
use fence_virt::fence::{HostEntry, Operation, PowerState};
use fence_virt::wire::{Packet, encode_host_list};

const FIRST: &str = HOST_V4;
const SECOND: &str = "192.0.2.9";

/// Two scripted hosts on one network, and an agent that sends one datagram for each request.
struct TwoHosts {
    network: GuestNetwork,
}

impl TwoHosts {
    fn new() -> Result<TwoHosts, Missing> {
        let network = GuestNetwork::new()?;
        network.pair.host.ip(&["addr", "add", &format!("{SECOND}/24"), "dev", "eth0"]);
        Ok(TwoHosts { network })
    }

    /// Runs the agent with a script for the hosts.
    fn run(&self, args: &str, script: impl FnOnce(&MulticastReceiver) + Send) -> AgentRun {
        self.network.pair.host.inside(|| {
            let receiver = MulticastReceiver::new(FIRST.parse().unwrap());
            let child: Child = self.network.agent(&format!("-n node1 -r 1000 {args}")).spawn().unwrap();
            script(&receiver);
            wait(child)
        })
    }
}

/// Receives a request for this operation.
fn request(receiver: &MulticastReceiver, operation: Operation) -> Packet {
    let (packet, _) = receiver.receive();
    assert_eq!(packet.request.operation, operation);
    packet
}

/// Calls back from this host and answers.
fn answer(host: &str, packet: &Packet, bytes: &[u8]) {
    let mut peer = call_back_from(host, packet);
    peer.authenticate();
    peer.send(bytes);
}

fn list(vms: &[(&str, PowerState)]) -> Vec<u8> {
    let entry = |(name, state): &(&str, PowerState)| HostEntry {
        name: (*name).to_owned(),
        uuid: NODE1.to_owned(),
        state: *state,
    };
    encode_host_list(&vms.iter().map(entry).collect::<Vec<_>>())
}

fn others() -> Vec<u8> {
    let entry = HostEntry { name: "other".to_owned(), uuid: NODE2.to_owned(), state: PowerState::Running };
    encode_host_list(&[entry])
}

#[test]
fn the_host_that_has_the_vm_is_asked_after_one_that_has_not() {
    let hosts = require!(TwoHosts::new());
    for (operation, action, first, second, code) in [
        (Operation::Off, "off", 1, 0, 0),
        (Operation::Reboot, "reboot", 1, 0, 0),
        (Operation::On, "on", 1, 0, 0),
        // A failure of the second is one, and so is its denial.
        (Operation::Off, "off", 1, 1, 1),
        (Operation::Off, "off", 1, 3, 3),
        // The first may deny, too, and its status may be off.
        (Operation::Off, "off", 3, 0, 0),
        (Operation::Status, "status", 2, 0, 0),
        (Operation::Status, "status", 2, 1, 1),
        (Operation::Status, "status", 3, 2, 2),
    ] {
        let ran = hosts.run(&format!("-o {action} -t 30"), |receiver| {
            let asked = request(receiver, operation);
            answer(FIRST, &asked, &[first]);
            let lists = request(receiver, Operation::HostList);
            answer(FIRST, &lists, &others());
            answer(SECOND, &lists, &list(&[("node1", PowerState::Running)]));
            let again = request(receiver, operation);
            assert_ne!(again.request.seqno, asked.request.seqno, "no duplicate for a C daemon");
            // Nobody else gets a proof for it.
            let mut wrong = call_back_from(FIRST, &again);
            wrong.prove();
            assert!(wrong.rest().is_empty(), "the first is not asked again");
            answer(SECOND, &again, &[second]);
        });
        assert_eq!(ran.code, code, "{action} {first} {second}: {ran:?}");
        assert!(ran.stderr.contains("192.0.2.9 lists it and is asked"), "{ran:?}");
        let lines = ran.stderr.lines().count();
        assert_eq!(lines, if code == 1 || code == 3 { 2 } else { 1 }, "{ran:?}");
        match (operation, code) {
            (Operation::Status, 0) => assert_eq!(ran.stdout, "Status: ON\n"),
            (Operation::Status, 2) => assert_eq!(ran.stdout, "Status: OFF\n"),
            _ => assert_eq!(ran.stdout, ""),
        }
    }
}

#[test]
fn a_failure_of_the_host_that_has_the_vm_counts_at_once() {
    let hosts = require!(TwoHosts::new());
    let begin = Instant::now();
    for state in [PowerState::Running, PowerState::Off] {
        let ran = hosts.run("-o off -t 60", |receiver| {
            answer(FIRST, &request(receiver, Operation::Off), &[1]);
            answer(FIRST, &request(receiver, Operation::HostList), &list(&[("node1", state)]));
        });
        assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
        assert!(ran.stderr.contains("the daemon answered failure; its log on the host says why"), "{ran:?}");
    }
    assert!(begin.elapsed() < SOON);
}

#[test]
fn a_vm_that_nobody_lists_is_said_to_be_unknown() {
    let hosts = require!(TwoHosts::new());
    let both = |receiver: &MulticastReceiver| {
        let lists = request(receiver, Operation::HostList);
        answer(FIRST, &lists, &others());
        answer(SECOND, &lists, &others());
    };
    let begin = Instant::now();
    let ran = hosts.run("-o reboot -t 60", |receiver| {
        answer(FIRST, &request(receiver, Operation::Reboot), &[1]);
        both(receiver);
    });
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the hosts 192.0.2.1, 192.0.2.9 list no VM with this name"), "{ran:?}");
    let ran = hosts.run("-o status -t 60", |receiver| {
        answer(FIRST, &request(receiver, Operation::Status), &[2]);
        both(receiver);
    });
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "Status: OFF\n"), "{ran:?}");
    assert!(ran.stderr.contains("list no VM with this name or UUID, and off says no more"), "{ran:?}");
    // Where the VM is listed as off, there is nothing to say.
    let ran = hosts.run("-o status -t 60", |receiver| {
        answer(FIRST, &request(receiver, Operation::Status), &[2]);
        answer(FIRST, &request(receiver, Operation::HostList), &list(&[("node1", PowerState::Off)]));
    });
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "Status: OFF\n", ""));
    // A denial stays one.
    let ran = hosts.run("-o off -t 60", |receiver| {
        answer(FIRST, &request(receiver, Operation::Off), &[3]);
        answer(FIRST, &request(receiver, Operation::HostList), &others());
    });
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("permission denied"), "{ran:?}");
    assert!(begin.elapsed() < Duration::from_secs(40), "5 s each, not 60");
}

#[test]
fn a_host_that_has_been_heard_is_waited_for() {
    let hosts = require!(TwoHosts::new());
    let begin = Instant::now();
    let ran = hosts.run("-o off -t 60", |receiver| {
        let asked = request(receiver, Operation::Off);
        // It calls first, and is slow.
        let slow = call_back_from(SECOND, &asked);
        answer(FIRST, &asked, &[1]);
        drop(slow);
        let lists = request(receiver, Operation::HostList);
        answer(FIRST, &lists, &others());
        elapse(Duration::from_secs(5));
        answer(SECOND, &lists, &list(&[("node1", PowerState::Running)]));
        answer(SECOND, &request(receiver, Operation::Off), &[0]);
    });
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(begin.elapsed() >= Duration::from_secs(5));
}

/// A C daemon that was busy calls back for the request before the list, and gets the proof for a list: it
/// reboots the VM. A second reboot must not follow.
#[test]
fn a_host_that_may_have_carried_out_the_reboot_is_not_asked_again() {
    let hosts = require!(TwoHosts::new());
    for late in [0, 1, 3] {
        let ran = hosts.run("-o reboot -t 60", |receiver| {
            answer(FIRST, &request(receiver, Operation::Reboot), &[1]);
            let lists = request(receiver, Operation::HostList);
            answer(SECOND, &lists, &[late]);
            answer(FIRST, &lists, &others());
            answer_if_awaited(SECOND, &lists, &list(&[("node1", PowerState::Running)]));
        });
        assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
        assert!(ran.stderr.contains("192.0.2.9 called back late and may have carried out"), "{ran:?}");
    }
}

#[test]
fn a_late_answer_to_anything_else_does_no_harm() {
    let hosts = require!(TwoHosts::new());
    for (action, operation, first, late) in
        [("off", Operation::Off, 1, 0), ("on", Operation::On, 1, 1), ("status", Operation::Status, 2, 0)]
    {
        let ran = hosts.run(&format!("-o {action} -t 60"), |receiver| {
            answer(FIRST, &request(receiver, operation), &[first]);
            let lists = request(receiver, Operation::HostList);
            answer(SECOND, &lists, &[late]);
            answer(FIRST, &lists, &others());
            answer(SECOND, &lists, &list(&[("node1", PowerState::Running)]));
            answer(SECOND, &request(receiver, operation), &[0]);
        });
        assert_eq!(ran.code, 0, "{action}: {ran:?}");
    }
}

/// Answers unless the agent no longer listens.
fn answer_if_awaited(host: &str, packet: &Packet, bytes: &[u8]) {
    let mut peer = call_back_from(host, packet);
    if peer.try_take::<64>().is_some_and(|asked| {
        let proof = *peer.key.answer(peer.auth, &asked).unwrap().as_bytes();
        peer.send_if_open(&[proof, [0xC3; 64]].concat())
    }) && peer.try_take::<64>().is_some()
    {
        peer.send_if_open(bytes);
    }
}

/// Without auth, every host that hears the first request carries it out.
#[test]
fn without_auth_no_second_host_is_asked_for_a_power_operation() {
    let hosts = require!(TwoHosts::new());
    let reply = |host: &str, packet: &Packet, bytes: &[u8]| call_back_from(host, packet).send(bytes);
    for (action, operation, first, code) in
        [("reboot", Operation::Reboot, 1, 1), ("status", Operation::Status, 2, 0)]
    {
        let ran = hosts.run(&format!("-o {action} -t 30 -C none"), |receiver| {
            reply(FIRST, &request(receiver, operation), &[first]);
            let lists = request(receiver, Operation::HostList);
            reply(FIRST, &lists, &others());
            reply(SECOND, &lists, &list(&[("node1", PowerState::Running)]));
            if code == 0 {
                reply(SECOND, &request(receiver, operation), &[0]);
            }
        });
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.stderr.contains("is asked"), code == 0, "{ran:?}");
    }
}

#[test]
fn a_slow_host_does_not_hold_up_the_status_of_a_vm_that_is_listed() {
    let hosts = require!(TwoHosts::new());
    let begin = Instant::now();
    let ran = hosts.run("-o status -t 60", |receiver| {
        let asked = request(receiver, Operation::Status);
        let slow = call_back_from(SECOND, &asked);
        answer(FIRST, &asked, &[2]);
        drop(slow);
        answer(FIRST, &request(receiver, Operation::HostList), &list(&[("node1", PowerState::Off)]));
    });
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "Status: OFF\n", ""));
    assert!(begin.elapsed() < SOON);
}

#[test]
fn an_answer_that_does_not_come_is_no_reason_to_ask_another_host() {
    let hosts = require!(TwoHosts::new());
    let ran = hosts.run("-o off -t 20", |receiver| {
        let mut peer = call_back_from(FIRST, &request(receiver, Operation::Off));
        peer.authenticate();
        drop(peer);
    });
    assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
    assert!(ran.stderr.contains("hung up after our answer"), "{ran:?}");
}

/// A host of its own network beside that of [`GuestNetwork`]; the guest is in both.
struct SecondNetwork {
    namespace: Namespace,
}

impl SecondNetwork {
    fn new(guest: &Namespace) -> SecondNetwork {
        let namespace = Namespace::new();
        let link = ["link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", namespace.name()];
        guest.ip(&link);
        for (namespace, address, device) in
            [(guest, "198.51.100.2/24", "eth1"), (&namespace, "198.51.100.1/24", "eth0")]
        {
            namespace.ip(&["addr", "add", address, "dev", device]);
            namespace.ip(&["link", "set", device, "up"]);
        }
        namespace.ip(&["route", "add", "224.0.0.0/4", "dev", "eth0"]);
        SecondNetwork { namespace }
    }

    fn daemon(&self, dir: &Dir, suite: Suite, vms: &[node::Vm]) -> Daemon {
        let uri = node::node(dir, &format!("{}.xml", common::unique()), vms);
        let keys = format!("interface = \"eth0\"; {}", auth_keys(&dir.path("key"), "sha256", "sha256"));
        Daemon::builder(dir, &self.namespace).suite(suite).start(&conf("multicast", &keys, &[uri], ""))
    }
}

#[test]
fn of_two_real_hosts_the_one_with_the_vm_fences_it() {
    let network = require!(GuestNetwork::new());
    let second = SecondNetwork::new(&network.pair.guest);
    for (first, other) in [
        (Suite::Ours, Suite::Ours),
        (Suite::Theirs, Suite::Theirs),
        (Suite::Ours, Suite::Theirs),
        (Suite::Theirs, Suite::Ours),
    ] {
        let _first = network.daemon(first, "interface = \"eth0\";", &[vm("node2", NODE2, RUNNING)]);
        let _second = second.daemon(&network.dir, other, &[vm("node1", NODE1, RUNNING)]);
        let run = |args: &str| {
            if [first, other].contains(&Suite::Theirs) {
                // A C daemon that calls back for the request of the agent before is taken for one that answers.
                elapse(Duration::from_millis(300));
            }
            network.run(args)
        };
        for action in ["status", "reboot", "status", "reboot", "off"] {
            for name in ["node1", "node2"] {
                let ran = run(&format!("-o {action} -n {name} -t 30"));
                assert_eq!(ran.code, 0, "{first:?} {other:?} {action} {name}: {ran:?}");
            }
        }
        for name in ["node1", "node2"] {
            let ran = run(&format!("-o status -n {name} -t 30"));
            assert_eq!((ran.code, ran.stdout.as_str()), (2, "Status: OFF\n"), "{first:?} {other:?}: {ran:?}");
        }
        let ran = run("-o off -n nobody -t 30");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("no VM with this name or UUID"), "{first:?} {other:?}: {ran:?}");
    }
}

/// Runs the agent over TCP with the answers to its first and its second request.
fn over_tcp(harness: &AgentHarness, args: &str, answers: [(Operation, Vec<u8>); 2]) -> AgentRun {
    thread::scope(|scope| {
        scope.spawn(|| {
            for (operation, bytes) in answers {
                let mut peer = Peer::new(ready(&harness.listener).accept().unwrap().0);
                assert_eq!(peer.request().request.operation, operation);
                peer.authenticate();
                peer.send(&bytes);
            }
        });
        harness.agent(args).output().unwrap().into()
    })
}

#[test]
fn status_of_a_vm_that_the_host_does_not_list_says_so() {
    let harness = AgentHarness::new();
    let status = |answer: Vec<u8>| {
        let answers = [(Operation::Status, vec![2]), (Operation::HostList, answer)];
        let ran = over_tcp(&harness, "-o status -n node1 -t 20", answers);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, "Status: OFF\n"), "{ran:?}");
        ran.stderr
    };
    let said = status(others());
    assert!(said.contains("status of \"node1\": the host lists no VM with this name or UUID"), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert_eq!(status(list(&[("node1", PowerState::Off)])), "");
    assert_eq!(status(list(&[])), "", "a C daemon with several URIs sends an empty list");
    assert_eq!(status(vec![1]), "");
}

#[test]
fn an_empty_list_is_explained_where_groups_hide_the_vms() {
    let harness = AgentHarness::new();
    for (probed, words) in [(3, "the host has groups in its fence_virt.conf"), (2, ""), (1, "")] {
        let answers = [(Operation::HostList, list(&[])), (Operation::Status, vec![probed])];
        let ran = over_tcp(&harness, "-o list -t 20", answers);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
        assert!(ran.stderr.contains(words) && ran.stderr.is_empty() == words.is_empty(), "{probed}: {ran:?}");
    }
}

#[test]
fn real_daemons_show_whether_groups_hide_the_vms() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let keys = format!("address = \"127.0.0.1\"; {}", auth_keys(&dir.key("key", b'k'), "sha256", "sha256"));
    for suite in [Suite::Ours, Suite::Theirs] {
        for (groups, vms, is_explained) in [
            (
                "groups { group { ip = \"198.51.100.1\"; uuid = \"node1\"; } }",
                &[vm("node1", NODE1, OFF)][..],
                true,
            ),
            ("", &[], false),
        ] {
            let namespace = Namespace::new();
            let uri = node::node(&dir, &format!("{}.xml", common::unique()), vms);
            let _daemon =
                Daemon::builder(&dir, &namespace).suite(suite).start(&conf("tcp", &keys, &[uri], groups));
            let mut command = namespace.command(common::agent::OURS);
            command.args(["-T", "127.0.0.1", "-t", "20", "-o", "list", "-k"]).arg(dir.path("key"));
            let ran: AgentRun = command.output().unwrap().into();
            assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{suite:?}: {ran:?}");
            assert_eq!(ran.stderr.contains("has groups"), is_explained, "{suite:?}: {ran:?}");
        }
    }
}
