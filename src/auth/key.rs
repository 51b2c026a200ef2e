use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::challenge::{NONCE_LEN, TAG_LEN};
use super::hash::{Digest, Keyed};
use super::key_bytes::{KEY_MAX, wipe};
use super::mac_keys::MacKeys;
use super::{Challenge, ChallengeRefusal, KeyId};
use crate::fence::HashKind;
use crate::wire::{Binding, DIGEST_AT, PACKET_LEN, Packet, PacketHead, Signature};

/// Key shared by a daemon and its clients, kept as hash states that have absorbed it. Wiped when dropped.
pub struct Key {
    length: usize,
    mac_keys: Arc<MacKeys>,
    secret: Box<Secret>,
}

/// Hash states of a key. Boxed, so that no move leaves a copy in memory.
struct Secret {
    keyed: Keyed,
    tagging: Hmac<Sha256>,
}

impl Secret {
    fn new(key: &[u8]) -> Secret {
        let tagging = <Hmac<Sha256> as Mac>::new_from_slice(key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Secret { keyed: Keyed::new(key), tagging }
    }
}

impl Key {
    /// Makes a key of the content of a key file, of which only the first
    /// [`KEY_MAX`] bytes count. An empty key is for hash none and auth none.
    pub fn new(mut bytes: Vec<u8>) -> Key {
        let key = &bytes[..bytes.len().min(KEY_MAX)];
        let mac_keys = Arc::new(MacKeys::derive(key));
        let key = Key { length: key.len(), mac_keys, secret: Box::new(Secret::new(key)) };
        wipe(&mut bytes);
        key
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True for the empty key.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Public name, by which people and version 2 of the wire tell keys apart.
    pub fn id(&self) -> KeyId {
        self.mac_keys.id()
    }

    /// Keys of version 2 of the wire.
    pub fn mac_keys(&self) -> &Arc<MacKeys> {
        &self.mac_keys
    }

    /// Returns true if both have the same bytes, in constant time.
    pub fn is_same(&self, other: &Key) -> bool {
        // No challenge of ours has an empty nonce.
        self.length == other.length && self.tag(&[]).finalize() == other.tag(&[]).finalize()
    }

    /// True if, with a key of this length, the answer to a challenge could be extended into a signed request:
    /// the padding of key ‖ challenge ends inside the 112 bytes of a request before its hash field. This
    /// holds for lengths of 16 to 55 modulo 64.
    pub fn allows_extension(&self) -> bool {
        (16..=55).contains(&(self.length % 64))
    }

    /// Signs bytes: H(key ‖ bytes).
    pub fn sign(&self, kind: HashKind, bytes: &[u8]) -> Digest {
        self.secret.keyed.digest(kind, bytes)
    }

    /// Answers the peer's challenge.
    ///
    /// # Errors
    ///
    /// [`ChallengeRefusal`] if the peer could abuse the answer.
    pub fn answer(&self, kind: HashKind, challenge: &Challenge) -> Result<Digest, ChallengeRefusal> {
        if self.issued(challenge) {
            return Err(ChallengeRefusal::Reflected);
        }
        if PacketHead::is_plausible(challenge) {
            return Err(ChallengeRefusal::RequestHead);
        }
        Ok(self.expected(kind, challenge))
    }

    /// Answers a daemon's challenge, after the daemon has proven itself. `bindings` are the client's requests
    /// ([`Packet::binding`]); the challenge must be for one of them.
    ///
    /// # Errors
    ///
    /// [`ChallengeRefusal::OtherRequest`] if a daemon of ours issued it for another request (C daemons bind
    /// their challenges to none); [`ChallengeRefusal::RequestHead`], which no daemon of ours causes, and a C
    /// daemon with one challenge in 16 million.
    ///
    /// [`Packet::binding`]: crate::wire::Packet::binding
    pub fn prove(
        &self,
        kind: HashKind,
        challenge: &Challenge,
        bindings: &[Binding],
    ) -> Result<Digest, ChallengeRefusal> {
        if PacketHead::is_plausible(challenge) {
            return Err(ChallengeRefusal::RequestHead);
        }
        let (head, bound) = challenge.split_at(NONCE_LEN + TAG_LEN);
        let fits = |binding| self.bound_tag(&head[..NONCE_LEN], binding).verify_truncated_left(bound).is_ok();
        if self.issued(challenge) && !bindings.iter().any(fits) {
            return Err(ChallengeRefusal::OtherRequest);
        }
        Ok(self.expected(kind, challenge))
    }

    /// True if a daemon of ours issued this challenge with this key.
    pub fn issued(&self, challenge: &Challenge) -> bool {
        let (nonce, tags) = challenge.split_at(NONCE_LEN);
        self.tag(nonce).verify_truncated_left(&tags[..TAG_LEN]).is_ok()
    }

    /// Returns the answer that the peer has to give to our challenge.
    pub fn expected(&self, kind: HashKind, challenge: &Challenge) -> Digest {
        self.sign(kind, challenge)
    }

    /// Makes a challenge of 32 fresh random bytes, for the request with this binding. The first bit is
    /// set, so that it never reads as the head of a request, which the peer might refuse to answer.
    pub fn issue(&self, mut nonce: [u8; NONCE_LEN], binding: &Binding) -> Challenge {
        nonce[0] |= 0x80;
        let tag = self.tag(&nonce).finalize().into_bytes();
        let bound = self.bound_tag(&nonce, binding).finalize().into_bytes();
        let mut challenge = [0; super::CHALLENGE_LEN];
        challenge[..NONCE_LEN].copy_from_slice(&nonce);
        challenge[NONCE_LEN..NONCE_LEN + TAG_LEN].copy_from_slice(&tag[..TAG_LEN]);
        challenge[NONCE_LEN + TAG_LEN..].copy_from_slice(&bound[..TAG_LEN]);
        challenge
    }

    fn tag(&self, nonce: &[u8]) -> Hmac<Sha256> {
        self.secret.tagging.clone().chain_update(nonce)
    }

    fn bound_tag(&self, nonce: &[u8], binding: &Binding) -> Hmac<Sha256> {
        self.tag(nonce).chain_update(binding)
    }
}

impl Packet {
    /// Encodes the request and signs it with the hash of its signature. One of version 2 gets no signature here: see
    /// [`MacKeys::sign`].
    pub fn encode_signed(&self, key: &Key) -> [u8; PACKET_LEN] {
        let mut out = self.encode();
        let Signature::Digest { hash, .. } = self.signature else { return out };
        out[DIGEST_AT..].fill(0);
        let digest = key.sign(hash, &out);
        out[DIGEST_AT..].copy_from_slice(digest.as_bytes());
        out
    }

    /// Returns true if `bytes`, the request as received, has a valid signature of this key. Hash none
    /// has no signature to check and is always valid: the listener's minimum `hash` decides about it. One of version 2
    /// is never valid here: see [`MacKeys::has_signed`].
    pub fn is_signed_by(&self, bytes: &[u8; PACKET_LEN], key: &Key) -> bool {
        let Signature::Digest { hash, digest } = &self.signature else { return false };
        if *hash == HashKind::None {
            return true;
        }
        let mut unsigned = *bytes;
        unsigned[DIGEST_AT..].fill(0);
        key.sign(*hash, &unsigned).matches(digest)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // The hash states cannot be wiped: overwrite them with those of an empty key.
        *self.secret = Secret::new(&[]);
        black_box(&self.secret);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::BINDING_LEN;

    const BINDING: Binding = [7; BINDING_LEN];

    fn key() -> Key {
        Key::new((0..=255).cycle().take(KEY_MAX).collect())
    }

    #[test]
    fn only_the_first_4096_bytes_count() {
        let longer = Key::new((0..=255).cycle().take(KEY_MAX + 7).collect());
        assert_eq!(longer.len(), KEY_MAX);
        let expected = key().expected(HashKind::Sha256, &[7; 64]);
        assert!(longer.expected(HashKind::Sha256, &[7; 64]).matches(expected.as_bytes()));
    }

    #[test]
    fn own_challenges_are_never_answered() {
        let key = key();
        let issued = key.issue([0; 32], &BINDING);
        assert_eq!(key.answer(HashKind::Sha256, &issued).unwrap_err(), ChallengeRefusal::Reflected);
        let other = Key::new(vec![1; 64]);
        assert!(other.answer(HashKind::Sha256, &issued).is_ok(), "opaque without the key");
    }

    #[test]
    fn one_changed_byte_makes_it_a_foreign_challenge() {
        let key = key();
        let mut issued = key.issue([9; 32], &BINDING);
        issued[47] ^= 1;
        assert!(key.answer(HashKind::Sha256, &issued).is_ok());
    }

    #[test]
    fn a_challenge_that_reads_as_a_request_is_not_answered() {
        let mut head = [0xAA; 64];
        head[..4].copy_from_slice(&[1, 2, 4, 0]);
        assert_eq!(key().answer(HashKind::Sha256, &head).unwrap_err(), ChallengeRefusal::RequestHead);
        head[2] = 5;
        assert!(key().answer(HashKind::Sha256, &head).is_ok());
    }

    #[test]
    fn a_client_answers_challenges_of_daemons_but_no_request() {
        let key = key();
        let prove =
            |challenge: &Challenge| key.prove(HashKind::Sha256, challenge, &[[0; 77], BINDING]).map(|_| ());
        assert_eq!(prove(&key.issue([0; 32], &BINDING)), Ok(()));
        let mut head = [0xAA; 64];
        assert_eq!(prove(&head), Ok(()), "a C daemon's");
        head[..4].copy_from_slice(&[1, 2, 4, 0]);
        assert_eq!(prove(&head), Err(ChallengeRefusal::RequestHead));
    }

    #[test]
    fn a_client_answers_no_challenge_issued_for_another_request() {
        let key = key();
        let issued = key.issue([1; 32], &BINDING);
        for at in 0..BINDING_LEN {
            let mut other = BINDING;
            other[at] ^= 1;
            let refusal = key.prove(HashKind::Sha256, &issued, &[other]).unwrap_err();
            assert_eq!(refusal, ChallengeRefusal::OtherRequest, "byte {at}");
        }
        for at in 48..64 {
            let mut altered = issued;
            altered[at] ^= 1;
            assert!(key.prove(HashKind::Sha256, &altered, &[BINDING]).is_err(), "byte {at}");
            let refusal = key.answer(HashKind::Sha256, &altered).unwrap_err();
            assert_eq!(refusal, ChallengeRefusal::Reflected, "a daemon recognises its own by the first half");
        }
    }

    #[test]
    fn issued_challenges_never_read_as_a_request() {
        assert!(!PacketHead::is_plausible(&key().issue([0; 32], &BINDING)));
    }

    #[test]
    fn lengths_that_allow_extension() {
        for (length, allows) in
            [(15, false), (16, true), (55, true), (56, false), (64, false), (4096, false), (80, true)]
        {
            assert_eq!(Key::new(vec![0; length]).allows_extension(), allows, "{length}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_everywhere() {
        // head -c 8 of: (printf 'fence_virt key fingerprint\0'; printf secret) | sha256sum
        assert_eq!(Key::new(b"secret".to_vec()).id().to_string(), "2301ffb4");
        assert_eq!(Key::new(vec![7; KEY_MAX]).id(), Key::new(vec![7; KEY_MAX + 1]).id());
        assert_ne!(Key::new(vec![7; KEY_MAX]).id(), Key::new(vec![7; KEY_MAX - 1]).id());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Key::new(vec![65; 9])), "Key(9 bytes)");
    }
}
