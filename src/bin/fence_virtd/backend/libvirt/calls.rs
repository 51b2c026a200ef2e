//! Calls on lanes: their begin, their outcomes, and those that are given up.

use std::time::Duration;

use super::backend::{CallInProgress, CallUser, LibvirtBackend};
use super::resolve::{Uri, resolve};
use crate::libvirt::{Call, CallId, CallOutcome, LibvirtError, Link};
use fence_virt::fence::UriIndex;
use fence_virt::time::Instant;

/// Time after the loss of a URI at which its calls are given up: those that were in
/// progress have failed by then, and the others wait for a connection.
const LOST: Duration = Duration::from_secs(3);
/// Time limit of a call, its wait for a lane included; starts have none.
const CALL_LIMIT: Duration = Duration::from_secs(60);

impl<L: Link> LibvirtBackend<L> {
    /// Makes a call on a lane. Its outcome is handled when this turn settles, or later.
    pub(super) fn submit(
        &mut self,
        at: UriIndex,
        call: Call,
        vm: &str,
        user: CallUser,
        now: Instant,
    ) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(id, CallInProgress { uri: at, began: now, user });
        let uri = &mut self.uris[at.0];
        match uri.link.check_open() {
            Ok(()) => {
                if let Some(vm) = call.held_vm() {
                    self.held.hold(vm);
                    self.held_by.insert(id, vm);
                }
                uri.lanes.submit(&uri.link, id, call, vm);
            }
            Err(error) => self.ended.push((id, call.fail(error))),
        }
        id
    }

    /// Handles the outcomes that have come, until there are no more.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            let mut ended = std::mem::take(&mut self.ended);
            self.uris.iter_mut().for_each(|uri| ended.extend(uri.lanes.take_failed()));
            let lookups = self.lookups.take_complete(now);
            let listing = self.lists.end(&mut self.uris, &self.vm_operations, now);
            if ended.is_empty() && lookups.is_empty() && listing.is_none() {
                if self.begin_list(now) { continue } else { return }
            }
            for (id, outcome) in ended {
                self.call_ended(id, outcome, now);
            }
            for mut lookup in lookups {
                self.abandon(&lookup);
                let found = lookup.take_found();
                let resolution = resolve(&mut self.uris, &lookup.job.request.target, found);
                self.looked_up(lookup.job, lookup.admitted, resolution, now);
            }
            if let Some((listing, jobs)) = listing {
                jobs.into_iter().for_each(|job| self.answer_listing(job, &listing, now));
                self.lists.keep(listing);
            }
        }
    }

    pub(super) fn call_ended(&mut self, id: CallId, outcome: CallOutcome, now: Instant) {
        self.release(id);
        let Some(CallInProgress { uri, user, .. }) = self.calls.remove(&id) else { return };
        match (user, outcome) {
            (CallUser::Lookup(lookup), CallOutcome::Domains(found)) => {
                self.lookups.record(lookup, uri, found)
            }
            (CallUser::List, CallOutcome::Domains(found)) => self.lists.record(uri, id, found),
            (CallUser::PowerOff { uuid, placement, .. }, CallOutcome::PoweredOff(result)) => {
                self.powered_off(&uuid, placement, Ok(result), now);
            }
            (CallUser::Start { uuid, .. }, CallOutcome::Started(outcome)) => {
                self.started(&uuid, outcome, now)
            }
            _ => log::error!("a call has an outcome of another kind"),
        }
    }

    /// Lets the watchers list again once the call that holds a VM has ended.
    pub(super) fn release(&mut self, id: CallId) {
        if let Some(vm) = self.held_by.remove(&id) {
            self.held.release(vm);
        }
    }

    /// Gives up the calls of URIs that are lost, and those that take too long: a connection may
    /// never open. A call that is given up may still be made later, but it destroys and starts nothing.
    pub(super) fn give_up_lost(&mut self, now: Instant) {
        let lost = |uri: &mut Uri<L>| uri.lost_for(LOST, now);
        let lost: Vec<Option<LibvirtError>> = self.uris.iter_mut().map(lost).collect();
        let error = |call: &CallInProgress| {
            let is_start = matches!(call.user, CallUser::Start { .. });
            let is_late = !is_start && now >= call.began + CALL_LIMIT;
            let late =
                || LibvirtError::ConnectionLost(format!("no result within {} s", CALL_LIMIT.as_secs()));
            lost[call.uri.0].clone().or_else(|| is_late.then(late))
        };
        let over = self.calls.iter().filter_map(|(&id, call)| Some((id, error(call)?)));
        let mut over: Vec<(CallId, LibvirtError)> = over.collect();
        over.sort_by_key(|(id, _)| *id);
        for (id, error) in over {
            self.give_up(id, error, now);
        }
    }

    fn give_up(&mut self, id: CallId, error: LibvirtError, now: Instant) {
        let Some(CallInProgress { uri, user, .. }) = self.calls.remove(&id) else { return };
        let Uri { link, lanes, .. } = &mut self.uris[uri.0];
        if lanes.withdraw(link, id) {
            self.release(id);
        }
        match user {
            CallUser::Lookup(lookup) => self.lookups.record(lookup, uri, Err(error)),
            CallUser::List => self.lists.record(uri, id, Err(error)),
            CallUser::PowerOff { uuid, placement, given_up } => {
                given_up.cancel();
                self.powered_off(&uuid, placement, Err(error), now);
            }
            CallUser::Start { uuid, given_up } => {
                given_up.cancel();
                self.started(&uuid, Err(error), now);
            }
        }
    }

    /// Begins the lists that requests wait for; false if there is nothing to begin.
    fn begin_list(&mut self, now: Instant) -> bool {
        let holds = |uri| self.vm_operations.iter().any(|vm_operation| vm_operation.holds(uri));
        let Some(uris) = self.lists.begin(holds, now) else { return false };
        for uri in uris {
            let call = self.submit(uri, Call::List, "", CallUser::List, now);
            self.lists.began_call(uri, call);
        }
        true
    }
}
