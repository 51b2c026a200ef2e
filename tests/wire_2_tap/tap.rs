//! The tap: a packet socket that hears the frames of a namespace, and what they say.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

const ETHERNET: usize = 14;
const IPV4: [u8; 2] = [8, 0];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Packet socket. It hears all interfaces of the namespace that it was made in.
pub struct Tap(OwnedFd);

/// Both directions of a TCP connection.
#[derive(Debug)]
pub struct Connection {
    pub client: SocketAddrV4,
    pub server: SocketAddrV4,
    /// What the client sent.
    pub sent: Vec<u8>,
    /// What the server sent.
    pub received: Vec<u8>,
    /// Content of the last datagram before it.
    pub after: Option<Vec<u8>>,
}

/// Direction of a connection: its initial sequence number, and its segments by their distance from that.
#[derive(Default)]
struct Direction {
    initial: u32,
    segments: BTreeMap<u32, Vec<u8>>,
}

impl Tap {
    pub fn new() -> Tap {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20)).unwrap();
        Tap(fd)
    }

    /// Connections over IPv4 that it has heard since the last time, in their order.
    pub fn connections(&self) -> Vec<Connection> {
        let mut heard = Heard::default();
        let mut frame = vec![0; 1 << 17];
        loop {
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => heard.take(&frame[..length]),
                Err(Errno::EAGAIN) => return heard.connections(),
                Err(error) => panic!("the tap: {error}"),
            }
        }
    }
}

/// What the frames say so far.
#[derive(Default)]
struct Heard {
    directions: HashMap<(SocketAddrV4, SocketAddrV4), Direction>,
    /// Client, server, and the last datagram before.
    opened: Vec<(SocketAddrV4, SocketAddrV4, Option<Vec<u8>>)>,
    datagram: Option<Vec<u8>>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().unwrap()
}

impl Heard {
    fn take(&mut self, frame: &[u8]) {
        if frame.get(12..ETHERNET) != Some(&IPV4) {
            return;
        }
        let packet = &frame[ETHERNET..];
        // Short frames are padded.
        let packet = &packet[..u16::from_be_bytes(number(packet, 2)).into()];
        let body = &packet[usize::from(packet[0] & 15) * 4..];
        let address = |at, port| {
            let port = u16::from_be_bytes(number(body, port));
            SocketAddrV4::new(Ipv4Addr::from(number::<4>(packet, at)), port)
        };
        match packet[9] {
            TCP => self.segment(address(12, 0), address(16, 2), body),
            UDP => self.datagram = Some(body[8..].to_vec()),
            _ => {}
        }
    }

    fn segment(&mut self, from: SocketAddrV4, to: SocketAddrV4, body: &[u8]) {
        let at = u32::from_be_bytes(number(body, 4));
        let direction = self.directions.entry((from, to)).or_default();
        if body[13] & SYN != 0 {
            let is_again = direction.initial == at;
            direction.initial = at;
            if body[13] & ACK == 0 && !is_again {
                self.opened.push((from, to, self.datagram.clone()));
            }
            return;
        }
        let content = &body[usize::from(body[12] >> 4) * 4..];
        if !content.is_empty() {
            let at = at.wrapping_sub(direction.initial).wrapping_sub(1);
            let known = direction.segments.entry(at).or_default();
            // One that is sent again may be longer.
            if known.len() < content.len() {
                *known = content.to_vec();
            }
        }
    }

    fn connections(self) -> Vec<Connection> {
        let bytes = |from, to| self.directions.get(&(from, to)).map(Direction::bytes).unwrap_or_default();
        let connection = |(client, server, after): &(SocketAddrV4, SocketAddrV4, Option<Vec<u8>>)| {
            let (sent, received) = (bytes(*client, *server), bytes(*server, *client));
            Connection { client: *client, server: *server, sent, received, after: after.clone() }
        };
        self.opened.iter().map(connection).collect()
    }
}

impl Direction {
    /// The bytes in their order.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, segment) in &self.segments {
            let at = usize::try_from(*at).unwrap();
            assert!(at <= bytes.len(), "the tap has lost a frame");
            bytes.extend(segment.iter().skip(bytes.len() - at));
        }
        bytes
    }
}
