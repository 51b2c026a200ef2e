//! A daemon in the group: what it is, and how far it has told its VMs.

use std::time::Duration;

use super::ids::Sequence;
use super::limits::TELL_LIMIT;
use crate::time::Instant;

/// Time after its last advertisement in which a C daemon has advertised all its VMs, if it does at all.
pub(super) const ALL_TOLD_AFTER: Duration = Duration::from_secs(1);

/// Time in which one of this suite has said hello, in a group that is not busy. One that takes longer is told all
/// VMs, as C daemons are.
const GREETING_TIME: Duration = Duration::from_millis(100);

/// A daemon in the group. A node has two while one replaces the other.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) since: Instant,
    /// Position at which it joined.
    pub(super) joined_at: Sequence,
    /// Extended peer, of this suite: says hello, advertises changes, looks at targets. Others are legacy
    /// peers: C daemons.
    pub(super) is_extended: bool,
    /// Position of its last hello.
    pub(super) hello_at: Sequence,
    pub(super) has_advertised_all: bool,
    /// Position at which it began to advertise all its VMs, while it does.
    round_began: Option<Sequence>,
    /// Position at which it began the last time that it advertised all its VMs; the start before that.
    pub(super) told_since: Sequence,
    /// Time until which it may still be advertising its VMs; none if it has advertised all.
    pub(super) advertising_until: Option<Instant>,
    /// Time of its last advertisement since it joined.
    pub(super) advertised_at: Option<Instant>,
    /// It has VMs, by what a member says.
    pub(super) must_tell: bool,
    /// It did not say hello in time, and was told all VMs for that.
    is_taken_as_legacy: bool,
    /// Of a C daemon: its advertisements since it joined have been taken as complete.
    is_taken_as_complete: bool,
}

impl Process {
    pub(super) fn new(joined_at: Sequence, now: Instant) -> Process {
        Process {
            since: now,
            joined_at,
            is_extended: false,
            hello_at: Sequence::START,
            has_advertised_all: false,
            round_began: None,
            told_since: Sequence::START,
            advertising_until: Some(now + TELL_LIMIT),
            advertised_at: None,
            must_tell: false,
            is_taken_as_legacy: false,
            is_taken_as_complete: false,
        }
    }

    /// Applies its hello, which may report that it has advertised all its VMs; returns true if that is a
    /// change. `seq` is the current position.
    pub(super) fn hello(&mut self, is_complete: bool, seq: Sequence) -> bool {
        self.hello_at = seq;
        if !is_complete {
            self.round_began = Some(seq);
        }
        let was_extended = std::mem::replace(&mut self.is_extended, true);
        // One that has begun before this node joined, or ended with an unknown digest, is not complete.
        let Some(began) = self.round_began.take_if(|_| is_complete) else { return !was_extended };
        self.told_since = began;
        let is_first = !std::mem::replace(&mut self.has_advertised_all, true);
        if is_first {
            self.advertising_until = None;
        }
        is_first || !was_extended
    }

    /// Ends what it tells without all having been told.
    pub(super) fn end_round(&mut self) {
        self.round_began = None;
    }

    pub(super) fn is_telling(&self) -> bool {
        self.round_began.is_some()
    }

    /// Returns the time at which it is taken for a C daemon: if it tells a VM before it says hello, then.
    pub(super) fn legacy_at(&self) -> Option<Instant> {
        let is_open = !self.is_extended && !self.is_taken_as_legacy;
        is_open.then(|| self.advertised_at.unwrap_or(self.since + GREETING_TIME))
    }

    /// Takes it for a C daemon if it is time; returns true if it does.
    pub(super) fn take_as_legacy(&mut self, now: Instant) -> bool {
        let is_legacy = self.legacy_at().is_some_and(|at| now >= at);
        self.is_taken_as_legacy |= is_legacy;
        is_legacy
    }

    pub(super) fn is_known_legacy(&self) -> bool {
        self.is_taken_as_legacy && !self.is_extended
    }

    /// Returns the time from which its advertisements count as complete, if that is a C daemon that has
    /// advertised any and they do not count yet.
    pub(super) fn complete_at(&self) -> Option<Instant> {
        let is_open = !self.is_extended && !self.is_taken_as_complete && self.advertising_until.is_none();
        self.advertised_at.filter(|_| is_open).map(|at| at + ALL_TOLD_AFTER)
    }

    /// Takes the advertisements of a C daemon as complete if it is time; returns true if it does.
    pub(super) fn take_as_complete(&mut self, now: Instant) -> bool {
        let is_complete = self.complete_at().is_some_and(|at| now >= at);
        self.is_taken_as_complete |= is_complete;
        is_complete
    }

    /// Returns true if it has advertised all its VMs since it joined. C daemons do not report that, and
    /// those without VMs advertise nothing.
    pub(super) fn has_advertised(&self) -> bool {
        let has_told = if self.is_extended { self.has_advertised_all } else { !self.owes_vms() };
        self.advertising_until.is_none() && has_told
    }

    /// Returns true for a C daemon that has VMs, and has advertised none.
    pub(super) fn owes_vms(&self) -> bool {
        self.must_tell && !self.is_extended && self.advertised_at.is_none()
    }
}
