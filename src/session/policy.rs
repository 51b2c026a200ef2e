use super::misconduct::Misconduct;
use crate::auth::{Challenge, ChallengeRefusal, Digest, HashKind, Key};
use crate::wire::{PACKET_LEN, Packet};

/// What a listener asks of its clients, and what an agent signs with.
#[derive(Debug)]
pub struct Policy {
    /// The weakest signature that is taken; of an agent: the one that it makes.
    pub hash: HashKind,
    /// How challenges are answered, both ways; none skips them.
    pub auth: HashKind,
    /// The shared key.
    pub key: Key,
    /// The key before it, taken too while keys are being changed.
    pub old_key: Option<Key>,
}

/// One of the keys of a [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichKey {
    /// The present one.
    Present,
    /// The one before it.
    Old,
}

/// A request that is signed well enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPacket {
    /// The request.
    pub packet: Packet,
    /// The key that it is signed with; the present one if it is not signed.
    pub key: WhichKey,
}

impl Policy {
    /// Takes the 176 bytes of a request if they are signed well enough.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] says what is wrong with them.
    pub fn check(&self, bytes: &[u8; PACKET_LEN]) -> Result<CheckedPacket, Misconduct> {
        let packet = Packet::decode(bytes).map_err(Misconduct::Packet)?;
        if packet.hash < self.hash {
            return Err(Misconduct::WeakHash { sent: packet.hash, wanted: self.hash });
        }
        let keys = [(WhichKey::Present, Some(&self.key)), (WhichKey::Old, self.old_key.as_ref())];
        let signer = keys.into_iter().find(|(_, key)| key.is_some_and(|key| packet.is_signed_by(bytes, key)));
        match signer {
            Some((key, _)) => Ok(CheckedPacket { packet, key }),
            None => Err(Misconduct::Signature(packet.hash)),
        }
    }

    pub(super) fn key(&self, which: WhichKey) -> &Key {
        match (which, &self.old_key) {
            (WhichKey::Old, Some(key)) => key,
            _ => &self.key,
        }
    }

    /// Answers a challenge with one key, if neither has made it.
    pub(super) fn answer_with(
        &self,
        which: WhichKey,
        challenge: &Challenge,
    ) -> Result<Digest, ChallengeRefusal> {
        let other = match which {
            WhichKey::Present => self.old_key.as_ref(),
            WhichKey::Old => Some(&self.key),
        };
        match other.is_some_and(|key| key.issued(challenge)) {
            true => Err(ChallengeRefusal::Reflected),
            false => self.key(which).answer(self.auth, challenge),
        }
    }
}
