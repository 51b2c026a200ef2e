//! Requests that the arbiter holds back: their callers may have been powered off meanwhile.

use std::collections::{BTreeMap, VecDeque};

use super::fence::Effect;
use super::resolve::ResolvedVm;
use crate::job::Job;
use crate::libvirt::DYING;
use fence_virt::arbiter::{Arbiter, Contender, OperationId, Rival, Ruling};
use fence_virt::fence::Uuid;
use fence_virt::time::Instant;

/// Names of VMs that are remembered for messages.
const NAMES_MAX: usize = 256;

/// The arbiter, and the requests that wait for its rulings.
#[derive(Default)]
pub(super) struct Contests {
    arbiter: Arbiter,
    waiting: BTreeMap<OperationId, Contested>,
    next: u64,
    /// Names of the VMs that were powered off last.
    names: VecDeque<(Uuid, String)>,
}

/// Request that the arbiter holds back.
pub(super) struct Contested {
    pub(super) job: Job,
    pub(super) vm: ResolvedVm,
    pub(super) asked: Instant,
    /// Operation that may have powered the caller off, described for messages.
    pub(super) rival: Option<String>,
}

impl Contests {
    /// Submits an off or reboot to the arbiter.
    pub(super) fn ask(
        &mut self,
        job: Job,
        vm: ResolvedVm,
        contender: Option<Contender>,
        target: Uuid,
        now: Instant,
    ) {
        let operation = OperationId(self.next);
        self.next += 1;
        self.remember(target, &vm.name);
        self.arbiter.ask(operation, contender, target, now);
        self.waiting.insert(operation, Contested { job, vm, asked: now, rival: None });
    }

    /// Submits an operation that another host carries out if its caller lives. Nothing is begun for it here.
    pub(super) fn ask_for_proof(&mut self, contender: Contender, target: Uuid, now: Instant) -> OperationId {
        let operation = OperationId(self.next);
        self.next += 1;
        self.arbiter.ask(operation, Some(contender), target, now);
        operation
    }

    /// Next ruling of the arbiter.
    pub(super) fn next_ruling(&mut self, now: Instant) -> Option<Ruling> {
        self.arbiter.next(now)
    }

    /// Removes the request of an operation that the arbiter has admitted.
    pub(super) fn take_admitted(&mut self, operation: OperationId) -> Option<Contested> {
        self.waiting.remove(&operation)
    }

    /// Records the rival of a request, and returns the request.
    pub(super) fn set_rival(&mut self, operation: OperationId, rival: &Rival) -> Option<&Contested> {
        let rival = self.describe(rival);
        let contested = self.waiting.get_mut(&operation)?;
        contested.rival = Some(rival);
        Some(contested)
    }

    /// Records that the caller of an operation lived at this time.
    pub(super) fn proved(&mut self, operation: OperationId, lived: Instant) {
        self.arbiter.proved(operation, lived);
    }

    /// Withdraws an operation, and removes its request.
    pub(super) fn withdraw(&mut self, operation: OperationId) -> Option<Contested> {
        self.arbiter.withdraw(operation);
        self.waiting.remove(&operation)
    }

    /// Number of requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Ends an operation that has begun.
    pub(super) fn end(&mut self, operation: OperationId, effect: Effect, now: Instant) {
        match effect {
            Effect::None => self.arbiter.discard(operation),
            Effect::PoweredOff => self.arbiter.finish(operation, now),
            // libvirt may still be killing the VM.
            Effect::Unresolved => self.arbiter.finish(operation, now + 2 * DYING),
        }
    }

    /// Removes the requests that are stale.
    pub(super) fn take_stale(&mut self, now: Instant) -> Vec<Job> {
        self.extract(|contested| contested.job.stale(now).is_some())
    }

    /// Removes all requests.
    pub(super) fn take_all(&mut self) -> Vec<Job> {
        self.extract(|_| true)
    }

    fn extract(&mut self, is_wanted: impl Fn(&Contested) -> bool) -> Vec<Job> {
        let wanted = self.waiting.iter().filter(|(_, contested)| is_wanted(contested)).map(|(&id, _)| id);
        let wanted: Vec<OperationId> = wanted.collect();
        wanted.into_iter().filter_map(|id| self.withdraw(id)).map(|contested| contested.job).collect()
    }

    /// Next time at which the arbiter may rule, or a request expires.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let expires = self.waiting.values().map(|contested| contested.job.expires).min();
        expires.into_iter().chain(self.arbiter.deadline(now)).min()
    }

    fn remember(&mut self, uuid: Uuid, name: &str) {
        self.names.retain(|(known, _)| *known != uuid);
        self.names.push_back((uuid, name.to_owned()));
        if self.names.len() > NAMES_MAX {
            self.names.pop_front();
        }
    }

    fn describe(&self, rival: &Rival) -> String {
        let vm = match rival.target {
            Some(target) => {
                let known = self.names.iter().find(|(uuid, _)| *uuid == target);
                known.map_or_else(|| target.to_string(), |(_, name)| format!("{name:?}"))
            }
            None => "another VM".to_owned(),
        };
        match &rival.source {
            Some(source) => format!("{source} has powered off {vm}"),
            None => format!("{vm} was powered off"),
        }
    }
}
