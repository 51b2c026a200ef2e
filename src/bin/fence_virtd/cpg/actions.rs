//! What the router decides: messages, calls on this host, answers.

use log::warn;

use super::backend::Cpg;
use super::local_calls::{EndedCall, LocalCall, LocalResult};
use super::served_log::ServedRequest;
use crate::libvirt::Link;
use crate::logging::Suppressed;
use fence_virt::fence::{Request, Target, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{Evidence, JobOutcome, OnBehalf, RouterAction, SERVE_LIMIT};
use fence_virt::time::Instant;

/// Router actions that are carried out before the next job has its turn: each may be a libvirt call.
const ACTIONS_MAX: usize = 64;

impl<L: Link> Cpg<L> {
    /// Carries out the router's actions until there are no more, or enough for one turn.
    pub(super) fn settle(&mut self, now: Instant) {
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
            for (question, lives) in self.libvirt.take_proofs() {
                is_quiet = false;
                self.router.caller_proved(question, lives);
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
            RouterAction::ProveCaller { client, question, vm, expires } => {
                let job = self.clients.get(&client).filter(|job| job.stale(now).is_none());
                match job.and_then(|job| job.caller.clone()) {
                    Some(caller) => self.libvirt.prove_caller(question, caller, vm, expires, now),
                    None => self.router.caller_proved(question, false),
                }
            }
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

    pub(super) fn local_call(
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
