//! Line of the log about the answer to a request.

use std::fmt::Display;

use log::{Level, log};

use super::limiter::Suppressed;
use fence_virt::fence::{Answer, Operation, Verdict};

/// Answer to a request of a client or of another host: who asked where, for what, and with which result.
pub(crate) struct AnswerLine<'a> {
    /// Listener, or backend, that received the request.
    pub(crate) listener: &'a dyn Display,
    /// Requester.
    pub(crate) source: &'a dyn Display,
    pub(crate) operation: Operation,
    /// Name or UUID of the VM, as requested; empty if the operation needs none.
    pub(crate) domain: &'a str,
    pub(crate) answer: &'a Answer,
    /// Reason, with what else is to be said.
    pub(crate) reason: &'a dyn Display,
    /// Milliseconds since the request was received.
    pub(crate) millis: u64,
    pub(crate) suppressed: u64,
}

impl AnswerLine<'_> {
    /// Writes the line: a warning for a failure.
    pub(crate) fn log(&self) {
        let level = match self.answer {
            Answer::Verdict(Verdict::Failure | Verdict::Denied) => Level::Warn,
            _ => Level::Info,
        };
        let AnswerLine { listener, source, operation, domain, answer, reason, millis, .. } = self;
        let quoted = if operation.names_a_domain() { format!(" {domain:?}") } else { String::new() };
        let suppressed = Suppressed(self.suppressed);
        log!(
            level,
            listener:% = listener,
            source:% = source,
            operation:% = operation,
            domain,
            verdict = answer.word(),
            reason:% = reason,
            milliseconds = *millis;
            "{listener}: {source}: {operation}{quoted}: {answer}: {reason}: {millis} ms{suppressed}"
        );
    }
}
