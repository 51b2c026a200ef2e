use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crossbeam_channel::Sender;
use log::trace;

use super::change_handler::{ChangeHandler, RETRY_AFTER};
use super::change_queue::PendingChanges;
use super::domain_query::DomainQuery;
use crate::inbox::{DomainChange, Event, Message};
use crate::libvirt::LibvirtResult;
use fence_virt::fence::{PowerState, UriIndex, Uuid};
use fence_virt::routing::LocalVm;
use fence_virt::time::Instant;

/// Reporter of all VMs of a URI, running or not, and of their changes to the worker.
pub(super) struct DomainReporter {
    uri: UriIndex,
    worker: Sender<Message>,
    reported: BTreeMap<Uuid, LocalVm>,
    /// VMs that have moved away, by libvirt's events, and were not active here since.
    moved: BTreeSet<Uuid>,
    /// VMs whose query failed.
    retries: BTreeSet<Uuid>,
    retry_at: Option<Instant>,
    /// True if the worker knows that the report is incomplete.
    is_incomplete: bool,
}

impl DomainReporter {
    pub(super) fn new(uri: UriIndex, worker: Sender<Message>) -> DomainReporter {
        let (reported, moved, retries) = Default::default();
        DomainReporter { uri, worker, reported, moved, retries, retry_at: None, is_incomplete: false }
    }

    fn report(&self, change: DomainChange) {
        // While the daemon stops the worker may have ended.
        let _ = self.worker.send(Message::Event(Event::Domains { uri: self.uri, change }));
    }

    /// Adds what libvirt has forgotten: a VM that has moved away, and whose way back failed, may run elsewhere.
    fn with_moves(&self, vm: LocalVm) -> LocalVm {
        let has_moved = vm.state == PowerState::Off && self.moved.contains(&vm.uuid);
        LocalVm { may_run_elsewhere: vm.may_run_elsewhere || has_moved, ..vm }
    }

    fn refresh(&mut self, uuid: Uuid, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        let found = match query.vm(uuid) {
            Ok(found) => found.map(|vm| self.with_moves(vm)),
            Err(error) => {
                query.check()?;
                trace!("cpg: {uuid}: {error}: retrying");
                self.retry(uuid, now);
                return Ok(());
            }
        };
        match found {
            Some(vm) if self.reported.get(&uuid) != Some(&vm) => {
                self.reported.insert(uuid, vm.clone());
                self.report(DomainChange::One(vm));
            }
            Some(_) => {}
            None => {
                self.moved.remove(&uuid);
                if self.reported.remove(&uuid).is_some() {
                    self.report(DomainChange::Gone(uuid));
                }
            }
        }
        Ok(())
    }

    fn retry(&mut self, uuid: Uuid, now: Instant) {
        self.retries.insert(uuid);
        self.retry_at.get_or_insert(now + RETRY_AFTER);
        if !mem::replace(&mut self.is_incomplete, true) {
            // The VM may run here: do not claim a complete inventory.
            self.report(DomainChange::Lost);
        }
    }

    /// Queries the VMs of a list that are off or paused, since a list does not tell which of them may run
    /// elsewhere: all on a new connection, then all but those that were reported as off before. Returns those that
    /// are off and whose queries fail.
    fn complete(
        &self,
        list: &mut BTreeMap<Uuid, LocalVm>,
        query: &dyn DomainQuery,
        reread: bool,
    ) -> LibvirtResult<Vec<Uuid>> {
        let is_known = |uuid: &Uuid| {
            let known = self.reported.get(uuid);
            !reread && known.is_some_and(|vm| vm.state == PowerState::Off && !vm.may_run_elsewhere)
        };
        let mut failed = Vec::new();
        for (&uuid, listed) in list.iter_mut() {
            if listed.is_active || (listed.state == PowerState::Off && is_known(&uuid)) {
                continue;
            }
            match query.vm(uuid) {
                Ok(Some(vm)) => *listed = self.with_moves(vm),
                // An event will tell.
                Ok(None) => {}
                Err(error) => {
                    query.check()?;
                    trace!("cpg: {uuid}: {error}");
                    // A paused VM counts as running in any case, and a migration may have paused it.
                    match listed.state {
                        PowerState::Off => failed.push(uuid),
                        PowerState::Running => listed.may_run_elsewhere = true,
                    }
                }
            }
        }
        Ok(failed)
    }
}

impl ChangeHandler for DomainReporter {
    fn resync(&mut self, query: &dyn DomainQuery, reread: bool, now: Instant) -> LibvirtResult {
        let mut found: BTreeMap<Uuid, LocalVm> = query.all()?.into_iter().map(|vm| (vm.uuid, vm)).collect();
        let failed = self.complete(&mut found, query, reread)?;
        self.retries.clear();
        self.retry_at = None;
        if !failed.is_empty() {
            self.reported = found;
            failed.into_iter().for_each(|uuid| self.retry(uuid, now));
            return Ok(());
        }
        let was_incomplete = mem::replace(&mut self.is_incomplete, false);
        if reread || was_incomplete || found != self.reported {
            self.report(DomainChange::All(found.values().cloned().collect()));
            self.reported = found;
        }
        Ok(())
    }

    fn handle(&mut self, changes: &PendingChanges, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        for (&uuid, &has_moved) in &changes.moved {
            match has_moved {
                true => self.moved.insert(uuid),
                false => self.moved.remove(&uuid),
            };
        }
        changes.changed.keys().try_for_each(|&uuid| self.refresh(uuid, query, now))
    }

    fn turn(&mut self, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        if self.retry_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        self.retry_at = None;
        mem::take(&mut self.retries).into_iter().try_for_each(|uuid| self.refresh(uuid, query, now))?;
        if self.retries.is_empty() && mem::replace(&mut self.is_incomplete, false) {
            self.report(DomainChange::All(self.reported.values().cloned().collect()));
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    fn lost(&mut self) {
        self.report(DomainChange::Lost);
        // Events are missed from now on.
        self.moved.clear();
        self.retries.clear();
        self.retry_at = None;
        self.is_incomplete = false;
    }
}

#[cfg(test)]
#[path = "domain_reporter_tests.rs"]
mod tests;
