use super::misconduct::Misconduct;
use crate::auth::{Challenge, ChallengeRefusal, Digest, HashKind, Key};
use crate::wire::{PACKET_LEN, Packet};

/// Hash, auth and keys: what a listener requires, or what an agent signs with.
#[derive(Debug)]
pub struct Policy {
    /// Minimum hash of a signature; for an agent, the hash it signs with.
    pub hash: HashKind,
    /// Hash of the challenges in both directions; none skips them.
    pub auth: HashKind,
    /// Shared key.
    pub key: Key,
    /// Previous key, accepted as well during a key change.
    pub old_key: Option<Key>,
}

/// Key of a [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichKey {
    /// Current key.
    Current,
    /// Previous key.
    Old,
}

/// Request with a sufficient signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPacket {
    /// Request.
    pub packet: Packet,
    /// Key of the signature; the current one if it is not signed.
    pub key: WhichKey,
    /// Request as received, to be checked again after a reload.
    pub bytes: [u8; PACKET_LEN],
}

impl Policy {
    /// Decodes the 176 bytes of a request and checks its signature.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] if they are malformed or their signature is not sufficient.
    pub fn check(&self, bytes: &[u8; PACKET_LEN]) -> Result<CheckedPacket, Misconduct> {
        let packet = Packet::decode(bytes).map_err(Misconduct::Packet)?;
        if packet.hash < self.hash {
            return Err(Misconduct::WeakHash { sent: packet.hash, wanted: self.hash });
        }
        let keys = [(WhichKey::Current, Some(&self.key)), (WhichKey::Old, self.old_key.as_ref())];
        let signer = keys.into_iter().find(|(_, key)| key.is_some_and(|key| packet.is_signed_by(bytes, key)));
        let key = signer.ok_or(Misconduct::Signature(packet.hash))?.0;
        Ok(CheckedPacket { packet, key, bytes: *bytes })
    }

    pub(super) fn key(&self, which: WhichKey) -> &Key {
        match (which, &self.old_key) {
            (WhichKey::Old, Some(key)) => key,
            _ => &self.key,
        }
    }

    /// Returns true if this key is one of the policy's.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.key.is_same(key) || self.old_key.as_ref().is_some_and(|old| old.is_same(key))
    }

    /// Answers a challenge with one key, unless it was issued with either.
    pub(super) fn answer(&self, which: WhichKey, challenge: &Challenge) -> Result<Digest, ChallengeRefusal> {
        let other = match which {
            WhichKey::Current => self.old_key.as_ref(),
            WhichKey::Old => Some(&self.key),
        };
        if other.is_some_and(|key| key.issued(challenge)) {
            return Err(ChallengeRefusal::Reflected);
        }
        self.key(which).answer(self.auth, challenge)
    }
}
