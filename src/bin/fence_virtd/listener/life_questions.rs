//! Questions of the worker whether clients live, until they are answered.

use std::time::Duration;

use super::liveness::SignOfLife;
use crate::caller::LifeQuestion;
use fence_virt::time::Instant;

/// Time within which a client must give a sign of life: its question is answered with none after that.
const SIGN_LIMIT: Duration = Duration::from_secs(3);

/// Interval at which signs are looked for.
const INTERVAL: Duration = Duration::from_millis(20);

/// Question about the client of a connection.
struct PendingQuestion<Id> {
    client: Id,
    question: LifeQuestion,
    deadline: Instant,
    /// Reply that its receiver had no room for.
    undelivered: Option<Option<Instant>>,
}

/// Questions of a listener that are not answered yet. Those that are dropped are answered with none.
pub(super) struct LifeQuestions<Id> {
    pending: Vec<PendingQuestion<Id>>,
}

impl<Id> Default for LifeQuestions<Id> {
    fn default() -> LifeQuestions<Id> {
        LifeQuestions { pending: Vec::new() }
    }
}

impl<Id: Copy> LifeQuestions<Id> {
    /// Adds a question, which `answer` answers in this turn or a later one.
    pub(super) fn add(&mut self, client: Id, question: LifeQuestion, now: Instant) {
        let deadline = now.max(question.after()) + SIGN_LIMIT;
        self.pending.push(PendingQuestion { client, question, deadline, undelivered: None });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Time of the next `answer`, in a turn that begins at `now`: none while there are no questions.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.question.after().max(now + INTERVAL)).min()
    }

    /// Answers the questions that can be: `sign_of` seeks a sign of life of a client after a time.
    pub(super) fn answer(&mut self, now: Instant, mut sign_of: impl FnMut(Id, Instant) -> SignOfLife) {
        self.pending.retain_mut(|PendingQuestion { client, question, deadline, undelivered }| {
            let reply = undelivered.or_else(|| match sign_of(*client, question.after()) {
                SignOfLife::Seen(at) => Some(Some(at)),
                SignOfLife::HungUp => Some(None),
                SignOfLife::Awaited => (now >= *deadline).then_some(None),
            });
            *undelivered = reply;
            !reply.is_some_and(|reply| question.answer(reply))
        });
    }
}
