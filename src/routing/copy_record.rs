//! A copy of a VM on one node.

use super::ids::Sequence;
use super::vocabulary::Evidence;
use crate::fence::PowerState;
use crate::time::Instant;
use crate::wire::cluster::Advertisement;

/// Presence of a copy on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// On a member.
    Here,
    /// On a node whose daemon has left the group since it told the copy, and has not told it again.
    Away,
    /// No longer on the node, where it may have run; no other copy was seen to run since.
    Vanished,
    /// No longer on the node, where it ran until it was seen to end.
    Ended,
}

/// Cause of a copy being off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OffCause {
    /// Destroyed by a C daemon, according to its reply.
    Destroyed(Instant),
    /// Known: never advertised as running, seen to end, or seen to run elsewhere later.
    Known,
    /// Unknown; first advertised as off at this position.
    Stopped(Sequence),
}

/// A copy of a VM, as its node advertised it.
#[derive(Debug, Clone)]
pub(super) struct CopyRecord {
    pub(super) name: String,
    /// False if the name is another VM's by now, or the copy has been gone for long.
    pub(super) has_name: bool,
    pub(super) state: PowerState,
    pub(super) is_active: bool,
    /// Position of the last advertisement, or of its withdrawal.
    pub(super) seq: Sequence,
    /// Position of the last advertisement as running.
    pub(super) ran_at: Sequence,
    /// Position of the first advertisement as active since it last was not.
    pub(super) active_since: Sequence,
    /// All nodes ever seen were members when it was first advertised.
    pub(super) is_known_to_all: bool,
    pub(super) off_cause: OffCause,
    /// A C daemon has replied that it destroyed the copy.
    pub(super) is_destroyed: bool,
    /// It was destroyed and seen off, or its host was fenced, and its node has told nothing since.
    pub(super) has_ended: bool,
    /// Time at which it was first seen off since it ran last; none if it runs.
    pub(super) off_since: Option<Instant>,
    /// Time of the last advertisement, or of its withdrawal.
    pub(super) advertised_at: Instant,
    pub(super) presence: Presence,
}

impl CopyRecord {
    pub(super) fn advertised(
        vm: &Advertisement,
        before: Option<&CopyRecord>,
        seq: Sequence,
        now: Instant,
    ) -> CopyRecord {
        let (ran_at, off_cause) = match (vm.state, before) {
            (PowerState::Running, _) => (seq, OffCause::Known),
            (PowerState::Off, None) => (Sequence::START, OffCause::Known),
            (PowerState::Off, Some(copy)) if copy.is_destroyed => (copy.ran_at, OffCause::Destroyed(now)),
            (PowerState::Off, Some(copy)) if copy.has_ended => (copy.ran_at, OffCause::Known),
            (PowerState::Off, Some(copy)) if copy.runs() => (copy.ran_at, OffCause::Stopped(seq)),
            (PowerState::Off, Some(copy)) => (copy.ran_at, copy.off_cause),
        };
        let active_since = match before {
            Some(copy) if !vm.is_active || copy.has_started() => copy.active_since,
            _ if vm.is_active => seq,
            _ => Sequence::START,
        };
        let off_since = match (vm.state, before) {
            (PowerState::Running, _) => None,
            (PowerState::Off, Some(copy)) if copy.runs() && !copy.is_gone() => Some(now),
            (PowerState::Off, before) => before.and_then(|copy| copy.off_since).or(Some(now)),
        };
        CopyRecord {
            off_since,
            name: vm.domain.name.clone(),
            has_name: true,
            state: vm.state,
            is_active: vm.is_active,
            seq,
            ran_at,
            active_since,
            is_known_to_all: before.is_some_and(|copy| copy.is_known_to_all),
            off_cause,
            is_destroyed: false,
            has_ended: false,
            advertised_at: now,
            presence: Presence::Here,
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.state == PowerState::Running
    }

    /// Returns the position at which it was first advertised as off, if nobody has said why: it may have moved away.
    pub(super) fn stopped_at(&self) -> Option<Sequence> {
        match self.off_cause {
            OffCause::Stopped(at) if !self.runs() => Some(at),
            _ => None,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    /// Returns true if its node has left the group since it told it.
    pub(super) fn is_away(&self) -> bool {
        self.presence == Presence::Away
    }

    /// Returns true if it is no longer on its node.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.presence, Presence::Vanished | Presence::Ended)
    }

    /// Returns what the success of a C daemon's off or reboot shows: between the request and the reply, it has told
    /// what it was about to destroy.
    pub(super) fn evidence_of_end(&self) -> Evidence {
        match (self.state, self.is_active) {
            (PowerState::Running, true) => Evidence::Ended,
            // Paused, perhaps by a migration.
            (PowerState::Running, false) => Evidence::EndedWhileMigrating,
            (PowerState::Off, _) => Evidence::None,
        }
    }

    pub(super) fn has_started(&self) -> bool {
        self.is_active && !self.is_gone()
    }
}
