//! Requests of other nodes: who of this suite answers, and what is carried out here.

use super::ids::JobId;
use crate::wire::cluster::{NodeId, RequestNumber};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::router::{Purpose, Router};
use super::{ANSWER_LIMIT, LocalVm, Names, OnBehalf, Peer, RouterAction, SERVE_LIMIT};
use crate::backlog::Backlog;
use crate::fence::{PowerState, Uuid, Verdict};
use crate::wire::cluster::{ClusterCall, ClusterMessage, EVERY_NODE};

/// How many requests of all nodes are held; one more is answered with failure.
const HELD_MAX: usize = 16_384;
/// How many of them the worker has at a time.
const BEGUN_MAX: usize = 32;
/// How many requests of C daemons are watched until somebody answers them.
const WATCHED_MAX: usize = 16_384;

/// The requests of other nodes that are here.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// Those that wait.
    waiting: Backlog<Served>,
    /// Those that name no node, while it is not settled who of this suite answers.
    deferred: Vec<(Peer, ClusterCall, Instant, bool)>,
    /// Those that the worker has, by their job.
    begun: HashMap<JobId, Served>,
    /// Every request that is not answered yet, so that a second one of the same number is known.
    held: HashSet<(Peer, RequestNumber)>,
    /// Requests of C daemons that nobody has answered, by asking node and
    /// number, each with when it came and when it is due.
    unanswered: HashMap<(NodeId, RequestNumber), (ClusterCall, Instant, Instant)>,
    /// The same by when they are due.
    watched: BTreeSet<(Instant, (NodeId, RequestNumber))>,
}

/// A request of another node.
#[derive(Debug)]
struct Served {
    peer: Peer,
    call: ClusterCall,
    at: Instant,
    /// Whether it has to be looked first whether the VM is here.
    is_search: bool,
    /// Its node is gone: nobody is to be told.
    is_abandoned: bool,
}

impl Serving {
    /// A request of another node is answered, or nobody's any more.
    pub(super) fn is_over(&mut self, peer: Peer, number: RequestNumber) {
        self.held.remove(&(peer, number));
    }

    /// Some node answered a request.
    pub(super) fn is_answered(&mut self, asker: NodeId, number: RequestNumber) {
        if let Some((_, _, due)) = self.unanswered.remove(&(asker, number)) {
            self.watched.remove(&(due, (asker, number)));
        }
    }

    /// Whether nobody has answered it.
    pub(super) fn awaits(&self, asker: NodeId, number: RequestNumber) -> bool {
        self.unanswered.contains_key(&(asker, number))
    }

    /// How many requests are here that are not answered.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// False if there is no room.
    fn watch(&mut self, node: NodeId, call: &ClusterCall, at: Instant) -> bool {
        let is_room = self.watched.len() < WATCHED_MAX;
        if is_room {
            // A number that comes again is another request.
            self.is_answered(node, call.number);
            let due = at + ANSWER_LIMIT;
            self.unanswered.insert((node, call.number), (call.clone(), at, due));
            self.watched.insert((due, (node, call.number)));
        }
        is_room
    }

    pub(super) fn forget_unanswered(&mut self) {
        self.unanswered.clear();
        self.watched.clear();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watched.first().map(|(due, _)| *due)
    }
}

impl Router {
    /// Another node asks.
    pub(super) fn requested(
        &mut self,
        from: Peer,
        call: ClusterCall,
        at: Instant,
        is_old: bool,
        now: Instant,
    ) {
        let Some(me) = self.table.me.filter(|me| me.node != from.node) else { return };
        let is_for_all = call.target == EVERY_NODE;
        let is_probe = is_for_all && self.table.speaks(from.node);
        if is_for_all && !is_probe && !self.serving.watch(from.node, &call, at) {
            self.note(format!("node {} asks too much: its requests fail", from.node));
            if self.table.speakers_above() == 0 {
                self.reply(from, call, Verdict::Failure);
            }
            return;
        }
        if !(is_for_all || call.target == me.node) {
            return;
        }
        if !self.serving.held.insert((from, call.number)) {
            return;
        }
        let is_old = is_old || now.saturating_duration_since(at) >= SERVE_LIMIT;
        if is_probe {
            return match self.knows(&call.name) {
                true => self.serving.is_over(from, call.number),
                false => self.hold(from, call, at, true),
            };
        }
        if is_for_all {
            return self.requested_of_all(from, call, at, is_old, now);
        }
        if is_old {
            return self.refuse_old(from, call);
        }
        self.hold(from, call, at, false);
    }

    /// A request that names no node: of those with the VM that are of this
    /// suite the one that told it last answers; if nobody knows the VM, the highest node.
    ///
    /// All of this suite must come to the same view of that: while they are
    /// telling their VMs, which each hears in the same order, it is put off.
    fn requested_of_all(&mut self, from: Peer, call: ClusterCall, at: Instant, is_old: bool, now: Instant) {
        let is_settled = self.is_stopping || self.table.speakers_unsettled_until(now).is_none();
        if !is_settled && self.serving.deferred.len() < HELD_MAX {
            return self.serving.deferred.push((from, call, at, is_old));
        }
        let meant: Vec<Uuid> =
            self.meaning(&call.name).into_iter().filter(|&uuid| !self.holders(uuid).is_empty()).collect();
        if meant.is_empty() {
            if self.local.is_gone(&call.name) {
                return self.reply(from, call, Verdict::Failure);
            }
            match is_old {
                true if self.table.is_highest() => self.refuse_old(from, call),
                true => self.serving.is_over(from, call.number),
                false => self.hold(from, call, at, true),
            }
        } else if !self.is_spokesman(&meant) {
            self.serving.is_over(from, call.number);
        } else if is_old {
            self.refuse_old(from, call);
        } else {
            // It says so itself if there are several.
            self.answer_for(from, call, at, now);
        }
    }

    /// Takes up what was put off, if it is settled who answers.
    pub(super) fn resume_deferred(&mut self, now: Instant) {
        if !self.serving.deferred.is_empty() && self.table.speakers_unsettled_until(now).is_none() {
            for (from, call, at, was_old) in std::mem::take(&mut self.serving.deferred) {
                let is_old = was_old || now.saturating_duration_since(at) >= SERVE_LIMIT;
                self.requested_of_all(from, call, at, is_old, now);
            }
        }
    }

    /// This node leaves, and does not come to that any more.
    pub(super) fn refuse_deferred(&mut self) {
        for (from, call, ..) in std::mem::take(&mut self.serving.deferred) {
            match self.local.meaning(&call.name, self.rules.names).is_empty() {
                true => self.serving.is_over(from, call.number),
                false => self.reply(from, call, Verdict::Failure),
            }
        }
    }

    /// When that is, at the latest.
    pub(super) fn deferred_until(&self, now: Instant) -> Option<Instant> {
        let until = self.table.speakers_unsettled_until(now).unwrap_or(now);
        (!self.serving.deferred.is_empty()).then_some(until)
    }

    /// Whether this node, of those of this suite that have one of these VMs, told it last.
    fn is_spokesman(&self, meant: &[Uuid]) -> bool {
        let holders = meant.iter().flat_map(|&uuid| self.holders(uuid));
        let ours = holders.filter(|holder| self.table.is_me(holder.node) || self.table.speaks(holder.node));
        ours.max_by_key(|holder| holder.order).is_some_and(|holder| self.table.is_me(holder.node))
    }

    fn refuse_old(&mut self, from: Peer, call: ClusterCall) {
        let (operation, name, node) = (call.operation, &call.name, from.node);
        self.note(format!("{operation} {name:?} of node {node} is too old: it is not carried out"));
        self.reply(from, call, Verdict::Failure);
    }

    fn hold(&mut self, peer: Peer, call: ClusterCall, at: Instant, is_search: bool) {
        if self.serving.waiting.len() >= HELD_MAX {
            self.note(format!("too many requests of other nodes wait: one of node {} fails", peer.node));
            return self.reply(peer, call, Verdict::Failure);
        }
        let is_power = call.operation.is_power();
        self.serving.waiting.push(Served { peer, call, at, is_search, is_abandoned: false }, is_power);
    }

    /// Gives the worker as much as it may have at a time.
    pub(super) fn pump(&mut self) {
        while self.serving.begun.len() < BEGUN_MAX {
            let Some(served) = self.serving.waiting.pop() else { return };
            if self.is_stopping {
                self.refuse_last(served);
                continue;
            }
            let job = self.next_job(Purpose::Serve(JobId(0)));
            self.jobs.insert(job, Purpose::Serve(job));
            let name = served.call.name.clone();
            self.actions.push_back(match served.is_search {
                true => RouterAction::Find { job, name },
                false => RouterAction::Begin {
                    job,
                    operation: served.call.operation,
                    name,
                    on_behalf: OnBehalf::Node(served.peer.node),
                    expires: served.at + SERVE_LIMIT,
                },
            });
            self.serving.begun.insert(job, served);
        }
    }

    /// This node leaves: a C daemon whose request waits here would wait for ever.
    fn refuse_last(&mut self, served: Served) {
        match served.is_search && !self.table.is_highest() {
            true => self.serving.is_over(served.peer, served.call.number),
            false => self.reply(served.peer, served.call, Verdict::Failure),
        }
    }

    /// Whether, should the VM of this name or UUID have moved away from here,
    /// nobody knows where it went. To be asked when a job begins, not before.
    pub fn is_sole_known_owner(&mut self, name: &str, now: Instant) -> bool {
        // Jobs of ours name the UUID, whatever clients may.
        !self.meaning_of(name, Names::Both).into_iter().any(|uuid| {
            let changed = self.local.changed(uuid);
            let (is_elsewhere, runs_elsewhere) = self.table.elsewhere(uuid, changed.started);
            if self.local.is_followed(uuid) || runs_elsewhere {
                return true;
            }
            // It is off elsewhere: that counts if all have told since it ended here. If
            // it did so just now, libvirt knows that before this does.
            let has_ended = self.local.state(uuid) != Some(PowerState::Running);
            is_elsewhere && has_ended && self.has_told_since(Some(changed.last), name, now).is_ok()
        })
    }

    /// The worker has carried a request out, or not.
    pub(super) fn served(&mut self, job: JobId, verdict: Verdict) {
        if let Some(served) = self.serving.begun.remove(&job).filter(|served| !served.is_abandoned) {
            self.reply(served.peer, served.call, verdict);
        }
    }

    /// The worker has looked for a VM: at which URI it is, or why that cannot be said.
    pub fn found(&mut self, job: JobId, found: Result<Vec<(usize, LocalVm)>, String>, now: Instant) {
        self.jobs.remove(&job);
        let Some(Served { peer, call, at, is_abandoned: false, .. }) = self.serving.begun.remove(&job) else {
            return;
        };
        match found {
            Ok(vms) if vms.is_empty() => {
                if self.table.is_highest() && !self.table.speaks(peer.node) {
                    self.answer_for(peer, call, at, now);
                } else {
                    self.serving.is_over(peer, call.number);
                }
            }
            Ok(vms) => {
                for (place, vm) in vms {
                    self.find(place, vm, now);
                }
                if self.table.speaks(peer.node) {
                    return self.serving.is_over(peer, call.number);
                }
                self.requested_of_all(peer, call, at, false, now);
            }
            Err(reason) if self.table.is_highest() && !self.table.speaks(peer.node) => {
                let (operation, name) = (call.operation, &call.name);
                self.note(format!("{operation} {name:?} of node {} fails: {reason}", peer.node));
                self.reply(peer, call, Verdict::Failure);
            }
            Err(_) => self.serving.is_over(peer, call.number),
        }
    }

    /// A VM was found here before its event: it is told at once, before anything else.
    pub fn find(&mut self, place: usize, vm: LocalVm, now: Instant) {
        let (uuid, me) = (vm.uuid, self.table.me);
        let order = self.table.next_order();
        self.local.see(place, vm, order);
        if let Some(told) = me.and_then(|me| self.local.told(uuid, me.node)) {
            self.push(told);
        }
        self.review_vm(uuid, now);
    }

    pub(super) fn reply(&mut self, peer: Peer, call: ClusterCall, verdict: Verdict) {
        let number = call.number;
        self.serving.is_over(peer, number);
        let response = match verdict {
            Verdict::Success => 0,
            Verdict::Off => 2,
            Verdict::Failure | Verdict::Denied => 1,
        };
        // One that is dropped leaves a C daemon waiting, until it is answered for the silent.
        if self.push(ClusterMessage::Reply { call: ClusterCall { target: peer.node, ..call }, response }) {
            self.serving.is_answered(peer.node, number);
        }
    }

    /// Requests of peers that are gone are for nobody: what has not begun does not begin.
    pub(super) fn abandon_served(&mut self, is_gone: impl Fn(Peer) -> bool) {
        self.abandon_tasks(&is_gone);
        self.serving.waiting.retain(|served| !is_gone(served.peer));
        self.serving.deferred.retain(|(peer, ..)| !is_gone(*peer));
        self.serving.held.retain(|(peer, _)| !is_gone(*peer));
        for (&job, served) in self.serving.begun.iter_mut().filter(|(_, served)| is_gone(served.peer)) {
            served.is_abandoned = true;
            self.actions.push_back(RouterAction::HangUp { job });
        }
        let (unanswered, table) = (&mut self.serving.unanswered, &self.table);
        unanswered.retain(|(node, _), _| table.is_member(*node));
        self.serving.watched.retain(|(_, key)| unanswered.contains_key(key));
    }

    /// A C daemon waits for ever for an answer that does not come, if the node
    /// that owes it is frozen, or gone: it gets a failure.
    pub(super) fn answer_for_the_silent(&mut self, now: Instant) {
        // The highest first, then each a second later: not all have heard the request.
        let turn = Duration::from_secs(1) * self.table.speakers_above();
        while let Some((due, key)) = self.serving.watched.pop_first() {
            if due > now {
                self.serving.watched.insert((due, key));
                return;
            }
            let Some((call, at, known_due)) = self.serving.unanswered.get_mut(&key) else { continue };
            let (own, node) = (*at + ANSWER_LIMIT + turn, key.0);
            if own > now {
                *known_due = own;
                self.serving.watched.insert((own, key));
                continue;
            }
            let call = ClusterCall { target: node, ..call.clone() };
            self.serving.unanswered.remove(&key);
            self.note(format!("nobody answers {} {:?} of node {node}: it fails", call.operation, call.name));
            self.push(ClusterMessage::Reply { call, response: 1 });
        }
    }
}
