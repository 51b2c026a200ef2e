//! The end of a run: what nodes answer by the same knowledge, and in a cluster where all is repaired.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hasher;

use fence_virt::fence::{Operation, Uuid, Verdict};
use fence_virt::routing::ClientId;

use super::oracle::Invariant;
use super::vm::Vm;
use super::world::{Kind, Node, Time, World};

use Kind::{C, Ours};

/// Time after which nothing that happened before keeps a request waiting.
const AFTERMATH: Time = 70_000;
/// Number of times that a client repeats a request that fails: the first one may only make the nodes
/// ask each other.
const TRIES: usize = 3;

impl World {
    /// Lets this time pass in steps, with nothing that changes but migrations that end and hosts that are
    /// fenced.
    fn pass(&mut self, time: Time) {
        let end = self.now + time;
        while self.now < end {
            self.now += 20;
            self.end_migrations();
            self.fence_hosts();
            (0..self.nodes.len()).for_each(|at| self.turn(at, 1000));
            self.report_fenced();
        }
    }

    /// pacemaker says everywhere which hosts it has fenced.
    fn report_fenced(&mut self) {
        let now = self.instant(self.now);
        for router in self.nodes.iter_mut().filter_map(|node| node.daemon.as_mut()?.router.as_mut()) {
            self.fenced.iter().for_each(|&id| router.host_fenced(id, now));
        }
    }

    /// Ends what keeps daemons from their work. From now on nothing fails.
    pub fn calm_down(&mut self) {
        self.is_calm = true;
        let now = self.now;
        for daemon in self.nodes.iter_mut().filter_map(|node| node.daemon.as_mut()) {
            (daemon.is_frozen, daemon.refused_until, daemon.blocked_until) = (false, 0, 0);
            daemon.away_until = daemon.away_until.map(|_| now);
        }
    }

    /// Asks these nodes for an operation on these VMs, all at once, repeats what fails, and returns the
    /// answers in this order.
    fn outcomes(&mut self, questions: &[(usize, usize)], operation: Operation) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Failure; questions.len()];
        for _ in 0..TRIES {
            let failed: Vec<usize> =
                (0..verdicts.len()).filter(|&place| verdicts[place] == Verdict::Failure).collect();
            if failed.is_empty() {
                break;
            }
            let again: Vec<_> = failed.iter().map(|&place| questions[place]).collect();
            for (place, verdict) in failed.into_iter().zip(self.outcomes_once(&again, operation)) {
                verdicts[place] = verdict;
            }
            self.pass(3000);
        }
        verdicts
    }

    fn outcomes_once(&mut self, questions: &[(usize, usize)], operation: Operation) -> Vec<Verdict> {
        let first = self.next_client + 1;
        self.verdicts.clear();
        questions.iter().for_each(|&(at, vm)| self.ask(at, Some(vm), operation, false));
        let clients: Vec<ClientId> = (first..=self.next_client).map(ClientId).collect();
        // A client that gets no answer is a violation elsewhere.
        let end = self.now + 30_000;
        while self.now < end && !clients.iter().all(|client| self.verdicts.contains_key(client)) {
            self.pass(20);
        }
        let verdict = |client| self.verdicts.get(client).copied().unwrap_or(Verdict::Failure);
        clients.iter().map(verdict).collect()
    }

    fn ours_with_daemons(&self) -> Vec<usize> {
        self.nodes_that(|node| node.kind == Ours && node.daemon.is_some())
    }

    /// [`Invariant::SameVerdictEverywhere`]: asks all nodes, and compares those that have received the same
    /// events since all nodes were members for the first time.
    pub fn compare_verdicts(&mut self) {
        if !self.quirks.same {
            return;
        }
        self.pass(40_000);
        let vms: Vec<usize> = (0..self.vms.len()).collect();
        let ours = self.ours_with_daemons();
        let questions: Vec<_> = ours.iter().flat_map(|&at| vms.iter().map(move |&vm| (at, vm))).collect();
        // What they have received until now.
        let digest = |at: usize| {
            let node = &self.nodes[at];
            let daemon = node.daemon.as_ref()?;
            let history = daemon.history.clone()?.finish();
            Some((node.part, history, daemon.absent_voters.clone()))
        };
        let digests: BTreeMap<usize, _> = ours.iter().filter_map(|&at| Some((at, digest(at)?))).collect();
        let outcomes = self.outcomes(&questions, Operation::Status);
        let mut answers: BTreeMap<_, (usize, Verdict)> = BTreeMap::new();
        for (&(at, vm), &verdict) in questions.iter().zip(&outcomes) {
            let Some(digest) = digests.get(&at) else { continue };
            match answers.get(&(digest, vm)) {
                None => drop(answers.insert((digest, vm), (at, verdict))),
                Some(&(other, expected)) => {
                    self.count("compared verdicts");
                    if verdict != expected && !self.is_unknowable(vm) {
                        let (name, one, two) = (&self.vms[vm].name, self.nodes[other].id, self.nodes[at].id);
                        let what =
                            format!("status of {name}: node {one} says {expected}, node {two} {verdict}");
                        self.violate(Invariant::SameVerdictEverywhere, what);
                    }
                }
            }
        }
    }

    /// [`Invariant::OffSucceedsInTheEnd`]: fences the hosts that are not in order, and has each VM fenced by
    /// each node that has heard of it.
    pub fn fence_the_rest(&mut self) {
        let is_quorate = |world: &World| world.nodes.iter().any(|node| world.is_quorate(node.part));
        if !self.quirks.fenced || self.rules.host_fence_delay.is_none() || !is_quorate(self) {
            return;
        }
        let is_in_order =
            |node: &Node| node.has_corosync && node.daemon.is_some() && self.is_quorate(node.part);
        for at in self.nodes_that(|node| !is_in_order(node)) {
            if self.nodes[at].is_powered {
                self.cut_power(at);
            }
            self.fenced.insert(self.nodes[at].id);
        }
        self.pass(AFTERMATH);
        if !is_quorate(self) {
            return;
        }
        for at in self.ours_with_daemons() {
            let told = &self.nodes[at].daemon.as_ref().unwrap().told;
            let heard: HashSet<Uuid> = told.iter().map(|(_, uuid)| *uuid).collect();
            let vms = self.existing_vms().into_iter().filter(|&vm| heard.contains(&self.vms[vm].uuid));
            let questions: Vec<_> = vms.map(|vm| (at, vm)).collect();
            self.count("requests after all was fenced");
            self.check_all_fenced(&questions);
        }
    }

    fn check_all_fenced(&mut self, questions: &[(usize, usize)]) {
        let outcomes = self.outcomes(questions, Operation::Off);
        for (&(at, vm), verdict) in questions.iter().zip(outcomes) {
            if verdict != Verdict::Success && !self.is_unknowable(vm) {
                let what = format!("off of {} at node {} fails", self.vms[vm].name, self.nodes[at].id);
                self.violate(Invariant::OffSucceedsInTheEnd, what);
            }
        }
    }

    /// Repairs everything. [`Invariant::NothingLeftOver`]: after a while no request is left.
    pub fn recover(&mut self) {
        self.fenced.clear();
        for at in 0..self.nodes.len() {
            self.nodes[at].part = 0;
            if !self.nodes[at].is_powered {
                self.restore_power(at);
            }
            if !self.nodes[at].has_corosync {
                self.nodes[at].has_corosync = true;
                self.join(at);
            }
            if self.nodes[at].daemon.is_none() {
                self.start_daemon(at);
            }
        }
        self.sync_views();
        self.sync_votes();
        self.pass(AFTERMATH);
        for at in self.ours_with_daemons() {
            let daemon = self.nodes[at].daemon.as_ref().unwrap();
            let left = (daemon.clients.len(), daemon.router.as_ref().unwrap().under_way());
            if left != (0, 0) || !self.owes_nothing(at) {
                let what = format!("node {} has {left:?} requests left over", self.nodes[at].id);
                self.violate(Invariant::NothingLeftOver, what);
            }
        }
        for at in self.nodes_that(|node| node.kind == C) {
            let asking = &self.nodes[at].daemon.as_ref().unwrap().c.asking;
            if asking.as_ref().is_some_and(|asking| !asking.receivers.is_empty()) {
                let what = format!("the C daemon of node {} waits for ever", self.nodes[at].id);
                self.violate(Invariant::NothingLeftOver, what);
            }
        }
    }

    /// [`Invariant::FoundEverywhere`]: the status of each VM is right at every node.
    pub fn find_everywhere(&mut self) {
        let vms = self.existing_vms();
        for at in self.ours_with_daemons() {
            let questions: Vec<_> = vms.iter().map(|&vm| (at, vm)).collect();
            let outcomes = self.outcomes(&questions, Operation::Status);
            for (&vm, verdict) in vms.iter().zip(outcomes) {
                let is_on = self.vms[vm].active().next().is_some();
                let expected = if is_on { Verdict::Success } else { Verdict::Off };
                if verdict != expected && !self.is_unknowable(vm) {
                    let (name, id) = (&self.vms[vm].name, self.nodes[at].id);
                    let what = format!("{name} is {expected}, and node {id} says {verdict}");
                    self.violate(Invariant::FoundEverywhere, what);
                }
            }
        }
    }

    /// [`Invariant::OffSucceedsInTheEnd`]: each VM can be fenced, from some node.
    pub fn fence_all(&mut self) {
        let ours = self.ours_with_daemons();
        let vms = self.existing_vms();
        let questions: Vec<_> = vms.iter().map(|&vm| (ours[vm % ours.len()], vm)).collect();
        self.check_all_fenced(&questions);
    }

    /// Returns true if nobody can know that a VM is off, once nobody remembers how it ended: it has moved
    /// away from the only host that has it, and may be on a host outside the cluster; or the C daemon of a
    /// host that has no VMs any more tells nothing, as one that hangs.
    fn is_unknowable(&self, vm: usize) -> bool {
        let Vm { copies, left, .. } = &self.vms[vm];
        let mut there = copies.keys().filter(|at| self.nodes[**at].daemon.is_some());
        let has_left = there.next().is_some_and(|at| left.contains(at)) && there.next().is_none();
        let is_off = self.vms[vm].active().next().is_none();
        let tells_nothing = |&at: &usize| self.nodes[at].kind == C && self.local_vms(at).is_empty();
        is_off && (has_left || (0..self.nodes.len()).any(|at| tells_nothing(&at)))
    }

    fn existing_vms(&self) -> Vec<usize> {
        (0..self.vms.len()).filter(|&vm| !self.vms[vm].copies.is_empty()).collect()
    }
}
