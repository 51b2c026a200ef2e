//! Multicast requests of our fence_xvm between namespaces: contents, source
//! addresses, and messages when nobody calls back.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use common::multicast::{GuestNetwork, MulticastReceiver, SOON, call_back, wait};
use common::net::{GUEST_V4, GUEST_V6, HOST_V4, Namespace};
use common::node::{NODE1, NODE2, RUNNING, vm};
use common::peer::Peer;
use common::{Suite, require};
use fence_virt::fence::{HostEntry, Operation, PowerState};
use fence_virt::wire::{Packet, encode_host_list};

#[test]
fn one_datagram_leaves_from_each_address_and_round_again() {
    let network = require!(GuestNetwork::new());
    for more in ["192.0.2.22/24", "198.51.100.2/24"] {
        network.pair.guest.ip(&["addr", "add", more, "dev", "eth0"]);
    }
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -r 2 -t 20").spawn().unwrap();
        let mut heard = Vec::new();
        // Three rounds of three.
        while heard.len() < 9 {
            heard.push(receiver.receive());
        }
        let (first, _) = &heard[0];
        for (packet, from) in &heard {
            assert_eq!(packet.callback(0).unwrap().ip(), from.ip(), "it says where it comes from");
            let same = Packet { address: first.address, signature: first.signature, ..packet.clone() };
            assert_eq!(same, *first, "nothing else differs");
        }
        let addresses = |round: &[(Packet, SocketAddr)]| {
            round.iter().map(|(_, from)| from.ip().to_string()).collect::<BTreeSet<_>>()
        };
        let all: BTreeSet<String> = [GUEST_V4, "192.0.2.22", "198.51.100.2"].map(str::to_owned).into();
        for round in heard.chunks(3) {
            assert_eq!(addresses(round), all, "loopback is not among them");
        }
        let (second, _) = heard.iter().find(|(_, from)| from.ip().to_string() == "192.0.2.22").unwrap();
        let mut peer = call_back(second);
        peer.authenticate();
        peer.send(&[0]);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn loopback_serves_where_there_is_nothing_else() {
    let network = require!(GuestNetwork::new());
    let alone = Namespace::new();
    for args in ["-o status -n node1 -t 20", "-o status -n node1 -t 20 -I lo"] {
        let ran = alone.inside(|| {
            let receiver = MulticastReceiver::new(Ipv4Addr::LOCALHOST);
            let child = network.agent_in(&alone, args).spawn().unwrap();
            let (packet, from) = receiver.receive();
            assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            let mut peer = call_back(&packet);
            peer.authenticate_for(&packet);
            peer.send(&[2]);
            // Whether the host knows the VM at all.
            let (packet, _) = receiver.receive();
            assert_eq!(packet.request.operation, Operation::HostList);
            let mut peer = call_back(&packet);
            peer.authenticate_for(&packet);
            let uuid = NODE1.to_owned();
            let node1 = HostEntry { name: "node1".to_owned(), uuid, state: PowerState::Off };
            peer.send(&encode_host_list(&[node1]));
            wait(child)
        });
        assert_eq!(ran.code, 2, "{ran:?}");
    }
}

#[test]
fn an_interface_that_vanishes_does_not_end_a_request_under_way() {
    let network = require!(GuestNetwork::new());
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 20 -r 1 -I extra0").spawn().unwrap();
        // An interface that is missing in the first round is an error.
        assert!(wait(child).stderr.contains("no such interface: extra0"));
        network.pair.guest.ip(&["link", "add", "extra0", "type", "veth", "peer", "name", "extra1"]);
        network.pair.guest.ip(&["addr", "add", "203.0.113.1/24", "dev", "extra0"]);
        network.pair.guest.ip(&["link", "set", "extra0", "up"]);
        let child = network.agent("-o off -n node1 -t 20 -r 1 -I extra0").spawn().unwrap();
        // The agent waits for call-backs once a connection succeeds.
        let address = (GUEST_V4.parse::<IpAddr>().unwrap(), 1229);
        let mut stranger = None;
        common::until("the agent listens", SOON, || {
            stranger = TcpStream::connect(address).ok();
            stranger.is_some()
        });
        network.pair.guest.ip(&["link", "del", "extra0"]);
        let mut host = Peer::new(stranger.unwrap());
        assert!(!host.is_closed_within(Duration::from_millis(500)), "rounds have passed");
        drop((host, receiver));
        let mut child = child;
        assert!(child.try_wait().unwrap().is_none(), "it still waits");
        child.kill().unwrap();
        wait(child)
    });
    assert_ne!(ran.code, 0);
}

#[test]
fn silence_says_what_to_look_at() {
    let network = require!(GuestNetwork::new());
    let begin = Instant::now();
    let ran = network.run("-o off -n node1 -t 1");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (1, "", 1), "{ran:?}");
    for words in [
        "timed out after 1 s",
        "225.0.0.12 port 1229 from 192.0.2.2 (eth0)",
        "firewall on TCP port 1229",
        "snooping",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    assert!(begin.elapsed() >= Duration::from_secs(1) && begin.elapsed() < SOON);
    // A failed call-back replaces the hint.
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 2 -r 50").spawn().unwrap();
        let mut liar = call_back(&receiver.receive().0);
        liar.take::<64>();
        liar.send(&[9; 64]);
        wait(child)
    });
    assert!(ran.stderr.contains("timed out after 2 s: 192.0.2.1:"), "{ran:?}");
    assert!(ran.stderr.contains("called back, but its answer to our challenge is wrong"), "{ran:?}");
    let ran = network.pair.host.inside(|| {
        let receiver = MulticastReceiver::new(HOST_V4.parse().unwrap());
        let child = network.agent("-o off -n node1 -t 2 -r 50").spawn().unwrap();
        let mut slow = call_back(&receiver.receive().0);
        slow.authenticate();
        let ran = wait(child);
        drop(slow);
        ran
    });
    assert!(ran.stderr.contains("did not send its answer to the request"), "{ran:?}");
}

#[test]
fn the_interface_is_chosen_with_its_name() {
    let network = require!(GuestNetwork::new());
    let ran = network.run("-o off -n node1 -t 5 -I eth9");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("no such interface: eth9"), "{ran:?}");
    network.pair.guest.ip(&["link", "add", "bare0", "type", "veth", "peer", "name", "bare1"]);
    let ran = network.run("-o off -n node1 -t 1 -I bare0");
    assert!(ran.stderr.contains("no local address of this family on bare0"), "{ran:?}");
    for suite in [Suite::Ours, Suite::Theirs] {
        let _daemon = network.daemon(suite, "interface = \"eth0\";", &[vm("node1", NODE1, RUNNING)]);
        let ran = network.run("-o off -n node1 -t 20 -I eth0 -d");
        assert_eq!(ran.code, 0, "{suite:?}: {}", ran.stderr);
        assert_eq!(network.run("-o status -n node1 -t 1 -I lo").code, 1, "the host does not hear that");
    }
}

#[test]
fn a_port_that_is_taken_is_no_obstacle_and_two_agents_both_work() {
    let network = require!(GuestNetwork::new());
    for suite in [Suite::Ours, Suite::Theirs] {
        let vms = [vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING)];
        let _daemon = network.daemon(suite, "interface = \"eth0\";", &vms);
        let taken = network.pair.guest.inside(|| TcpListener::bind("0.0.0.0:1229").unwrap());
        let ran = network.run("-o status -n node1 -t 20 -d");
        assert_eq!(ran.code, 0, "{suite:?}: {ran:?}");
        assert!(ran.stderr.contains("TCP port 1229: Address already in use"), "{ran:?}");
        drop(taken);
        let many: Vec<Child> = (0..6)
            .map(|at| network.agent(&format!("-o off -n node{} -t 20", at % 2 + 1)).spawn().unwrap())
            .collect();
        for child in many {
            let ran = wait(child);
            assert_eq!(ran.code, 0, "{suite:?}: {ran:?}");
        }
    }
}

#[test]
fn an_address_of_link_scope_serves_where_there_is_no_other() {
    let network = require!(GuestNetwork::new());
    network.pair.guest.ip(&["addr", "del", &format!("{GUEST_V6}/64"), "dev", "eth0"]);
    let keys = "family = \"ipv6\"; address = \"ff05::3:1\"; interface = \"eth0\";";
    let _daemon = network.daemon(Suite::Ours, keys, &[vm("node1", NODE1, RUNNING)]);
    // Duplicate address detection delays the address.
    common::until("the guest has its link-local address", SOON, || {
        let show = ["-6", "-o", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"];
        let output = network.pair.guest.command(Path::new("ip")).args(show).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("fe80")
    });
    let ran = network.run("-i ipv6 -o off -n node1 -t 20 -d");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("from fe80::"), "{ran:?}");
}
