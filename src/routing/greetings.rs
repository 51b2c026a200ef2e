//! Hellos of members to one that has joined.

use std::time::Duration;

use super::ids::Sequence;
use crate::time::Instant;

/// Time in which members say hello to one that has joined. The joining one waits for longer before it takes one
/// that says nothing for a C daemon without VMs.
const HELLO_TIME: Duration = Duration::from_secs(1);

/// Hellos of members to those that have joined.
#[derive(Debug, Clone, Default)]
pub(super) struct Greetings {
    due: Option<Greeting>,
}

/// Hellos that are awaited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greeting {
    /// Time at which all have said hello unless they hang: [`HELLO_TIME`] after the first join.
    at: Instant,
    /// Position before the first join.
    pub(super) before: Sequence,
    /// Position after the last join.
    pub(super) since: Sequence,
}

impl Greetings {
    /// Awaits hellos to who has joined between these positions.
    pub(super) fn awaits(&mut self, before: Sequence, since: Sequence, now: Instant) {
        let due = self.due.get_or_insert(Greeting { at: now + HELLO_TIME, before, since });
        due.since = since;
    }

    /// Returns the hellos that should have been heard by now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Greeting> {
        self.due.take_if(|due| now >= due.at)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.map(|due| due.at)
    }
}
