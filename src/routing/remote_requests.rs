//! Requests of other nodes: which node of this suite answers, and what is carried out here.

use std::time::Duration;

use super::ids::JobId;
use super::limits::SERVE_LIMIT;
use super::remote_queue::RemoteRequest;
use super::router::Router;
use super::vocabulary::{JobOutcome, LocalVm, OnBehalf, Peer, RouterAction};
use crate::fence::{UriIndex, Uuid, Verdict};
use crate::time::Instant;
use crate::wire::cluster::{ClusterMessage, EVERY_NODE};

/// Reason to refuse what waits when the daemon stops.
pub(super) const STOPPING: &str = "the daemon is stopping";

impl Router {
    /// Takes the request of another node.
    pub(super) fn requested(&mut self, mut request: RemoteRequest, now: Instant) {
        let node = request.peer.node;
        let Some(me) = self.view.members.me().filter(|me| me.node != node) else { return };
        let is_for_all = request.call.target == EVERY_NODE;
        let is_probe = is_for_all && self.view.members.is_extended(node);
        if is_for_all && !is_probe && !self.remote.watch(&request) {
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
        if is_probe {
            match self.knows(&request.call.name) {
                true => self.remote.close(&request),
                false => self.hold(request, true),
            }
        } else if is_for_all {
            self.requested_of_all(request, now);
        } else if request.is_old {
            self.refuse_old(request);
        } else {
            self.hold(request, false);
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
                false => self.hold(request, true),
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

    fn refuse_old(&mut self, request: RemoteRequest) {
        self.refuse_remote(request, "the request is too old");
    }

    fn hold(&mut self, request: RemoteRequest, is_search: bool) {
        if self.remote.is_full() {
            return self.refuse_remote(request, "too many requests from other nodes are waiting");
        }
        self.remote.push(request, is_search);
    }

    /// Gives the worker as many requests as it may have at a time.
    pub(super) fn pump(&mut self) {
        while let Some(held) = self.remote.pop() {
            if self.remote.is_stopping() {
                // A C daemon whose request waits here would wait for ever.
                match held.is_search && !self.view.members.is_highest() {
                    true => self.remote.close(&held.request),
                    false => self.refuse_remote(held.request, STOPPING),
                }
                continue;
            }
            let job = self.outbox.next_job();
            let request = &held.request;
            let name = request.call.name.clone();
            self.outbox.act(match held.is_search {
                true => RouterAction::Find { job, name },
                false => RouterAction::Begin {
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
    pub fn is_sole_known_owner(&mut self, name: &str, now: Instant) -> bool {
        // Jobs name the UUID, whatever clients may.
        !self.view.meant_by_job(name).into_iter().any(|uuid| {
            let transitions = self.view.inventory.transitions(uuid);
            let copies = self.view.directory.copies(uuid);
            let others: Vec<_> = copies
                .filter(|(node, copy)| !self.view.members.is_me(*node) && copy.is_here())
                .map(|(_, copy)| copy.runs() && copy.ran_at > transitions.started)
                .collect();
            if self.view.inventory.is_followed(uuid) || others.contains(&true) {
                return true;
            }
            // Copies that are off elsewhere count if all have advertised since the VM ended here. If it
            // has just ended, libvirt knows that before this node does.
            !others.is_empty()
                && !self.view.inventory.runs(uuid)
                && self.all_advertised_since(Some(transitions.last), name, now).is_ok()
        })
    }

    /// Reports the outcome of a job.
    pub fn done(&mut self, job: JobId, outcome: JobOutcome, now: Instant) {
        let JobOutcome { verdict, reason, .. } = outcome;
        if !self.job_done(job, verdict, &reason, now) {
            if let Some(request) = self.remote.finish(job) {
                if verdict == Verdict::Denied {
                    let operation = request.call.operation;
                    let name = &request.call.name;
                    let node = request.peer.node;
                    self.outbox.note(format!("refusing {operation} {name:?} from node {node}: {reason}"));
                }
                self.reply(request, verdict);
            }
        }
    }

    /// Reports where a VM was found, or why that is unknown.
    pub fn found(&mut self, job: JobId, found: Result<Vec<(UriIndex, LocalVm)>, String>, now: Instant) {
        let Some(request) = self.remote.finish(job) else { return };
        let is_probe = self.view.members.is_extended(request.peer.node);
        let is_ours = self.view.members.is_highest() && !is_probe;
        match found {
            Ok(vms) if vms.is_empty() && is_ours => self.answer_for(request, now),
            Ok(vms) if vms.is_empty() => self.remote.close(&request),
            Ok(vms) => {
                for (uri, vm) in vms {
                    self.find(uri, vm, now);
                }
                match is_probe {
                    true => self.remote.close(&request),
                    false => self.requested_of_all(request, now),
                }
            }
            Err(reason) if is_ours => {
                self.refuse_remote(request, &reason);
            }
            Err(_) => self.remote.close(&request),
        }
    }

    /// Drops requests of peers that have left, if they have not begun.
    pub(super) fn abandon(&mut self, is_gone: impl Fn(Peer) -> bool) {
        self.abandon_tasks(&is_gone);
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
