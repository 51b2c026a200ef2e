//! Calls on this host that the router makes on behalf of requests: they take their
//! turn in the worker's backlog, and the libvirt backend carries them out.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex};

use crate::backend::PendingCall;
use crate::caller::Caller;
use crate::job::{CancelToken, Job, Requester, Responder};
use fence_virt::fence::{Answer, Operation, Request, Verdict};
use fence_virt::groups::PermittedNames;
use fence_virt::routing::{Evidence, JobId};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// Reason of an `on` that fails because the VM, last seen running here, no longer runs.
const JUST_OFF: &str = "the VM was seen running here, but has just gone off or moved away: try again";

/// A call that is pending or in progress.
pub(super) struct LocalCall {
    pub(super) request: Request,
    /// Names by which the VM is permitted.
    pub(super) permitted: PermittedNames,
    /// Arrival of the client's request.
    pub(super) received: Instant,
    pub(super) expires: Instant,
    pub(super) cancel: CancelToken,
    /// Client of this host that the call is made for; none for another host.
    pub(super) caller: Option<Caller>,
    /// Host that the call is made for; none for a client of this host.
    pub(super) node: Option<NodeId>,
}

impl LocalCall {
    /// True for a call that another host has asked for.
    pub(super) fn is_of_host(&self) -> bool {
        self.node.is_some()
    }
}

/// Result of a call.
pub(super) struct LocalResult {
    pub(super) id: JobId,
    pub(super) verdict: Verdict,
    pub(super) evidence: Evidence,
    pub(super) reason: String,
}

/// Call that has ended.
pub(super) struct EndedCall {
    pub(super) call: LocalCall,
    pub(super) result: LocalResult,
}

/// All calls. Each gets exactly one result.
#[derive(Default)]
pub(super) struct LocalCalls {
    calls: HashMap<JobId, LocalCall>,
    /// Calls that are not in the worker's backlog yet.
    pending: VecDeque<PendingCall>,
    /// Filled by the responders of the jobs; one entry a call.
    results: Arc<Mutex<Vec<LocalResult>>>,
}

impl LocalCalls {
    pub(super) fn add(&mut self, id: JobId, call: LocalCall) {
        self.pending.push_back(PendingCall { id, is_power: call.request.operation.is_power() });
        self.calls.insert(id, call);
    }

    /// Next call for the worker's backlog.
    pub(super) fn next_pending(&mut self) -> Option<PendingCall> {
        self.pending.pop_front()
    }

    /// True if a call is not in the worker's backlog yet.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn get(&self, id: JobId) -> Option<&LocalCall> {
        self.calls.get(&id)
    }

    /// Job that carries a call out. With `must_run`, which is for an `on`, it fails unless the VM is found running.
    pub(super) fn job(&self, id: JobId, is_sole_known_owner: bool, must_run: bool) -> Option<Job> {
        let call = self.calls.get(&id)?;
        let mut request = call.request.clone();
        if must_run {
            request.operation = Operation::Status;
        }
        let results = self.results.clone();
        let responder = Responder::new(move |answer, completion| {
            let (verdict, reason) = match answer {
                Answer::Verdict(Verdict::Off) if must_run => (Verdict::Failure, JUST_OFF.to_owned()),
                Answer::Verdict(verdict) => (verdict, completion.reason),
                Answer::HostList(_) => (Verdict::Failure, completion.reason),
            };
            lock(&results).push(LocalResult { id, verdict, evidence: completion.evidence, reason });
        });
        Some(Job {
            request,
            requester: Requester::Cluster { permitted: call.permitted.clone(), is_sole_known_owner },
            received: call.received,
            expires: call.expires,
            cancel: call.cancel.clone(),
            responder,
            caller: call.caller.clone(),
        })
    }

    /// Cancels a call; it still gets its result.
    pub(super) fn cancel(&self, id: JobId) {
        if let Some(call) = self.calls.get(&id) {
            call.cancel.cancel();
        }
    }

    /// Calls that have ended since the last time, with their results.
    pub(super) fn take_ended(&mut self) -> Vec<EndedCall> {
        let results = mem::take(&mut *lock(&self.results));
        let ended = |result: LocalResult| Some(EndedCall { call: self.calls.remove(&result.id)?, result });
        results.into_iter().filter_map(ended).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::fence::Target;
    use fence_virt::routing::JobOutcome;

    fn call(operation: Operation) -> LocalCall {
        let (now, target) = (Instant::now(), Target::new(b"a").unwrap());
        LocalCall {
            request: Request { operation, target, seqno: 0 },
            permitted: PermittedNames::All,
            received: now,
            expires: now,
            cancel: CancelToken::default(),
            caller: None,
            node: None,
        }
    }

    #[test]
    fn a_call_ends_with_the_outcome_of_its_job() {
        let mut calls = LocalCalls::default();
        calls.add(JobId(7), call(Operation::Off));
        let job = calls.job(JobId(7), true, false).unwrap();
        assert_eq!(job.request.operation, Operation::Off);
        let (verdict, evidence) = (Verdict::Failure, Evidence::Moved);
        job.conclude(JobOutcome { verdict, evidence, reason: "it has moved".to_owned() });
        let ended = calls.take_ended().into_iter().map(|EndedCall { result, .. }| result);
        let ended: Vec<_> = ended.map(|it| (it.id, it.verdict, it.evidence, it.reason)).collect();
        assert_eq!(ended, [(JobId(7), verdict, evidence, "it has moved".to_owned())]);
        assert!(calls.take_ended().is_empty());
    }

    #[test]
    fn an_on_that_must_find_its_vm_running_starts_nothing() {
        for (found, verdict) in [(Verdict::Success, Verdict::Success), (Verdict::Off, Verdict::Failure)] {
            let mut calls = LocalCalls::default();
            calls.add(JobId(7), call(Operation::On));
            let job = calls.job(JobId(7), false, true).unwrap();
            assert_eq!(job.request.operation, Operation::Status);
            let (evidence, reason) = (Evidence::None, "it is".to_owned());
            job.conclude(JobOutcome { verdict: found, evidence, reason });
            let ended = calls.take_ended();
            assert_eq!(ended.iter().map(|ended| ended.result.verdict).collect::<Vec<_>>(), [verdict]);
            assert_eq!(calls.job(JobId(7), false, false).map(|job| job.request.operation), None);
        }
    }
}
