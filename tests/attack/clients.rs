//! Hostile clients: connections from any address of the guests' namespace, requests with any bytes
//! and a valid signature, and recorded exchanges.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::Operation;
use fence_virt::wire::{FAMILY_IPV4, PACKET_LEN, Packet};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use crate::common::client::{Client, packet};
use crate::common::key_bytes;

pub const LIMIT: Duration = Duration::from_secs(15);
pub const SHA: HashKind = HashKind::Sha256;

/// Key of the letter k.
pub fn key() -> Key {
    Key::new(key_bytes(b'k'))
}

/// Client with the key of the letter k.
pub fn client(to: SocketAddr) -> Client {
    Client::connect(to, &key_bytes(b'k'), SHA, LIMIT).unwrap()
}

/// Connects from this address, which need not be one of an interface; a close resets the connection.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The bytes with a signature of the key, whatever they say.
pub fn signed(mut bytes: [u8; PACKET_LEN], kind: HashKind, key: &Key) -> [u8; PACKET_LEN] {
    bytes[112..].fill(0);
    let digest = *key.sign(kind, &bytes).as_bytes();
    bytes[112..].copy_from_slice(&digest);
    bytes
}

/// Multicast request with this call-back address.
pub fn multicast(operation: Operation, vm: &str, callback: SocketAddr) -> Packet {
    let IpAddr::V4(v4) = callback.ip() else { panic!("IPv4 only: {callback}") };
    let mut address = [0; 28];
    address[..4].copy_from_slice(&v4.octets());
    Packet {
        address,
        address_len: 4,
        family: FAMILY_IPV4,
        port: callback.port(),
        ..packet(operation, vm, SHA)
    }
}

/// Everything that an honest client sent, as somebody on its network records it, and
/// what the daemon sent.
pub struct Recording {
    pub request: [u8; PACKET_LEN],
    pub challenge: [u8; 64],
    /// Daemon's answer to the client's challenge.
    pub answer: [u8; 64],
    /// Daemon's challenge.
    pub issued: [u8; 64],
    /// Client's answer to it.
    pub proof: [u8; 64],
}

impl Recording {
    /// Fences as an honest client, and records the exchange. Asserts success.
    pub fn of(to: SocketAddr, operation: Operation, vm: &str) -> Recording {
        let mut honest = client(to);
        let request = honest.send(&packet(operation, vm, SHA)).unwrap();
        let challenge = [0xA5; 64];
        let [answer, issued] = exchange(&mut honest.stream, &challenge).unwrap();
        let proof = *honest.key.expected(SHA, &issued).as_bytes();
        honest.stream.write_all(&proof).unwrap();
        assert_eq!(honest.verdict().unwrap(), 0);
        Recording { request, challenge, answer, issued, proof }
    }
}

/// Sends a challenge; returns the daemon's answer and its own challenge.
pub fn exchange(stream: &mut TcpStream, challenge: &[u8; 64]) -> io::Result<[[u8; 64]; 2]> {
    stream.write_all(challenge)?;
    let mut both = [[0; 64]; 2];
    for part in &mut both {
        stream.read_exact(part)?;
    }
    Ok(both)
}

/// Reads until the daemon closes, and returns what it sent; a reset counts as a close.
pub fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "the daemon does not close");
    }
    rest
}
