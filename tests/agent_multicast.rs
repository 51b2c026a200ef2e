//! Our fence_xvm by multicast, between namespaces: what it sends, who may
//! call it back, and what it says when nobody does.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::agent::{Programs, Ran};
use common::daemon::{Daemon, auth_keys, conf};
use common::net::{GUEST_V4, GUEST_V6, HOST_V4, Namespace, Pair};
use common::node::{self, NODE1, NODE2, RUNNING, vm};
use common::peer::Peer;
use common::{Dir, Suite, have_peers, key_bytes};
use fence_virt::auth::Key;
use fence_virt::wire::{PACKET_LEN, Packet};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

const SOON: Duration = Duration::from_secs(15);
const GROUP: Ipv4Addr = Ipv4Addr::new(225, 0, 0, 12);

struct World {
    programs: Programs,
    pair: Pair,
    dir: Dir,
}

impl World {
    fn new(test: &str) -> Option<World> {
        if !have_peers(test) {
            return None;
        }
        let dir = Dir::new();
        dir.key("key", b'k');
        Some(World { programs: Programs::of(Suite::Ours, &dir), pair: Pair::new(), dir })
    }

    fn agent_in(&self, namespace: &Namespace, args: &str) -> Command {
        let mut command = namespace.command(&self.programs.xvm);
        command.arg("-k").arg(self.dir.path("key")).args(args.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn agent(&self, args: &str) -> Command {
        self.agent_in(&self.pair.guest, args)
    }

    fn run(&self, args: &str) -> Ran {
        self.agent(args).output().unwrap().into()
    }

    fn daemon(&self, suite: Suite, listener: &str, vms: &[node::Vm]) -> Daemon {
        let uri = node::node(&self.dir, &format!("{}.xml", common::unique()), vms);
        let keys = format!("{listener} {}", auth_keys(&self.dir.path("key"), "sha256", "sha256"));
        Daemon::start(suite, &self.dir, &self.pair.host, &conf("multicast", &keys, &[uri], ""), 1229)
    }
}

/// A host that hears the group. Make it inside a namespace.
struct Ear(UdpSocket);

impl Ear {
    fn new(interface: Ipv4Addr) -> Ear {
        let socket = UdpSocket::bind((GROUP, 1229)).unwrap();
        socket.join_multicast_v4(&GROUP, &interface).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Ear(socket)
    }

    /// The next request, and where it came from.
    fn hear(&self) -> (Packet, SocketAddr) {
        let mut bytes = [0; 2 * PACKET_LEN];
        let (length, from) = self.0.recv_from(&mut bytes).unwrap();
        assert_eq!(length, PACKET_LEN);
        let bytes: &[u8; PACKET_LEN] = bytes.first_chunk().unwrap();
        let packet = Packet::decode(bytes).unwrap();
        assert!(packet.is_signed_by(bytes, &Key::new(key_bytes(b'k'))));
        (packet, from)
    }
}

fn call_back(packet: &Packet) -> Peer {
    Peer::new(TcpStream::connect(packet.callback(0).unwrap()).unwrap())
}

fn call_back_from(source: &str, packet: &Packet) -> Peer {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source.parse().unwrap(), 0))).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(packet.callback(0).unwrap())).unwrap();
    Peer::new(TcpStream::from(socket))
}

fn wait(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

#[test]
fn one_datagram_leaves_from_each_address_and_round_again() {
    let Some(world) = World::new("one_datagram_leaves_from_each_address") else { return };
    for more in ["192.0.2.22/24", "198.51.100.2/24"] {
        world.pair.guest.ip(&["addr", "add", more, "dev", "eth0"]);
    }
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -r 2 -t 20").spawn().unwrap();
        let mut heard = Vec::new();
        // Three rounds of three.
        while heard.len() < 9 {
            heard.push(ear.hear());
        }
        let (first, _) = &heard[0];
        for (packet, from) in &heard {
            assert_eq!(packet.callback(0).unwrap().ip(), from.ip(), "it says where it comes from");
            let same = Packet { address: first.address, digest: first.digest, ..packet.clone() };
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
    let Some(world) = World::new("loopback_serves_where_there_is_nothing_else") else { return };
    let alone = Namespace::new();
    for args in ["-o status -n node1 -t 20", "-o status -n node1 -t 20 -I lo"] {
        let ran = alone.inside(|| {
            let ear = Ear::new(Ipv4Addr::LOCALHOST);
            let child = world.agent_in(&alone, args).spawn().unwrap();
            let (packet, from) = ear.hear();
            assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            let mut peer = call_back(&packet);
            peer.authenticate();
            peer.send(&[2]);
            wait(child)
        });
        assert_eq!(ran.code, 2, "{ran:?}");
    }
}

#[test]
fn strangers_that_call_back_first_do_not_keep_the_host_away() {
    let Some(world) = World::new("strangers_that_call_back_first") else { return };
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -t 20").spawn().unwrap();
        let (packet, _) = ear.hear();
        // Silent ones, more than are kept; one that lies; one that hangs up.
        let silent: Vec<Peer> = (0..20).map(|_| call_back(&packet)).collect();
        let mut liar = call_back(&packet);
        liar.take::<64>();
        liar.send(&[0; 128]);
        assert!(liar.rest().is_empty(), "it learns nothing");
        drop(call_back(&packet));
        let mut host = call_back(&packet);
        host.authenticate();
        // From here on there is no other.
        for mut peer in silent {
            assert!(peer.is_closed_within(SOON));
        }
        assert!(TcpStream::connect(packet.callback(0).unwrap()).is_err());
        host.send(&[0]);
        wait(child)
    });
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn of_two_hosts_with_the_key_one_gets_the_proof() {
    let Some(world) = World::new("of_two_hosts_with_the_key_one_gets_the_proof") else { return };
    for _ in 0..10 {
        let ran = world.pair.host.inside(|| {
            let ear = Ear::new(HOST_V4.parse().unwrap());
            let child = world.agent("-o on -n node1 -t 20").spawn().unwrap();
            let (packet, _) = ear.hear();
            let mut hosts = [call_back(&packet), call_back(&packet)];
            let asked = hosts.each_mut().map(|host| host.take::<64>());
            // Both prove themselves, as good as in the same moment.
            let proofs = [0, 1].map(|at| {
                let answer = *hosts[at].key.answer(hosts[at].auth, &asked[at]).unwrap().as_bytes();
                [answer, [0xC3; 64]].concat()
            });
            hosts[0].send(&proofs[0]);
            hosts[1].send_if_open(&proofs[1]);
            let [mut first, second] = hosts;
            first.take::<64>();
            assert!(second.rest().is_empty(), "the other one may not start the VM too");
            first.send(&[0]);
            wait(child)
        });
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn a_crowd_from_one_address_does_not_push_out_the_host() {
    let Some(world) = World::new("a_crowd_from_one_address") else { return };
    world.pair.host.ip(&["addr", "add", "192.0.2.9/24", "dev", "eth0"]);
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -t 20").spawn().unwrap();
        let (packet, _) = ear.hear();
        let mut host = call_back_from("192.0.2.9", &packet);
        let crowd: Vec<Peer> = (0..200).map(|_| call_back(&packet)).collect();
        host.authenticate();
        host.send(&[0]);
        drop(crowd);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn an_interface_that_vanishes_does_not_end_a_request_under_way() {
    let Some(world) = World::new("an_interface_that_vanishes") else { return };
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -t 20 -r 1 -I extra0").spawn().unwrap();
        // Not there in the first round: that is an error.
        assert!(wait(child).stderr.contains("there is no interface extra0"));
        world.pair.guest.ip(&["link", "add", "extra0", "type", "veth", "peer", "name", "extra1"]);
        world.pair.guest.ip(&["addr", "add", "203.0.113.1/24", "dev", "extra0"]);
        world.pair.guest.ip(&["link", "set", "extra0", "up"]);
        let child = world.agent("-o off -n node1 -t 20 -r 1 -I extra0").spawn().unwrap();
        // It waits for call-backs when somebody can connect.
        let address = (GUEST_V4.parse::<IpAddr>().unwrap(), 1229);
        let mut stranger = None;
        common::until("the agent listens", SOON, || {
            stranger = TcpStream::connect(address).ok();
            stranger.is_some()
        });
        world.pair.guest.ip(&["link", "del", "extra0"]);
        let mut host = Peer::new(stranger.unwrap());
        assert!(!host.is_closed_within(Duration::from_millis(500)), "rounds have passed");
        drop((host, ear));
        let mut child = child;
        assert!(child.try_wait().unwrap().is_none(), "it still waits");
        child.kill().unwrap();
        wait(child)
    });
    assert_ne!(ran.code, 0);
}

/// A daemon that is stopped keeps what it was sent; when it goes on, it calls
/// back for requests whose agents are gone, on a port that is another's now.
#[test]
fn a_late_call_back_for_another_request_is_not_taken() {
    let Some(world) = World::new("a_late_call_back_for_another_request") else { return };
    for suite in [Suite::Ours, Suite::Theirs] {
        for (first, code_of_second) in [("-o monitor", 1), ("-o status -n node1", 1)] {
            let daemon = world.daemon(suite, "interface = \"eth0\";", &[vm("node1", NODE1, RUNNING)]);
            daemon.signal(Signal::SIGSTOP);
            let ran = world.run(&format!("{first} -t 1 -r 2"));
            assert_eq!(ran.code, 1, "{suite:?}: {ran:?}");
            let second = world.agent("-o off -n nobody -t 20 -d").spawn().unwrap();
            await_listening(&world);
            daemon.signal(Signal::SIGCONT);
            let ran = wait(second);
            assert_eq!(ran.code, code_of_second, "{suite:?} {first}: {}", ran.stderr);
            assert!(ran.stderr.contains("does not list a VM of this name"), "{suite:?}: {}", ran.stderr);
            // And the right answer is still taken.
            let ran = world.run("-o off -n node1 -t 20");
            assert_eq!(ran.code, 0, "{suite:?}: {ran:?}");
        }
    }
}

#[test]
fn an_agent_that_was_killed_leaves_no_answer_to_the_next() {
    let Some(world) = World::new("an_agent_that_was_killed_leaves_no_answer") else { return };
    for suite in [Suite::Ours, Suite::Theirs] {
        let vms = [vm("node1", NODE1, RUNNING), vm("node2", NODE2, node::OFF)];
        let daemon = world.daemon(suite, "interface = \"eth0\";", &vms);
        daemon.signal(Signal::SIGSTOP);
        let mut killed = world.agent("-o status -n node2 -t 20").spawn().unwrap();
        await_listening(&world);
        // Its first datagram has left: it is sent before anything else.
        assert!(killed.try_wait().unwrap().is_none());
        killed.kill().unwrap();
        killed.wait().unwrap();
        let second = world.agent("-o status -n node1 -t 20 -d").spawn().unwrap();
        await_listening(&world);
        daemon.signal(Signal::SIGCONT);
        let ran = wait(second);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "Status: ON\n"), "{suite:?}: {}", ran.stderr);
    }
}

/// Waits until the agent has its port for call-backs and, soon after, has sent.
fn await_listening(world: &World) {
    common::until("the agent listens", SOON, || {
        let tables = world.pair.guest.command("cat").arg("/proc/net/tcp").output().unwrap();
        String::from_utf8_lossy(&tables.stdout).lines().any(|line| line.contains(":04CD 00000000:0000 0A"))
    });
    let sent = || {
        let stats = world.pair.guest.command("cat").arg("/proc/net/snmp").output().unwrap();
        let text = String::from_utf8_lossy(&stats.stdout).into_owned();
        text.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap().to_owned()
    };
    let before = sent();
    // A round is sent every two seconds; the next one says that the first is out.
    common::until("datagrams leave", SOON, || sent() != before);
}

#[test]
fn a_host_that_dies_after_the_proof_is_a_failure_at_once() {
    let Some(world) = World::new("a_host_that_dies_after_the_proof") else { return };
    let begin = Instant::now();
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -t 30").spawn().unwrap();
        let mut host = call_back(&ear.hear().0);
        host.authenticate();
        drop(host);
        wait(child)
    });
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("hung up after our answer") && begin.elapsed() < SOON, "{ran:?}");
}

#[test]
fn silence_says_what_to_look_at() {
    let Some(world) = World::new("silence_says_what_to_look_at") else { return };
    let begin = Instant::now();
    let ran = world.run("-o off -n node1 -t 1");
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
    // A host that calls back and is wrong is more to the point.
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -t 2 -r 50").spawn().unwrap();
        let mut liar = call_back(&ear.hear().0);
        liar.take::<64>();
        liar.send(&[9; 64]);
        wait(child)
    });
    assert!(ran.stderr.contains("timed out after 2 s: 192.0.2.1:"), "{ran:?}");
    assert!(ran.stderr.contains("called back, but its answer to our challenge is wrong"), "{ran:?}");
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o off -n node1 -t 2 -r 50").spawn().unwrap();
        let mut slow = call_back(&ear.hear().0);
        slow.authenticate();
        let ran = wait(child);
        drop(slow);
        ran
    });
    assert!(ran.stderr.contains("did not give its answer to the request"), "{ran:?}");
}

#[test]
fn the_interface_is_chosen_with_its_name() {
    let Some(world) = World::new("the_interface_is_chosen_with_its_name") else { return };
    let ran = world.run("-o off -n node1 -t 5 -I eth9");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("there is no interface eth9"), "{ran:?}");
    world.pair.guest.ip(&["link", "add", "bare0", "type", "veth", "peer", "name", "bare1"]);
    let ran = world.run("-o off -n node1 -t 1 -I bare0");
    assert!(ran.stderr.contains("no address of its family on bare0"), "{ran:?}");
    for suite in [Suite::Ours, Suite::Theirs] {
        let _daemon = world.daemon(suite, "interface = \"eth0\";", &[vm("node1", NODE1, RUNNING)]);
        let ran = world.run("-o off -n node1 -t 20 -I eth0 -d");
        assert_eq!(ran.code, 0, "{suite:?}: {}", ran.stderr);
        assert_eq!(world.run("-o status -n node1 -t 1 -I lo").code, 1, "the host does not hear that");
    }
}

#[test]
fn a_port_that_is_taken_is_no_obstacle_and_two_agents_both_work() {
    let Some(world) = World::new("a_port_that_is_taken_is_no_obstacle") else { return };
    for suite in [Suite::Ours, Suite::Theirs] {
        let vms = [vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING)];
        let _daemon = world.daemon(suite, "interface = \"eth0\";", &vms);
        let taken = world.pair.guest.inside(|| TcpListener::bind("0.0.0.0:1229").unwrap());
        let ran = world.run("-o status -n node1 -t 20 -d");
        assert_eq!(ran.code, 0, "{suite:?}: {ran:?}");
        assert!(ran.stderr.contains("TCP port 1229: Address already in use"), "{ran:?}");
        drop(taken);
        let many: Vec<Child> = (0..6)
            .map(|at| world.agent(&format!("-o off -n node{} -t 20", at % 2 + 1)).spawn().unwrap())
            .collect();
        for child in many {
            let ran = wait(child);
            assert_eq!(ran.code, 0, "{suite:?}: {ran:?}");
        }
    }
}

#[test]
fn an_address_of_link_scope_serves_where_there_is_no_other() {
    let Some(world) = World::new("an_address_of_link_scope_serves") else { return };
    world.pair.guest.ip(&["addr", "del", &format!("{GUEST_V6}/64"), "dev", "eth0"]);
    let keys = "family = \"ipv6\"; address = \"ff05::3:1\"; interface = \"eth0\";";
    let _daemon = world.daemon(Suite::Ours, keys, &[vm("node1", NODE1, RUNNING)]);
    // The kernel takes its time to make the address; then it is used.
    common::until("the guest has its link-local address", SOON, || {
        let show = ["-6", "-o", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"];
        let output = world.pair.guest.command(Path::new("ip")).args(show).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("fe80")
    });
    let ran = world.run("-i ipv6 -o off -n node1 -t 20 -d");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("from fe80::"), "{ran:?}");
}

#[test]
fn without_auth_the_first_who_calls_back_is_believed() {
    let Some(world) = World::new("without_auth_the_first_who_calls_back") else { return };
    let ran = world.pair.host.inside(|| {
        let ear = Ear::new(HOST_V4.parse().unwrap());
        let child = world.agent("-o status -n node1 -t 20 -C none").spawn().unwrap();
        call_back(&ear.hear().0).send(&[0]);
        wait(child)
    });
    assert_eq!(ran.code, 0, "{ran:?}");
}
