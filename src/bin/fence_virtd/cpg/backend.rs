//! The cpg backend: joins clients' requests, group events, and the libvirt backend of this host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::warn;

use super::host_fencing::FencingLink;
use super::link::GroupLink;
use super::local_calls::{EndedCall, LocalCall, LocalCalls, LocalResult};
use super::served_log::{ServedLog, ServedRequest};
use super::shared::GroupEvent;
use crate::access::VmCopy;
use crate::backend::libvirt::LibvirtBackend;
use crate::backend::{Backend, PendingCall};
use crate::inbox::{BackendSettings, DomainChange, Event};
use crate::job::Job;
use crate::libvirt::Link;
use crate::logging::{Limiter, Suppressed};
use crate::status::{ClusterState, HostFencingState};
use fence_virt::fence::{Domain, Operation, Request, Target, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{
    ANSWER_LIMIT, ClientId, ClientRequest, ClusterCopy, ClusterList, Evidence, JobId, JobOutcome, OnBehalf,
    Router, RouterAction, SERVE_LIMIT,
};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Batches of group events that are handled before the next job has its turn.
const BATCHES: usize = 4;
/// Router actions that are carried out before the next job has its turn: each may be a libvirt call.
const ACTIONS_MAX: usize = 64;

/// Age of a request until which it waits for this node to become a member of the group, which mostly
/// takes milliseconds.
const JOIN_LIMIT: Duration = Duration::from_secs(2);

/// A job that waits for something the group has yet to tell.
struct WaitingJob {
    /// Time at which the job is tried again in any case.
    until: Instant,
    job: Job,
}

/// The backend.
pub(crate) struct Cpg<L: Link> {
    libvirt: LibvirtBackend<L>,
    group: GroupLink,
    router: Router,
    /// Fences of hosts, unless pacemaker is not asked.
    fencing: Option<FencingLink>,
    host_fence_delay: Option<u32>,
    /// Requests of clients, by the number that the router knows them by.
    clients: HashMap<ClientId, Job>,
    next_client: u64,
    /// Calls on this host that the router has made.
    local_calls: LocalCalls,
    /// Requests that wait until this node is a member of the group.
    awaiting_join: Vec<WaitingJob>,
    /// Lists that wait until all members have advertised their VMs.
    lists: Vec<WaitingJob>,
    /// Requests that no group permits by what is known of their VM so far.
    awaiting_inventory: Vec<WaitingJob>,
    notes: Limiter,
    served: ServedLog,
    is_lost: bool,
    /// The router has more actions than one turn may carry out.
    has_more: bool,
    /// For the status report.
    cluster_state: Arc<Mutex<ClusterState>>,
}

impl<L: Link> Cpg<L> {
    pub(super) fn new(libvirt: LibvirtBackend<L>, group: GroupLink, router: Router) -> Cpg<L> {
        let cpg = Cpg {
            libvirt,
            group,
            router,
            fencing: None,
            host_fence_delay: None,
            clients: HashMap::new(),
            next_client: 0,
            local_calls: LocalCalls::default(),
            awaiting_join: Vec::new(),
            lists: Vec::new(),
            awaiting_inventory: Vec::new(),
            notes: Limiter::new(20, Duration::from_millis(500), Instant::now()),
            served: ServedLog::new(Instant::now()),
            is_lost: false,
            has_more: false,
            cluster_state: Arc::default(),
        };
        cpg.report();
        cpg
    }

    /// Adds the sources of knowledge about lost hosts.
    pub(super) fn with_host_fencing(
        mut self,
        fencing: Option<FencingLink>,
        host_fence_delay: Option<u32>,
    ) -> Cpg<L> {
        self.fencing = fencing;
        self.host_fence_delay = host_fence_delay;
        self.report();
        self
    }

    /// State of this host in the cluster, kept up to date for the status report.
    pub(crate) fn cluster_state(&self) -> Arc<Mutex<ClusterState>> {
        self.cluster_state.clone()
    }

    fn report(&self) {
        *lock(&self.cluster_state) = ClusterState {
            alone: self.router.not_joined().map(str::to_owned),
            members: self.router.members(),
            under_way: self.router.under_way(),
            fencing: HostFencingState {
                fencer: self.fencing.as_ref().map(FencingLink::state),
                delay: self.host_fence_delay,
            },
        };
    }

    /// Begins a request, or lets it wait for this node to become a member of the group.
    fn admit(&mut self, job: Job, now: Instant) {
        let until = job.received + JOIN_LIMIT;
        if self.router.is_joining() && now < until {
            return self.awaiting_join.push(WaitingJob { until, job });
        }
        match job.request.operation {
            Operation::HostList => self.list(job, now),
            Operation::Devstatus => self.devstatus(job, now),
            Operation::Null => job.refuse(Verdict::Failure, "null is never carried out"),
            Operation::Off | Operation::On | Operation::Reboot | Operation::Status => {
                self.ask(job, false, now);
            }
        }
    }

    /// Resumes requests that waited for this node to become a member of the group.
    fn resume_joining(&mut self, now: Instant) {
        for WaitingJob { job, .. } in std::mem::take(&mut self.awaiting_join) {
            match job.stale(now) {
                Some(stale) => job.refuse_stale(stale),
                None => self.admit(job, now),
            }
        }
    }

    /// Begins a client's request for one VM. `is_last` means that its VM was waited for.
    fn ask(&mut self, job: Job, is_last: bool, now: Instant) {
        let target = job.request.target.clone();
        if self.router.not_joined().is_none() && !self.router.knows(target.as_str()) {
            // The VM may be so new that no event has announced it.
            match self.libvirt.find(&target, now) {
                Ok(found) => found.into_iter().for_each(|(uri, vm)| self.router.find(uri, vm, now)),
                Err(reason) => {
                    let reason = format!("no host of the cluster has announced the VM, and here: {reason}");
                    return job.refuse(Verdict::Failure, reason);
                }
            }
        }
        let permitted =
            match self.libvirt.permit(&job, &self.copies_of(&target, now), &|vm| self.conflicts(vm), now) {
                Ok(permitted) => permitted,
                Err((verdict, reason)) => {
                    // A group may list its UUID or name, which is not known yet.
                    let is_known = is_last || self.router.knows(target.as_str());
                    let until = if is_known { None } else { self.router.seek(target.as_str(), now) };
                    return match until.filter(|&until| now < until) {
                        Some(until) => self.awaiting_inventory.push(WaitingJob { until, job }),
                        None => job.refuse(verdict, reason),
                    };
                }
            };
        let client = ClientId(self.next_client);
        self.next_client += 1;
        let request = job.request.clone();
        let received = job.received;
        self.clients.insert(client, job);
        self.router.ask(ClientRequest { client, request, permitted, received }, now);
    }

    /// Copies of the VM that a request names, by what the members have told; one of that name if they have
    /// told none.
    fn copies_of(&self, target: &Target, now: Instant) -> Vec<VmCopy> {
        let text = target.as_str();
        let copies: Vec<VmCopy> = self.router.copies_of(text, now).into_iter().map(vm_copy).collect();
        if copies.is_empty() {
            // In a group, what reads as a UUID stands for the VM that has it, and for no name.
            let uuid = if self.router.is_name_only(text) { "" } else { text };
            return vec![VmCopy { place: String::new(), name: text.to_owned(), uuid: uuid.to_owned() }];
        }
        copies
    }

    /// VMs of other hosts that have the name of this VM, or its UUID and another name.
    fn conflicts(&self, vm: &Domain) -> Vec<VmCopy> {
        self.router.conflicts(vm).into_iter().map(vm_copy).collect()
    }

    /// Resumes requests that waited for their VM to be advertised.
    fn resume_requests(&mut self, now: Instant) {
        for WaitingJob { until, job } in std::mem::take(&mut self.awaiting_inventory) {
            let is_over = now >= until || self.router.not_joined().is_some();
            if let Some(stale) = job.stale(now) {
                job.refuse_stale(stale);
            } else if is_over || self.router.knows(job.request.target.as_str()) {
                self.ask(job, true, now);
            } else {
                self.awaiting_inventory.push(WaitingJob { until, job });
            }
        }
    }

    fn list(&mut self, job: Job, now: Instant) {
        match self.router.list(now) {
            ClusterList::Complete(vms) => {
                self.libvirt.answer_list(job, vms.into_iter(), &[], &|vm| self.conflicts(vm), now);
            }
            ClusterList::RetryAt(until) => self.lists.push(WaitingJob { until, job }),
            ClusterList::NotJoined(reason) => job.finish(Verdict::Failure, not_joined(&reason)),
        }
    }

    /// Resumes lists: the last member may advertise its VMs at any time, and one that
    /// cannot be heard does not hold them up for ever.
    fn resume_lists(&mut self, now: Instant) {
        for WaitingJob { job, .. } in std::mem::take(&mut self.lists) {
            if let Some(stale) = job.stale(now) {
                job.refuse(Verdict::Failure, stale);
            } else if now >= job.received + ANSWER_LIMIT {
                job.finish(Verdict::Failure, "not all hosts have advertised their VMs");
            } else {
                self.list(job, now);
            }
        }
    }

    fn devstatus(&mut self, job: Job, now: Instant) {
        if let Some(reason) = self.router.not_joined() {
            return job.finish(Verdict::Failure, not_joined(reason));
        }
        if self.group.is_unresponsive() {
            return job.finish(Verdict::Failure, "corosync does not answer");
        }
        self.libvirt.begin(job, now);
    }

    /// Handles what the group has delivered, at most `BATCHES` batches.
    fn fetch(&mut self, now: Instant) {
        for _ in 0..BATCHES {
            match self.group.fetch() {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch.into_iter().for_each(|event| self.hear(event, now)),
                Err(reason) => {
                    if !std::mem::replace(&mut self.is_lost, true) {
                        self.router.lost(&reason);
                    }
                    break;
                }
            }
        }
        let is_behind = self.group.is_behind();
        self.router.set_undelivered(is_behind, now);
        // A host that was fenced may be back, and the group has said so.
        if let Some(fencing) = self.fencing.as_mut().filter(|_| !is_behind) {
            fencing.fenced(now).into_iter().for_each(|node| self.router.host_fenced(node, now));
        }
    }

    fn hear(&mut self, event: GroupEvent, now: Instant) {
        if let Some(fencing) = &mut self.fencing {
            fencing.hear(&event);
        }
        match event {
            GroupEvent::Joined(me) => self.router.joined(me, now),
            GroupEvent::Lost(reason) => self.router.lost(&reason),
            GroupEvent::Changed(membership) => self.router.changed(&membership, now),
            GroupEvent::Unsent(request) => self.router.unsent(request, now),
            GroupEvent::Quorum { is_quorate, nodes } => self.router.votes(is_quorate, &nodes, now),
            GroupEvent::Configured(nodes) => self.router.configured(nodes, now),
            GroupEvent::Message { from, bytes, at, is_old } => {
                self.router.heard(from, &bytes, at, is_old, now);
            }
        }
    }

    /// Carries out the router's actions until there are no more, or enough for one turn.
    fn settle(&mut self, now: Instant) {
        let mut left = ACTIONS_MAX;
        loop {
            let ended = self.local_calls.take_ended();
            let mut is_quiet = ended.is_empty();
            for EndedCall { call, result } in ended {
                if let Some(node) = call.node {
                    let Request { operation, target, .. } = &call.request;
                    let LocalResult { verdict, reason, .. } = &result;
                    self.served.log(
                        &ServedRequest {
                            node,
                            operation: *operation,
                            name: target.as_str(),
                            verdict: *verdict,
                            reason,
                            received: call.received,
                        },
                        now,
                    );
                }
                let LocalResult { id, verdict, evidence, reason } = result;
                self.router.done(id, JobOutcome { verdict, evidence, reason }, now);
            }
            // Messages that expired before they were taken may lead to further actions.
            while self.group.has_room() {
                let Some(message) = self.router.next_message(now) else { break };
                self.group.send(message);
            }
            while left > 0 {
                let Some(action) = self.router.next_action() else { break };
                is_quiet = false;
                left -= 1;
                self.act(action, now);
            }
            self.has_more = left == 0;
            if self.has_more || is_quiet {
                return;
            }
        }
    }

    fn act(&mut self, action: RouterAction, now: Instant) {
        match action {
            RouterAction::Begin { job, operation, name, on_behalf, permitted, expires } => {
                // A name that no client can ask for is no VM's.
                match Target::new(name.as_bytes()) {
                    Ok(target) => {
                        let request = Request { operation, target, seqno: 0 };
                        let call = self.local_call(request, permitted, on_behalf, expires, now);
                        self.local_calls.add(job, call);
                    }
                    Err(error) => {
                        let (verdict, evidence, reason) =
                            (Verdict::Failure, Evidence::None, error.to_string());
                        self.router.done(job, JobOutcome { verdict, evidence, reason }, now);
                    }
                }
            }
            RouterAction::Find { job, name } => {
                let found = match Target::new(name.as_bytes()) {
                    Ok(target) => self.libvirt.find(&target, now),
                    Err(_) => Ok(Vec::new()),
                };
                self.router.found(job, found, now);
            }
            RouterAction::HangUp { job } => self.local_calls.cancel(job),
            RouterAction::Answer { client, verdict, reason, is_begun } => {
                if let Some(job) = self.clients.remove(&client) {
                    if is_begun { job.finish(verdict, reason) } else { job.refuse(verdict, reason) }
                }
            }
            RouterAction::Replied { node, operation, name, verdict, reason, received } => {
                let served =
                    ServedRequest { node, operation, name: &name, verdict, reason: &reason, received };
                self.served.log(&served, now);
            }
            RouterAction::Note(text) => {
                if let Some(left_out) = self.notes.allow(now) {
                    warn!("cpg: {text}{}", Suppressed(left_out));
                }
            }
        }
    }

    fn local_call(
        &self,
        request: Request,
        permitted: PermittedNames,
        on_behalf: OnBehalf,
        expires: Instant,
        now: Instant,
    ) -> LocalCall {
        let client = match on_behalf {
            OnBehalf::Client(client) => self.clients.get(&client),
            OnBehalf::Node(_) => None,
        };
        // The router cancels the call alone; the client's hang-up cancels it too.
        let parent = client.map(|client| client.cancel.clone()).unwrap_or_default();
        // A node's request is carried out within this time of its delivery.
        let delivered = expires.checked_sub(SERVE_LIMIT).unwrap_or(now).min(now);
        let received = client.map_or(delivered, |client| client.received);
        let caller = client.and_then(|client| client.caller.clone());
        let node = if let OnBehalf::Node(node) = on_behalf { Some(node) } else { None };
        LocalCall { request, permitted, received, expires, cancel: parent.child(), caller, node }
    }
}

fn vm_copy(copy: ClusterCopy) -> VmCopy {
    let place = copy.place();
    VmCopy { place, name: copy.name, uuid: copy.uuid.to_string() }
}

fn not_joined(reason: &str) -> String {
    format!("this node is not in the cluster's group: {reason}")
}

impl<L: Link> Backend for Cpg<L> {
    fn begin(&mut self, job: Job, now: Instant) {
        // Events may have come while the worker was in a libvirt call.
        self.fetch(now);
        // Those that have waited go first.
        self.resume_joining(now);
        self.admit(job, now);
        self.settle(now);
    }

    fn next_local_call(&mut self) -> Option<PendingCall> {
        self.local_calls.next_pending()
    }

    fn begin_local_call(&mut self, call: JobId, now: Instant) {
        self.fetch(now);
        if let Some(target) = self.local_calls.get(call).map(|call| call.request.target.clone()) {
            let is_sole_known_owner = self.router.is_sole_known_owner(target.as_str());
            // What another host asked for may be settled by what was not heard.
            let is_late =
                self.group.has_paused() && self.local_calls.get(call).is_some_and(LocalCall::is_of_host);
            let may_start = self.router.may_start(target.as_str());
            if let Some(job) = self.local_calls.job(call, is_sole_known_owner) {
                match job.stale(now) {
                    Some(stale) => job.refuse_stale(stale),
                    None if is_late => job.refuse(Verdict::Failure, "nothing is heard of the group"),
                    None if job.request.operation == Operation::On && !may_start => {
                        job.refuse(Verdict::Failure, "another host runs the VM by now");
                    }
                    None => self.libvirt.begin(job, now),
                }
            }
        }
        self.settle(now);
    }

    fn adopt(&mut self, settings: BackendSettings, now: Instant) {
        if let Some(rules) = settings.rules {
            self.router.set_rules(rules, now);
        }
        self.libvirt.adopt(settings, now);
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Domains { uri, change } => {
                self.libvirt.watched(uri, &change);
                match change {
                    DomainChange::All(vms) => self.router.listed(uri, vms, now),
                    DomainChange::One(vm) => self.router.seen(uri, vm, now),
                    DomainChange::Gone(uuid) => self.router.vanished(uri, uuid, now),
                    DomainChange::Lost => self.router.unlisted(uri),
                }
            }
            // Every turn fetches.
            Event::Cluster => {}
            Event::Probed { .. } | Event::CallEnded { .. } | Event::SignOfLife { .. } => {
                self.libvirt.event(event, now)
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        self.fetch(now);
        self.router.turn(now);
        self.resume_joining(now);
        self.resume_requests(now);
        self.resume_lists(now);
        self.libvirt.turn(now);
        self.settle(now);
        self.report();
    }

    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.has_more || self.group.has_events() {
            return Some(now);
        }
        let waiting = self.awaiting_join.iter().chain(&self.lists).chain(&self.awaiting_inventory);
        let waiting = waiting.map(|waiting| waiting.until);
        waiting.chain(self.router.deadline(now)).chain(self.libvirt.deadline()).min()
    }

    fn stop(&mut self) {
        self.router.stop();
        self.libvirt.stop();
        self.awaiting_join.clear();
        self.lists.clear();
        self.awaiting_inventory.clear();
        self.settle(Instant::now());
    }

    fn is_busy(&self) -> bool {
        self.libvirt.is_busy() || self.has_more || self.local_calls.has_pending()
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
