//! Our agents where a host does not know the VM: several hosts that hear one multicast group, and messages
//! about a VM that no host lists.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::process::Child;
use std::thread;
use std::time::Instant;

use common::agent::AgentRun;
use common::agent_harness::AgentHarness;
use common::daemon::{Daemon, auth_keys, conf};
use common::multicast::{GuestNetwork, MulticastReceiver, SOON, call_back_from, wait};
use common::net::{HOST_V4, Namespace};
use common::node::{self, NODE1, NODE2, OFF, RUNNING, vm};
use common::peer::Peer;
use common::{Dir, Missing, Suite, ready, require, root_and_c_suite};
use fence_virt::fence::{HostEntry, Operation, PowerState};
use fence_virt::wire::{Packet, encode_host_list};

const FIRST: &str = HOST_V4;
const SECOND: &str = "192.0.2.9";
const THIRD: &str = "192.0.2.10";

/// Three scripted hosts on one network, and an agent that sends one datagram for each request.
struct ScriptedHosts {
    network: GuestNetwork,
}

impl ScriptedHosts {
    fn new() -> Result<ScriptedHosts, Missing> {
        let network = GuestNetwork::new()?;
        for address in [SECOND, THIRD] {
            network.pair.host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
        Ok(ScriptedHosts { network })
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

/// Calls back from this host, as a daemon of ours does, and answers.
fn answer(host: &str, packet: &Packet, bytes: &[u8]) {
    let mut peer = call_back_from(host, packet);
    peer.authenticate_for(packet);
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

/// Receives the request for lists; the first host does not list the VM, the others answer this.
fn lists(receiver: &MulticastReceiver, others_say: &[(&str, PowerState)]) {
    let lists = request(receiver, Operation::HostList);
    answer(FIRST, &lists, &others());
    for (host, state) in others_say {
        answer(host, &lists, &list(&[("node1", *state)]));
    }
}

/// Number of requests that an agent with -d sent.
fn sent(ran: &AgentRun) -> usize {
    ran.stderr.matches("sent 1 to 225.0.0.12").count()
}

#[test]
fn the_host_that_alone_runs_the_vm_is_asked_after_one_that_does_not_know_it() {
    let hosts = require!(ScriptedHosts::new());
    for (operation, action, first, second, code) in [
        (Operation::Off, "off", 1, 0, 0),
        (Operation::Reboot, "reboot", 1, 0, 0),
        (Operation::Status, "status", 2, 0, 0),
        (Operation::Status, "status", 2, 2, 2),
        // Where the second fails or denies, the first answer counts.
        (Operation::On, "on", 1, 1, 1),
        (Operation::Off, "off", 1, 3, 1),
        (Operation::Status, "status", 2, 1, 2),
    ] {
        let ran = hosts.run(&format!("-o {action} -t 10"), |receiver| {
            let asked = request(receiver, operation);
            answer(FIRST, &asked, &[first]);
            lists(receiver, &[(THIRD, PowerState::Off), (SECOND, PowerState::Running)]);
            let again = request(receiver, operation);
            assert_ne!(again.request.seqno, asked.request.seqno, "no duplicate for a C daemon");
            // Nobody else gets a proof for it.
            let mut wrong = call_back_from(FIRST, &again);
            wrong.prove();
            assert!(wrong.rest().is_empty(), "the first is not asked again");
            answer(SECOND, &again, &[second]);
        });
        assert_eq!(ran.code, code, "{action} {first} {second}: {ran:?}");
        assert!(ran.stderr.contains("192.0.2.9 lists it as on and is asked"), "{ran:?}");
        let is_remarked = second == 1 || second == 3;
        let words = "192.0.2.9, which lists the VM as on, did not succeed either: it answered";
        assert_eq!(ran.stderr.contains(words), is_remarked, "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1 + usize::from(is_remarked), "{ran:?}");
        match (operation, code) {
            (Operation::Status, 0) => assert_eq!(ran.stdout, "Status: ON\n"),
            (Operation::Status, _) => assert_eq!(ran.stdout, "Status: OFF\n"),
            _ => assert_eq!(ran.stdout, ""),
        }
    }
}

#[test]
fn a_second_host_that_cannot_be_asked_leaves_the_first_answer() {
    let hosts = require!(ScriptedHosts::new());
    let ran = hosts.run("-o status -t 6", |receiver| {
        answer(FIRST, &request(receiver, Operation::Status), &[2]);
        lists(receiver, &[(SECOND, PowerState::Running)]);
        request(receiver, Operation::Status);
    });
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "Status: OFF\n"), "{ran:?}");
    assert!(
        ran.stderr.contains("192.0.2.9, which lists the VM as on, did not succeed either: timed out"),
        "{ran:?}"
    );
}

#[test]
fn the_first_answer_stands_unless_one_host_alone_runs_the_vm() {
    let hosts = require!(ScriptedHosts::new());
    for (others_say, words) in [
        // That it is off there does not prove that it is off elsewhere.
        (&[(SECOND, PowerState::Off)][..], "192.0.2.9 lists it as off; give"),
        (
            &[(SECOND, PowerState::Running), (THIRD, PowerState::Running)],
            "192.0.2.9 lists it as on, 192.0.2.10 lists it as on; give",
        ),
    ] {
        for (operation, action, first, code, stdout) in
            [(Operation::Off, "off", 1, 1, ""), (Operation::Status, "status", 2, 2, "Status: OFF\n")]
        {
            let ran = hosts.run(&format!("-o {action} -t 10"), |receiver| {
                answer(FIRST, &request(receiver, operation), &[first]);
                lists(receiver, others_say);
            });
            assert_eq!((ran.code, ran.stdout.as_str()), (code, stdout), "{ran:?}");
            assert!(ran.stderr.contains("no other host is asked") && ran.stderr.contains(words), "{ran:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        }
    }
}

#[test]
fn a_denial_stands_without_a_list() {
    let hosts = require!(ScriptedHosts::new());
    for (operation, action) in [(Operation::Off, "off"), (Operation::Status, "status")] {
        let ran = hosts.run(&format!("-d -o {action} -t 30"), |receiver| {
            answer(FIRST, &request(receiver, operation), &[3]);
        });
        assert_eq!((ran.code, sent(&ran)), (3, 1), "{ran:?}");
        assert!(ran.stderr.contains("permission denied"), "{ran:?}");
    }
}

#[test]
fn a_failure_of_the_host_that_has_the_vm_counts_at_once() {
    let hosts = require!(ScriptedHosts::new());
    let begin = Instant::now();
    for state in [PowerState::Running, PowerState::Off] {
        let ran = hosts.run("-o off -t 60", |receiver| {
            answer(FIRST, &request(receiver, Operation::Off), &[1]);
            answer(FIRST, &request(receiver, Operation::HostList), &list(&[("node1", state)]));
        });
        assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
        assert!(
            ran.stderr.contains("the daemon answered failure; the daemon's log on the host says why"),
            "{ran:?}"
        );
    }
    // Where the VM is listed as off, there is nothing to say.
    let ran = hosts.run("-o status -t 60", |receiver| {
        answer(FIRST, &request(receiver, Operation::Status), &[2]);
        answer(FIRST, &request(receiver, Operation::HostList), &list(&[("node1", PowerState::Off)]));
    });
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "Status: OFF\n", ""));
    assert!(begin.elapsed() < SOON);
}

#[test]
fn a_vm_that_nobody_lists_is_said_to_be_unknown() {
    let hosts = require!(ScriptedHosts::new());
    let both = |receiver: &MulticastReceiver| {
        let lists = request(receiver, Operation::HostList);
        answer(FIRST, &lists, &others());
        answer(SECOND, &lists, &others());
    };
    let ran = hosts.run("-o reboot -t 10", |receiver| {
        answer(FIRST, &request(receiver, Operation::Reboot), &[1]);
        both(receiver);
    });
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the hosts 192.0.2.1, 192.0.2.9 list no VM with this name"), "{ran:?}");
    let ran = hosts.run("-o status -t 10", |receiver| {
        answer(FIRST, &request(receiver, Operation::Status), &[2]);
        both(receiver);
    });
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "Status: OFF\n"), "{ran:?}");
    assert!(
        ran.stderr.contains("this name or UUID, so Status: OFF may only mean that the name is unknown"),
        "{ran:?}"
    );
}

/// A C daemon that was busy may call back for another request than the list, which it would carry out with our proof.
#[test]
fn a_host_that_does_not_say_what_it_calls_back_for_gets_no_proof_for_a_list() {
    let hosts = require!(ScriptedHosts::new());
    let ran = hosts.run("-o reboot -t 10", |receiver| {
        answer(FIRST, &request(receiver, Operation::Reboot), &[1]);
        let lists = request(receiver, Operation::HostList);
        let mut late = call_back_from(THIRD, &lists);
        late.prove();
        assert!(late.rest().is_empty(), "it gets no proof");
        answer(FIRST, &lists, &others());
        answer(SECOND, &lists, &list(&[("node1", PowerState::Running)]));
    });
    assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
    assert!(ran.stderr.contains("192.0.2.10 has sent no list, 192.0.2.9 lists it as on"), "{ran:?}");
}

#[test]
fn after_an_answer_of_such_a_host_no_list_is_asked_for() {
    let hosts = require!(ScriptedHosts::new());
    for (args, is_proven) in [("-d -o reboot -t 30", true), ("-d -o reboot -t 30 -C none", false)] {
        let ran = hosts.run(args, |receiver| {
            let mut peer = call_back_from(FIRST, &request(receiver, Operation::Reboot));
            if is_proven {
                peer.authenticate();
            }
            peer.send(&[1]);
        });
        assert_eq!((ran.code, sent(&ran)), (1, 1), "{ran:?}");
    }
}

#[test]
fn a_host_whose_list_does_not_come_bars_a_second_request() {
    let hosts = require!(ScriptedHosts::new());
    let ran = hosts.run("-o off -t 10", |receiver| {
        answer(FIRST, &request(receiver, Operation::Off), &[1]);
        let asked = request(receiver, Operation::HostList);
        let mut silent = call_back_from(THIRD, &asked);
        silent.authenticate_for(&asked);
        answer(FIRST, &asked, &others());
        answer(SECOND, &asked, &list(&[("node1", PowerState::Running)]));
        assert!(silent.is_closed_within(SOON));
    });
    assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{ran:?}");
    assert!(ran.stderr.contains("192.0.2.9 lists it as on, 192.0.2.10 has sent no list"), "{ran:?}");
}

/// A daemon that hears the request from two addresses calls back twice, and closes one call-back as a duplicate.
#[test]
fn a_list_counts_more_than_a_duplicate_that_was_closed() {
    let hosts = require!(ScriptedHosts::new());
    let ran = hosts.run("-o off -t 10", |receiver| {
        answer(FIRST, &request(receiver, Operation::Off), &[1]);
        let asked = request(receiver, Operation::HostList);
        for (host, bytes) in [(FIRST, others()), (SECOND, list(&[("node1", PowerState::Running)]))] {
            call_back_from(host, &asked).authenticate_for(&asked);
            answer(host, &asked, &bytes);
        }
        answer(SECOND, &request(receiver, Operation::Off), &[0]);
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn strangers_without_the_key_neither_prolong_nor_bar_anything() {
    let hosts = require!(ScriptedHosts::new());
    let begin = Instant::now();
    let ran = hosts.run("-o off -t 60", |receiver| {
        let asked = request(receiver, Operation::Off);
        let first = call_back_from(THIRD, &asked);
        answer(FIRST, &asked, &[1]);
        let asked = request(receiver, Operation::HostList);
        let second = call_back_from(THIRD, &asked);
        answer(FIRST, &asked, &others());
        answer(SECOND, &asked, &list(&[("node1", PowerState::Running)]));
        answer(SECOND, &request(receiver, Operation::Off), &[0]);
        drop((first, second));
    });
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(begin.elapsed() < SOON, "not until the time-out");
}

#[test]
fn an_answer_that_does_not_come_is_no_reason_to_ask_another_host() {
    let hosts = require!(ScriptedHosts::new());
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

    fn daemon(&self, dir: &Dir, vms: &[node::Vm]) -> Daemon {
        let uri = node::node(dir, &format!("{}.xml", common::unique()), vms);
        let keys = format!("interface = \"eth0\"; {}", auth_keys(&dir.path("key"), "sha256", "sha256"));
        Daemon::builder(dir, &self.namespace).start(&conf("multicast", &keys, &[uri], ""))
    }
}

#[test]
fn of_two_real_hosts_the_one_with_the_vm_fences_it() {
    let network = require!(GuestNetwork::new());
    let second = SecondNetwork::new(&network.pair.guest);
    let _first = network.daemon(Suite::Ours, "interface = \"eth0\";", &[vm("node2", NODE2, RUNNING)]);
    let _second = second.daemon(&network.dir, &[vm("node1", NODE1, RUNNING)]);
    for action in ["status", "reboot", "off"] {
        for name in ["node1", "node2"] {
            let ran = network.run(&format!("-o {action} -n {name} -t 30"));
            assert_eq!(ran.code, 0, "{action} {name}: {ran:?}");
        }
    }
    for name in ["node1", "node2"] {
        let ran = network.run(&format!("-o status -n {name} -t 30"));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, "Status: OFF\n"), "{ran:?}");
    }
    let ran = network.run("-o off -n nobody -t 30");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("list no VM with this name or UUID"), "{ran:?}");
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
