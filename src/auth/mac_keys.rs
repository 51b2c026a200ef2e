//! Keys of version 2 of the wire, and the exchange that they authenticate.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::KeyId;
use super::key_bytes::{KEY_MAX, wipe};
use super::key_id::id_of;
use crate::fence::Endpoint;
use crate::wire::{MAC_AT, PACKET_LEN};

/// Size of a MAC, in bytes: HMAC-SHA-256.
pub const MAC_LEN: usize = 32;

/// Size of a daemon's challenge, in bytes: a nonce of 32 and a MAC.
pub const CHALLENGE_2_LEN: usize = 32 + MAC_LEN;

/// Salt of HKDF-Extract.
const SALT: &[u8] = b"fence_virt 2";

/// MAC on the wire.
type MacBytes = [u8; MAC_LEN];

/// Keys that are derived from the content of a key file by HKDF-SHA-256 (RFC 5869), one for each purpose. Wiped when
/// dropped.
pub struct MacKeys {
    id: KeyId,
    secret: Box<MacSecret>,
}

/// Keys by purpose, as states that have absorbed them. Boxed, so that no move leaves a copy in memory.
struct MacSecret {
    request: Hmac<Sha256>,
    challenge: Hmac<Sha256>,
    proof: Hmac<Sha256>,
    answer: Hmac<Sha256>,
}

impl MacKeys {
    /// Derives the keys from the bytes of a key file that count.
    pub fn derive(key: &[u8]) -> MacKeys {
        let extracted = keyed(&mac_of(&keyed(SALT), &[key]));
        // One block of HKDF-Expand.
        let expand = |info: &[u8]| keyed(&mac_of(&extracted, &[info, &[1]]));
        let secret = MacSecret {
            request: expand(b"request"),
            challenge: expand(b"challenge"),
            proof: expand(b"proof"),
            answer: expand(b"answer"),
        };
        MacKeys { id: id_of(key), secret: Box::new(secret) }
    }

    /// Derives the keys from the content of a key file, of which only the first [`KEY_MAX`] bytes count, and wipes it.
    pub fn of_content(mut content: Vec<u8>) -> MacKeys {
        let keys = MacKeys::derive(&content[..content.len().min(KEY_MAX)]);
        wipe(&mut content);
        keys
    }

    /// Id of the key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Authenticates a request: sets its last 32 bytes.
    pub fn sign(&self, endpoint: Endpoint, request: &mut [u8; PACKET_LEN]) {
        let (head, mac) = request.split_at_mut(MAC_AT);
        mac.copy_from_slice(&mac_of(&self.secret.request, &[&endpoint.encode(), head]));
    }

    /// Returns true if a holder of the key made this request for this endpoint.
    pub fn has_signed(&self, endpoint: Endpoint, request: &[u8; PACKET_LEN]) -> bool {
        let (head, mac) = request.split_at(MAC_AT);
        verifies(&self.secret.request, &[&endpoint.encode(), head], mac)
    }
}

impl Drop for MacKeys {
    fn drop(&mut self) {
        // The states cannot be wiped: overwrite them with those of a known key.
        let known = keyed(&[]);
        let [request, challenge, proof, answer] = [&known; 4].map(Clone::clone);
        *self.secret = MacSecret { request, challenge, proof, answer };
        black_box(&self.secret);
    }
}

impl fmt::Debug for MacKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKeys({})", self.id)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn absorb(key: &Hmac<Sha256>, parts: &[&[u8]]) -> Hmac<Sha256> {
    parts.iter().fold(key.clone(), |mac, part| mac.chain_update(part))
}

fn mac_of(key: &Hmac<Sha256>, parts: &[&[u8]]) -> MacBytes {
    absorb(key, parts).finalize().into_bytes().into()
}

/// Compares in constant time.
fn verifies(key: &Hmac<Sha256>, parts: &[&[u8]], mac: &[u8]) -> bool {
    absorb(key, parts).verify_slice(mac).is_ok()
}

/// An exchange so far: the MAC of its last message. Each MAC covers the one before it, from that of the request on, so
/// each authenticates all before it.
#[derive(Debug, Clone)]
pub struct Transcript {
    keys: Arc<MacKeys>,
    last: MacBytes,
}

impl Transcript {
    /// Begins the exchange about this request, whose MAC this side has made or verified.
    pub fn new(keys: Arc<MacKeys>, request: &[u8; PACKET_LEN]) -> Transcript {
        let mut last = [0; MAC_LEN];
        last.copy_from_slice(&request[MAC_AT..]);
        Transcript { keys, last }
    }

    /// Daemon's challenge with this nonce, which has to be random and fresh.
    pub fn challenge(&mut self, nonce: &[u8; 32]) -> [u8; CHALLENGE_2_LEN] {
        self.last = mac_of(&self.keys.secret.challenge, &[&self.last, nonce]);
        let mut challenge = [0; CHALLENGE_2_LEN];
        challenge[..32].copy_from_slice(nonce);
        challenge[32..].copy_from_slice(&self.last);
        challenge
    }

    /// Takes the daemon's challenge; false if it is not one for this request by a holder of the key.
    #[must_use]
    pub fn accept_challenge(&mut self, challenge: &[u8; CHALLENGE_2_LEN]) -> bool {
        let (nonce, mac) = challenge.split_at(32);
        let is_valid = verifies(&self.keys.secret.challenge, &[&self.last, nonce], mac);
        self.last.copy_from_slice(mac);
        is_valid
    }

    /// Agent's proof, after the challenge.
    pub fn proof(&mut self) -> [u8; MAC_LEN] {
        self.last = mac_of(&self.keys.secret.proof, &[&self.last]);
        self.last
    }

    /// Takes the agent's proof; false if it is not one of a holder of the key for this exchange.
    #[must_use]
    pub fn accept_proof(&mut self, proof: &[u8; MAC_LEN]) -> bool {
        let is_valid = verifies(&self.keys.secret.proof, &[&self.last], proof);
        self.last = *proof;
        is_valid
    }

    /// MACs of the answer, after the proof.
    pub fn answer(self) -> AnswerMacs {
        AnswerMacs { transcript: self, next: 0 }
    }
}

/// MACs of the items of an answer: the answer byte, and the records of a list.
#[derive(Debug)]
pub struct AnswerMacs {
    transcript: Transcript,
    /// Number of the next item.
    next: u32,
}

impl AnswerMacs {
    /// MAC of the next item.
    pub fn mac(&mut self, item: &[u8]) -> [u8; MAC_LEN] {
        let number = self.number();
        mac_of(&self.transcript.keys.secret.answer, &[&self.transcript.last, &number, item])
    }

    /// Returns true if this is the MAC of the next item.
    #[must_use]
    pub fn verify(&mut self, item: &[u8], mac: &[u8; MAC_LEN]) -> bool {
        let number = self.number();
        verifies(&self.transcript.keys.secret.answer, &[&self.transcript.last, &number, item], mac)
    }

    fn number(&mut self) -> [u8; 4] {
        let number = self.next.to_le_bytes();
        // Lists end long before.
        self.next = self.next.wrapping_add(1);
        number
    }
}

#[cfg(test)]
#[path = "mac_keys_tests.rs"]
mod tests;
