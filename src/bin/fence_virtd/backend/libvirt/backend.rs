use std::collections::HashMap;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::contests::Contests;
use super::devstatus::DevstatusProbe;
use super::fence::Effect;
use super::last_runs::LastRuns;
use super::listing::{Listing, Lists};
use super::lookup::{LookupId, Lookups};
use super::proofs::Proofs;
use super::requester::RequesterLookup;
use super::resolve::{Resolution, Uri, find, resolve};
use super::vm_operation::VmOperations;
use crate::access::{Conflicts, Identified, Permissions, VmCopy, not_permitted};
use crate::backend::Backend;
use crate::inbox::{BackendSettings, DomainChange, Event, Message};
use crate::job::{CancelToken, Job, Requester};
use crate::libvirt::{CallId, CallOutcome, HeldVms, Link};
use crate::restraints::SharedRestraints;
use fence_virt::fence::{
    Answer, HostEntry, ListenerName, Operation, PowerState, Source, Target, UriIndex, Uuid, Verdict,
};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::LocalVm;
use fence_virt::time::Instant;

/// Maximum of requests in progress.
const JOBS_MAX: usize = 1024;
/// Interval of the checks for calls that are lost or late.
const LOST_INTERVAL: Duration = Duration::from_millis(500);

/// The libvirt backend, over links that tests can replace.
///
/// The worker makes the calls that libvirt answers at once itself. Those that may take
/// long, and those about VMs that such a call may hold, are made on lanes.
pub(crate) struct LibvirtBackend<L: Link> {
    pub(super) uris: Vec<Uri<L>>,
    permissions: Permissions,
    /// The worker's inbox, for the replies of listeners.
    pub(super) worker: Sender<Message>,
    /// VMs that calls may hold, for the watchers.
    pub(super) held: HeldVms,
    /// VM that a call on a lane may hold.
    pub(super) held_by: HashMap<CallId, Uuid>,
    pub(super) calls: HashMap<CallId, CallInProgress>,
    pub(super) next_call: u64,
    /// Outcomes of calls that could not be made.
    pub(super) ended: Vec<(CallId, CallOutcome)>,
    pub(super) lookups: Lookups,
    pub(super) contests: Contests,
    pub(super) proofs: Proofs,
    pub(super) vm_operations: VmOperations,
    pub(super) lists: Lists,
    pub(super) last_runs: LastRuns,
    pub(super) restraints: SharedRestraints,
    devstatus: Option<DevstatusProbe>,
}

/// Call in progress.
pub(super) struct CallInProgress {
    pub(super) uri: UriIndex,
    pub(super) began: Instant,
    pub(super) user: CallUser,
}

/// Purpose of a call.
pub(super) enum CallUser {
    Lookup(LookupId),
    PowerOff { uuid: String, placement: usize, given_up: CancelToken },
    Start { uuid: String, given_up: CancelToken },
    List,
}

impl<L: Link> LibvirtBackend<L> {
    /// Makes a backend with at most `max_parallel` lanes a URI.
    pub(crate) fn new(
        links: Vec<L>,
        max_parallel: usize,
        permissions: Permissions,
        worker: Sender<Message>,
        held: HeldVms,
    ) -> LibvirtBackend<L> {
        let uris: Vec<Uri<L>> = links.into_iter().map(|link| Uri::new(link, max_parallel)).collect();
        LibvirtBackend {
            lists: Lists::new(uris.len()),
            last_runs: LastRuns::new(uris.len()),
            uris,
            permissions,
            worker,
            held,
            held_by: HashMap::new(),
            calls: HashMap::new(),
            next_call: 0,
            ended: Vec::new(),
            lookups: Lookups::default(),
            contests: Contests::default(),
            proofs: Proofs::default(),
            vm_operations: VmOperations::default(),
            restraints: SharedRestraints::default(),
            devstatus: None,
        }
    }

    /// Checks that the groups permit a job's client its operation on a VM with these copies, on each by its
    /// UUID or by the name that it has at its place. Returns the names by which they do. `elsewhere` tells
    /// what other hosts have.
    pub(crate) fn permit(
        &self,
        job: &Job,
        copies: &[VmCopy],
        elsewhere: &Conflicts<'_>,
        now: Instant,
    ) -> Result<PermittedNames, (Verdict, String)> {
        let (listener, source) = match &job.requester {
            Requester::Client { listener, source, .. } => (listener, source),
            Requester::Cluster { permitted, .. } => {
                let is_permitted = |copy: &VmCopy| permitted.permit(&copy.name, &copy.uuid);
                return match copies.iter().all(is_permitted) {
                    true => Ok(permitted.clone()),
                    false => Err((Verdict::Denied, not_permitted(copies))),
                };
            }
        };
        let operation = job.request.operation;
        if let Some(permitted) = self.permissions.permit_source(listener, source, operation, copies) {
            return Ok(permitted);
        }
        let requester = self.identify(listener, source, elsewhere, now);
        if let Some(permitted) = self.permissions.permit(&requester, operation, copies) {
            return Ok(permitted);
        }
        Err(match requester.doubt {
            Some(doubt) => (
                Verdict::Failure,
                format!("cannot confirm that a group lists both requester and VM: {doubt}"),
            ),
            None => {
                let groups = self.permissions.describe_groups(&requester, operation, copies);
                let reasons = [Some(groups), requester.refused_name];
                (Verdict::Denied, reasons.into_iter().flatten().collect::<Vec<_>>().join("; "))
            }
        })
    }

    fn identify(
        &self,
        listener: &ListenerName,
        source: &Source,
        elsewhere: &Conflicts<'_>,
        now: Instant,
    ) -> Identified {
        self.permissions.identify(listener, source, &mut self.requester_lookup(elsewhere, now))
    }

    /// VM of a requester, if the transport or its CID tells.
    pub(super) fn vm_of(&self, source: &Source, now: Instant) -> Option<Uuid> {
        self.permissions.vm_of(source, &mut self.requester_lookup(&|_| Vec::new(), now))
    }

    fn requester_lookup<'a>(&'a self, elsewhere: &'a Conflicts<'a>, now: Instant) -> RequesterLookup<'a, L> {
        RequesterLookup { uris: &self.uris, vm_operations: &self.vm_operations, elsewhere, now }
    }

    /// Answers a list. One list serves all requests that were received before it began.
    fn list(&mut self, job: Job, now: Instant) {
        match self.lists.take_last(job.received) {
            Some(listing) => {
                self.answer_listing(job, &listing, now);
                self.lists.keep(listing);
            }
            None => self.lists.add(job),
        }
    }

    pub(super) fn answer_listing(&self, job: Job, listing: &Listing, now: Instant) {
        if listing.problems.len() == self.uris.len() {
            return job.finish(Verdict::Failure, listing.problems.join("; "));
        }
        self.answer_list(job, listing.vms.iter().cloned(), &listing.remarks(), &|_| Vec::new(), now);
    }

    /// Answers a list with the VMs that the groups permit its client to see, each under a name by which
    /// they do. The items are the copies of a VM each.
    pub(crate) fn answer_list(
        &self,
        job: Job,
        all: impl Iterator<Item = Vec<HostEntry>>,
        remarks: &[String],
        elsewhere: &Conflicts<'_>,
        now: Instant,
    ) {
        let Requester::Client { listener, source, .. } = &job.requester else {
            return job.finish(Verdict::Failure, "the cluster requests no lists");
        };
        let requester = self.identify(listener, source, elsewhere, now);
        let visible = |mut copies: Vec<HostEntry>| {
            copies.retain(|copy| self.permissions.shows(&requester, &copy.name, &copy.uuid));
            let runs = |copy: &HostEntry| copy.state == PowerState::Running;
            let shown = copies.iter().position(runs).unwrap_or_default();
            copies.into_iter().nth(shown)
        };
        let entries: Vec<HostEntry> = all.filter_map(visible).collect();
        if let Some(doubt) = requester.doubt.as_ref().filter(|_| entries.is_empty()) {
            // An empty list would mean that there are no VMs.
            return job.finish(Verdict::Failure, format_args!("cannot tell which VMs to list: {doubt}"));
        }
        let remarks: Vec<&str> = remarks.iter().chain(&requester.doubt).map(String::as_str).collect();
        let reason = match remarks.join(", ") {
            remarks if remarks.is_empty() => "complete".to_owned(),
            remarks => format!("perhaps incomplete: {remarks}"),
        };
        job.finish(Answer::HostList(entries), reason);
    }

    /// Returns the placements of a VM on all URIs; an error if they cannot be determined.
    pub(crate) fn find(&mut self, target: &Target, now: Instant) -> Result<Vec<(UriIndex, LocalVm)>, String> {
        if let Some(vm_operation) = self.vm_operations.named_by(target) {
            return vm_operation.vm.local_vms(Some(PowerState::Running));
        }
        let found = find(&self.uris, target, now);
        match resolve(&mut self.uris, target, found) {
            Resolution::Unknown => Ok(Vec::new()),
            Resolution::Failed(reason) => Err(reason),
            Resolution::Found(vm) => vm.local_vms(None),
        }
    }

    /// Remembers what the watcher of a URI saw: where a VM ran last, and where it has run at all, which counts
    /// if that URI falls silent.
    pub(crate) fn watched(&mut self, at: UriIndex, change: &DomainChange) {
        self.last_runs.apply(at, change);
        if self.uris.len() > 1 {
            self.uris[at.0].watched(change);
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

    /// Number of requests in progress.
    fn job_count(&self) -> usize {
        self.lookups.len() + self.contests.len() + self.vm_operations.job_count() + self.lists.job_count()
    }
}

impl<L: Link> Backend for LibvirtBackend<L> {
    fn begin(&mut self, job: Job, now: Instant) {
        if self.job_count() >= JOBS_MAX {
            return job
                .refuse(Verdict::Failure, format_args!("refused: {JOBS_MAX} requests are in progress"));
        }
        match job.request.operation {
            Operation::HostList => self.list(job, now),
            Operation::Devstatus => self.devstatus(job, now),
            Operation::Null => job.refuse(Verdict::Failure, "null is never carried out"),
            Operation::Off | Operation::Reboot | Operation::On | Operation::Status => {
                self.begin_on_vm(job, now);
            }
        }
        self.settle(now);
    }

    fn knows(&mut self, target: &Target, now: Instant) -> Result<bool, String> {
        if let Some(uri) = self.uris.iter().find(|uri| uri.is_slow(now)) {
            return Err(format!("{} is slow", uri.link.name()));
        }
        self.find(target, now).map(|found| !found.is_empty())
    }

    fn adopt(&mut self, settings: BackendSettings, _now: Instant) {
        self.permissions = settings.permissions;
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Probed { uri, outcome } => self.probed(uri, outcome),
            Event::CallEnded { uri, call, outcome } => {
                let Uri { link, lanes, .. } = &mut self.uris[uri.0];
                lanes.ended(link, call);
                self.call_ended(call, outcome, now);
            }
            Event::SignOfLife { operation, lived } => self.sign_of_life(operation, lived, now),
            Event::Domains { uri, change } => {
                self.watched(uri, &change);
                self.lists.apply(uri, change);
            }
            Event::Cluster => {}
        }
        self.settle(now);
    }

    fn turn(&mut self, now: Instant) {
        self.give_up_lost(now);
        self.turn_vm_operations(now);
        for (job, stale) in self.lists.turn(now) {
            job.refuse_stale(stale);
        }
        for lookup in self.lookups.take_stale(now) {
            self.abandon(&lookup);
            if let Some(operation) = lookup.admitted {
                self.contests.end(operation, Effect::None, now);
            }
            if let Some(stale) = lookup.job.stale(now) {
                lookup.job.refuse_stale(stale);
            }
        }
        self.rule(now);
        if self.devstatus.as_ref().is_some_and(|probe| now >= probe.deadline) {
            self.end_devstatus();
        }
        self.settle(now);
    }

    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let vm_operations = self.vm_operations.iter().filter_map(|vm_operation| vm_operation.deadline());
        let devstatus = self.devstatus.as_ref().map(|probe| probe.deadline);
        let lost = (!self.calls.is_empty()).then(|| now + LOST_INTERVAL);
        let others = [
            devstatus,
            lost,
            self.lookups.deadline(now),
            self.contests.deadline(now),
            self.proofs.deadline(),
            self.lists.deadline(now),
        ];
        vm_operations.chain(others.into_iter().flatten()).min()
    }

    fn stop(&mut self) {
        // Nothing more is begun.
        drop(self.lookups.take_all());
        drop(self.contests.take_all());
        drop(self.lists.take_all());
        self.vm_operations.iter_mut().for_each(|vm_operation| vm_operation.later.clear());
    }

    fn is_busy(&self) -> bool {
        self.vm_operations.iter().any(|vm_operation| vm_operation.is_awaited(Instant::now()))
    }
}
