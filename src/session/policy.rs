use std::sync::Arc;

use super::misconduct::Misconduct;
use crate::auth::{
    Challenge, ChallengeRefusal, Digest, HashKind, Key, KeyId, KeyRing, MacKeys, Transcript, VmKey,
};
use crate::fence::{Endpoint, Identity, KeyHolder, SignatureKind};
use crate::wire::{PACKET_LEN, Packet, Signature};

/// Hash, auth and keys: what a listener requires, or what an agent signs with.
#[derive(Debug)]
pub struct Policy {
    /// Minimum of a request's signature; for an agent, what it signs with.
    pub hash: SignatureKind,
    /// Hash of the challenges of version 1 in both directions; none skips them.
    pub auth: HashKind,
    /// Shared key; empty if there is none.
    pub key: Key,
    /// Previous key, accepted as well during a key change.
    pub old_key: Option<Key>,
    /// Keys of single VMs, for version 2.
    pub vm_keys: Arc<KeyRing>,
    /// Listener that requests are for, in version 2.
    pub endpoint: Endpoint,
}

/// Key of a [`Policy`] that is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichKey {
    /// Current key.
    Current,
    /// Previous key.
    Old,
}

/// Key that has signed a request.
#[derive(Debug, Clone)]
pub enum Signer {
    /// In version 1: a shared key; the current one if the request is not signed.
    Shared(WhichKey),
    /// In version 2: any key.
    Mac {
        /// Keys that are derived from it.
        keys: Arc<MacKeys>,
        /// VM that has it; none if it is shared.
        holder: Option<Arc<KeyHolder>>,
    },
}

/// Request with a sufficient signature.
#[derive(Debug, Clone)]
pub struct CheckedPacket {
    /// Request.
    pub packet: Packet,
    /// Key of the signature.
    pub signer: Signer,
    /// Request as received, to be checked again after a reload.
    pub bytes: [u8; PACKET_LEN],
}

impl CheckedPacket {
    /// Identity of the request. Those with different keys are never the same in version 2.
    pub fn identity(&self) -> Identity {
        let identity = self.packet.request.identity();
        match &self.signer {
            Signer::Shared(_) => identity,
            Signer::Mac { keys, .. } => identity.signed_with(keys.id()),
        }
    }

    /// VM that has signed it with a key of its own.
    pub fn holder(&self) -> Option<&Arc<KeyHolder>> {
        match &self.signer {
            Signer::Shared(_) => None,
            Signer::Mac { holder, .. } => holder.as_ref(),
        }
    }
}

impl Policy {
    /// Makes a policy without keys of single VMs.
    pub fn new(hash: impl Into<SignatureKind>, auth: HashKind, key: Key, endpoint: Endpoint) -> Policy {
        Policy { hash: hash.into(), auth, key, old_key: None, vm_keys: Arc::default(), endpoint }
    }

    /// Makes the policy of a listener that takes no request: it has no key, and wants one.
    pub fn closed(endpoint: Endpoint) -> Policy {
        Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, Key::new(Vec::new()), endpoint)
    }

    /// Decodes the 176 bytes of a request and checks its signature.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] if they are malformed or their signature is not sufficient.
    pub fn check(&self, bytes: &[u8; PACKET_LEN]) -> Result<CheckedPacket, Misconduct> {
        let packet = Packet::decode(bytes).map_err(Misconduct::Packet)?;
        let sent = packet.signature.kind();
        if sent < self.hash {
            return Err(Misconduct::WeakHash { sent, wanted: self.hash });
        }
        let signer = match packet.signature {
            Signature::Digest { .. } => {
                let keys = [(WhichKey::Current, Some(&self.key)), (WhichKey::Old, self.old_key.as_ref())];
                let is_signer = |key: Option<&Key>| key.is_some_and(|key| packet.is_signed_by(bytes, key));
                let signer = keys.into_iter().find(|(_, key)| is_signer(*key));
                Signer::Shared(signer.ok_or(Misconduct::Signature(sent))?.0)
            }
            Signature::Mac { key, .. } => {
                let (keys, holder) = self.find(key).ok_or(Misconduct::UnknownKey(key))?;
                if !keys.has_signed(self.endpoint, bytes) {
                    return Err(Misconduct::Mac(key));
                }
                Signer::Mac { keys, holder }
            }
        };
        Ok(CheckedPacket { packet, signer, bytes: *bytes })
    }

    /// Finds a key for version 2.
    fn find(&self, id: KeyId) -> Option<(Arc<MacKeys>, Option<Arc<KeyHolder>>)> {
        if let Some(VmKey { holder, mac_keys }) = self.vm_keys.get(id) {
            return Some((mac_keys.clone(), Some(holder.clone())));
        }
        // Everybody knows the empty key, which stands for none.
        let shared = [Some(&self.key), self.old_key.as_ref()].into_iter().flatten();
        let key = shared.filter(|key| !key.is_empty()).find(|key| key.id() == id)?;
        Some((key.mac_keys().clone(), None))
    }

    /// Encodes and signs an agent's request.
    pub fn sign(&self, packet: &Packet) -> [u8; PACKET_LEN] {
        let mut bytes = packet.encode_signed(&self.key);
        if let Signature::Mac { .. } = packet.signature {
            self.key.mac_keys().sign(self.endpoint, &mut bytes);
        }
        bytes
    }

    /// Begins the transcript of an agent's exchange about this signed request.
    pub(super) fn transcript(&self, request: &[u8; PACKET_LEN]) -> Transcript {
        Transcript::new(self.key.mac_keys().clone(), request)
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
