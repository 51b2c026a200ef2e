use std::time::{Duration, Instant};

use log::debug;

use super::devstatus::DevstatusProbe;
use super::listing::Listing;
use super::power::{self, Fence, Step};
use super::resolve::{Placement, Resolution, ResolvedVm, Uri, resolve};
use crate::access::{DomainLookup, Identified, Permissions};
use crate::backend::Backend;
use crate::inbox::Event;
use crate::job::{Job, Requester};
use crate::libvirt::{DomainRun, Host, LibvirtError, LibvirtResult, Link};
use fence_virt::fence::{
    Answer, Domain, HostEntry, ListenerName, Operation, Source, Target, UriIndex, Uuid, Verdict,
};
use fence_virt::routing::LocalVm;

/// Interval between attempts to power a VM off.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// The libvirt backend, over links that tests can replace.
pub(crate) struct LibvirtBackend<L> {
    uris: Vec<Uri<L>>,
    permissions: Permissions,
    retries: Vec<Retry>,
    devstatus: Option<DevstatusProbe>,
    /// The last list, forgotten with the next power operation.
    listing: Option<Listing>,
}

/// Off or reboot of a VM that did not power off at once.
struct Retry {
    at: Instant,
    fence: Fence,
    job: Job,
}

impl<L: Link> LibvirtBackend<L> {
    pub(crate) fn new(links: Vec<L>, permissions: Permissions) -> LibvirtBackend<L> {
        let uris = links.into_iter().map(Uri::new).collect();
        LibvirtBackend { uris, permissions, retries: Vec::new(), devstatus: None, listing: None }
    }

    /// Resolves the VM of a request and checks the permission.
    fn resolve(&mut self, job: &Job, now: Instant) -> Result<ResolvedVm, (Verdict, String)> {
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
                    // This host had the VM, or the cluster would not ask it.
                    return Err((Verdict::Failure, power::GONE.to_owned()));
                }
                let is_status = job.request.operation == Operation::Status;
                let verdict = if is_status { Verdict::Off } else { Verdict::Failure };
                Err((verdict, "no such VM".to_owned()))
            }
        }
    }

    /// Checks that the groups permit a job's client access to the VM with these names.
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
        let requester = self.identify(listener, source, now);
        if self.permissions.permit(&requester, names) {
            return Ok(());
        }
        Err(match requester.doubt {
            Some(doubt) => (
                Verdict::Failure,
                format!("cannot confirm that a group lists both requester and VM: {doubt}"),
            ),
            None => (Verdict::Denied, "no group lists both requester and VM".to_owned()),
        })
    }

    fn identify(&mut self, listener: &ListenerName, source: &Source, now: Instant) -> Identified {
        let mut lookup = RequesterLookup { uris: &mut self.uris, now };
        self.permissions.identify(listener, source, &mut lookup)
    }

    fn fence(&mut self, mut fence: Fence, job: Job, now: Instant) {
        match fence.step(&mut self.uris, &job, now) {
            Step::Done(verdict, reason) => job.finish(verdict, reason),
            Step::Stale(stale) => job.give_up(stale),
            Step::Retry(reason) => {
                debug!("{:?} is not off yet: {reason}: retrying", job.request.target.as_str());
                self.retries.push(Retry { at: now + RETRY, fence, job });
            }
        }
    }

    /// Answers a list. One list serves all requests that were received before it began.
    fn list(&mut self, job: Job, now: Instant) {
        let listing = match self.listing.take() {
            Some(listing) if listing.began > job.received => listing,
            _ => Listing::take(&mut self.uris, now),
        };
        if listing.problems.len() == self.uris.len() {
            return job.finish(Verdict::Failure, listing.problems.join("; "));
        }
        let all = listing.vms.iter().map(|vm| HostEntry {
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            state: vm.state.power,
        });
        self.answer_list(job, all, &listing.problems, now);
        self.listing = Some(listing);
    }

    /// Answers a list with the VMs that the groups permit its client to see.
    pub(crate) fn answer_list(
        &mut self,
        job: Job,
        all: impl Iterator<Item = HostEntry>,
        problems: &[String],
        now: Instant,
    ) {
        let Requester::Client { listener, source } = &job.requester else {
            return job.finish(Verdict::Failure, "the cluster requests no lists");
        };
        let requester = self.identify(listener, source, now);
        let is_visible = |vm: &HostEntry| self.permissions.permit(&requester, &[&vm.name, &vm.uuid]);
        let entries: Vec<HostEntry> = all.filter(is_visible).collect();
        if let Some(doubt) = requester.doubt.as_ref().filter(|_| entries.is_empty()) {
            // An empty list would mean that there are no VMs.
            return job.finish(Verdict::Failure, format_args!("cannot tell which VMs to list: {doubt}"));
        }
        let problems: Vec<&str> = problems.iter().chain(&requester.doubt).map(String::as_str).collect();
        let reason = match problems.join(", ") {
            problems if problems.is_empty() => "complete".to_owned(),
            problems => format!("perhaps incomplete: {problems}"),
        };
        job.finish(Answer::HostList(entries), reason);
    }

    /// Returns the placements of a VM on all URIs; an error if they cannot be determined.
    pub(crate) fn find(&mut self, target: &Target, now: Instant) -> Result<Vec<(UriIndex, LocalVm)>, String> {
        match resolve(&mut self.uris, target, now) {
            Resolution::Unknown => Ok(Vec::new()),
            Resolution::Failed(reason) => Err(reason),
            Resolution::Found(vm) => {
                let uuid = Uuid::parse(&vm.uuid).ok_or_else(|| format!("{} is not a UUID", vm.uuid))?;
                let local = |Placement { uri, state }: &Placement| {
                    let name = vm.name.clone();
                    (*uri, LocalVm { name, uuid, state: state.power, is_active: state.is_active })
                };
                Ok(vm.placements.iter().map(local).collect())
            }
        }
    }

    fn devstatus(&mut self, job: Job, now: Instant) {
        match &mut self.devstatus {
            Some(probe) => probe.join(job),
            None => self.devstatus = Some(DevstatusProbe::begin(&self.uris, job, now)),
        }
    }

    fn probed(&mut self, uri: UriIndex, outcome: Result<(), String>) {
        let name = self.uris[uri.0].link.name();
        if self.devstatus.as_mut().is_some_and(|probe| probe.probed(uri, name, outcome)) {
            self.end_devstatus();
        }
    }

    fn end_devstatus(&mut self) {
        if let Some(probe) = self.devstatus.take() {
            probe.end(&self.uris);
        }
    }
}

impl<L: Link> Backend for LibvirtBackend<L> {
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
        let retries = std::mem::take(&mut self.retries);
        let (due, later): (Vec<_>, Vec<_>) = retries.into_iter().partition(|retry| now >= retry.at);
        self.retries = later;
        for Retry { fence, job, .. } in due {
            self.listing = None;
            self.fence(fence, job, now);
        }
        if self.devstatus.as_ref().is_some_and(|probe| now >= probe.deadline) {
            self.end_devstatus();
        }
        if self.listing.as_ref().is_some_and(|listing| listing.is_old(now)) {
            self.listing = None;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.retries.iter().map(|retry| retry.at).min();
        let devstatus = self.devstatus.as_ref().map(|probe| probe.deadline);
        retry.into_iter().chain(devstatus).min()
    }
}

/// Queries to the backend's URIs that identify a requester.
struct RequesterLookup<'a, L> {
    uris: &'a mut [Uri<L>],
    now: Instant,
}

impl<L: Link> DomainLookup for RequesterLookup<'_, L> {
    fn still_runs(&mut self, uri: UriIndex, vm: &DomainRun) -> LibvirtResult<bool> {
        let state = self.uris[uri.0].host(self.now)?.observe(&vm.domain.uuid.to_string())?;
        Ok(state.is_some_and(|state| state.id == Some(vm.id)))
    }

    fn has_name(&mut self, domain: &Domain) -> LibvirtResult<bool> {
        let Ok(target) = Target::new(domain.name.as_bytes()) else { return Ok(false) };
        match resolve(self.uris, &target, self.now) {
            Resolution::Found(vm) => Ok(Uuid::parse(&vm.uuid) == Some(domain.uuid)),
            Resolution::Unknown => Ok(false),
            Resolution::Failed(reason) => Err(LibvirtError::Other(reason)),
        }
    }
}
