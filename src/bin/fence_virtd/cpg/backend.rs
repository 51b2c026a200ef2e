//! The cpg backend: joins clients' requests, group events, and the libvirt backend of this host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::host_fencing::FencingLink;
use super::link::GroupLink;
use super::local_calls::{LocalCall, LocalCalls};
use super::served_log::ServedLog;
use crate::backend::libvirt::LibvirtBackend;
use crate::backend::{Backend, PendingCall};
use crate::inbox::{BackendSettings, ClusterSettings, DomainChange, Event};
use crate::job::Job;
use crate::libvirt::Link;
use crate::logging::Limiter;
use crate::power_journal::PowerJournal;
use crate::status::{ClusterState, HostFencingState};
use fence_virt::fence::{Operation, Target, Verdict};
use fence_virt::routing::{ClientId, JobId, Router};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// A job that waits for something the group has yet to tell.
pub(super) struct WaitingJob {
    /// Time at which the job is tried again in any case.
    pub(super) until: Instant,
    pub(super) job: Job,
}

/// The backend.
pub(crate) struct Cpg<L: Link> {
    pub(super) libvirt: LibvirtBackend<L>,
    pub(super) group: GroupLink,
    pub(super) router: Router,
    /// Fences of hosts, as pacemaker knows them.
    pub(super) fencing: FencingLink,
    /// The router waits for those fences.
    pub(super) awaits_fencing: bool,
    /// For the status report.
    pub(super) host_fence_delay: Option<Duration>,
    /// Requests of clients, by the number that the router knows them by.
    pub(super) clients: HashMap<ClientId, Job>,
    pub(super) next_client: u64,
    /// Calls on this host that the router has made.
    pub(super) local_calls: LocalCalls,
    /// Requests that wait until this node is a member of the group.
    pub(super) awaiting_join: Vec<WaitingJob>,
    /// Lists that wait until all members have advertised their VMs.
    pub(super) lists: Vec<WaitingJob>,
    /// Requests that no group permits by what is known of their VM so far.
    pub(super) awaiting_inventory: Vec<WaitingJob>,
    pub(super) notes: Limiter,
    pub(super) served: ServedLog,
    pub(super) is_lost: bool,
    /// The router has more actions than one turn may carry out.
    pub(super) has_more: bool,
    /// For the status report.
    pub(super) cluster_state: Arc<Mutex<ClusterState>>,
}

impl<L: Link> Cpg<L> {
    /// A backend with a router that has the rules of these settings.
    pub(super) fn new(
        libvirt: LibvirtBackend<L>,
        group: GroupLink,
        mut fencing: FencingLink,
        router: Router,
        settings: ClusterSettings,
    ) -> Cpg<L> {
        fencing.set_source(settings.host_fencing);
        let cpg = Cpg {
            libvirt,
            group,
            router,
            fencing,
            awaits_fencing: false,
            host_fence_delay: settings.rules.host_fence_delay,
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

    /// Records the power operations for other hosts in this journal.
    pub(super) fn recording_in(mut self, journal: PowerJournal) -> Cpg<L> {
        self.served.journal = journal;
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
            fencing: HostFencingState { fencer: self.fencing.state(), delay: self.host_fence_delay },
        };
    }
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
            let is_on =
                self.local_calls.get(call).is_some_and(|call| call.request.operation == Operation::On);
            let may_start = !is_on || self.router.may_start(target.as_str(), now);
            let must_run = is_on && self.router.is_seen_running_here(target.as_str());
            if let Some(job) = self.local_calls.job(call, is_sole_known_owner, must_run) {
                // The libvirt backend takes an `on` that only looks whether the VM runs for a question.
                let copies = if must_run { self.copies_of(&target, now) } else { Vec::new() };
                let held = self.libvirt.check_held(Operation::On, &copies).err();
                match job.stale(now) {
                    Some(stale) => job.refuse_stale(stale),
                    None if is_late => job.refuse(Verdict::Failure, "nothing is heard of the group"),
                    None if !may_start => {
                        job.refuse(Verdict::Failure, "another host runs the VM now, or may run it (a host is away, or there is no quorum)");
                    }
                    None => match held {
                        Some((verdict, reason)) => job.refuse(verdict, reason),
                        None => self.libvirt.begin(job, now),
                    },
                }
            }
        }
        self.settle(now);
    }

    fn knows(&mut self, target: &Target, now: Instant) -> Result<bool, String> {
        if self.router.knows(target.as_str()) { Ok(true) } else { self.libvirt.knows(target, now) }
    }

    fn adopt(&mut self, settings: BackendSettings, now: Instant) {
        if let Some(ClusterSettings { rules, host_fencing }) = settings.cluster {
            self.host_fence_delay = rules.host_fence_delay;
            // A request that waited for a fence may wait for the delay now.
            self.router.set_rules(rules, now);
            self.fencing.set_source(host_fencing);
            self.follow_fencer(now);
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
