//! Client of a request, and the question whether it lives.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use fence_virt::fence::Source;
use fence_virt::time::Instant;

/// Receiver of the reply to a question; returns false if it has no room for it now.
type LifeReply = dyn FnMut(Option<Instant>) -> bool + Send;

/// Question to a listener for a sign of life of its client. One that is dropped is answered with none.
pub(crate) struct LifeQuestion {
    after: Instant,
    /// None once the reply is delivered.
    reply: Option<Box<LifeReply>>,
}

impl LifeQuestion {
    /// Time after which the sign must come.
    pub(crate) fn after(&self) -> Instant {
        self.after
    }

    /// Delivers the time of the sign, or none if there was none. Returns false if the receiver has no
    /// room: try again later.
    pub(crate) fn answer(&mut self, sign: Option<Instant>) -> bool {
        if self.reply.as_mut().is_some_and(|reply| !reply(sign)) {
            return false;
        }
        self.reply = None;
        true
    }
}

impl Drop for LifeQuestion {
    fn drop(&mut self) {
        // There is no later turn: a receiver without room gets no reply.
        self.answer(None);
    }
}

impl fmt::Debug for LifeQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LifeQuestion")
    }
}

/// Client of a request: its source, and the means to ask whether it lives.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) source: Source,
    /// Last time at which the client is known to have lived, when the request was dispatched.
    pub(crate) alive_at: Instant,
    /// Sender of questions to its listener.
    ask: Arc<dyn Fn(LifeQuestion) + Send + Sync>,
}

impl Caller {
    /// Makes a caller whose listener receives its questions through `ask`.
    pub(crate) fn new(
        source: Source,
        alive_at: Instant,
        ask: impl Fn(LifeQuestion) + Send + Sync + 'static,
    ) -> Caller {
        Caller { source, alive_at, ask: Arc::new(ask) }
    }

    /// Asks the listener for a sign of life that came after `after`, which may be yet to come.
    ///
    /// `reply` must not block. It receives the time of the sign, later than `after`; or none if the
    /// client has hung up, or has given no sign within 3 s, counted from `after` if that is yet to come.
    /// It is called from the listener's thread, again in later turns as long as it returns false. If
    /// the listener has ended, or ends, it is called once with none, perhaps from this thread.
    pub(crate) fn prove(&self, after: Instant, reply: impl FnMut(Option<Instant>) -> bool + Send + 'static) {
        (self.ask)(LifeQuestion { after, reply: Some(Box::new(reply)) });
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller {}", self.source)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Questions that callers have asked, for the test to answer.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Questions(Arc<Mutex<Vec<LifeQuestion>>>);

    impl Questions {
        /// Questions since the last call.
        pub(crate) fn take(&self) -> Vec<LifeQuestion> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    /// A caller without a listener.
    pub(crate) fn caller(source: Source, alive_at: Instant) -> (Caller, Questions) {
        let questions = Questions::default();
        let into = questions.clone();
        (Caller::new(source, alive_at, move |question| into.0.lock().unwrap().push(question)), questions)
    }

    #[test]
    fn a_reply_is_repeated_until_there_is_room_and_not_after_that() {
        let now = Instant::now();
        let (caller, questions) = caller(Source::Cid(3), now);
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        caller.prove(now, move |sign| {
            assert_eq!(sign, Some(now + Duration::from_secs(1)));
            count.fetch_add(1, Ordering::Relaxed) == 1
        });
        let mut question = questions.take().pop().unwrap();
        let sign = Some(question.after() + Duration::from_secs(1));
        assert!(!question.answer(sign));
        assert!(question.answer(sign));
        drop(question);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_question_that_is_dropped_is_answered_with_none() {
        let now = Instant::now();
        let (caller, questions) = caller(Source::Cid(3), now);
        let replies = Arc::new(Mutex::new(Vec::new()));
        let into = replies.clone();
        caller.prove(now, move |sign| {
            into.lock().unwrap().push(sign);
            true
        });
        assert_eq!(*replies.lock().unwrap(), []);
        drop(questions.take());
        assert_eq!(*replies.lock().unwrap(), [None]);
    }
}
