//! Hellos of members to one that has joined.

use std::time::Duration;

use super::ids::Sequence;
use crate::time::Instant;

/// Time in which members say hello to one that has joined. The joining one waits for longer before it takes one
/// that says nothing for a C daemon without VMs.
const HELLO_TIME: Duration = Duration::from_secs(1);

/// Hellos to members that have joined.
#[derive(Debug, Clone, Default)]
pub(super) struct Greetings {
    /// Time at which all have said hello unless they hang, and position of the last join.
    due: Option<(Instant, Sequence)>,
}

impl Greetings {
    /// Awaits hellos since this position.
    pub(super) fn awaits(&mut self, since: Sequence, now: Instant) {
        let at = self.due.map_or(now + HELLO_TIME, |(at, _)| at);
        self.due = Some((at, since));
    }

    /// Returns the position of the last join, if all have said hello since, unless they hang.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Sequence> {
        self.due.take_if(|(at, _)| now >= *at).map(|(_, since)| since)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }
}
