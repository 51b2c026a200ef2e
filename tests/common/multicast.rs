//! Hosts that receive fence_xvm's multicast requests and call back, with and
//! without errors.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fence_virt::auth::Key;
use fence_virt::fence::Operation;
use fence_virt::session::SYNC_PROBE_LEN;
use fence_virt::wire::{PACKET_LEN, Packet};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::agent::{AgentRun, Programs};
use super::daemon::{Daemon, auth_keys, conf};
use super::net::{Namespace, NamespacePair};
use super::node;
use super::peer::Peer;
use super::{Dir, Missing, Suite, key_bytes, root_and_c_suite};

pub const SOON: Duration = Duration::from_secs(15);
pub const GROUP: Ipv4Addr = Ipv4Addr::new(225, 0, 0, 12);

/// Namespaces of a host and a guest, our agents for the guest, and a key.
pub struct GuestNetwork {
    pub programs: Programs,
    pub pair: NamespacePair,
    pub dir: Dir,
}

impl GuestNetwork {
    pub fn new() -> Result<GuestNetwork, Missing> {
        root_and_c_suite()?;
        let dir = Dir::new();
        dir.key("key", b'k');
        Ok(GuestNetwork { programs: Programs::of(Suite::Ours, &dir), pair: NamespacePair::new(), dir })
    }

    pub fn agent_in(&self, namespace: &Namespace, args: &str) -> Command {
        let mut command = namespace.command(&self.programs.xvm);
        command.arg("-k").arg(self.dir.path("key")).args(args.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn agent(&self, args: &str) -> Command {
        self.agent_in(&self.pair.guest, args)
    }

    pub fn run(&self, args: &str) -> AgentRun {
        self.agent(args).output().unwrap().into()
    }

    pub fn daemon(&self, suite: Suite, listener: &str, vms: &[node::Vm]) -> Daemon {
        let uri = node::node(&self.dir, &format!("{}.xml", super::unique()), vms);
        let keys = format!("{listener} {}", auth_keys(&self.dir.path("key"), "sha256", "sha256"));
        Daemon::builder(&self.dir, &self.pair.host).suite(suite).start(&conf("multicast", &keys, &[uri], ""))
    }
}

/// Socket of a host in the multicast group. Make it inside a namespace.
pub struct MulticastReceiver(UdpSocket);

impl MulticastReceiver {
    pub fn new(interface: Ipv4Addr) -> MulticastReceiver {
        // Without SO_REUSEADDR the port is taken while a forked child still holds an older socket.
        let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((GROUP, 1229)))).unwrap();
        let socket = UdpSocket::from(fd);
        socket.join_multicast_v4(&GROUP, &interface).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        MulticastReceiver(socket)
    }

    /// Receives the next request with its source address.
    pub fn receive(&self) -> (Packet, SocketAddr) {
        let mut bytes = [0; 2 * PACKET_LEN];
        let (length, from) = self.0.recv_from(&mut bytes).unwrap();
        assert_eq!(length, PACKET_LEN);
        let bytes: &[u8; PACKET_LEN] = bytes.first_chunk().unwrap();
        let packet = Packet::decode(bytes).unwrap();
        assert!(packet.is_signed_by(bytes, &Key::new(key_bytes(b'k'))));
        (packet, from)
    }
}

pub fn call_back(packet: &Packet) -> Peer {
    Peer::new(TcpStream::connect(packet.callback(0).unwrap()).unwrap())
}

pub fn call_back_from(source: &str, packet: &Packet) -> Peer {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source.parse().unwrap(), 0))).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(packet.callback(0).unwrap())).unwrap();
    Peer::new(TcpStream::from(socket))
}

pub fn wait(child: Child) -> AgentRun {
    child.wait_with_output().unwrap().into()
}

/// Receives a sync probe and answers each request as a C daemon on `host` does.
pub fn answer_row(receiver: &MulticastReceiver, host: &str) {
    for _ in 0..SYNC_PROBE_LEN {
        let (question, _) = receiver.receive();
        let mut peer = call_back_from(host, &question);
        peer.authenticate();
        peer.send(&[if question.request.operation == Operation::Status { 2 } else { 1 }]);
    }
}

/// Waits until the agent listens for call-backs and has sent a round.
pub fn await_listening(network: &GuestNetwork) {
    super::until("the agent listens", SOON, || {
        let tables = network.pair.guest.command("cat").arg("/proc/net/tcp").output().unwrap();
        String::from_utf8_lossy(&tables.stdout).lines().any(|line| line.contains(":04CD 00000000:0000 0A"))
    });
    let sent = || {
        let stats = network.pair.guest.command("cat").arg("/proc/net/snmp").output().unwrap();
        let text = String::from_utf8_lossy(&stats.stdout).into_owned();
        text.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap().to_owned()
    };
    let before = sent();
    // A round is sent every two seconds; after the next one, the first has left.
    super::until("datagrams leave", SOON, || sent() != before);
}
