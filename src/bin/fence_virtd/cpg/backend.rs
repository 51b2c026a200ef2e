//! Brings together requests, the group, and libvirt.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::warn;

use crate::access::Permissions;
use crate::backend::libvirt::Libvirt;
use crate::backend::{Backend, Event, Seen};
use crate::cpg::{GroupLink, Tidings};
use crate::job::{Asker, Caller, Job, Outcome, Ticket};
use crate::libvirt::Link;
use crate::logging::{LeftOut, Limiter};
use crate::status::ClusterState;
use fence_virt::fence::{Answer, Operation, Request, Target, Verdict};
use fence_virt::routing::{ANSWER_LIMIT, ClientId, ClusterList, JobId, OnBehalf, Router, RouterAction};

/// How many batches of the group are read before the next job has its turn.
const BATCHES: usize = 4;
/// How many things the router has done here before the next job has its turn:
/// each may be a call of libvirt.
const ACTIONS_MAX: usize = 64;

/// The backend.
pub(crate) struct Cpg<L> {
    libvirt: Libvirt<L>,
    group: GroupLink,
    router: Router,
    /// Requests of clients, by the number that the router knows them by.
    clients: HashMap<ClientId, Job>,
    next_client: u64,
    /// Jobs for the worker, in which the router has a part of a request carried out.
    jobs: VecDeque<Job>,
    callers: HashMap<JobId, Caller>,
    outcomes: (Sender<Outcome>, Receiver<Outcome>),
    /// Lists that wait until all members have told their VMs.
    lists: Vec<(Instant, Job)>,
    /// Requests that no group permits as far as their VM is known, until it is told or for so long.
    sought: Vec<(Instant, Job)>,
    notes: Limiter,
    is_lost: bool,
    /// The router may want more done.
    has_more: bool,
    /// For reports.
    standing: Arc<Mutex<ClusterState>>,
}

impl<L: Link> Cpg<L> {
    pub(crate) fn new(libvirt: Libvirt<L>, group: GroupLink, router: Router) -> Cpg<L> {
        Cpg {
            libvirt,
            group,
            router,
            clients: HashMap::new(),
            next_client: 0,
            jobs: VecDeque::new(),
            callers: HashMap::new(),
            outcomes: unbounded(),
            lists: Vec::new(),
            sought: Vec::new(),
            notes: Limiter::new(20, Duration::from_millis(500), Instant::now()),
            is_lost: false,
            has_more: false,
            standing: Arc::default(),
        }
    }

    /// How this host stands in the cluster, as it is kept for reports.
    pub(crate) fn standing(&self) -> Arc<Mutex<ClusterState>> {
        self.standing.clone()
    }

    fn report(&self) {
        let (members, under_way) = (self.router.members(), self.router.under_way());
        let alone = self.router.not_joined().map(str::to_owned);
        // Nothing panics while it holds the lock.
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) =
            ClusterState { alone, members, under_way };
    }

    /// Takes up a client's request for one VM. `is_last` says that its VM was
    /// waited for.
    fn ask(&mut self, job: Job, is_last: bool, now: Instant) {
        let target = job.request.target.clone();
        if self.router.not_joined().is_none() && !self.router.knows(target.as_str()) {
            // It may be so new that no event has told of it.
            match self.libvirt.find(&target, now) {
                Ok(found) => found.into_iter().for_each(|(place, vm)| self.router.find(place, vm, now)),
                Err(reason) => {
                    let reason = format!("no host of the cluster has told it, and here: {reason}");
                    return job.refuse(Verdict::Failure, reason);
                }
            }
        }
        let names = self.router.names_of(target.as_str());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Err((verdict, reason)) = self.libvirt.permit(&job, &names, now) {
            // A group may have its UUID, or its name, which is not known yet.
            let is_known = is_last || self.router.knows(target.as_str());
            let until = if is_known { None } else { self.router.seek(target.as_str(), now) };
            return match until.filter(|&until| now < until) {
                Some(until) => self.sought.push((until, job)),
                None => job.refuse(verdict, reason),
            };
        }
        let client = ClientId(self.next_client);
        self.next_client += 1;
        let (request, received) = (job.request.clone(), job.received);
        self.clients.insert(client, job);
        self.router.ask(client, &request, received, now);
    }

    /// Takes up again what waited for its VM to be told.
    fn resume(&mut self, now: Instant) {
        for (until, job) in std::mem::take(&mut self.sought) {
            let is_over = now >= until || self.router.not_joined().is_some();
            if let Some(stale) = job.stale(now) {
                job.refuse(Verdict::Failure, format_args!("not begun: {stale}"));
            } else if is_over || self.router.knows(job.request.target.as_str()) {
                self.ask(job, true, now);
            } else {
                self.sought.push((until, job));
            }
        }
    }

    fn list(&mut self, job: Job, now: Instant) {
        match self.router.list(now) {
            ClusterList::Complete(entries) => self.libvirt.answer_list(job, entries.into_iter(), &[], now),
            ClusterList::RetryAt(at) => self.lists.push((at, job)),
            ClusterList::NotJoined(reason) => job.finish(Verdict::Failure, alone(&reason)),
        }
    }

    /// Takes up again the lists that wait: the last member to tell its VMs may do
    /// so at any time, and one that cannot be heard does not keep them for ever.
    fn resume_lists(&mut self, now: Instant) {
        for (_, job) in std::mem::take(&mut self.lists) {
            if let Some(stale) = job.stale(now) {
                job.refuse(Verdict::Failure, stale);
            } else if now >= job.received + ANSWER_LIMIT {
                job.finish(Verdict::Failure, "not all hosts have told their VMs");
            } else {
                self.list(job, now);
            }
        }
    }

    fn devstatus(&mut self, job: Job, now: Instant) {
        if let Some(reason) = self.router.not_joined() {
            return job.finish(Verdict::Failure, alone(reason));
        }
        if self.group.is_silent() {
            return job.finish(Verdict::Failure, "corosync does not answer");
        }
        self.libvirt.begin(job, now);
    }

    /// Hears what the group has said, so many batches of it.
    fn fetch(&mut self, batches: usize, now: Instant) {
        for _ in 0..batches {
            match self.group.fetch() {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch.into_iter().for_each(|tidings| self.hear(tidings, now)),
                Err(reason) => {
                    if !std::mem::replace(&mut self.is_lost, true) {
                        self.router.lost(&reason);
                    }
                    break;
                }
            }
        }
        self.router.set_undelivered(self.group.is_behind(), now);
    }

    fn hear(&mut self, tidings: Tidings, now: Instant) {
        match tidings {
            Tidings::Joined(me) => self.router.joined(me, now),
            Tidings::Lost(reason) => self.router.lost(&reason),
            Tidings::Changed(change) => self.router.changed(&change, now),
            Tidings::Unsent(bytes) => self.router.unsent(&bytes, now),
            Tidings::Votes { is_quorate, nodes } => self.router.votes(is_quorate, &nodes, now),
            Tidings::Message { from, bytes, at, is_old } => {
                self.router.heard(from, &bytes, at, is_old, now);
            }
        }
    }

    /// Does what the router wants done, until it wants nothing more, or for now.
    fn settle(&mut self, now: Instant) {
        let mut left = ACTIONS_MAX;
        loop {
            for Outcome { job, answer, reason } in self.outcomes.1.try_iter().collect::<Vec<_>>() {
                let job = JobId(job);
                self.callers.remove(&job);
                let verdict = match answer {
                    Answer::Verdict(verdict) => verdict,
                    Answer::HostList(_) => Verdict::Failure,
                };
                self.router.done(job, verdict, reason, now);
            }
            // What had expired before may be something to be done now.
            while self.group.has_room() {
                let Some(message) = self.router.next_message(now) else { break };
                self.group.send(message);
            }
            let mut is_quiet = true;
            while left > 0 {
                let Some(action) = self.router.next_action() else { break };
                is_quiet = false;
                left -= 1;
                self.act(action, now);
            }
            self.has_more = left == 0;
            if self.has_more || (is_quiet && self.outcomes.1.is_empty()) {
                return;
            }
        }
    }

    fn act(&mut self, action: RouterAction, now: Instant) {
        match action {
            RouterAction::Begin { job, operation, name, on_behalf, expires } => {
                self.begin_part(job, operation, &name, on_behalf, expires, now);
            }
            RouterAction::Find { job, name } => {
                let found = match Target::new(name.as_bytes()) {
                    Ok(target) => self.libvirt.find(&target, now),
                    // No VM has such a name, as far as clients can ask.
                    Err(_) => Ok(Vec::new()),
                };
                self.router.found(job, found, now);
            }
            RouterAction::HangUp { job } => {
                if let Some(caller) = self.callers.get(&job) {
                    caller.hang_up();
                }
            }
            RouterAction::Answer { client, verdict, reason, is_begun } => {
                if let Some(job) = self.clients.remove(&client) {
                    if is_begun { job.finish(verdict, reason) } else { job.refuse(verdict, reason) }
                }
            }
            RouterAction::Note(text) => {
                if let Some(left_out) = self.notes.allow(now) {
                    warn!("cpg: {text}{}", LeftOut(left_out));
                }
            }
        }
    }

    /// A part of a request that concerns this host becomes a job for the worker.
    fn begin_part(
        &mut self,
        job: JobId,
        operation: Operation,
        name: &str,
        on_behalf: OnBehalf,
        expires: Instant,
        now: Instant,
    ) {
        let ticket = Ticket::of_cluster(self.outcomes.0.clone(), job.0);
        // Without a VM that can be called so, the dropped ticket answers failure.
        let Ok(target) = Target::new(name.as_bytes()) else { return };
        let client = match on_behalf {
            OnBehalf::Client(client) => self.clients.get(&client),
            OnBehalf::Node(_) => None,
        };
        let caller = client.map(|client| client.caller.clone()).unwrap_or_default();
        // Its own hang-up must not be that of the client, who is answered.
        let caller = caller.child();
        self.callers.insert(job, caller.clone());
        self.jobs.push_back(Job {
            request: Request { operation, target, seqno: 0 },
            asker: Asker::Cluster { is_alone: true },
            received: client.map_or(now, |client| client.received),
            expires,
            caller,
            ticket,
        });
    }
}

fn alone(reason: &str) -> String {
    format!("this node is not in the cluster's group: {reason}")
}

impl<L: Link> Backend for Cpg<L> {
    fn begin(&mut self, job: Job, now: Instant) {
        // It may have waited while the worker was in a call.
        self.fetch(BATCHES, now);
        match (&job.asker, job.request.operation) {
            (Asker::Cluster { .. }, _) => {
                let is_alone = self.router.is_sole_known_owner(job.request.target.as_str(), now);
                self.libvirt.begin(Job { asker: Asker::Cluster { is_alone }, ..job }, now);
            }
            (_, Operation::HostList) => self.list(job, now),
            (_, Operation::Devstatus) => self.devstatus(job, now),
            (_, Operation::Null) => job.refuse(Verdict::Failure, "null is never carried out"),
            _ => self.ask(job, false, now),
        }
        self.settle(now);
    }

    fn adopt(&mut self, permissions: Permissions) {
        self.libvirt.adopt(permissions);
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Vms { uri, seen: Seen::All(vms) } => self.router.listed(uri, vms, now),
            Event::Vms { uri, seen: Seen::One(vm) } => self.router.seen(uri, vm, now),
            Event::Vms { uri, seen: Seen::Gone(uuid) } => self.router.vanished(uri, uuid, now),
            Event::Vms { uri, seen: Seen::Lost } => self.router.unlisted(uri),
            Event::Cluster => {}
            other @ Event::Probed { .. } => self.libvirt.event(other, now),
        }
    }

    fn turn(&mut self, now: Instant) {
        self.fetch(BATCHES, now);
        self.router.turn(now);
        self.resume(now);
        self.resume_lists(now);
        self.libvirt.turn(now);
        self.settle(now);
        self.report();
    }

    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.has_more || self.group.has_tidings() {
            return Some(now);
        }
        let waiting = self.lists.iter().chain(&self.sought).map(|(at, _)| *at);
        waiting.chain(self.router.deadline(now)).chain(self.libvirt.deadline()).min()
    }

    fn job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    fn stop(&mut self) {
        self.router.stop();
        self.lists.clear();
        self.sought.clear();
        self.settle(Instant::now());
    }

    fn is_at_work(&self) -> bool {
        self.libvirt.is_at_work() || self.has_more || !self.jobs.is_empty()
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
