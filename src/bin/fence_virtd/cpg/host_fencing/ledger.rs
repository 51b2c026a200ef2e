//! Records of the fencer about each host: which are fences made since the host was last up.
//!
//! 1. The records of the first answer about a host, and all that come before the host is settled, are of
//!    unknown age. They never count.
//! 2. A host is settled once the fencer has answered two questions about it promptly, [`SETTLE_TIME`] apart:
//!    it has worked off by then what the cluster told it before, so a record that comes later is new.
//! 3. Then a record counts if it comes with an event of the fencer that an action has ended, and with no event
//!    that the fencer takes over records of other nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stays::StayNumber;
use fence_virt::sys::stonith::{FencingRecord, FencingState};
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Time between two prompt answers after which a host is settled.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(5);
/// Longest time of a prompt answer.
const PROMPT_MAX: Duration = Duration::from_secs(1);

/// Answer of the fencer to a question about one host.
#[derive(Debug, Clone)]
pub(super) struct HistoryAnswer {
    pub(super) node: NodeId,
    pub(super) stay: StayNumber,
    pub(super) records: Vec<FencingRecord>,
    pub(super) asked_at: Instant,
    pub(super) answered_at: Instant,
}

/// A fence that is new, and whether it shows that the host is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewFence {
    pub(super) record: FencingRecord,
    /// False if pacemaker unfences the host by itself: its devices cut hosts off from storage only.
    pub(super) is_off: bool,
}

#[derive(Debug)]
struct HostLedger {
    stay: StayNumber,
    /// Records of the last answer, sorted.
    known: Vec<FencingRecord>,
    /// Time at which the first of the prompt answers was asked for.
    prompt_since: Option<Instant>,
    asked_at: Instant,
    is_settled: bool,
}

/// Records of all hosts.
#[derive(Debug)]
pub(super) struct Ledger {
    settle_time: Duration,
    hosts: BTreeMap<NodeId, HostLedger>,
}

impl Ledger {
    /// Begins anew, for a new connection to the fencer.
    pub(super) fn new(settle_time: Duration) -> Ledger {
        Ledger { settle_time, hosts: BTreeMap::new() }
    }

    /// Forgets the hosts that are not among these.
    pub(super) fn retain(&mut self, stays: &BTreeMap<NodeId, StayNumber>) {
        self.hosts.retain(|node, _| stays.contains_key(node));
    }

    /// Returns when a host has to be asked about; none if it is settled.
    pub(super) fn due_at(&self, node: NodeId, stay: StayNumber, now: Instant) -> Option<Instant> {
        match self.hosts.get(&node).filter(|host| host.stay == stay) {
            None => Some(now),
            Some(host) if host.is_settled => None,
            Some(host) => Some(host.prompt_since.unwrap_or(host.asked_at) + self.settle_time),
        }
    }

    /// Takes an answer; returns the fences that are new. `is_live` tells that actions have ended since the
    /// previous answer, and that no records of other nodes have come.
    pub(super) fn learn(&mut self, answer: HistoryAnswer, is_live: bool) -> Vec<NewFence> {
        let HistoryAnswer { node, stay, mut records, asked_at, answered_at } = answer;
        records.sort_unstable();
        let is_prompt = answered_at.saturating_duration_since(asked_at) <= PROMPT_MAX;
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.stay == stay) else {
            let prompt_since = is_prompt.then_some(asked_at);
            let host = HostLedger { stay, known: records, prompt_since, asked_at, is_settled: false };
            self.hosts.insert(node, host);
            return Vec::new();
        };
        let is_off = !records.iter().any(is_automatic_unfencing);
        let mut fences = Vec::new();
        if is_live && host.is_settled {
            let new = without(&records, &host.known).filter(|record| is_fence(record));
            fences.extend(new.map(|record| NewFence { record: record.clone(), is_off }));
        }
        host.known = records;
        host.asked_at = asked_at;
        if !host.is_settled {
            host.prompt_since = host.prompt_since.filter(|_| is_prompt).or(is_prompt.then_some(asked_at));
            host.is_settled = host.prompt_since.is_some_and(|since| asked_at >= since + self.settle_time);
        }
        fences
    }
}

/// Returns true for a successful off or reboot that was carried out.
fn is_fence(record: &FencingRecord) -> bool {
    record.state == FencingState::Done
        && matches!(record.action.as_str(), "off" | "reboot")
        // fenced_handle_manual_confirmation() in pacemaker-fenced.
        && record.delegate != "a human"
}

/// Returns true for an "on" that nobody has asked for: only devices that cut hosts off from storage or a
/// network need it, before a host may run resources.
fn is_automatic_unfencing(record: &FencingRecord) -> bool {
    record.action == "on" && !record.client.starts_with("stonith_admin")
}

/// Returns the items of a sorted list that another sorted list does not have, or has fewer of.
fn without<'a, T: Ord>(list: &'a [T], other: &'a [T]) -> impl Iterator<Item = &'a T> {
    let mut other = other.iter().peekable();
    list.iter().filter(move |item| {
        while other.next_if(|known| known < item).is_some() {}
        other.next_if(|known| known == item).is_none()
    })
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
