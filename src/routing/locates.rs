//! Queries of this node whether any member has a VM.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::ids::Sequence;
use super::limits::{PROBE_LIMIT, TOLD_LIMIT};
use crate::time::Instant;
use crate::wire::cluster::{NodeId, RequestNumber};

/// Interval after which all members may be asked again for a VM.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Time for which a query is remembered.
const KEPT: Duration = Duration::from_secs(60);
/// Maximum number of queries that are remembered; then further requests wait.
const LOCATES_MAX: usize = 4096;

/// A query of this node.
#[derive(Debug, Clone)]
struct Locate {
    number: RequestNumber,
    /// Position in the group's order before which it was sent.
    seq: Sequence,
    at: Instant,
    answered: BTreeSet<NodeId>,
}

/// Progress of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LocateProgress {
    /// All members have looked for the VM since this position.
    Complete(Sequence),
    /// A query has to be sent.
    AskNow,
    /// A query was sent, or will be; check again at this time.
    WaitUntil(Instant),
}

/// All queries, by the name or UUID that they are for.
#[derive(Debug, Clone, Default)]
pub(super) struct Locates {
    by_text: HashMap<String, Locate>,
    texts: HashMap<RequestNumber, String>,
}

impl Locates {
    pub(super) fn clear(&mut self) {
        self.by_text.clear();
        self.texts.clear();
    }

    /// Notes a query that is being sent.
    pub(super) fn asked(&mut self, number: RequestNumber, text: &str, seq: Sequence, now: Instant) {
        let locate = Locate { number, seq, at: now, answered: BTreeSet::new() };
        if let Some(before) = self.by_text.insert(text.to_owned(), locate) {
            self.texts.remove(&before.number);
        }
        self.texts.insert(number, text.to_owned());
    }

    /// Returns when a query was sent.
    pub(super) fn asked_at(&self, text: &str) -> Option<Instant> {
        self.by_text.get(text).map(|locate| locate.at)
    }

    /// Notes that a member has answered a query; returns true if that is a change.
    pub(super) fn answered(&mut self, node: NodeId, number: RequestNumber) -> bool {
        let locate = self.texts.get(&number).and_then(|text| self.by_text.get_mut(text));
        locate.is_some_and(|locate| locate.answered.insert(node))
    }

    /// Tells whether all members have looked for a VM since this position. `has_told` tells whether a
    /// member that does not answer queries, a C daemon, has told all its VMs since this time.
    pub(super) fn progress(
        &self,
        text: &str,
        since: Sequence,
        members: impl Iterator<Item = (NodeId, bool)>,
        has_told: impl Fn(NodeId, Instant) -> bool,
        now: Instant,
    ) -> LocateProgress {
        let Some(locate) = self.by_text.get(text) else {
            let is_full = self.by_text.len() >= LOCATES_MAX;
            return if is_full { LocateProgress::WaitUntil(now + ASK_AGAIN) } else { LocateProgress::AskNow };
        };
        let is_over = now >= locate.at + PROBE_LIMIT;
        let mut members = members;
        let has_answered = |(node, is_extended): (NodeId, bool)| match is_extended {
            true => locate.answered.contains(&node),
            false => is_over && has_told(node, locate.at),
        };
        let is_recent = locate.seq >= since;
        match (members.all(has_answered), is_recent) {
            (true, true) => return LocateProgress::Complete(locate.seq),
            (true, false) => return LocateProgress::AskNow,
            (false, _) => {}
        }
        if now < locate.at + ASK_AGAIN {
            return LocateProgress::WaitUntil(locate.at + ASK_AGAIN);
        }
        // Another query would void the answers that are in flight.
        let end = locate.at + TOLD_LIMIT;
        match (is_recent && now < end, is_over) {
            (true, true) => LocateProgress::WaitUntil(end),
            (true, false) => LocateProgress::WaitUntil(locate.at + PROBE_LIMIT),
            (false, _) => LocateProgress::AskNow,
        }
    }

    /// Forgets old queries.
    pub(super) fn turn(&mut self, now: Instant) {
        let is_old = |locate: &Locate| now >= locate.at + KEPT;
        self.by_text.retain(|_, locate| !is_old(locate));
        self.texts
            .retain(|number, text| self.by_text.get(text).is_some_and(|locate| locate.number == *number));
    }
}
