use std::collections::VecDeque;
use std::time::Instant;

use crate::wire::cluster::ClusterMessage;

/// How many messages may wait for corosync, beside what is told of VMs: more
/// than all requests of other nodes that are held.
const WAITING_MAX: usize = 32_768;

/// What goes to the group before all that is told of VMs.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<(ClusterMessage, Option<Instant>)>);

impl Outbox {
    /// Puts a message at the end; false if there is no room for it.
    pub(super) fn push(&mut self, message: ClusterMessage, expires: Option<Instant>) -> bool {
        let is_room = self.0.len() < WAITING_MAX;
        if is_room {
            self.0.push_back((message, expires));
        }
        is_room
    }

    pub(super) fn pop(&mut self) -> Option<(ClusterMessage, Option<Instant>)> {
        self.0.pop_front()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
