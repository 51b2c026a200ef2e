//! Tasks: requests of clients here, and of nodes that ask whichever node has the VM.

use super::copies::TOO_LATE;
use super::copy_record::CopyRecord;
use super::copy_request::{CopyAnswer, CopyRequest, CopyState, verdict_of};
use super::directory::Leaving;
use super::ids::{ClientId, JobId};
use super::remote_queue::RemoteRequest;
use super::remote_requests::STOPPING;
use super::router::Router;
use super::task::{Task, TaskOrigin, TaskProgress};
use super::vocabulary::{ClientRequest, Evidence, JobOutcome, Peer, RequestExpiry, RouterAction};
use crate::fence::{Operation, Verdict};
use crate::time::Instant;
use crate::wire::cluster::{ClusterCall, NO_REQUEST, NodeId};

impl Router {
    /// Takes a client's request for off, on, reboot or status.
    pub fn ask(&mut self, asked: ClientRequest, now: Instant) {
        let client = asked.client;
        if let Some(reason) = self.not_joined() {
            let reason = format!("this node is not in the cluster's group: {reason}");
            return self.answer(client, Verdict::Failure, reason, false);
        }
        if self.tasks.is_full_for_clients() {
            let reason = "too many requests are in flight".to_owned();
            return self.answer(client, Verdict::Failure, reason, false);
        }
        let id = self.tasks.next_id();
        let seq = self.view.directory.next_seq();
        self.proceed(Task::of_client(id, seq, asked), now);
    }

    /// Takes the request of a node for a VM that this node answers for.
    pub(super) fn answer_for(&mut self, request: RemoteRequest, now: Instant) {
        if self.remote.is_stopping() {
            return self.refuse_remote(request, STOPPING);
        }
        if self.tasks.is_full_for_nodes() {
            return self.refuse_remote(request, "too many requests from other nodes are in flight");
        }
        let id = self.tasks.next_id();
        let seq = self.view.directory.next_seq();
        self.proceed(Task::of_node(id, seq, request), now);
    }

    /// Takes a task as far as it goes now.
    pub(super) fn proceed(&mut self, mut task: Task, now: Instant) {
        match self.advance(&mut task, now) {
            TaskProgress::Wait(at) => {
                task.wake = at.min(task.limits.answer);
                self.tasks.put(task);
            }
            TaskProgress::Done(verdict, reason) => self.finish(task, Some((verdict, reason))),
            TaskProgress::Dropped => self.finish(task, None),
        }
    }

    /// Reviews the tasks that changes concern, once for all of the changes: the group may report many.
    pub(super) fn review_changes(&mut self) {
        let Some((at, ids)) = self.tasks.take_review() else { return };
        for id in ids {
            if let Some(task) = self.tasks.take(id) {
                self.proceed(task, at);
            }
        }
    }

    fn finish(&mut self, task: Task, outcome: Option<(Verdict, String)>) {
        for copy in task.requests().values() {
            match copy.state {
                CopyState::Sent(number) => drop(self.tasks.forget_reply(number)),
                CopyState::Begun(job) => {
                    self.tasks.forget_job(job);
                    self.outbox.act(RouterAction::HangUp { job });
                }
                CopyState::Answered(_) => {}
            }
        }
        let is_begun = task.vm().is_some();
        let is_done_here = task.requests().keys().any(|&node| self.view.members.is_me(node));
        match (task.origin, outcome) {
            (TaskOrigin::Client(client), outcome) => {
                let (verdict, reason) =
                    outcome.unwrap_or((Verdict::Failure, "the request was dropped".to_owned()));
                self.answer(client, verdict, reason, is_begun);
            }
            (TaskOrigin::Node(request), Some((verdict, reason))) => {
                // What is carried out here is logged with its own result.
                if !is_done_here {
                    self.outbox.act_for_log(RouterAction::Replied {
                        node: request.peer.node,
                        operation: task.operation,
                        name: task.text,
                        verdict,
                        reason,
                        received: request.at,
                    });
                }
                self.reply(request, verdict);
            }
            (TaskOrigin::Node(request), None) => self.remote.close(&request),
        }
    }

    fn answer(&mut self, client: ClientId, verdict: Verdict, reason: String, is_begun: bool) {
        self.outbox.act(RouterAction::Answer { client, verdict, reason, is_begun });
    }

    /// Fails all tasks.
    pub(super) fn fail_tasks(&mut self, reason: &str) {
        let reason = format!("this node is leaving the cluster's group: {reason}");
        for id in self.tasks.ids(|_| true) {
            if let Some(task) = self.tasks.take(id) {
                self.finish(task, Some((Verdict::Failure, reason.clone())));
            }
        }
    }

    /// Drops tasks of peers that have left.
    pub(super) fn abandon_tasks(&mut self, is_gone: &impl Fn(Peer) -> bool) {
        let is_of_gone =
            |task: &Task| matches!(&task.origin, TaskOrigin::Node(request) if is_gone(request.peer));
        for id in self.tasks.ids(is_of_gone) {
            if let Some(task) = self.tasks.take(id) {
                self.finish(task, None);
            }
        }
    }

    /// Takes the outcome of a task's job; false if the job is not a task's.
    pub(super) fn job_done(&mut self, job: JobId, outcome: &JobOutcome, now: Instant) -> bool {
        let Some(id) = self.tasks.forget_job(job) else { return false };
        let Some(mut task) = self.tasks.take(id) else { return true };
        let JobOutcome { verdict, evidence, ref reason } = *outcome;
        let seq = self.view.directory.seq();
        let is_meant =
            |_, copy: &CopyRequest| matches!(copy.state, CopyState::Begun(number) if number == job);
        match task.request_mut(is_meant) {
            Some(copy) => {
                let reason = reason.clone();
                copy.state = CopyState::Answered(CopyAnswer { verdict, evidence, reason, seq });
                self.proceed(task, now);
            }
            None => self.tasks.put(task),
        }
        true
    }

    /// Notes that another node was not asked, or told of a fence: corosync accepted nothing for too long.
    pub fn unsent(&mut self, request: RequestExpiry, now: Instant) {
        if request.number == NO_REQUEST {
            return self.tell_of_fence(request.node, now);
        }
        let id = self.tasks.forget_reply(request.number);
        let Some(mut task) = id.and_then(|id| self.tasks.take(id)) else { return };
        match task.request_mut(|node, _| node == request.node) {
            Some(copy) => {
                copy.state = CopyState::not_asked(request.node, TOO_LATE, self.view.directory.seq());
                self.proceed(task, now);
            }
            None => self.tasks.put(task),
        }
    }

    /// Takes the reply of a C daemon, or of a member of this suite to one.
    pub(super) fn replied(&mut self, node: NodeId, call: &ClusterCall, response: u32, now: Instant) {
        self.remote.answered(call.target, call.number);
        // A C daemon's reboot leaves the VM running.
        if call.operation == Operation::Off && response == 0 && self.view.members.is_legacy(node) {
            self.seen_to_destroy(node, &call.name);
        }
        let verdict = verdict_of(response, call.operation);
        self.answered(node, call, verdict, Evidence::None, now);
    }

    /// Takes the answer of a node to a request of this one.
    pub(super) fn answered(
        &mut self,
        node: NodeId,
        call: &ClusterCall,
        verdict: Verdict,
        evidence: Evidence,
        now: Instant,
    ) {
        if !self.view.members.is_me(call.target) {
            return;
        }
        let Some(mut task) = self.tasks.awaiting_reply(call.number).and_then(|id| self.tasks.take(id)) else {
            return;
        };
        let is_meant = |other, copy: &CopyRequest| {
            other == node
                && matches!(copy.state, CopyState::Sent(number) if number == call.number)
                && call.operation == copy.operation
                && call.name.to_lowercase() == copy.name.to_lowercase()
        };
        let uuid = task.vm();
        let Some(copy) = task.request_mut(is_meant) else { return self.tasks.put(task) };
        // A C daemon advertises what it has before it replies, and the highest one also replies for VMs
        // that nobody has.
        let says_off = verdict == Verdict::Off || (verdict == Verdict::Success && copy.is_power());
        let is_legacy = !self.view.members.is_extended(node);
        let seq = copy.seq;
        let is_unknown = |&uuid: &_| !self.view.directory.has_advertised_since(node, uuid, seq);
        match uuid.filter(|_| says_off && is_legacy).filter(is_unknown) {
            Some(uuid) => {
                task.forget_request(node);
                self.view.directory.withdraw(node, uuid, Leaving::Inferred, now);
            }
            None => {
                let reason = format!("node {node} reports {verdict}");
                let seq = self.view.directory.seq();
                let is_done = is_legacy && copy.is_power() && verdict == Verdict::Success;
                let record = uuid.and_then(|uuid| self.view.directory.copy(node, uuid)).filter(|_| is_done);
                let evidence = record.map_or(evidence, CopyRecord::evidence_of_end);
                copy.state = CopyState::Answered(CopyAnswer { verdict, evidence, reason, seq });
            }
        }
        self.tasks.forget_reply(call.number);
        self.proceed(task, now);
    }
}
