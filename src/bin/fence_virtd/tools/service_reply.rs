//! Queries of libvirt, corosync and pacemaker, which may hang, and their replies.

use std::thread::ScopedJoinHandle;
use std::time::Duration;

use fence_virt::sys::error_text;
use fence_virt::sys::with_timeout::with_timeout;

/// Time limit of each query. Queries run in parallel, so all of them together take no longer.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason for a missing reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoReply {
    /// An error, in the words of the service.
    Failed(String),
    /// Nothing within [`REPLY_TIMEOUT`].
    TimedOut,
}

/// Reply of one of them to a query.
pub(super) type ServiceReply<T> = Result<T, NoReply>;

/// Queries a URI. A query that exceeds [`REPLY_TIMEOUT`] is abandoned, and its thread ends with this process.
pub(super) fn bounded<T: Send + 'static>(
    uri: &str,
    query: impl FnOnce(&str) -> Result<T, String> + Send + 'static,
) -> ServiceReply<T> {
    let uri = uri.to_owned();
    match with_timeout(REPLY_TIMEOUT, move || query(&uri)) {
        Ok(Some(outcome)) => outcome.map_err(NoReply::Failed),
        Ok(None) => Err(NoReply::TimedOut),
        Err(error) => Err(NoReply::Failed(format!("cannot start a thread: {}", error_text(&error)))),
    }
}

/// Waits for the thread of a query that runs beside others.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, ServiceReply<T>>) -> ServiceReply<T> {
    thread.join().unwrap_or_else(|_| Err(NoReply::Failed("its thread panicked".to_owned())))
}
