//! Line of the log about a request or a connection that is refused.

use std::fmt::Display;

use log::warn;

use super::limiter::Suppressed;
use fence_virt::fence::Operation;

/// Refusal of a connection, or of a request: no answer but a failure follows.
pub(crate) struct RefusalLine<'a> {
    /// Listener that refuses it.
    pub(crate) listener: &'a dyn Display,
    /// Requester, or sender of a datagram; none if it is not known.
    pub(crate) source: Option<&'a dyn Display>,
    /// Operation and VM of the request; none if no authentic request has been read.
    pub(crate) request: Option<(Operation, &'a str)>,
    /// Kind of the refusal, as a status report counts it.
    pub(crate) refusal: &'static str,
    pub(crate) reason: &'a dyn Display,
    pub(crate) suppressed: u64,
}

impl RefusalLine<'_> {
    /// Writes the line, a warning. Its verdict is `refused`.
    pub(crate) fn log(&self) {
        let RefusalLine { listener, refusal, reason, .. } = self;
        let source = self.source.map_or("unknown".to_owned(), |source| source.to_string());
        let prefix = self.source.map_or(String::new(), |source| format!("{source}: "));
        let suppressed = Suppressed(self.suppressed);
        let Some((operation, domain)) = self.request else {
            return warn!(
                listener:% = listener,
                source = source.as_str(),
                verdict = "refused",
                refusal,
                reason:% = reason;
                "{listener}: {prefix}{reason}{suppressed}"
            );
        };
        let quoted = if operation.names_a_domain() { format!(" {domain:?}") } else { String::new() };
        warn!(
            listener:% = listener,
            source = source.as_str(),
            operation:% = operation,
            domain,
            verdict = "refused",
            refusal,
            reason:% = reason;
            "{listener}: {prefix}{operation}{quoted}: {reason}{suppressed}"
        );
    }
}
