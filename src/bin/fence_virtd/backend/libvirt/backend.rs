//! The requests of the libvirt backend, those kept for another try, and the
//! probes under way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::power::{self, Fence, Step};
use super::resolve::{Copy, Resolution, Uri, Vm, resolve};
use crate::access::{Identified, Permissions};
use crate::backend::{Backend, Joined};
use crate::inbox::Event;
use crate::job::{Job, Requester};
use crate::libvirt::Failed;
use crate::libvirt::{DomainRun, Found, Host, Link};
use fence_virt::fence::{
    Answer, Domain, HostEntry, ListenerName, Operation, PowerState, Source, Target, Uuid, Verdict,
};
use fence_virt::routing::LocalVm;

/// How long after a VM did not go off it is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// How long devstatus waits for a URI to answer.
pub(super) const DEVSTATUS_LIMIT: Duration = Duration::from_secs(2);

/// The backend, over links that tests can replace.
pub(crate) struct Libvirt<L> {
    uris: Vec<Uri<L>>,
    permissions: Permissions,
    /// Off and reboot of VMs that did not go off at once, and when they are due.
    retries: Vec<(Instant, Fence, Job)>,
    round: Option<Round>,
    listing: Option<Listing>,
}

/// What the last list showed; forgotten with the next power operation.
struct Listing {
    began: Instant,
    vms: Vec<Found>,
    /// The URIs that did not answer, and why.
    problems: Vec<String>,
}

/// How long a list is kept for those who asked meanwhile.
const LISTING_KEPT: Duration = Duration::from_secs(1);

/// A look at all URIs for devstatus.
struct Round {
    jobs: Vec<Job>,
    deadline: Instant,
    /// The URIs that have not answered yet.
    waiting: Vec<usize>,
    problems: Vec<String>,
    /// Which URI answered first.
    answered: Option<String>,
}

impl<L: Link> Libvirt<L> {
    pub(crate) fn new(links: Vec<L>, permissions: Permissions) -> Libvirt<L> {
        let uris = links.into_iter().map(Uri::new).collect();
        Libvirt { uris, permissions, retries: Vec::new(), round: None, listing: None }
    }

    /// Resolves the VM of a request, and asks the groups about it.
    fn resolve(&mut self, job: &Job, now: Instant) -> Result<Vm, (Verdict, String)> {
        let target = &job.request.target;
        match resolve(&mut self.uris, target, now) {
            Resolution::Found(vm) => {
                self.permit(job, &[&vm.name, &vm.uuid], now)?;
                Ok(vm)
            }
            Resolution::Failed(reason) => Err((Verdict::Failure, reason)),
            Resolution::Unknown => {
                self.permit(job, &[target.as_str()], now)?;
                if matches!(job.requester, Requester::Cluster { .. }) {
                    // It was here, or the cluster would not ask here.
                    return Err((Verdict::Failure, "it is gone, perhaps to another host".to_owned()));
                }
                let is_status = job.request.operation == Operation::Status;
                let verdict = if is_status { Verdict::Off } else { Verdict::Failure };
                Err((verdict, "there is no such VM".to_owned()))
            }
        }
    }

    /// Whether the groups let a job's client do something to the VM with these names.
    pub(crate) fn permit(
        &mut self,
        job: &Job,
        names: &[&str],
        now: Instant,
    ) -> Result<(), (Verdict, String)> {
        let Requester::Client { listener, source } = &job.requester else { return Ok(()) };
        if self.permissions.permit_source(listener, source, names) {
            return Ok(());
        }
        let asker = self.identify(listener, source, now);
        match asker.doubt {
            _ if self.permissions.permit(&asker, names) => Ok(()),
            Some(doubt) => Err((Verdict::Failure, format!("no group has both for sure: {doubt}"))),
            None => Err((Verdict::Denied, "no group has both the requester and the VM".to_owned())),
        }
    }

    fn identify(&mut self, listener: &ListenerName, source: &Source, now: Instant) -> Identified {
        let still_runs = |uris: &mut Vec<Uri<L>>, place: usize, vm: &DomainRun| {
            let condition = uris[place].host(now)?.observe(&vm.domain.uuid.to_string())?;
            Ok(condition.is_some_and(|condition| condition.id == Some(vm.id)))
        };
        let has_name = |uris: &mut Vec<Uri<L>>, domain: &Domain| {
            let Ok(target) = Target::new(domain.name.as_bytes()) else { return Ok(false) };
            match resolve(uris, &target, now) {
                Resolution::Found(vm) => Ok(Uuid::parse(&vm.uuid) == Some(domain.uuid)),
                Resolution::Unknown => Ok(false),
                Resolution::Failed(reason) => Err(Failed(reason)),
            }
        };
        self.permissions.identify(listener, source, &mut self.uris, still_runs, has_name)
    }

    fn fence(&mut self, mut fence: Fence, job: Job, now: Instant) {
        match fence.step(&mut self.uris, &job, now) {
            Step::Done(verdict, reason) => job.finish(verdict, reason),
            Step::Stale(stale) => job.give_up(stale),
            Step::Again(reason) => {
                debug!("{:?} is not off yet: {reason}: trying again", job.request.target.as_str());
                self.retries.push((now + RETRY, fence, job));
            }
        }
    }

    /// One look serves all who asked before it began, however many they are.
    fn list(&mut self, job: Job, now: Instant) {
        let listing = match self.listing.take() {
            Some(listing) if listing.began > job.received => listing,
            _ => self.look(now),
        };
        if listing.problems.len() == self.uris.len() {
            return job.finish(Verdict::Failure, listing.problems.join("; "));
        }
        let all = listing.vms.iter().map(|vm| HostEntry {
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            state: vm.condition.power,
        });
        self.answer_list(job, all, &listing.problems, now);
        self.listing = Some(listing);
    }

    /// Answers a list with those VMs that the groups let its client see.
    pub(crate) fn answer_list(
        &mut self,
        job: Job,
        all: impl Iterator<Item = HostEntry>,
        problems: &[String],
        now: Instant,
    ) {
        let Requester::Client { listener, source } = &job.requester else {
            return job.finish(Verdict::Failure, "the cluster lists nothing");
        };
        let asker = self.identify(listener, source, now);
        let is_seen = |vm: &HostEntry| self.permissions.permit(&asker, &[&vm.name, &vm.uuid]);
        let entries: Vec<HostEntry> = all.filter(is_seen).collect();
        if let Some(doubt) = asker.doubt.as_ref().filter(|_| entries.is_empty()) {
            // An empty list would say that there is no VM.
            return job.finish(Verdict::Failure, format_args!("nothing can be listed for sure: {doubt}"));
        }
        let problems: Vec<&String> = problems.iter().chain(&asker.doubt).collect();
        let reason = match problems.is_empty() {
            true => "all that were asked answered".to_owned(),
            false => format!("perhaps not all: {}", Joined(&problems)),
        };
        job.finish(Answer::HostList(entries), reason);
    }

    /// Looks for a VM at all URIs, and gives where it is; an error if that cannot be told.
    pub(crate) fn find(&mut self, target: &Target, now: Instant) -> Result<Vec<(usize, LocalVm)>, String> {
        match resolve(&mut self.uris, target, now) {
            Resolution::Unknown => Ok(Vec::new()),
            Resolution::Failed(reason) => Err(reason),
            Resolution::Found(vm) => {
                let uuid = Uuid::parse(&vm.uuid).ok_or_else(|| format!("{} is no UUID", vm.uuid))?;
                let at = |copy: &Copy| {
                    let (name, is_active) = (vm.name.clone(), copy.condition.is_active);
                    (copy.uri, LocalVm { name, uuid, state: copy.condition.power, is_active })
                };
                Ok(vm.copies.iter().map(at).collect())
            }
        }
    }

    /// Looks which VMs there are, at all URIs.
    fn look(&mut self, now: Instant) -> Listing {
        let mut vms: Vec<Found> = Vec::new();
        let mut place_of: HashMap<String, usize> = HashMap::new();
        let mut problems = Vec::new();
        let is_single = self.uris.len() == 1;
        for uri in &mut self.uris {
            let found = match uri.host(now).and_then(|host| host.list()) {
                Ok(found) => found,
                Err(Failed(reason)) => {
                    uri.link.probe();
                    problems.push(format!("{}: {reason}", uri.link.name()));
                    continue;
                }
            };
            if !is_single {
                uri.remember_all(&found);
            }
            for vm in found {
                match place_of.get(&vm.uuid) {
                    Some(&place) if vm.condition.power == PowerState::Running => vms[place] = vm,
                    Some(_) => {}
                    None => {
                        place_of.insert(vm.uuid.clone(), vms.len());
                        vms.push(vm);
                    }
                }
            }
        }
        Listing { began: now, vms, problems }
    }

    /// Asks all keepers whether their URIs answer; the worker does not wait.
    fn devstatus(&mut self, job: Job, now: Instant) {
        if let Some(round) = &mut self.round {
            // The round began less than two seconds ago: its outcome serves.
            return match &round.answered {
                Some(answer) => job.finish(Verdict::Success, answer),
                None => round.jobs.push(job),
            };
        }
        let waiting = (0..self.uris.len()).collect();
        self.round = Some(Round {
            jobs: vec![job],
            deadline: now + DEVSTATUS_LIMIT,
            waiting,
            problems: Vec::new(),
            answered: None,
        });
        for uri in &self.uris {
            uri.link.probe();
        }
    }

    fn probed(&mut self, place: usize, outcome: Result<(), String>) {
        let Some(round) = &mut self.round else { return };
        if !round.waiting.contains(&place) {
            return;
        }
        round.waiting.retain(|&waiting| waiting != place);
        let name = self.uris[place].link.name();
        match outcome {
            Ok(()) => {
                let answer = format!("{name} answers");
                // The others are heard to the end, so that the dead ones are logged.
                for job in round.jobs.drain(..) {
                    job.finish(Verdict::Success, &answer);
                }
                round.answered = Some(answer);
            }
            Err(reason) => round.problems.push(format!("{name}: {reason}")),
        }
        if round.waiting.is_empty() {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let Some(mut round) = self.round.take() else { return };
        for &place in &round.waiting {
            let limit = DEVSTATUS_LIMIT.as_secs();
            round.problems.push(format!("{}: no answer within {limit} s", self.uris[place].link.name()));
        }
        for problem in &round.problems {
            warn!("devstatus: {problem}");
        }
        for job in round.jobs {
            job.finish(Verdict::Failure, format_args!("no URI answers: {}", Joined(&round.problems)));
        }
    }
}

impl<L: Link> Backend for Libvirt<L> {
    fn begin(&mut self, job: Job, now: Instant) {
        if job.request.operation.is_power() {
            self.listing = None;
        }
        match job.request.operation {
            Operation::HostList => return self.list(job, now),
            Operation::Devstatus => return self.devstatus(job, now),
            Operation::Null => return job.refuse(Verdict::Failure, "null is never carried out"),
            Operation::Off | Operation::Reboot | Operation::On | Operation::Status => {}
        }
        let vm = match self.resolve(&job, now) {
            Ok(vm) => vm,
            Err((verdict, reason)) => return job.refuse(verdict, reason),
        };
        let (verdict, reason) = match job.request.operation {
            Operation::Status => power::status(&self.uris, &vm, &job),
            Operation::On => power::on(&mut self.uris, &vm, &job, now),
            _ => return self.fence(Fence::new(vm), job, now),
        };
        job.finish(verdict, reason);
    }

    fn adopt(&mut self, permissions: Permissions) {
        self.permissions = permissions;
    }

    fn event(&mut self, event: Event, _now: Instant) {
        match event {
            Event::Probed { uri, outcome } => self.probed(uri, outcome),
            Event::Domains { .. } | Event::Cluster => {}
        }
    }

    fn turn(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition(|(at, ..)| now >= *at);
        self.retries = later;
        let due: Vec<(Instant, Fence, Job)> = due;
        for (_, fence, job) in due {
            self.listing = None;
            self.fence(fence, job, now);
        }
        if self.round.as_ref().is_some_and(|round| now >= round.deadline) {
            self.end_round();
        }
        let is_old = |listing: &Listing| now.saturating_duration_since(listing.began) >= LISTING_KEPT;
        if self.listing.as_ref().is_some_and(is_old) {
            self.listing = None;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.retries.iter().map(|(at, ..)| *at).min();
        let round = self.round.as_ref().map(|round| round.deadline);
        retry.into_iter().chain(round).min()
    }
}
