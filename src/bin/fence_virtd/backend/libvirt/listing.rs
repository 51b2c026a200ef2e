//! Lists of the VMs of all URIs.
//!
//! A list waits while a VM is being destroyed, whoever destroys it. So lists are made on
//! lanes, and what a URI does not tell in time is answered from the watchers' events.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::resolve::Uri;
use super::vm_operation::VmOperations;
use crate::inbox::DomainChange;
use crate::job::{Job, Stale};
use crate::libvirt::{CallId, DomainState, FoundDomain, LibvirtError, LibvirtResult, Link};
use fence_virt::fence::{HostEntry, PowerState, UriIndex, Uuid};
use fence_virt::routing::LocalVm;
use fence_virt::time::Instant;

/// Time for which a list is kept for requests that were received before it began.
const KEPT: Duration = Duration::from_secs(1);
/// Time limit for the list of a URI whose VMs are known from events.
pub(super) const LIMIT: Duration = Duration::from_millis(700);
/// Time limit for the list of another URI.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(10);

/// List of the VMs on all URIs.
pub(super) struct Listing {
    /// Time at which the list was begun.
    pub(super) began: Instant,
    /// The copies of each VM, at least one.
    pub(super) vms: Vec<Vec<HostEntry>>,
    /// URIs that failed, with the reasons.
    pub(super) problems: Vec<String>,
    /// URIs whose VMs are those of the last events.
    pub(super) from_events: Vec<String>,
    /// True if a VM may have changed its state since it began.
    is_outdated: bool,
}

/// Requests for lists, the list in progress, and what is known of the VMs without it.
pub(super) struct Lists {
    /// The last list, forgotten with the next power operation.
    last: Option<Listing>,
    round: Option<Round>,
    /// Requests that were received after the round began.
    waiting: Vec<Job>,
    known: Vec<KnownDomains>,
}

/// List in progress.
struct Round {
    began: Instant,
    jobs: Vec<Job>,
    /// Calls of this round, one for each URI that is listed.
    calls: Vec<Option<CallId>>,
    /// Results, in the same order.
    results: Vec<Option<LibvirtResult<Vec<FoundDomain>>>>,
    /// True once a VM may have changed its state.
    is_outdated: bool,
}

/// Domains of a URI, by the events of its watcher.
#[derive(Default)]
struct KnownDomains {
    domains: BTreeMap<Uuid, LocalVm>,
    /// True if they are all.
    is_complete: bool,
    /// List call in progress.
    call: Option<CallId>,
}

impl Lists {
    /// Makes the lists of this number of URIs.
    pub(super) fn new(uris: usize) -> Lists {
        let known = (0..uris).map(|_| KnownDomains::default()).collect();
        Lists { last: None, round: None, waiting: Vec::new(), known }
    }

    /// Forgets the last list: a VM may have changed its state.
    pub(super) fn forget(&mut self) {
        self.last = None;
        if let Some(round) = &mut self.round {
            round.is_outdated = true;
        }
    }

    /// Takes over a change in the domains of a URI.
    pub(super) fn apply(&mut self, uri: UriIndex, change: DomainChange) {
        let Some(known) = self.known.get_mut(uri.0) else { return };
        match change {
            DomainChange::All(all) => {
                known.domains = all.into_iter().map(|vm| (vm.uuid, vm)).collect();
                known.is_complete = true;
            }
            DomainChange::One(vm) => drop(known.domains.insert(vm.uuid, vm)),
            DomainChange::Gone(uuid) => drop(known.domains.remove(&uuid)),
            DomainChange::Lost => known.is_complete = false,
        }
    }

    /// Adds a request.
    pub(super) fn add(&mut self, job: Job) {
        self.waiting.push(job);
    }

    /// Takes the last list, if it serves a request that was received at this time.
    pub(super) fn take_last(&mut self, received: Instant) -> Option<Listing> {
        self.last.take_if(|listing| listing.began > received)
    }

    /// Begins a round if requests wait and none is in progress: returns the URIs to list.
    /// Those that are held by a call, and known completely, are answered from events.
    pub(super) fn begin(
        &mut self,
        is_held: impl Fn(UriIndex) -> bool,
        now: Instant,
    ) -> Option<Vec<UriIndex>> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.round = Some(Round {
            began: now,
            jobs: std::mem::take(&mut self.waiting),
            calls: vec![None; self.known.len()],
            results: self.known.iter().map(|_| None).collect(),
            is_outdated: false,
        });
        let known = self.known.iter().enumerate().map(|(at, known)| (UriIndex(at), known));
        let may_list =
            known.filter(|(uri, known)| known.call.is_none() && !(known.is_complete && is_held(*uri)));
        Some(may_list.map(|(uri, _)| uri).collect())
    }

    /// Records that a list call was made.
    pub(super) fn began_call(&mut self, uri: UriIndex, call: CallId) {
        self.known[uri.0].call = Some(call);
        if let Some(round) = &mut self.round {
            round.calls[uri.0] = Some(call);
        }
    }

    /// Records the result of a list call.
    pub(super) fn record(&mut self, uri: UriIndex, call: CallId, result: LibvirtResult<Vec<FoundDomain>>) {
        if self.known[uri.0].call == Some(call) {
            self.known[uri.0].call = None;
        }
        // A call of an earlier round may have listed the VMs before these requests came.
        if let Some(round) = self.round.as_mut().filter(|round| round.calls[uri.0] == Some(call)) {
            round.results[uri.0] = Some(result);
        }
    }

    /// Ends the round if all calls have ended or their time is over.
    pub(super) fn end<L: Link>(
        &mut self,
        uris: &mut [Uri<L>],
        vm_operations: &VmOperations,
        now: Instant,
    ) -> Option<(Listing, Vec<Job>)> {
        let round = self.round.as_ref()?;
        let can_end = |(at, known): (usize, &KnownDomains)| {
            let limit = if known.is_complete { LIMIT } else { UNKNOWN_LIMIT };
            // Without a call of this round, only events can answer.
            let is_answered = round.results[at].is_some() || (round.calls[at].is_none() && known.is_complete);
            is_answered || now >= round.began + limit
        };
        if !self.known.iter().enumerate().all(can_end) {
            return None;
        }
        let Round { began, jobs, results, is_outdated, .. } = self.round.take()?;
        let mut listing =
            Listing { began, vms: Vec::new(), problems: Vec::new(), from_events: Vec::new(), is_outdated };
        let mut index_by_uuid = HashMap::new();
        let is_single = uris.len() == 1;
        for ((uri, known), result) in uris.iter_mut().zip(&self.known).zip(results) {
            let found = match result {
                Some(Ok(found)) => {
                    if !is_single {
                        uri.remember_all(&found);
                    }
                    found
                }
                None if known.is_complete => {
                    listing.from_events.push(uri.link.name().to_owned());
                    known.domains.values().map(found).collect()
                }
                result => {
                    let late = || LibvirtError::ConnectionLost("no list in time".to_owned());
                    let error = result.and_then(Result::err).unwrap_or_else(late);
                    listing.problems.push(uri.failed(&error));
                    continue;
                }
            };
            listing.merge(found, &mut index_by_uuid);
        }
        for copy in listing.vms.iter_mut().flatten() {
            // A VM is on until it was seen off, and as soon as it may have been started.
            if vm_operations.get(&copy.uuid).is_some_and(|vm_operation| vm_operation.vm.is_named(&copy.name))
            {
                copy.state = PowerState::Running;
            }
        }
        Some((listing, jobs))
    }

    /// Keeps a list for the requests that were received before it began.
    pub(super) fn keep(&mut self, listing: Listing) {
        self.last = Some(listing).filter(|listing| !listing.is_outdated);
    }

    /// Drops the list that is too old, and returns the requests that are stale.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(Job, Stale)> {
        self.last.take_if(|listing| now.saturating_duration_since(listing.began) >= KEPT);
        let waiting = std::mem::take(&mut self.waiting);
        let mut stale_jobs = Vec::new();
        for job in waiting {
            match job.stale(now) {
                Some(stale) => stale_jobs.push((job, stale)),
                None => self.waiting.push(job),
            }
        }
        stale_jobs
    }

    /// Removes all requests.
    pub(super) fn take_all(&mut self) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.waiting);
        jobs.extend(self.round.take().into_iter().flat_map(|round| round.jobs));
        jobs
    }

    /// Number of requests.
    pub(super) fn job_count(&self) -> usize {
        self.waiting.len() + self.round.as_ref().map_or(0, |round| round.jobs.len())
    }

    /// Next time at which the round may end.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let round = self.round.as_ref()?;
        [LIMIT, UNKNOWN_LIMIT].into_iter().map(|limit| round.began + limit).find(|at| now < *at)
    }
}

impl Listing {
    /// Remarks for the log.
    pub(super) fn remarks(&self) -> Vec<String> {
        let from_events = self.from_events.iter().map(|uri| format!("{uri}: as known from events"));
        self.problems.iter().cloned().chain(from_events).collect()
    }

    /// Adds the VMs of a URI.
    fn merge(&mut self, found: Vec<FoundDomain>, index_by_uuid: &mut HashMap<String, usize>) {
        for FoundDomain { name, uuid, state } in found {
            let at = *index_by_uuid.entry(uuid.clone()).or_insert(self.vms.len());
            if at == self.vms.len() {
                self.vms.push(Vec::new());
            }
            self.vms[at].push(HostEntry { name, uuid, state: state.power });
        }
    }
}

fn found(vm: &LocalVm) -> FoundDomain {
    let state =
        DomainState { power: vm.state, id: None, is_active: false, is_migrating: false, is_starting: false };
    FoundDomain { name: vm.name.clone(), uuid: vm.uuid.to_string(), state }
}
