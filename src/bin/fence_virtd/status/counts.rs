//! What the listeners count.

use std::array;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fence_virt::fence::{Answer, ListenerName, Operation, Verdict};
use fence_virt::session::Misconduct;

/// What became of a request, as it is counted.
pub(crate) const VERDICTS: [&str; 5] = ["success", "failure", "off", "denied", "list"];

/// Why something that came in went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no request, or has more than one.
    Malformed,
    /// Its signature is weaker than this listener takes.
    WeakHash,
    /// Its signature is not of our key.
    Signature,
    /// A challenge that is not answered, or a request of multicast by another way.
    Replay,
    /// A wrong answer to our challenge.
    Proof,
    /// It took too long.
    Late,
    /// It hung up too early.
    HungUp,
    /// Its twin is, or was, carried out.
    Duplicate,
    /// Too many sessions or requests, of one requester or of all.
    Crowded,
    /// No way to the agent for a call-back.
    Unreachable,
    /// The system or the network failed.
    Error,
}

impl Refusal {
    /// All of them, in the order of their declaration.
    pub(crate) const ALL: [Refusal; 11] = [
        Refusal::Malformed,
        Refusal::WeakHash,
        Refusal::Signature,
        Refusal::Replay,
        Refusal::Proof,
        Refusal::Late,
        Refusal::HungUp,
        Refusal::Duplicate,
        Refusal::Crowded,
        Refusal::Unreachable,
        Refusal::Error,
    ];

    /// Its name, in a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::WeakHash => "weak_hash",
            Refusal::Signature => "signature",
            Refusal::Replay => "replay",
            Refusal::Proof => "proof",
            Refusal::Late => "late",
            Refusal::HungUp => "hung_up",
            Refusal::Duplicate => "duplicate",
            Refusal::Crowded => "crowded",
            Refusal::Unreachable => "unreachable",
            Refusal::Error => "error",
        }
    }
}

impl From<&Misconduct> for Refusal {
    fn from(misconduct: &Misconduct) -> Refusal {
        match misconduct {
            Misconduct::Packet(_) | Misconduct::Trailing => Refusal::Malformed,
            Misconduct::WeakHash { .. } => Refusal::WeakHash,
            Misconduct::Signature(_) => Refusal::Signature,
            Misconduct::Challenge(_) | Misconduct::Callback => Refusal::Replay,
            Misconduct::Proof => Refusal::Proof,
            Misconduct::Late(_) => Refusal::Late,
            Misconduct::HungUp(_) | Misconduct::Impatient => Refusal::HungUp,
        }
    }
}

/// What one listener counts, from its start on.
#[derive(Debug)]
pub(crate) struct Counts {
    name: ListenerName,
    /// Connections, or lines, that are open now.
    open: AtomicUsize,
    requests: [[AtomicU64; VERDICTS.len()]; Operation::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
}

impl Counts {
    pub(crate) fn new(name: ListenerName) -> Counts {
        Counts {
            name,
            open: AtomicUsize::new(0),
            requests: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
            refusals: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The listener's name.
    pub(crate) fn name(&self) -> &ListenerName {
        &self.name
    }

    /// So many connections are open.
    pub(crate) fn set_open(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// A request has its answer.
    pub(crate) fn answered(&self, operation: Operation, answer: &Answer) {
        let verdict = match answer {
            Answer::Verdict(Verdict::Success) => 0,
            Answer::Verdict(Verdict::Failure) => 1,
            Answer::Verdict(Verdict::Off) => 2,
            Answer::Verdict(Verdict::Denied) => 3,
            Answer::HostList(_) => 4,
        };
        self.requests[usize::from(operation.to_wire())][verdict].fetch_add(1, Ordering::Relaxed);
    }

    /// Something went no further.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Operation, verdict and how often, without those that never were.
    pub(crate) fn requests(&self) -> Vec<(Operation, &'static str, u64)> {
        let of = |operation: Operation| {
            let counts = &self.requests[usize::from(operation.to_wire())];
            VERDICTS
                .iter()
                .zip(counts)
                .map(move |(&verdict, count)| (operation, verdict, count.load(Ordering::Relaxed)))
        };
        Operation::ALL.into_iter().flat_map(of).filter(|(_, _, count)| *count > 0).collect()
    }

    /// Reason and how often, without those that never were.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let counts = Refusal::ALL.iter().zip(&self.refusals);
        let counts = counts.map(|(refusal, count)| (refusal.name(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_comes_out_again() {
        let counts = Counts::new(ListenerName::new("tcp", None));
        assert!(counts.requests().is_empty() && counts.refusals().is_empty());
        for verdict in [Verdict::Success, Verdict::Failure, Verdict::Success] {
            counts.answered(Operation::Off, &verdict.into());
        }
        counts.answered(Operation::HostList, &Answer::HostList(Vec::new()));
        for refusal in Refusal::ALL {
            counts.refused(refusal);
        }
        let expected = [
            (Operation::Off, "success", 2),
            (Operation::Off, "failure", 1),
            (Operation::HostList, "list", 1),
        ];
        assert_eq!(counts.requests(), expected);
        assert_eq!(counts.refusals().len(), Refusal::ALL.len(), "each has a place and a name of its own");
        let mut names: Vec<_> = counts.refusals().iter().map(|(name, _)| *name).collect();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
