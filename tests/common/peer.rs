//! Scripted daemons over TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fence_virt::auth::{HashKind, Key};
use fence_virt::wire::{PACKET_LEN, Packet};

use super::key_bytes;

/// Daemon's end of a connection, with a key.
pub struct Peer {
    pub stream: TcpStream,
    pub key: Key,
    pub auth: HashKind,
}

impl Peer {
    /// Peer with the key of the letter k, and sha256.
    pub fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Peer { stream, key: Key::new(key_bytes(b'k')), auth: HashKind::Sha256 }
    }

    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads N bytes; `None` if the agent closes first.
    pub fn try_take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads the request and checks its signature.
    pub fn request(&mut self) -> Packet {
        let bytes: [u8; PACKET_LEN] = self.take();
        let packet = Packet::decode(&bytes).unwrap();
        assert!(packet.is_signed_by(&bytes, &self.key));
        packet
    }

    /// Answers the agent's challenge, and sends and returns the daemon's.
    pub fn prove(&mut self) -> [u8; 64] {
        let asked: [u8; 64] = self.take();
        let own = [0xC3; 64];
        let answer = *self.key.answer(self.auth, &asked).unwrap().as_bytes();
        self.send(&[answer, own].concat());
        own
    }

    /// Runs both challenges of the authentication.
    pub fn authenticate(&mut self) {
        let own = self.prove();
        let proof: [u8; 64] = self.take();
        assert!(self.key.expected(self.auth, &own).matches(&proof), "the agent proves itself");
    }

    /// Authenticates as a daemon of ours does, which says that it answers this packet.
    pub fn authenticate_for(&mut self, packet: &Packet) {
        let asked: [u8; 64] = self.take();
        let own = self.key.issue([0xC3; 32], &packet.binding());
        let answer = *self.key.answer(self.auth, &asked).unwrap().as_bytes();
        self.send(&[answer, own].concat());
        let proof: [u8; 64] = self.take();
        assert!(self.key.expected(self.auth, &own).matches(&proof), "the agent proves itself");
    }

    /// Sends; returns false if the agent has closed.
    pub fn send_if_open(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Returns true if the agent closes within `limit`; drops what it sends until then.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        loop {
            match self.stream.read(&mut [0; 256]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }

    /// Reads until the agent closes.
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset counts as a close.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}
