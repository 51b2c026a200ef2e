//! Tells the worker of all VMs of a URI, whether they run or not, and of each change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crossbeam_channel::Sender;
use log::debug;

use super::change_queue::PendingChanges;
use super::domain_query::DomainQuery;
use super::watcher::{AGAIN_AFTER, ChangeHandler};
use crate::inbox::{DomainChange, Event, Message};
use crate::libvirt::LibvirtError;
use fence_virt::fence::Uuid;
use fence_virt::routing::LocalVm;

/// What the worker was told of a URI.
pub(super) struct DomainReporter {
    place: usize,
    worker: Sender<Message>,
    told: BTreeMap<Uuid, LocalVm>,
    /// VMs that libvirt could not tell about.
    again: BTreeSet<Uuid>,
    again_at: Option<Instant>,
    /// The worker was told that not all is known.
    is_unsure: bool,
}

impl DomainReporter {
    pub(super) fn new(place: usize, worker: Sender<Message>) -> DomainReporter {
        let (told, again) = (BTreeMap::new(), BTreeSet::new());
        DomainReporter { place, worker, told, again, again_at: None, is_unsure: false }
    }

    fn tell(&self, change: DomainChange) {
        // Nobody is there any more when the daemon stops.
        let _ = self.worker.send(Message::Event(Event::Domains { uri: self.place, change }));
    }

    fn look(&mut self, uuid: Uuid, query: &dyn DomainQuery, now: Instant) -> Result<(), LibvirtError> {
        let found = match query.vm(uuid) {
            Ok(found) => found,
            Err(failed) => {
                query.check()?;
                debug!("cpg: {uuid}: {failed}: looking again");
                self.again.insert(uuid);
                self.again_at.get_or_insert(now + AGAIN_AFTER);
                if !std::mem::replace(&mut self.is_unsure, true) {
                    // It may run here, and nobody may be told that all was told.
                    self.tell(DomainChange::Lost);
                }
                return Ok(());
            }
        };
        match found {
            Some(vm) if self.told.get(&uuid) != Some(&vm) => {
                self.told.insert(uuid, vm.clone());
                self.tell(DomainChange::One(vm));
            }
            None if self.told.remove(&uuid).is_some() => self.tell(DomainChange::Gone(uuid)),
            _ => {}
        }
        Ok(())
    }
}

impl ChangeHandler for DomainReporter {
    fn name(&self) -> &'static str {
        "cpg"
    }

    fn resync(&mut self, query: &dyn DomainQuery, reread: bool, _now: Instant) -> Result<(), LibvirtError> {
        let all = query.all()?;
        let found: BTreeMap<Uuid, LocalVm> = all.iter().map(|vm| (vm.uuid, vm.clone())).collect();
        self.again.clear();
        self.again_at = None;
        let was_unsure = std::mem::replace(&mut self.is_unsure, false);
        if reread || was_unsure || found != self.told {
            self.told = found;
            self.tell(DomainChange::All(all));
        }
        Ok(())
    }

    fn take(
        &mut self,
        changes: &PendingChanges,
        query: &dyn DomainQuery,
        now: Instant,
    ) -> Result<(), LibvirtError> {
        changes.changed.keys().try_for_each(|&uuid| self.look(uuid, query, now))
    }

    fn attend(&mut self, query: &dyn DomainQuery, _uri: &str, now: Instant) -> Result<(), LibvirtError> {
        if self.again_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        self.again_at = None;
        std::mem::take(&mut self.again).into_iter().try_for_each(|uuid| self.look(uuid, query, now))?;
        if self.again.is_empty() && std::mem::replace(&mut self.is_unsure, false) {
            self.tell(DomainChange::All(self.told.values().cloned().collect()));
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.again_at
    }

    fn lost(&mut self) {
        self.tell(DomainChange::Lost);
        self.again.clear();
        self.again_at = None;
        self.is_unsure = false;
    }
}

#[cfg(test)]
#[path = "domain_reporter_tests.rs"]
mod tests;
