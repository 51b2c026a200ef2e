//! Replies of libvirt, corosync and pacemaker.

use std::time::Duration;

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
