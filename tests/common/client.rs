//! Client whose steps a test calls one by one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::{Operation, Request, Target};
use fence_virt::wire::{PACKET_LEN, Packet, Signature};

static SEQNO: AtomicU32 = AtomicU32::new(1);

/// Unsigned request with the next sequence number.
pub fn packet(operation: Operation, vm: &str, hash: HashKind) -> Packet {
    Packet {
        request: Request {
            operation,
            target: Target::new(vm.as_bytes()).unwrap(),
            seqno: SEQNO.fetch_add(1, Ordering::Relaxed),
        },
        signature: Signature::unsigned(hash),
        address_len: 0,
        flags: 0,
        address: [0; 28],
        port: 0,
        random: [7; 6],
        family: 0,
    }
}

/// TCP client with a key.
pub struct Client {
    pub stream: TcpStream,
    pub key: Key,
    pub auth: HashKind,
}

impl Client {
    /// Connects. Reads time out after `limit`.
    pub fn connect(address: SocketAddr, key: &[u8], auth: HashKind, limit: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, key: Key::new(key.to_vec()), auth })
    }

    /// Sends a signed request.
    pub fn send(&mut self, packet: &Packet) -> io::Result<[u8; PACKET_LEN]> {
        let bytes = packet.encode_signed(&self.key);
        self.stream.write_all(&bytes)?;
        Ok(bytes)
    }

    /// Runs both challenges of the authentication.
    pub fn authenticate(&mut self) -> io::Result<()> {
        if self.auth == HashKind::None {
            return Ok(());
        }
        let challenge = [0xA5; 64];
        self.stream.write_all(&challenge)?;
        let mut answer = [0; 64];
        self.stream.read_exact(&mut answer)?;
        if !self.key.expected(self.auth, &challenge).matches(&answer) {
            return Err(io::Error::other("the daemon has another key"));
        }
        let mut theirs = [0; 64];
        self.stream.read_exact(&mut theirs)?;
        self.stream.write_all(self.key.expected(self.auth, &theirs).as_bytes())
    }

    /// Reads the byte of the answer.
    pub fn verdict(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// Sends a request, authenticates and reads the answer.
    pub fn ask(&mut self, packet: &Packet) -> io::Result<u8> {
        self.send(packet)?;
        self.authenticate()?;
        self.verdict()
    }
}
