//! A daemon in the group: what it is, and how far it has told its VMs.

use super::ids::Sequence;
use super::limits::TELL_LIMIT;
use crate::time::Instant;

/// A daemon in the group. A node has two while one replaces the other.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) since: Instant,
    /// Position at which it joined.
    pub(super) joined_at: Sequence,
    /// Extended peer, of this suite: says hello, advertises changes, looks at targets. Others are legacy
    /// peers: C daemons.
    pub(super) is_extended: bool,
    /// Has begun to advertise all its VMs since it joined; not all members received earlier advertisements.
    has_begun: bool,
    pub(super) has_advertised_all: bool,
    /// Position at which it began to advertise all its VMs, while it does.
    round_began: Option<Sequence>,
    /// Position at which it began the last time that it advertised all its VMs; the start before that.
    pub(super) told_since: Sequence,
    /// Time until which it may still be advertising its VMs; none if it has advertised all.
    pub(super) advertising_until: Option<Instant>,
    /// Time of its last advertisement since it joined.
    pub(super) advertised_at: Option<Instant>,
}

impl Process {
    pub(super) fn new(joined_at: Sequence, now: Instant) -> Process {
        Process {
            since: now,
            joined_at,
            is_extended: false,
            has_begun: false,
            has_advertised_all: false,
            round_began: None,
            told_since: Sequence::START,
            advertising_until: Some(now + TELL_LIMIT),
            advertised_at: None,
        }
    }

    /// Applies its hello, which may report that it has advertised all its VMs; returns true if that is a
    /// change. `seq` is the current position.
    pub(super) fn hello(&mut self, is_complete: bool, seq: Sequence) -> bool {
        if !is_complete {
            self.round_began = Some(seq);
        } else if let Some(began) = self.round_began.take() {
            self.told_since = began;
        }
        let was_extended = std::mem::replace(&mut self.is_extended, true);
        if !is_complete {
            self.has_begun = true;
        } else if self.has_begun && !self.has_advertised_all {
            self.has_advertised_all = true;
            self.advertising_until = None;
            return true;
        }
        !was_extended
    }

    /// Returns true if it has advertised all its VMs since it joined. C daemons do not report that, and
    /// those without VMs advertise nothing.
    pub(super) fn has_advertised(&self) -> bool {
        self.advertising_until.is_none() && (self.has_advertised_all || !self.is_extended)
    }
}
