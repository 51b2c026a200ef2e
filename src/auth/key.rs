use std::fmt;
use std::hint::black_box;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::challenge::{NONCE_LEN, TAG_LEN};
use super::hash::{Digest, Keyed};
use super::{Challenge, ChallengeRefusal, HashKind};
use crate::wire::{Binding, PacketHead};

/// Bytes of a key file that count; the rest of a longer file is not read (as the C suite does).
pub const KEY_MAX: usize = 4096;

/// The key that a daemon and its clients share, as the hash functions that
/// have taken it in. Wiped when dropped.
pub struct Key {
    length: usize,
    secret: Box<Secret>,
}

/// What stands for the key's bytes. Boxed, so that it stays in one place.
struct Secret {
    keyed: Keyed,
    tagging: Hmac<Sha256>,
}

impl Secret {
    fn new(key: &[u8]) -> Secret {
        // HMAC takes keys of any length, so the error of its constructor does not occur.
        let tagging = <Hmac<Sha256> as Mac>::new_from_slice(key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Secret { keyed: Keyed::new(key), tagging }
    }
}

impl Key {
    /// Takes the content of a key file; only its first [`KEY_MAX`] bytes
    /// count. An empty key serves where neither hash nor auth is asked for.
    pub fn new(mut bytes: Vec<u8>) -> Key {
        let key = &bytes[..bytes.len().min(KEY_MAX)];
        let key = Key { length: key.len(), secret: Box::new(Secret::new(key)) };
        wipe(&mut bytes);
        key
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the answer to a challenge could be continued into a signed
    /// request with a key of this length: the padding of key ‖ challenge must
    /// end inside the 112 bytes of a request before its hash field. True for
    /// lengths that leave 16 to 55 modulo 64.
    pub fn allows_extension(&self) -> bool {
        (16..=55).contains(&(self.length % 64))
    }

    /// Signs bytes: H(key ‖ bytes).
    pub fn sign(&self, kind: HashKind, bytes: &[u8]) -> Digest {
        self.secret.keyed.digest(kind, bytes)
    }

    /// Answers a challenge of the other side.
    ///
    /// # Errors
    ///
    /// [`ChallengeRefusal`] if the answer could be put to a use that its requester should not have.
    pub fn answer(&self, kind: HashKind, challenge: &Challenge) -> Result<Digest, ChallengeRefusal> {
        if self.issued(challenge) {
            return Err(ChallengeRefusal::Reflected);
        }
        if PacketHead::is_plausible(challenge) {
            return Err(ChallengeRefusal::RequestHead);
        }
        Ok(self.expected(kind, challenge))
    }

    /// Answers a daemon's challenge, as a client that has seen the daemon's
    /// own answer does. `bindings` are the client's requests ([`Packet::binding`]),
    /// one of which the daemon has to mean.
    ///
    /// # Errors
    ///
    /// [`ChallengeRefusal::OtherRequest`] if a daemon of ours issued it for
    /// another request; C daemons do not say for which. And
    /// [`ChallengeRefusal::RequestHead`]: no daemon of ours issues such a
    /// challenge, and a C daemon one in 20 million.
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
        match self.issued(challenge) && !bindings.iter().any(fits) {
            true => Err(ChallengeRefusal::OtherRequest),
            false => Ok(self.expected(kind, challenge)),
        }
    }

    /// Whether a daemon of ours with this key issued a challenge.
    pub fn issued(&self, challenge: &Challenge) -> bool {
        let (nonce, tags) = challenge.split_at(NONCE_LEN);
        self.tag(nonce).verify_truncated_left(&tags[..TAG_LEN]).is_ok()
    }

    /// The answer that the other side owes to a challenge of ours.
    pub fn expected(&self, kind: HashKind, challenge: &Challenge) -> Digest {
        self.sign(kind, challenge)
    }

    /// Makes a challenge from 32 fresh random bytes, for the request with this
    /// binding. Its first bit is set, so that it never reads as the head of a
    /// request: a peer with the same guard as ours always answers it.
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

/// Overwrites a secret; `black_box` keeps the stores from being left out as dead.
fn wipe(secret: &mut [u8]) {
    secret.fill(0);
    black_box(secret);
}

impl Drop for Key {
    fn drop(&mut self) {
        // The hash functions have no wipe: those of an empty key take their place in memory.
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
        assert!(
            longer
                .expected(HashKind::Sha256, &[7; 64])
                .matches(key().expected(HashKind::Sha256, &[7; 64]).as_bytes())
        );
    }

    #[test]
    fn own_challenges_are_never_answered() {
        let key = key();
        let issued = key.issue([0; 32], &BINDING);
        assert_eq!(key.answer(HashKind::Sha256, &issued).unwrap_err(), ChallengeRefusal::Reflected);
        let other = Key::new(vec![1; 64]);
        assert!(other.answer(HashKind::Sha256, &issued).is_ok(), "opaque to others");
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
    fn a_client_answers_what_daemons_issue_but_no_request() {
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
    fn a_client_answers_no_challenge_that_was_issued_for_another_request() {
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
            assert_eq!(refusal, ChallengeRefusal::Reflected, "and a daemon knows its own by the first half");
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
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Key::new(vec![65; 9])), "Key(9 bytes)");
    }
}
