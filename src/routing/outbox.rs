//! Messages and actions that the router's caller has not fetched yet.

use std::collections::VecDeque;

use super::ids::JobId;
use super::vocabulary::RouterAction;
use crate::time::Instant;
use crate::wire::cluster::{ClusterMessage, RequestNumber};

/// Maximum number of waiting messages, advertisements not counted: more than all requests of other
/// nodes that are held.
const MESSAGES_MAX: usize = 32_768;
/// Number of waiting actions above which messages for the log are dropped.
const NOTES_MAX: usize = 1024;

/// Outgoing messages and actions, with the numbers that they carry.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    /// Messages with the time at which they expire.
    messages: VecDeque<(ClusterMessage, Option<Instant>)>,
    actions: VecDeque<RouterAction>,
    last_job: u64,
    last_number: RequestNumber,
}

impl Outbox {
    pub(super) fn new(first_number: RequestNumber) -> Outbox {
        let (messages, actions) = Default::default();
        Outbox { messages, actions, last_job: 0, last_number: first_number }
    }

    pub(super) fn send(&mut self, message: ClusterMessage) -> bool {
        self.send_until(message, None)
    }

    /// Queues a message; false if there is no room for it.
    pub(super) fn send_until(&mut self, message: ClusterMessage, expires: Option<Instant>) -> bool {
        let is_room = self.messages.len() < MESSAGES_MAX;
        if is_room {
            self.messages.push_back((message, expires));
        } else {
            self.note("dropping a message: corosync accepts none, and the queue is full".to_owned());
        }
        is_room
    }

    pub(super) fn next_message(&mut self) -> Option<(ClusterMessage, Option<Instant>)> {
        self.messages.pop_front()
    }

    pub(super) fn clear_messages(&mut self) {
        self.messages.clear();
    }

    pub(super) fn act(&mut self, action: RouterAction) {
        self.actions.push_back(action);
    }

    pub(super) fn note(&mut self, text: String) {
        self.act_for_log(RouterAction::Note(text));
    }

    /// Queues an action that is a line of the log, unless there are too many.
    pub(super) fn act_for_log(&mut self, line: RouterAction) {
        if self.actions.len() < NOTES_MAX {
            self.act(line);
        }
    }

    pub(super) fn next_action(&mut self) -> Option<RouterAction> {
        self.actions.pop_front()
    }

    pub(super) fn next_job(&mut self) -> JobId {
        self.last_job += 1;
        JobId(self.last_job)
    }

    pub(super) fn next_number(&mut self) -> RequestNumber {
        self.last_number = RequestNumber(self.last_number.0.wrapping_add(1).max(1));
        self.last_number
    }
}
