//! Requests of other nodes: which node of this suite answers, and what is carried out here.

use std::time::Duration;

use super::copy_record::CopyRecord;
use super::copy_request::verdict_of;
use super::ids::JobId;
use super::limits::SERVE_LIMIT;
use super::remote_queue::{HeldKind, HeldRequest, RemoteRequest};
use super::router::Router;
use super::rules::Unknown;
use super::vocabulary::{Evidence, JobOutcome, LocalVm, OnBehalf, Peer, RouterAction};
use crate::fence::{Operation, UriIndex, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, ClusterMessage, EVERY_NODE, NodeId, Report, RequestNumber};

/// Reason to refuse what waits when the daemon stops.
pub(super) const STOPPING: &str = "the daemon is stopping";

impl Router {
    /// Takes the request of another node.
    pub(super) fn requested(&mut self, mut request: RemoteRequest, now: Instant) {
        let node = request.peer.node;
        let Some(me) = self.view.members.me().filter(|me| me.node != node) else { return };
        let is_for_all = request.call.target == EVERY_NODE;
        if is_for_all && self.view.members.is_extended(node) {
            // It is for C daemons; a query for this suite goes with it.
            return;
        }
        if is_for_all && !self.remote.watch(&request) {
            self.outbox.note(format!("too many unanswered requests from node {node}: ignoring another"));
            if self.view.members.extended_above() == 0 {
                self.reply(request, Verdict::Failure);
            }
            return;
        }
        if !(is_for_all || request.call.target == me.node) || !self.remote.accept(&request) {
            return;
        }
        request.grow_old(now);
        if is_for_all {
            self.requested_of_all(request, now);
        } else if request.is_old {
            self.refuse_old(request);
        } else {
            self.carry_out(request);
        }
    }

    /// Takes a request that names no node: of the nodes of this suite with the VM, the one that
    /// advertised it last answers; if nobody knows the VM, the highest node.
    ///
    /// All nodes of this suite must agree on that: while they advertise their VMs, which each receives in
    /// the same order, the request is deferred.
    fn requested_of_all(&mut self, request: RemoteRequest, now: Instant) {
        let is_settled =
            self.remote.is_stopping() || self.view.members.extended_unsettled_until(now).is_none();
        if !is_settled && self.remote.can_defer() {
            return self.remote.defer(request);
        }
        let meant = self.view.meant_of_members(&request.call.name);
        if meant.is_empty() {
            if self.view.inventory.is_removed(&request.call.name, now) {
                return self.refuse_remote(request, "the VM ran here and is gone, perhaps by migration");
            }
            match request.is_old {
                true if self.view.members.is_highest() => self.refuse_old(request),
                true => self.remote.close(&request),
                false => self.hold(request, HeldKind::Find),
            }
        } else if !self.is_spokesman(meant.iter()) {
            self.remote.close(&request);
        } else if request.is_old {
            self.refuse_old(request);
        } else {
            // If there are several VMs, the answer is that.
            self.answer_for(request, now);
        }
    }

    /// Takes the deferred requests if it is settled which node answers.
    pub(super) fn resume_deferred(&mut self, now: Instant) {
        if self.remote.has_deferred() && self.view.members.extended_unsettled_until(now).is_none() {
            for mut request in self.remote.take_deferred() {
                request.grow_old(now);
                self.requested_of_all(request, now);
            }
        }
    }

    /// Refuses the deferred requests, since this node leaves.
    pub(super) fn refuse_deferred(&mut self) {
        for request in self.remote.take_deferred() {
            match self.view.meant_here(&request.call.name, self.view.rules.names).is_empty() {
                true => self.remote.close(&request),
                false => self.refuse_remote(request, STOPPING),
            }
        }
    }

    /// Returns when it is settled, at the latest, which node answers the deferred requests.
    pub(super) fn deferred_until(&self, now: Instant) -> Option<Instant> {
        let until = self.view.members.extended_unsettled_until(now).unwrap_or(now);
        self.remote.has_deferred().then_some(until)
    }

    /// Returns true if this node, of the nodes of this suite with one of these VMs, advertised it last.
    fn is_spokesman<'a>(&self, meant: impl Iterator<Item = &'a Uuid>) -> bool {
        let holders = meant.flat_map(|&uuid| self.view.holders(uuid));
        let ours = holders.filter(|holder| !self.view.members.is_legacy(holder.node));
        ours.max_by_key(|holder| holder.seq).is_some_and(|holder| self.view.members.is_me(holder.node))
    }

    /// Answers with failure, and says so in the log.
    pub(super) fn refuse_remote(&mut self, request: RemoteRequest, reason: &str) {
        let operation = request.call.operation;
        let name = &request.call.name;
        let node = request.peer.node;
        self.outbox.note(format!("refusing {operation} {name:?} from node {node}: {reason}"));
        self.reply(request, Verdict::Failure);
    }

    pub(super) fn refuse_old(&mut self, request: RemoteRequest) {
        self.refuse_remote(request, "the request is too old");
    }

    pub(super) fn hold(&mut self, request: RemoteRequest, kind: HeldKind) {
        if self.remote.is_full() {
            return self.refuse_remote(request, "too many requests from other nodes are waiting");
        }
        self.remote.push(request, kind);
    }

    /// Gives the worker as many requests as it may have at a time.
    pub(super) fn pump(&mut self) {
        while let Some(held) = self.remote.pop() {
            if self.remote.is_stopping() {
                // A C daemon whose request waits here would wait for ever.
                let is_ours = match held.kind {
                    HeldKind::CarryOut => true,
                    HeldKind::Find => self.view.members.is_highest(),
                    HeldKind::Locate => false,
                };
                match is_ours {
                    true => self.refuse_remote(held.request, STOPPING),
                    false => self.remote.close(&held.request),
                }
                continue;
            }
            let job = self.outbox.next_job();
            let request = &held.request;
            let name = request.call.name.clone();
            self.outbox.act(match held.kind {
                HeldKind::Find | HeldKind::Locate => RouterAction::Find { job, name },
                HeldKind::CarryOut => RouterAction::Begin {
                    job,
                    operation: request.call.operation,
                    name,
                    on_behalf: OnBehalf::Node(request.peer.node),
                    permitted: self.permitted_here(&request.call.name),
                    expires: request.at + SERVE_LIMIT,
                },
            });
            self.remote.begin(job, held);
        }
    }

    /// Returns true if nobody knows where the VM of this name or UUID went, should it have moved away
    /// from here. To be asked when a job begins, not before.
    pub fn is_sole_known_owner(&self, name: &str) -> bool {
        // Jobs name the UUID, whatever clients may.
        !self.view.meant_by_job(name).into_iter().any(|uuid| {
            let started = self.view.inventory.transitions(uuid).started;
            let has_run_since = |(node, copy): (NodeId, &CopyRecord)| {
                !self.view.members.is_me(node) && copy.is_here() && copy.runs() && copy.ran_at > started
            };
            let is_followed = self.view.inventory.followed(uuid).is_some();
            is_followed || self.view.directory.copies(uuid).any(has_run_since)
        })
    }

    /// Returns true if the VM of this name or UUID may be started here (rule 32): no other member is seen to run
    /// it, and no host that is away may, nor another partition. To be asked when a job begins, not before: the
    /// node that asked for the job may have known less.
    pub fn may_start(&self, name: &str, now: Instant) -> bool {
        if self.view.hosts.lacks_quorum() && self.view.rules.unknown == Unknown::Fail {
            return false;
        }
        let mut vms = self.view.meant_by_job(name).into_iter();
        !vms.any(|uuid| self.view.is_seen_running_elsewhere(uuid) || self.view.may_run_away(uuid, now))
    }

    /// Returns true if the VM of this name or UUID runs here, by the last news of libvirt. `on` then has to
    /// find it running: if it is off by now, nobody has judged yet whether it may be started. To be asked when
    /// a job begins, not before.
    pub fn is_seen_running_here(&self, name: &str) -> bool {
        self.view.meant_by_job(name).into_iter().any(|uuid| self.view.inventory.is_seen_running(uuid))
    }

    /// Reports the outcome of a job.
    pub fn done(&mut self, job: JobId, outcome: JobOutcome, now: Instant) {
        let asked = self.tasks.asked_of(job).or_else(|| self.remote.asked_of(job));
        let mut outcome = outcome;
        if let Some((uuid, operation)) = asked {
            outcome.evidence = self.learn_from(uuid, operation, &outcome);
        }
        if self.job_done(job, &outcome, now) {
            return;
        }
        let Some(HeldRequest { request, .. }) = self.remote.finish(job) else { return };
        let JobOutcome { verdict, evidence, reason } = outcome;
        if verdict == Verdict::Denied {
            let operation = request.call.operation;
            let name = &request.call.name;
            let node = request.peer.node;
            self.outbox.note(format!("refusing {operation} {name:?} from node {node}: {reason}"));
        }
        self.reply_with(request, verdict, evidence);
    }

    /// Takes the evidence of an outcome into account; returns it, with what this node remembers.
    fn learn_from(&mut self, uuid: Uuid, operation: Operation, outcome: &JobOutcome) -> Evidence {
        let is_power = matches!(operation, Operation::Off | Operation::Reboot);
        let is_off = match outcome.verdict {
            Verdict::Off => true,
            Verdict::Success => is_power,
            Verdict::Failure | Verdict::Denied => false,
        };
        match outcome.evidence {
            Evidence::Ended if operation == Operation::Off => {
                self.view.inventory.has_ended(uuid);
                if let Some(me) = self.view.members.me() {
                    self.seen_to_end(me.node, uuid);
                }
            }
            Evidence::Moved => self.view.inventory.has_moved(uuid),
            Evidence::None if operation == Operation::On && outcome.verdict == Verdict::Success => {
                self.view.inventory.has_started(uuid);
            }
            Evidence::None if is_off && self.view.inventory.is_moved(uuid) => return Evidence::Moved,
            Evidence::None if is_off && self.view.inventory.is_unexplained(uuid) => {
                return Evidence::Unexplained;
            }
            Evidence::Ended | Evidence::EndedWhileMigrating | Evidence::Unexplained | Evidence::None => {}
        }
        outcome.evidence
    }

    /// Takes the report of a member of this suite on a request, which all members receive.
    pub(super) fn reported(&mut self, node: NodeId, report: &Report, now: Instant) {
        let Report { call, response, evidence, moved_to } = report;
        let evidence = Evidence::decode(*evidence);
        let is_power = matches!(call.operation, Operation::Off | Operation::Reboot);
        if let Some(uuid) = Uuid::parse(&call.name) {
            match (evidence, moved_to) {
                (Evidence::Ended, _) if call.operation == Operation::Off && *response == 0 => {
                    self.seen_to_end(node, uuid);
                }
                (Evidence::Moved, Some(target)) => self.view.learn_run(*target, node, uuid, now),
                _ => {}
            }
            if !is_power && *response == 0 {
                self.view.directory.seen_running(node, uuid);
            }
            if is_power && *response == 0 && evidence == Evidence::Ended {
                self.forget_off_before(self.view.directory.seq(), uuid);
            }
        }
        let verdict = verdict_of(u32::from(*response), call.operation);
        self.answered(node, call, verdict, evidence, now);
    }

    /// Takes a query for a VM.
    pub(super) fn locate(&mut self, peer: Peer, number: RequestNumber, name: String, at: Instant) {
        let call =
            ClusterCall { number, target: peer.node, name, operation: Operation::Status, client_number: 0 };
        let request = RemoteRequest { peer, call, at, is_old: false };
        if !self.remote.is_full() && self.remote.accept(&request) {
            self.remote.push(request, HeldKind::Locate);
        }
    }

    /// Reports where a VM was found, or why that is unknown.
    pub fn found(&mut self, job: JobId, found: Result<Vec<(UriIndex, LocalVm)>, String>, now: Instant) {
        let Some(HeldRequest { request, kind, .. }) = self.remote.finish(job) else { return };
        let is_ours = kind == HeldKind::Find && self.view.members.is_highest();
        match found {
            Ok(vms) if kind == HeldKind::Locate => {
                self.remote.close(&request);
                self.located(&request.call, vms, now);
            }
            Ok(vms) => {
                vms.into_iter().for_each(|(uri, vm)| self.find(uri, vm, now));
                // What was found may not be what the text means here.
                if !self.view.meant_of_members(&request.call.name).is_empty() {
                    self.requested_of_all(request, now);
                } else if is_ours {
                    self.answer_for(request, now);
                } else {
                    self.remote.close(&request);
                }
            }
            Err(reason) if is_ours => self.refuse_remote(request, &reason),
            // Who asked learns that from the missing answer.
            Err(_) => self.remote.close(&request),
        }
    }

    /// Tells what was found for a query, then that this was all.
    fn located(&mut self, call: &ClusterCall, vms: Vec<(UriIndex, LocalVm)>, now: Instant) {
        if let Some(uuid) = Uuid::parse(&call.name) {
            let has_it = |uri: &UriIndex| vms.iter().any(|(at, vm)| at == uri && vm.uuid == uuid);
            let known = self.view.inventory.copies(uuid).map(|(uri, _)| uri);
            let gone: Vec<UriIndex> = known.filter(|uri| !has_it(uri)).collect();
            gone.into_iter().for_each(|uri| self.vanished(uri, uuid, now));
        }
        vms.into_iter().for_each(|(uri, vm)| self.find(uri, vm, now));
        self.outbox.send(ClusterMessage::Located { to: call.target, number: call.number });
    }

    /// Drops requests of peers that have left, if they have not begun.
    pub(super) fn abandon(&mut self, is_gone: impl Fn(Peer) -> bool) {
        self.abandon_tasks(&is_gone);
        self.races.abandon(&is_gone, |node| self.view.members.is_member(node));
        for job in self.remote.abandon(&is_gone, |node| self.view.members.is_member(node)) {
            self.outbox.act(RouterAction::HangUp { job });
        }
    }

    /// Fails requests of C daemons that nobody has answered, as the node that owes the answer is frozen
    /// or gone: a C daemon waits for ever.
    pub(super) fn fail_overdue(&mut self, now: Instant) {
        // The highest node first, then each a second later: not all have received the request.
        let delay = Duration::from_secs(1) * self.view.members.extended_above();
        while let Some(call) = self.remote.take_overdue(delay, now) {
            let operation = call.operation;
            let name = &call.name;
            let node = call.target;
            self.outbox.note(format!("nobody has answered {operation} {name:?} from node {node}: it fails"));
            self.outbox.send(ClusterMessage::Reply { call, response: 1 });
        }
    }
}
