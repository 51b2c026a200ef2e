//! Extension of hashes: the wire signs with H(key ‖ message), so whoever has a digest knows digests of
//! longer messages, whatever the key is. None of these may become a request.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use fence_virt::auth::{HashKind, Key};
use fence_virt::fence::Operation;
use fence_virt::wire::{PACKET_LEN, Packet};

use crate::clients::{LIMIT, connect_from, exchange, rest};
use crate::common::client::{Client, packet};
use crate::common::daemon::auth_keys;
use crate::common::net::HOST_V4;
use crate::common::require;
use crate::digests::{extend, padding};
use crate::host::{AttackedHost, guest, port};

const KINDS: [HashKind; 3] = [HashKind::Sha1, HashKind::Sha256, HashKind::Sha512];

/// Key lengths: each one modulo 64, and those at the borders of a block, of what a request
/// may hold, and of what counts of a key.
fn lengths() -> impl Iterator<Item = usize> {
    (1..=64)
        .chain([65, 79, 80, 111, 112, 113, 119, 120, 127, 128, 129, 143, 144, 175, 176, 191, 192, 4095, 4096])
}

/// Attacker who has recorded an honest client, and knows the length of the key.
struct Attacker {
    to: SocketAddr,
    kind: HashKind,
    /// Key, to check the attacker's arithmetic, and for what honest peers send.
    key: Key,
    bytes: Vec<u8>,
}

impl Attacker {
    fn sends(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut stream = connect_from(guest(2), self.to).unwrap();
        // The daemon may have closed it after the first bytes.
        let _ = stream.write_all(&parts.concat());
        stream.shutdown(std::net::Shutdown::Write).unwrap_or(());
        rest(&mut stream)
    }

    /// Request that an honest client has signed, and that has not arrived yet.
    fn recorded(&self) -> [u8; PACKET_LEN] {
        packet(Operation::Status, "victim0", self.kind).encode_signed(&self.key)
    }

    /// Request that the attacker wants, without a signature.
    fn wanted(&self) -> [u8; PACKET_LEN] {
        let mut wanted = packet(Operation::Off, "victim0", self.kind).encode();
        wanted[112..].fill(0);
        wanted
    }

    /// The wanted request as an extension of a message of 64 bytes, if one exists: the padding has to end
    /// before the digest, which is hashed as zeros. Returns the bytes before the digest, and the suffix.
    fn wanted_after(&self, message: &[u8; 64]) -> Option<([u8; PACKET_LEN], usize)> {
        let padding = padding(self.kind, self.bytes.len() + 64);
        let end = 64 + padding.len();
        let mut request = self.wanted();
        request[..64].copy_from_slice(message);
        request.get_mut(64..end)?.copy_from_slice(&padding);
        (end <= 112).then_some((request, end))
    }

    /// Signs what [`Attacker::wanted_after`] found, by the digest of its first 64 bytes alone.
    fn forge(&self, message: &[u8; 64], digest: &[u8; 64]) -> Option<[u8; PACKET_LEN]> {
        let (mut request, end) = self.wanted_after(message)?;
        let forged = extend(self.kind, digest, self.bytes.len() + 64, &request[end..]);
        assert!(self.key.sign(self.kind, &request).matches(&forged), "the extension is right");
        request[112..].copy_from_slice(&forged);
        Some(request)
    }

    /// A request that was recorded, continued by a request of the attacker's.
    fn extends_a_request(&self) {
        let recorded = self.recorded();
        let mut message = recorded;
        message[112..].fill(0);
        let length = self.bytes.len() + PACKET_LEN;
        let (filling, suffix) = (padding(self.kind, length), self.wanted());
        let digest = extend(self.kind, recorded[112..].try_into().unwrap(), length, &suffix);
        let whole = [&message[..], &filling, &suffix].concat();
        assert!(self.key.sign(self.kind, &whole).matches(&digest), "the extension is right");
        // As the packet that was recorded, as the last one of the message, and whole.
        assert_eq!(self.sends(&[&message[..112], &digest, &filling, &suffix]), []);
        assert_eq!(self.sends(&[&suffix[..112], &digest]), []);
        assert_eq!(self.sends(&[&whole, &digest]), []);
    }

    /// The answer to an honest client's challenge, continued to a request.
    fn extends_an_answer(&self) {
        let mut honest = Client::connect(self.to, &self.bytes, self.kind, LIMIT).unwrap();
        honest.stream.write_all(&self.recorded()).unwrap();
        let challenge = [0xA5; 64];
        let [answer, issued] = exchange(&mut honest.stream, &challenge).unwrap();
        // The daemon's challenge: an agent answers it.
        let proof = self.key.expected(self.kind, &issued);
        for (message, digest) in [(challenge, &answer), (issued, proof.as_bytes())] {
            if let Some(forged) = self.forge(&message, digest) {
                assert_eq!(self.sends(&[&forged]), []);
            }
        }
    }

    /// A challenge that is the head of a request, for the daemon to answer. Returns true
    /// if a peer that answers it, as the C suite does, gives a signature away.
    fn chooses_the_challenge(&self) -> bool {
        let wanted = self.wanted();
        let head: [u8; 64] = wanted[..64].try_into().unwrap();
        assert_eq!(self.sends(&[&self.recorded(), &head]), [], "the daemon does not answer it");
        // From here on with the answer of a C peer that has the key.
        let answer = *self.key.expected(self.kind, &head).as_bytes();
        let Some(forged) = self.forge(&head, &answer) else { return false };
        let decoded = Packet::decode(&forged).unwrap();
        assert!(decoded.is_signed_by(&forged, &self.key), "a real danger");
        // Its signature is right, so the daemon goes on to the challenges. There is no proof.
        let mut stream = connect_from(guest(2), self.to).unwrap();
        stream.write_all(&forged).unwrap();
        let [_, issued] = exchange(&mut stream, &[0xA5; 64]).unwrap();
        stream.write_all(&answer).unwrap();
        assert_eq!(rest(&mut stream), []);
        assert_eq!(self.sends(&[&self.recorded(), &issued]), [], "nor does it answer its own");
        true
    }
}

#[test]
fn no_digest_is_extended_to_a_request_whatever_the_length_of_the_key() {
    let host = require!(AttackedHost::new());
    let key_file = host.dir.path("varied");
    let write = |bytes: &[u8]| {
        fs::write(&key_file, bytes).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(b"k");
    let listener = |(at, kind): (usize, &HashKind)| {
        let keys = auth_keys(&key_file, "sha1", &kind.to_string());
        (format!("tcp:{kind}"), format!("address = \"{HOST_V4}\"; port = \"{}\"; {keys}", 1229 + at))
    };
    let conf = host.conf(&KINDS.iter().enumerate().map(listener).collect::<Vec<_>>(), "");
    let daemon = host.start(&conf);
    let mut dangerous = 0;
    for length in lengths() {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 89 + length) as u8).collect();
        write(&bytes);
        daemon.reload(&host.dir, &conf);
        for (at, kind) in KINDS.into_iter().enumerate() {
            let key = Key::new(bytes.clone());
            let attacker = Attacker { to: port(1229 + at as u16), kind, key, bytes: bytes.clone() };
            let is_dangerous = host.pair.guest.inside(|| {
                attacker.extends_a_request();
                attacker.extends_an_answer();
                attacker.chooses_the_challenge()
            });
            assert!(!is_dangerous || attacker.key.allows_extension(), "{kind} with {length} bytes");
            dangerous += usize::from(is_dangerous);
        }
    }
    assert!(dangerous > 100, "{dangerous}");
    assert_eq!(daemon.log().matches("\"victim0\"").count(), 0, "nothing was carried out");
}
