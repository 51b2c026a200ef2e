//! Time limits.

use std::time::Duration;

/// Age at which a client's request is answered, with failure if need be: 2 s before the agents'
/// default timeout.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(28);
/// Age of a client's request until which corosync may accept a message that asks another node.
pub const SEND_LIMIT: Duration = Duration::from_secs(7);
/// Age of another node's request, counted from its delivery, until which a VM may be destroyed for it.
/// The rest of [`ANSWER_LIMIT`], after which the requester has given up, is for the delivery: when a
/// node is lost, corosync delivers nothing during its token and consensus timeouts, together 8 s with
/// three nodes and its defaults (corosync.conf(5)).
pub const SERVE_LIMIT: Duration = Duration::from_secs(13);
/// Time in which a member advertises its VMs after it or this node has joined.
pub const TELL_LIMIT: Duration = Duration::from_secs(5);
/// Time in which C daemons advertise their VMs when asked for a VM that nobody knows.
pub const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Time in which all members advertise all their VMs when asked to.
pub const TOLD_LIMIT: Duration = Duration::from_secs(4);
/// Interval at which all VMs are advertised although nothing has changed.
pub const RESYNC_EVERY: Duration = Duration::from_secs(300);
/// Time after which a VM that is gone from its node no longer has its name: two intervals of
/// [`RESYNC_EVERY`], in which all members have advertised it if it moved to one of them. Then it is
/// forgotten, once all members have advertised all their VMs since it went.
pub const GONE_LIMIT: Duration = Duration::from_secs(600);
/// Time within which corosync has to accept the notice that a host was fenced. After that it is made anew if
/// it still holds: the host may be back.
pub(super) const NOTICE_LIMIT: Duration = Duration::from_secs(2);
/// Interval at which a request is reviewed while it waits for something that no event reports.
pub(super) const RECHECK_EVERY: Duration = Duration::from_millis(250);
