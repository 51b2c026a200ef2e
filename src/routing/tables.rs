//! Tables of VMs: those of other members that this node has to ask for, and when it tells its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::limits::TELL_LIMIT;
use crate::time::Instant;
use crate::wire::cluster::NodeId;

/// Time without another join after which a member that was asked tells all its VMs, if it did so shortly before.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// Time after which it does, whoever joins. The rest of [`TELL_LIMIT`] is for the telling.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// Time after an answer in which the next one waits for further joins.
const CROWD_TIME: Duration = Duration::from_secs(1);

/// Time at which all VMs here are told, since a member has asked.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    /// It is not put off beyond this.
    limit: Instant,
}

/// Queries for tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    /// Members to ask.
    to_ask: BTreeSet<NodeId>,
    /// Members that were asked, by whichever member, with the time. All members hear the answer.
    asked: BTreeMap<NodeId, Instant>,
    /// Query for the table of this node.
    due: Option<Due>,
    /// Time at which this node began to tell its table last.
    told_at: Option<Instant>,
}

impl Tables {
    pub(super) fn clear(&mut self) {
        *self = Tables::default();
    }

    /// Notes that the table of another member is not known.
    pub(super) fn note_unknown(&mut self, node: NodeId, now: Instant) {
        if self.asked.get(&node).is_none_or(|&at| now >= at + TELL_LIMIT) {
            self.to_ask.insert(node);
        }
    }

    /// Forgets queries for the table of another member, since it is known by now, or the member has changed.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.to_ask.remove(&node);
        self.asked.remove(&node);
    }

    /// Notes that another member was asked for its table.
    pub(super) fn note_asked(&mut self, node: NodeId, now: Instant) {
        self.to_ask.remove(&node);
        self.asked.insert(node, now);
    }

    /// Returns the next member to ask.
    pub(super) fn next_to_ask(&mut self) -> Option<NodeId> {
        self.to_ask.pop_first()
    }

    /// Notes that the table of this node is asked for.
    pub(super) fn note_query(&mut self, now: Instant) {
        // Where hosts join one after the other, one answer serves several.
        let is_crowd = self.told_at.is_some_and(|told_at| now < told_at + CROWD_TIME);
        let at = if is_crowd { now + SETTLE_TIME } else { now };
        self.due.get_or_insert(Due { at, limit: now + SETTLE_LIMIT });
    }

    /// Puts the answer off, since somebody has joined who will need it too; false if there is none to give.
    pub(super) fn put_off(&mut self, now: Instant) -> bool {
        if let Some(due) = &mut self.due {
            due.at = due.limit.min(now + SETTLE_TIME);
        }
        self.due.is_some()
    }

    /// Notes that all VMs here are being told.
    pub(super) fn note_told(&mut self, now: Instant) {
        self.due = None;
        self.told_at = Some(now);
    }

    /// Puts the answer off for a while, since all VMs are being told just now.
    pub(super) fn postpone(&mut self, now: Instant) {
        if let Some(due) = &mut self.due {
            due.at = now + SETTLE_TIME;
        }
    }

    /// Returns true if all VMs here are to be told now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due.at)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.map(|due| due.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_asked_once_and_again_if_it_does_not_tell() {
        let (mut tables, now) = (Tables::default(), Instant::now());
        tables.note_unknown(NodeId(2), now);
        tables.note_unknown(NodeId(3), now);
        tables.note_asked(NodeId(3), now);
        assert_eq!(tables.next_to_ask(), Some(NodeId(2)));
        tables.note_asked(NodeId(2), now);
        tables.note_unknown(NodeId(2), now);
        assert_eq!(tables.next_to_ask(), None);
        tables.forget(NodeId(3));
        tables.note_unknown(NodeId(3), now);
        tables.note_unknown(NodeId(2), now + TELL_LIMIT);
        assert_eq!([tables.next_to_ask(), tables.next_to_ask()], [Some(NodeId(2)), Some(NodeId(3))]);
    }

    #[test]
    fn joins_put_off_the_answer_but_not_for_long() {
        let (mut tables, mut now) = (Tables::default(), Instant::now());
        assert!(!tables.put_off(now) && tables.deadline().is_none());
        tables.note_query(now);
        assert!(tables.is_due(now), "it may be the only one");
        tables.note_told(now);
        tables.note_query(now);
        assert!(!tables.is_due(now) && tables.is_due(now + SETTLE_TIME));
        let limit = now + SETTLE_LIMIT;
        while now < limit {
            assert!(!tables.is_due(now) && tables.put_off(now));
            now += SETTLE_TIME / 2;
        }
        assert!(tables.is_due(limit));
        tables.note_told(now);
        assert!(!tables.is_due(limit));
    }
}
