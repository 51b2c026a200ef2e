//! Recorded exchanges.

use std::fmt;
use std::net::SocketAddrV4;

use fence_virt::fence::Operation;
use fence_virt::wire::PACKET_LEN;

use crate::common::net::{GUEST_V4, HOST_V4};
use crate::tap::Connection;

pub const CHALLENGE: usize = 64;
pub const PROOF: usize = 32;
/// Answer byte with its MAC.
pub const VERDICT: usize = 33;
/// Record of a list with its MAC.
pub const RECORD: usize = 162;

/// Listener of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    Tcp,
    /// With a key of its own.
    TcpB,
    Multicast,
    Vsock,
}

/// Those of the network.
pub const LISTENERS: [Listener; 3] = [Listener::Tcp, Listener::TcpB, Listener::Multicast];

impl Listener {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Listener::Tcp => "tcp",
            Listener::TcpB => "tcp:b",
            Listener::Multicast => "multicast",
            Listener::Vsock => "vsock",
        }
    }

    pub fn port(self) -> u16 {
        match self {
            Listener::Tcp | Listener::Multicast => 1229,
            Listener::TcpB => 1230,
            // Namespaces share the ports of vsock: none that a daemon of this machine has.
            Listener::Vsock => 12290,
        }
    }

    /// Key file.
    pub fn key(self) -> &'static str {
        if self == Listener::TcpB { "key-b" } else { "key" }
    }
}

/// Whole exchange between an agent and the daemon, as it was on the network.
pub struct Exchange {
    pub listener: Listener,
    pub request: [u8; PACKET_LEN],
    pub challenge: [u8; CHALLENGE],
    pub proof: [u8; PROOF],
    pub answer: Vec<u8>,
}

/// Splits bytes at a size of the document.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], Vec<u8>) {
    let (head, rest) = bytes.split_first_chunk::<N>().unwrap_or_else(|| panic!("{} of {N}", bytes.len()));
    (*head, rest.to_vec())
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the recorded {} at {}", self.operation(), self.listener.name())
    }
}

impl Exchange {
    /// Takes the messages of a connection between the guest and the host. Asserts that they fill it.
    pub fn of(connection: &Connection) -> Exchange {
        let Connection { client, server, sent, received, after } = connection;
        let is = |address: &SocketAddrV4, ip: &str| address.ip().to_string() == ip;
        if is(server, HOST_V4) && is(client, GUEST_V4) {
            let listener = if server.port() == 1229 { Listener::Tcp } else { Listener::TcpB };
            let (request, proof) = split(sent);
            let (challenge, answer) = split(received);
            let proof = proof.try_into().expect("a proof of 32 bytes");
            return Exchange { listener, request, challenge, proof, answer };
        }
        assert!(is(server, GUEST_V4) && is(client, HOST_V4), "a call-back: {connection:?}");
        let request = after.as_deref().unwrap().try_into().expect("a datagram of 176 bytes");
        let (challenge, answer) = split(sent);
        let proof = received.as_slice().try_into().expect("a proof of 32 bytes");
        Exchange { listener: Listener::Multicast, request, challenge, proof, answer }
    }

    pub fn operation(&self) -> Operation {
        Operation::from_wire(self.request[0]).unwrap()
    }

    /// True if its answer is a list.
    pub fn is_list(&self) -> bool {
        self.answer[0] == 253
    }
}
