//! Counters of a listener.

use std::array;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::snapshot::{RefusalCount, RequestCount, Streak};
use crate::power_journal::PowerJournal;
use fence_virt::fence::{Answer, ListenerName, Operation, Verdict};
use fence_virt::session::Misconduct;
use fence_virt::time::{Instant, millis};

/// Results of a request, as they are counted.
pub(crate) const VERDICTS: [&str; 5] = ["success", "failure", "off", "denied", "list"];

/// Reason for refusing a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not a request, or more than one.
    Malformed,
    /// A signature weaker than this listener accepts.
    WeakHash,
    /// A signature with another key, or with one that a reload has put out of force.
    Signature,
    /// One of our own challenges sent back, or a multicast request by another transport.
    Replay,
    /// A wrong response to our challenge.
    Proof,
    /// A timeout, or a request that waited while the daemon stood still.
    Late,
    /// The client hung up too early.
    HungUp,
    /// A duplicate of a request that is in flight or was carried out.
    Duplicate,
    /// Too many sessions or requests, of one requester or in all.
    Crowded,
    /// The agent cannot be called back.
    Unreachable,
    /// An error of the system or the network.
    Error,
}

impl Refusal {
    /// All reasons with their names in a report, in the order of their declaration.
    pub(crate) const ALL: [(Refusal, &'static str); 11] = [
        (Refusal::Malformed, "malformed"),
        (Refusal::WeakHash, "weak_hash"),
        (Refusal::Signature, "signature"),
        (Refusal::Replay, "replay"),
        (Refusal::Proof, "proof"),
        (Refusal::Late, "late"),
        (Refusal::HungUp, "hung_up"),
        (Refusal::Duplicate, "duplicate"),
        (Refusal::Crowded, "crowded"),
        (Refusal::Unreachable, "unreachable"),
        (Refusal::Error, "error"),
    ];
}

impl Refusal {
    /// Returns its name in a report and in the log.
    pub(crate) fn word(self) -> &'static str {
        Refusal::ALL[self as usize].1
    }
}

impl From<&Misconduct> for Refusal {
    fn from(misconduct: &Misconduct) -> Refusal {
        match misconduct {
            Misconduct::Packet(_) | Misconduct::Trailing => Refusal::Malformed,
            Misconduct::WeakHash { .. } => Refusal::WeakHash,
            Misconduct::Signature(_)
            | Misconduct::UnknownKey(_)
            | Misconduct::Mac(_)
            | Misconduct::Revoked => Refusal::Signature,
            Misconduct::Challenge(_) | Misconduct::Callback => Refusal::Replay,
            Misconduct::Proof | Misconduct::ProofMac => Refusal::Proof,
            Misconduct::Late(_) => Refusal::Late,
            Misconduct::HungUp(_) | Misconduct::Impatient => Refusal::HungUp,
        }
    }
}

/// Refusals for one reason since the last request that was carried out. Only the listener's thread writes it.
#[derive(Debug, Default)]
struct StreakCounter {
    count: AtomicU64,
    /// Times of the first and of the last one, in milliseconds since boot.
    began: AtomicU64,
    ended: AtomicU64,
}

impl StreakCounter {
    fn add(&self) {
        let now = millis(Instant::now().since_boot());
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.began.store(now, Ordering::Relaxed);
        }
        self.ended.store(now, Ordering::Relaxed);
    }

    fn end(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    fn report(&self) -> Option<Streak> {
        let now = millis(Instant::now().since_boot());
        let ago = |at: &AtomicU64| Duration::from_millis(now.saturating_sub(at.load(Ordering::Relaxed)));
        let count = self.count.load(Ordering::Relaxed);
        (count > 0).then(|| Streak { count, began: ago(&self.began), ended: ago(&self.ended) })
    }
}

/// Counters of one listener since its start.
#[derive(Debug)]
pub(crate) struct Counts {
    name: ListenerName,
    /// Open connections, or open lines of VMs.
    open: AtomicUsize,
    requests: [[AtomicU64; VERDICTS.len()]; Operation::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    streaks: [StreakCounter; Refusal::ALL.len()],
    /// Questions of agents that probe for late answers.
    probes: AtomicU64,
    /// Answered requests of version 1 of the protocol.
    version_1: AtomicU64,
    journal: PowerJournal,
}

impl Counts {
    /// Makes the counters of a listener that records its power operations in this journal.
    pub(crate) fn new(name: ListenerName, journal: PowerJournal) -> Counts {
        Counts {
            name,
            open: AtomicUsize::new(0),
            requests: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
            refusals: array::from_fn(|_| AtomicU64::new(0)),
            streaks: array::from_fn(|_| StreakCounter::default()),
            version_1: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            journal,
        }
    }

    /// Returns the listener's name.
    pub(crate) fn name(&self) -> &ListenerName {
        &self.name
    }

    /// Returns the journal of power operations.
    pub(crate) fn journal(&self) -> &PowerJournal {
        &self.journal
    }

    /// Sets the number of open connections.
    pub(crate) fn set_open(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// Counts an answered request. One that was carried out shows that key, hash and way of agents are right.
    pub(crate) fn answered(&self, operation: Operation, answer: &Answer) {
        let counters = VERDICTS.iter().zip(&self.requests[usize::from(operation.to_wire())]);
        for (_, counter) in counters.filter(|(verdict, _)| **verdict == answer.word()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if !matches!(answer, Answer::Verdict(Verdict::Failure | Verdict::Denied)) {
            self.streaks.iter().for_each(StreakCounter::end);
        }
    }

    /// Counts an answered request of version 1 of the protocol.
    pub(crate) fn answered_version_1(&self) {
        self.version_1.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of answered requests of version 1 of the protocol.
    pub(crate) fn version_1(&self) -> u64 {
        self.version_1.load(Ordering::Relaxed)
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
        self.streaks[refusal as usize].add();
    }

    /// Counts a question of a probe, answered or not.
    pub(crate) fn probed(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of questions of probes.
    pub(crate) fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the counts of requests that are not zero.
    pub(crate) fn requests(&self) -> Vec<RequestCount> {
        let of = |operation: Operation| {
            let counts = VERDICTS.iter().zip(&self.requests[usize::from(operation.to_wire())]);
            counts.map(move |(&verdict, count)| RequestCount {
                operation,
                verdict,
                count: count.load(Ordering::Relaxed),
            })
        };
        Operation::ALL.into_iter().flat_map(of).filter(|request| request.count > 0).collect()
    }

    /// Returns the counts of refusals that are not zero.
    pub(crate) fn refusals(&self) -> Vec<RefusalCount> {
        let counters = Refusal::ALL.iter().zip(self.refusals.iter().zip(&self.streaks));
        let counts = counters.map(|((_, reason), (count, streak))| RefusalCount {
            reason,
            count: count.load(Ordering::Relaxed),
            streak: streak.report(),
        });
        counts.filter(|refusal| refusal.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::fence::Verdict;

    #[test]
    fn what_is_counted_comes_out_again() {
        let counts = Counts::new(ListenerName::new("tcp", None), PowerJournal::default());
        assert!(counts.requests().is_empty() && counts.refusals().is_empty());
        for verdict in [Verdict::Success, Verdict::Failure, Verdict::Success] {
            counts.answered(Operation::Off, &verdict.into());
        }
        counts.answered(Operation::HostList, &Answer::HostList(Vec::new()));
        for (refusal, _) in Refusal::ALL {
            counts.refused(refusal);
        }
        let expected = [
            (Operation::Off, "success", 2),
            (Operation::Off, "failure", 1),
            (Operation::HostList, "list", 1),
        ];
        let expected = expected.map(|(operation, verdict, count)| RequestCount { operation, verdict, count });
        assert_eq!(counts.requests(), expected);
        assert_eq!(counts.refusals().len(), Refusal::ALL.len(), "each reason has its own counter and name");
        let mut names: Vec<_> = counts.refusals().iter().map(|refusal| refusal.reason).collect();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }

    #[test]
    fn an_answered_request_ends_the_streaks_of_refusals() {
        let counts = Counts::new(ListenerName::new("tcp", None), PowerJournal::default());
        let streaks = || {
            counts.refusals().iter().map(|it| it.streak.map_or(0, |streak| streak.count)).collect::<Vec<_>>()
        };
        (0..3).for_each(|_| counts.refused(Refusal::Signature));
        counts.refused(Refusal::Late);
        assert_eq!(streaks(), [3, 1]);
        for no_success in [Verdict::Failure, Verdict::Denied] {
            counts.answered(Operation::Status, &no_success.into());
        }
        assert_eq!(streaks(), [3, 1]);
        counts.answered(Operation::Status, &Verdict::Off.into());
        assert_eq!((streaks(), counts.refusals()[0].count), (vec![0, 0], 3));
        counts.refused(Refusal::Late);
        assert_eq!(streaks(), [0, 1]);
    }
}
