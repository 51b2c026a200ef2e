//! Proofs that callers live whose requests another host carries out: the arbiter rules on each as if its operation
//! began here, and it is over when it may begin.

use std::collections::BTreeMap;

use crate::caller::Caller;
use fence_virt::arbiter::OperationId;
use fence_virt::routing::CallerQuestion;
use fence_virt::time::Instant;

/// Proofs under way, and those that have ended.
#[derive(Default)]
pub(super) struct Proofs {
    waiting: BTreeMap<OperationId, CallerProof>,
    ended: Vec<(CallerQuestion, bool)>,
}

/// Proof that is under way.
struct CallerProof {
    question: CallerQuestion,
    caller: Caller,
    /// Time from which nobody waits for it.
    expires: Instant,
}

impl Proofs {
    /// Notes a proof that waits for the rulings on an operation.
    pub(super) fn begin(
        &mut self,
        operation: OperationId,
        question: CallerQuestion,
        caller: Caller,
        expires: Instant,
    ) {
        self.waiting.insert(operation, CallerProof { question, caller, expires });
    }

    /// Takes the proofs that have ended: true if the caller lives.
    pub(super) fn take_ended(&mut self) -> Vec<(CallerQuestion, bool)> {
        std::mem::take(&mut self.ended)
    }

    /// Returns the caller that an operation is the proof of.
    pub(super) fn caller(&self, operation: OperationId) -> Option<&Caller> {
        self.waiting.get(&operation).map(|proof| &proof.caller)
    }

    /// Ends a proof; false if the operation is none.
    pub(super) fn end(&mut self, operation: OperationId, lives: bool) -> bool {
        let Some(CallerProof { question, .. }) = self.waiting.remove(&operation) else { return false };
        self.ended.push((question, lives));
        true
    }

    /// Returns the proofs that nobody waits for any more.
    pub(super) fn expired(&self, now: Instant) -> Vec<OperationId> {
        let expired = self.waiting.iter().filter(|(_, proof)| now >= proof.expires);
        expired.map(|(&operation, _)| operation).collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|proof| proof.expires).min()
    }
}
