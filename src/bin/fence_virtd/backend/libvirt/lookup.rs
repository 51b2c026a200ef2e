//! Lookups of VMs by calls on lanes: such a call waits while somebody else destroys the VM.

use std::collections::{BTreeMap, HashSet};

use crate::job::Job;
use crate::libvirt::{FoundDomain, LibvirtError, LibvirtResult};
use fence_virt::arbiter::OperationId;
use fence_virt::fence::{Target, UriIndex};
use fence_virt::time::Instant;

/// Number of a lookup; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LookupId(u64);

/// Lookup of the VM that a request names.
pub(super) struct Lookup {
    pub(super) id: LookupId,
    pub(super) job: Job,
    /// Operation that the arbiter has admitted already.
    pub(super) admitted: Option<OperationId>,
    /// Time at which it goes on without those URIs that have not answered.
    late_at: Instant,
    /// Domains that each URI has found; none until its call has ended.
    found: Vec<Option<LibvirtResult<Vec<FoundDomain>>>>,
}

/// All lookups in progress.
#[derive(Default)]
pub(super) struct Lookups {
    lookups: BTreeMap<LookupId, Lookup>,
    next: u64,
}

impl Lookup {
    /// Domains that each URI has found, once all calls have ended, or those that have
    /// not are late.
    pub(super) fn take_found(&mut self) -> Vec<LibvirtResult<Vec<FoundDomain>>> {
        let late = || Err(LibvirtError::ConnectionLost("no answer in time".to_owned()));
        self.found.drain(..).map(|found| found.unwrap_or_else(late)).collect()
    }

    /// True once all calls have ended.
    pub(super) fn is_over(&self) -> bool {
        self.found.iter().all(Option::is_some)
    }

    fn is_complete(&self, now: Instant) -> bool {
        let has_found = |found: &Option<LibvirtResult<Vec<FoundDomain>>>| matches!(found, Some(Ok(domains)) if !domains.is_empty());
        let is_late = now >= self.late_at && self.found.iter().any(has_found);
        is_late || self.is_over()
    }
}

impl Lookups {
    /// Begins a lookup on this number of URIs.
    pub(super) fn begin(
        &mut self,
        job: Job,
        admitted: Option<OperationId>,
        uris: usize,
        late_at: Instant,
    ) -> LookupId {
        let id = LookupId(self.next);
        self.next += 1;
        let found = (0..uris).map(|_| None).collect();
        self.lookups.insert(id, Lookup { id, job, admitted, late_at, found });
        id
    }

    /// Records what a URI has found.
    pub(super) fn record(&mut self, id: LookupId, uri: UriIndex, found: LibvirtResult<Vec<FoundDomain>>) {
        if let Some(slot) = self.lookups.get_mut(&id).and_then(|lookup| lookup.found.get_mut(uri.0)) {
            *slot = Some(found);
        }
    }

    /// Removes the lookups that are complete, in the order in which they began: of two requests
    /// for the same target, the later one does not overtake.
    pub(super) fn take_complete(&mut self, now: Instant) -> Vec<Lookup> {
        let mut incomplete = HashSet::new();
        let mut wanted = Vec::new();
        for (&id, lookup) in &self.lookups {
            let target = lookup.job.request.target.as_str();
            if lookup.is_complete(now) && !incomplete.contains(target) {
                wanted.push(id);
            } else {
                incomplete.insert(target);
            }
        }
        self.remove(&wanted)
    }

    /// Removes the lookups of requests that are stale.
    pub(super) fn take_stale(&mut self, now: Instant) -> Vec<Lookup> {
        self.extract(|lookup| lookup.job.stale(now).is_some())
    }

    /// Removes all lookups.
    pub(super) fn take_all(&mut self) -> Vec<Lookup> {
        self.extract(|_| true)
    }

    fn extract(&mut self, is_wanted: impl Fn(&Lookup) -> bool) -> Vec<Lookup> {
        let wanted = self.lookups.iter().filter(|(_, lookup)| is_wanted(lookup)).map(|(&id, _)| id);
        let wanted: Vec<LookupId> = wanted.collect();
        self.remove(&wanted)
    }

    fn remove(&mut self, wanted: &[LookupId]) -> Vec<Lookup> {
        wanted.iter().filter_map(|id| self.lookups.remove(id)).collect()
    }

    /// True if a lookup of this target is in progress.
    pub(super) fn has(&self, target: &Target) -> bool {
        self.lookups.values().any(|lookup| lookup.job.request.target == *target)
    }

    /// Number of lookups.
    pub(super) fn len(&self) -> usize {
        self.lookups.len()
    }

    /// Next time at which a lookup is late or its request expires.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let late = self.lookups.values().map(|lookup| lookup.late_at).filter(|at| *at > now);
        late.chain(self.lookups.values().map(|lookup| lookup.job.expires)).min()
    }
}
