//! A request until its answer, at one router.

use fence_virt::fence::{Operation, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, Peer, RouterAction};
use fence_virt::wire::cluster::{ClusterMessage, NodeId};

use crate::node::{Node, SECOND};

impl Node {
    /// Asks, and returns the answer, whenever it comes. Jobs on this node find the VM off. The members
    /// `advertising` answer each query for all their VMs; others answer nothing.
    #[track_caller]
    pub fn outcome(&mut self, operation: Operation, name: &str, advertising: &[Peer]) -> Verdict {
        self.asks(operation, name);
        self.outcome_of_asked(advertising)
    }

    /// The same for a request that was made before.
    #[track_caller]
    pub fn outcome_of_asked(&mut self, advertising: &[Peer]) -> Verdict {
        let end = self.now + ANSWER_LIMIT + SECOND;
        loop {
            self.finds_it_off();
            self.advertised_by(advertising);
            if let Some((_, verdict, _)) = self.answers.pop_front() {
                return verdict;
            }
            assert!(self.now < end, "there is no answer");
            self.passes(SECOND / 4);
        }
    }

    /// Completes the jobs on this node: the VM is off here.
    pub fn finds_it_off(&mut self) {
        while let Some(action) = self.to_do.pop_front() {
            if let RouterAction::Begin { job, operation, .. } = action {
                let verdict = if operation == Operation::Status { Verdict::Off } else { Verdict::Success };
                self.router.done(job, verdict, "it is off here".to_owned(), self.now);
                self.settle();
            }
        }
    }

    /// These members answer the queries for all their VMs, and have no further ones.
    pub fn advertised_by(&mut self, members: &[Peer]) {
        let queries: Vec<_> = self
            .said
            .iter()
            .filter_map(|said| match said {
                ClusterMessage::AdvertiseAll { number } => Some(*number),
                _ => None,
            })
            .collect();
        self.said.retain(|said| !matches!(said, ClusterMessage::AdvertiseAll { .. }));
        for number in queries {
            for &member in members {
                self.hears_from(member, ClusterMessage::AllAdvertised { to: NodeId(2), number });
            }
        }
    }
}
