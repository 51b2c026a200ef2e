use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::{trace, warn};

use super::change_handler::{ChangeHandler, DomainObserver, RETRY_AFTER};
use super::change_queue::{ChangeKind, PendingChanges};
use super::domain_query::DomainQuery;
use crate::libvirt::{DomainRun, LibvirtError, LibvirtResult};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;
use fence_virt::time::Instant;

/// Time after which VMs whose queries fail no longer delay `synced`.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// Runs of VMs that an observer knows.
pub(super) struct DomainTracker {
    /// Name of the observer for the log.
    name: &'static str,
    observer: Box<dyn DomainObserver>,
    known: BTreeMap<Uuid, u32>,
    /// VMs whose query failed, with the time of the next one.
    retries: BTreeMap<Uuid, Instant>,
    /// True once the observer knows all VMs that run on this connection.
    is_synced: bool,
    sync_deadline: Option<Instant>,
}

impl DomainTracker {
    pub(super) fn new(name: &'static str, observer: Box<dyn DomainObserver>) -> DomainTracker {
        let known = BTreeMap::new();
        let retries = BTreeMap::new();
        DomainTracker { name, observer, known, retries, is_synced: false, sync_deadline: None }
    }

    /// Queries one VM.
    fn refresh(&mut self, uuid: Uuid, query: &dyn DomainQuery, reread: bool, now: Instant) -> LibvirtResult {
        match query.find(uuid) {
            Ok(Some(vm)) => self.read(vm, query, reread, now)?,
            Ok(None) => self.forget(uuid),
            Err(error) => self.retry(uuid, error, query, now)?,
        }
        Ok(())
    }

    /// Reads the XML of a VM that runs, once a run unless `reread`.
    fn read(&mut self, vm: DomainRun, query: &dyn DomainQuery, reread: bool, now: Instant) -> LibvirtResult {
        let uuid = vm.domain.uuid;
        if self.known.get(&uuid) == Some(&vm.id) && !reread && !self.retries.contains_key(&uuid) {
            return Ok(());
        }
        self.retries.remove(&uuid);
        let devices = match query.devices(uuid) {
            Ok(Some(Ok(devices))) => devices,
            Ok(Some(Err(error))) => {
                warn!("{}: {}: {error}", self.name, vm.domain);
                Devices { run: Some(vm.id), ..Devices::default() }
            }
            Ok(None) => {
                self.forget(uuid);
                return Ok(());
            }
            Err(error) => return self.retry(uuid, error, query, now),
        };
        if devices.run != Some(vm.id) {
            // Restarted between the two calls: these are the devices of another run.
            self.forget(uuid);
            return self.retry(uuid, LibvirtError::Other("restarted meanwhile".to_owned()), query, now);
        }
        self.known.insert(uuid, vm.id);
        self.observer.running(&vm, devices, now);
        Ok(())
    }

    fn forget(&mut self, uuid: Uuid) {
        self.retries.remove(&uuid);
        if self.known.remove(&uuid).is_some() {
            self.observer.stopped(uuid);
        }
    }

    /// Schedules another query of a VM, unless the connection is lost.
    fn retry(
        &mut self,
        uuid: Uuid,
        error: LibvirtError,
        query: &dyn DomainQuery,
        now: Instant,
    ) -> LibvirtResult {
        query.check()?;
        trace!("{}: {uuid}: {error}: retrying", self.name);
        self.retries.insert(uuid, now + RETRY_AFTER);
        Ok(())
    }
}

impl ChangeHandler for DomainTracker {
    fn resync(&mut self, query: &dyn DomainQuery, reread: bool, now: Instant) -> LibvirtResult {
        let running = query.running()?;
        self.sync_deadline.get_or_insert(now + SYNC_LIMIT);
        let uuids: BTreeSet<Uuid> = running.iter().map(|vm| vm.domain.uuid).collect();
        let stopped: Vec<Uuid> = self.known.keys().filter(|uuid| !uuids.contains(uuid)).copied().collect();
        for uuid in stopped {
            self.forget(uuid);
        }
        for vm in running {
            self.read(vm, query, reread, now)?;
        }
        Ok(())
    }

    fn handle(&mut self, changes: &PendingChanges, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        for (&uuid, &change) in &changes.changed {
            self.refresh(uuid, query, change == ChangeKind::Devices, now)?;
        }
        Ok(())
    }

    fn handle_lost_lines(&mut self, changes: &PendingChanges, now: Instant) {
        for &line in &changes.lost_lines {
            self.observer.line_lost(line, now);
        }
    }

    fn turn(&mut self, query: &dyn DomainQuery, now: Instant) -> LibvirtResult {
        let due: Vec<Uuid> =
            self.retries.iter().filter(|(_, at)| now >= **at).map(|(&uuid, _)| uuid).collect();
        for uuid in due {
            self.refresh(uuid, query, true, now)?;
        }
        let may_wait = self.sync_deadline.is_some_and(|at| now < at);
        if !self.is_synced && (self.retries.is_empty() || !may_wait) {
            self.is_synced = true;
            self.observer.synced();
        }
        self.observer.turn(query, now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.retries.values().copied().chain(self.observer.deadline()).min()
    }

    fn lost(&mut self) {
        self.observer.lost();
        self.retries.clear();
        self.is_synced = false;
        self.sync_deadline = None;
    }
}

#[cfg(test)]
#[path = "domain_tracker_tests.rs"]
mod tests;
