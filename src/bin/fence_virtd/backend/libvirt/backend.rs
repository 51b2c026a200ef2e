use std::collections::HashMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::contests::Contests;
use super::devstatus::DevstatusProbe;
use super::fence::Effect;
use super::listing::{Listing, Lists};
use super::lookup::{Lookup, LookupId, Lookups};
use super::requester::RequesterLookup;
use super::resolve::{Resolution, ResolvedVm, Uri, find, resolve};
use super::verdicts;
use super::vm_operation::VmOperations;
use crate::access::{Identified, Permissions};
use crate::backend::Backend;
use crate::inbox::{Event, Message};
use crate::job::{CancelToken, Job, Requester};
use crate::libvirt::{Call, CallId, CallOutcome, GONE, HeldVms, LibvirtError, Link};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{
    Answer, HostEntry, ListenerName, Operation, PowerState, Source, Target, UriIndex, Uuid, Verdict,
};
use fence_virt::routing::LocalVm;

/// Maximum of requests in progress.
const JOBS_MAX: usize = 1024;
/// Time after the loss of a URI at which its calls are given up: those that were in
/// progress have failed by then, and the others wait for a connection.
const LOST: Duration = Duration::from_secs(3);
/// Interval of the checks for that.
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
    held: HeldVms,
    /// VM that a call on a lane may hold.
    held_by: HashMap<CallId, Uuid>,
    pub(super) calls: HashMap<CallId, CallInProgress>,
    next_call: u64,
    /// Outcomes of calls that could not be made.
    ended: Vec<(CallId, CallOutcome)>,
    lookups: Lookups,
    pub(super) contests: Contests,
    pub(super) vm_operations: VmOperations,
    pub(super) lists: Lists,
    devstatus: Option<DevstatusProbe>,
}

/// Call in progress.
pub(super) struct CallInProgress {
    uri: UriIndex,
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
            vm_operations: VmOperations::default(),
            devstatus: None,
        }
    }

    /// Makes a call on a lane. Its outcome is handled when this turn settles, or later.
    pub(super) fn submit(&mut self, at: UriIndex, call: Call, vm: &str, user: CallUser) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(id, CallInProgress { uri: at, user });
        let uri = &mut self.uris[at.0];
        match uri.link.check_open() {
            Ok(()) => {
                if let Some(vm) = call.held_vm() {
                    self.held.hold(vm);
                    self.held_by.insert(id, vm);
                }
                uri.lanes.submit(&uri.link, id, call, vm);
            }
            Err(error) => self.ended.push((id, call.fail(error))),
        }
        id
    }

    /// Handles the outcomes that have come, until there are no more.
    fn settle(&mut self, now: Instant) {
        loop {
            let mut ended = std::mem::take(&mut self.ended);
            self.uris.iter_mut().for_each(|uri| ended.extend(uri.lanes.take_failed()));
            let lookups = self.lookups.take_complete(now);
            let listing = self.lists.end(&mut self.uris, &self.vm_operations, now);
            if ended.is_empty() && lookups.is_empty() && listing.is_none() {
                if self.begin_list(now) { continue } else { return }
            }
            for (id, outcome) in ended {
                self.call_ended(id, outcome, now);
            }
            for mut lookup in lookups {
                self.abandon(&lookup);
                let found = lookup.take_found();
                let resolution = resolve(&mut self.uris, &lookup.job.request.target, found);
                self.looked_up(lookup.job, lookup.admitted, resolution, now);
            }
            if let Some((listing, jobs)) = listing {
                jobs.into_iter().for_each(|job| self.answer_listing(job, &listing, now));
                self.lists.keep(listing);
            }
        }
    }

    fn call_ended(&mut self, id: CallId, outcome: CallOutcome, now: Instant) {
        self.release(id);
        let Some(CallInProgress { uri, user }) = self.calls.remove(&id) else { return };
        match (user, outcome) {
            (CallUser::Lookup(lookup), CallOutcome::Domains(found)) => {
                self.lookups.record(lookup, uri, found)
            }
            (CallUser::List, CallOutcome::Domains(found)) => self.lists.record(uri, id, found),
            (CallUser::PowerOff { uuid, placement, .. }, CallOutcome::PoweredOff(result)) => {
                self.powered_off(&uuid, placement, Ok(result), now);
            }
            (CallUser::Start { uuid, .. }, CallOutcome::Started(outcome)) => {
                self.started(&uuid, outcome, now)
            }
            _ => log::error!("a libvirt call has an outcome of another kind"),
        }
    }

    /// Lets the watchers ask again about the VM of a call that has ended.
    fn release(&mut self, id: CallId) {
        if let Some(vm) = self.held_by.remove(&id) {
            self.held.release(vm);
        }
    }

    /// Gives up the calls of URIs that are lost. A call that is given up may still be made
    /// once libvirtd is back, but it destroys and starts nothing.
    fn give_up_lost(&mut self, now: Instant) {
        for at in 0..self.uris.len() {
            let Some(error) = self.uris[at].lost_for(LOST, now) else { continue };
            let lost = self.calls.iter().filter(|(_, call)| call.uri.0 == at).map(|(&id, _)| id);
            let mut lost: Vec<CallId> = lost.collect();
            lost.sort();
            for id in lost {
                self.give_up(id, error.clone(), now);
            }
        }
    }

    fn give_up(&mut self, id: CallId, error: LibvirtError, now: Instant) {
        let Some(CallInProgress { uri, user }) = self.calls.remove(&id) else { return };
        let Uri { link, lanes, .. } = &mut self.uris[uri.0];
        if lanes.withdraw(link, id) {
            self.release(id);
        }
        match user {
            CallUser::Lookup(lookup) => self.lookups.record(lookup, uri, Err(error)),
            CallUser::List => self.lists.record(uri, id, Err(error)),
            CallUser::PowerOff { uuid, placement, given_up } => {
                given_up.cancel();
                self.powered_off(&uuid, placement, Err(error), now);
            }
            CallUser::Start { uuid, given_up } => {
                given_up.cancel();
                self.started(&uuid, Err(error), now);
            }
        }
    }

    /// Begins the lookup of the VM that a request names.
    pub(super) fn look_up(&mut self, job: Job, admitted: Option<OperationId>, now: Instant) {
        let target = job.request.target.clone();
        let id = self.lookups.begin(job, admitted, self.uris.len(), now);
        for at in (0..self.uris.len()).map(UriIndex) {
            // With several URIs, one that does not answer holds up no VM of the others.
            match self.uris[at.0].check_late(now) {
                Err(error) if self.uris.len() > 1 => self.lookups.record(id, at, Err(error)),
                _ => drop(self.submit(at, Call::Find(target.clone()), target.as_str(), CallUser::Lookup(id))),
            }
        }
    }

    /// Gives up the calls of a lookup that have not ended: those that wait for a lane are not made.
    fn abandon(&mut self, lookup: &Lookup) {
        if lookup.is_over() {
            return;
        }
        let is_its = |call: &CallInProgress| matches!(call.user, CallUser::Lookup(id) if id == lookup.id);
        let calls = self.calls.iter().filter(|(_, call)| is_its(call)).map(|(&id, call)| (id, call.uri));
        for (id, uri) in calls.collect::<Vec<_>>() {
            self.calls.remove(&id);
            let Uri { link, lanes, .. } = &mut self.uris[uri.0];
            lanes.withdraw(link, id);
        }
    }

    /// Goes on with a request whose VM was looked up.
    fn looked_up(&mut self, job: Job, admitted: Option<OperationId>, resolution: Resolution, now: Instant) {
        let vm = match self.check(&job, resolution, now) {
            Ok(vm) => vm,
            Err((verdict, reason)) => {
                admitted.into_iter().for_each(|operation| self.contests.end(operation, Effect::None, now));
                job.refuse(verdict, reason);
                return self.rule(now);
            }
        };
        match (job.request.operation, admitted) {
            (Operation::Status, _) => {
                let (verdict, reason) = verdicts::status(&self.uris, &vm, &job);
                job.finish(verdict, reason);
            }
            (Operation::On, _) => self.on(job, vm),
            (_, Some(operation)) => self.power_off(job, vm, operation, now),
            (_, None) if self.vm_operations.get(&vm.uuid).is_some() => self.join(job, &vm.uuid, now),
            (_, None) => self.contest(job, vm, now),
        }
    }

    /// Checks that somebody waits for a request, that the groups permit it, and that its VM is known.
    fn check(
        &mut self,
        job: &Job,
        resolution: Resolution,
        now: Instant,
    ) -> Result<ResolvedVm, (Verdict, String)> {
        if let Some(stale) = job.stale(now) {
            return Err((Verdict::Failure, format!("not begun: {stale}")));
        }
        match resolution {
            Resolution::Found(vm) => {
                self.permit(job, &[&vm.name, &vm.uuid], now)?;
                Ok(vm)
            }
            Resolution::Failed(reason) => Err((Verdict::Failure, reason)),
            Resolution::Unknown => {
                self.permit(job, &[job.request.target.as_str()], now)?;
                if matches!(job.requester, Requester::Cluster { .. }) {
                    // This host had the VM, or the cluster would not ask it.
                    return Err((Verdict::Failure, GONE.to_owned()));
                }
                let is_status = job.request.operation == Operation::Status;
                let verdict = if is_status { Verdict::Off } else { Verdict::Failure };
                Err((verdict, "no such VM".to_owned()))
            }
        }
    }

    /// Begins a request for one VM.
    fn begin_on_vm(&mut self, job: Job, now: Instant) {
        let target = &job.request.target;
        self.uris.iter_mut().for_each(Uri::take_inventory);
        // A name that VMs of several URIs have is ambiguous.
        let is_unique = |vm: &ResolvedVm| !self.uris.iter().any(|uri| uri.has_other(target, &vm.uuid));
        let named = self.vm_operations.named_by(target);
        if let Some(vm_operation) = named.filter(|vm_operation| is_unique(&vm_operation.vm)) {
            let names = [vm_operation.vm.name.clone(), vm_operation.vm.uuid.clone()];
            let state = vm_operation.state();
            if let Err((verdict, reason)) = self.permit(&job, &[&names[0], &names[1]], now) {
                return job.refuse(verdict, reason);
            }
            return match job.request.operation {
                Operation::Status => job.finish(Verdict::Success, state),
                _ => self.join(job, &names[1], now),
            };
        }
        let is_status = job.request.operation == Operation::Status;
        if !is_status || self.lookups.has(target) || self.uris.iter().any(|uri| uri.is_slow(now)) {
            return self.look_up(job, None, now);
        }
        let found = find(&self.uris, target, now);
        let resolution = resolve(&mut self.uris, target, found);
        self.looked_up(job, None, resolution, now);
    }

    /// Checks that the groups permit a job's client access to the VM with these names.
    pub(crate) fn permit(&self, job: &Job, names: &[&str], now: Instant) -> Result<(), (Verdict, String)> {
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

    fn identify(&self, listener: &ListenerName, source: &Source, now: Instant) -> Identified {
        self.permissions.identify(listener, source, &mut self.requester_lookup(now))
    }

    /// VM of a requester, if the transport or its CID tells.
    pub(super) fn vm_of(&self, source: &Source, now: Instant) -> Option<Uuid> {
        self.permissions.vm_of(source, &mut self.requester_lookup(now))
    }

    fn requester_lookup(&self, now: Instant) -> RequesterLookup<'_, L> {
        RequesterLookup { uris: &self.uris, vm_operations: &self.vm_operations, now }
    }

    /// Begins the lists that requests wait for; false if there is nothing to begin.
    fn begin_list(&mut self, now: Instant) -> bool {
        let holds = |uri| self.vm_operations.iter().any(|vm_operation| vm_operation.holds(uri));
        let Some(uris) = self.lists.begin(holds, now) else { return false };
        for uri in uris {
            let call = self.submit(uri, Call::List, "", CallUser::List);
            self.lists.began_call(uri, call);
        }
        true
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

    fn answer_listing(&self, job: Job, listing: &Listing, now: Instant) {
        if listing.problems.len() == self.uris.len() {
            return job.finish(Verdict::Failure, listing.problems.join("; "));
        }
        let all = listing.vms.iter().map(|vm| HostEntry {
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            state: vm.state.power,
        });
        self.answer_list(job, all, &listing.remarks(), now);
    }

    /// Answers a list with the VMs that the groups permit its client to see.
    pub(crate) fn answer_list(
        &self,
        job: Job,
        all: impl Iterator<Item = HostEntry>,
        remarks: &[String],
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

    fn adopt(&mut self, permissions: Permissions) {
        self.permissions = permissions;
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
            Event::Domains { uri, change } => self.lists.apply(uri, change),
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
