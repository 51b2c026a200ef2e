//! Tells the worker of all VMs of a URI, whether they run or not, and of each change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crossbeam_channel::Sender;
use log::debug;

use super::census::Census;
use super::inbox::News;
use super::watcher::{AGAIN_AFTER, Look};
use crate::inbox::{DomainChange, Event, Message};
use crate::libvirt::Failed;
use fence_virt::fence::Uuid;
use fence_virt::routing::LocalVm;

/// What the worker was told of a URI.
pub(super) struct Inventory {
    place: usize,
    worker: Sender<Message>,
    told: BTreeMap<Uuid, LocalVm>,
    /// VMs that libvirt could not tell about.
    again: BTreeSet<Uuid>,
    again_at: Option<Instant>,
    /// The worker was told that not all is known.
    is_unsure: bool,
}

impl Inventory {
    pub(super) fn new(place: usize, worker: Sender<Message>) -> Inventory {
        let (told, again) = (BTreeMap::new(), BTreeSet::new());
        Inventory { place, worker, told, again, again_at: None, is_unsure: false }
    }

    fn tell(&self, change: DomainChange) {
        // Nobody is there any more when the daemon stops.
        let _ = self.worker.send(Message::Event(Event::Domains { uri: self.place, change }));
    }

    fn look(&mut self, uuid: Uuid, census: &dyn Census, now: Instant) -> Result<(), Failed> {
        let found = match census.vm(uuid) {
            Ok(found) => found,
            Err(failed) => {
                census.check()?;
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

impl Look for Inventory {
    fn name(&self) -> &'static str {
        "cpg"
    }

    fn resync(&mut self, census: &dyn Census, reread: bool, _now: Instant) -> Result<(), Failed> {
        let all = census.all()?;
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

    fn take(&mut self, news: &News, census: &dyn Census, now: Instant) -> Result<(), Failed> {
        news.changed.keys().try_for_each(|&uuid| self.look(uuid, census, now))
    }

    fn attend(&mut self, census: &dyn Census, _uri: &str, now: Instant) -> Result<(), Failed> {
        if self.again_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        self.again_at = None;
        std::mem::take(&mut self.again).into_iter().try_for_each(|uuid| self.look(uuid, census, now))?;
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
#[path = "inventory_tests.rs"]
mod tests;
