//! corosync's nodelist, as far as the worker knows it.

use std::time::Duration;

use log::{trace, warn};

use super::group_member::GroupMember;
use super::shared::GroupEvent;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Interval between reads: corosync's configuration may be reloaded, which no event tells.
pub(super) const REREAD: Duration = Duration::from_secs(60);
/// Interval between attempts, while corosync is busy.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Reader of the nodelist of one membership.
#[derive(Debug, Default)]
pub(super) struct NodelistReader {
    /// Nodes that were reported last; none if nothing was.
    reported: Option<Option<Vec<NodeId>>>,
    /// Time of the next read; at once if there was none.
    due: Option<Instant>,
    has_warned: bool,
}

impl NodelistReader {
    /// Makes the next turn read the nodelist.
    pub(super) fn expire(&mut self) {
        self.due = None;
    }

    /// Reads the nodelist if that is due, and returns what has changed.
    pub(super) fn read(&mut self, member: &mut impl GroupMember, now: Instant) -> Option<GroupEvent> {
        if self.due.is_some_and(|at| now < at) {
            return None;
        }
        self.due = Some(now + REREAD);
        let nodes = match member.configured_nodes() {
            Ok(nodes) => nodes,
            Err(error) if error.is_temporary() => {
                self.due = Some(now + RETRY);
                return None;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    warn!("cpg: cannot read corosync's nodelist: {error}");
                }
                None
            }
        };
        if self.reported.as_ref() == Some(&nodes) {
            return None;
        }
        trace!("cpg: nodes of corosync's nodelist: {nodes:?}");
        self.reported = Some(nodes.clone());
        Some(GroupEvent::Configured(nodes))
    }
}
