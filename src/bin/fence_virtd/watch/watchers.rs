use crossbeam_channel::Sender;
use log::warn;

use super::change_handler::DomainObserver;
use super::change_queue::ChangeQueue;
use super::connector::Connector;
use super::domain_reporter::DomainReporter;
use super::domain_tracker::DomainTracker;
use super::heard_uri::{HeardUri, unfollowed};
use super::serial_scope::{is_local, local_uris, warn_of_remote};
use super::socket_registry::SocketRegistry;
use super::watcher::{Watcher, WatcherHandle};
use crate::access::CidTable;
use crate::inbox::Message;
use crate::libvirt::{DomainRun, HeldVms, connect_advice};
use crate::serial_event::SerialSink;
use crate::startup::{FirstAttempt, START_LIMIT, Startup, await_first};
use crate::status::Reception;
use crate::threads::join_by;
use fence_virt::config::SerialConfig;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{UriIndex, Uuid};
use fence_virt::time::Instant;

/// Threads of the watchers.
#[derive(Default)]
pub(crate) struct Watchers {
    handles: Vec<WatcherHandle>,
    held: HeldVms,
}

impl Watchers {
    /// VMs that the watchers do not wait for, for the worker to write.
    pub(crate) fn held_vms(&self) -> HeldVms {
        self.held.clone()
    }

    /// Follows the sockets of running VMs for the serial listener, on its own URI or
    /// else on those of the backend. Records in `reception` which of them are followed.
    /// Errors: if the system has no thread left.
    pub(crate) fn follow_lines(
        &mut self,
        config: &SerialConfig,
        backend: &[String],
        listener: &SerialSink,
        reception: &Reception,
    ) -> Result<(), String> {
        let registry = SocketRegistry::default();
        for warning in warn_of_remote(config, backend) {
            warn!("serial: {warning}");
        }
        reception.set_channels(unfollowed(config, backend));
        for uri in local_uris(config, backend) {
            let queue = ChangeQueue::default();
            let connector = Connector::new(uri, config, listener.clone(), queue.clone(), registry.clone());
            let observer = HeardUri { reception: reception.clone(), uri: uri.clone(), inner: connector };
            let mut handle = Watcher::start("serial", uri, queue, tracker("serial", observer), &self.held)?;
            handle.first = handle.first.filter(|_| !backend.contains(uri));
            self.handles.push(handle);
        }
        Ok(())
    }

    /// Follows the CIDs of running VMs, on each URI of the backend.
    /// Errors: if the system has no thread left.
    pub(crate) fn follow_cids(&mut self, uris: &[String]) -> Result<CidTable, String> {
        let table = CidTable::new(uris.len());
        for (at, uri) in uris.iter().enumerate() {
            let mut observer = CidObserver { table: table.clone(), uri: UriIndex(at) };
            if !is_local(uri) {
                // VMs of another host have their CIDs there, and send requests there.
                observer.synced();
                continue;
            }
            let handle =
                Watcher::start("vsock", uri, ChangeQueue::default(), tracker("vsock", observer), &self.held)?;
            self.handles.push(WatcherHandle { first: None, ..handle });
        }
        Ok(table)
    }

    /// Reports all VMs of these URIs and their changes to the worker; `name` is for log lines.
    /// Errors: if the system has no thread left.
    pub(crate) fn follow_vms(
        &mut self,
        name: &'static str,
        uris: &[String],
        worker: &Sender<Message>,
    ) -> Result<(), String> {
        for (at, uri) in uris.iter().enumerate() {
            let reporter = Box::new(DomainReporter::new(UriIndex(at), worker.clone()));
            let handle = Watcher::start(name, uri, ChangeQueue::default(), reporter, &self.held)?;
            self.handles.push(WatcherHandle { first: None, ..handle });
        }
        Ok(())
    }

    /// Waits for the first connections to URIs that are not the backend's, which the
    /// start has waited for already. Returns false if a stop signal came.
    /// Errors: the URI that cannot be reached, and the reason.
    pub(crate) fn await_first(&mut self, startup: &Startup<'_>) -> Result<bool, String> {
        let deadline = Instant::now() + START_LIMIT;
        for handle in &mut self.handles {
            let Some(first) = handle.first.take() else { continue };
            let reason = match await_first(&first, deadline, startup.signals, "libvirt")? {
                FirstAttempt::Interrupted => return Ok(false),
                FirstAttempt::Made(Ok(())) => continue,
                FirstAttempt::Made(Err(reason)) => reason,
                FirstAttempt::ThreadEnded => "its thread has ended".to_owned(),
                FirstAttempt::TimedOut => "no answer".to_owned(),
            };
            let WatcherHandle { name, uri, .. } = handle;
            let advice = connect_advice(&[uri], &reason);
            return Err(format!("{name}: cannot connect to {uri}: {reason}; {advice}"));
        }
        Ok(true)
    }

    /// Stops the threads, which close their connections, and waits for them until
    /// `deadline`. A thread that hangs with its libvirtd is left behind.
    pub(crate) fn stop(self, deadline: Instant) {
        for handle in &self.handles {
            handle.queue.stop();
        }
        for WatcherHandle { name, uri, thread, .. } in self.handles {
            if !join_by(thread, deadline) {
                warn!("{name}: {uri} does not answer: exiting with its connection open");
            }
        }
    }
}

fn tracker(name: &'static str, observer: impl DomainObserver + 'static) -> Box<DomainTracker> {
    Box::new(DomainTracker::new(name, Box::new(observer)))
}

/// Observer that keeps the table of vsock CIDs up to date for one URI.
struct CidObserver {
    table: CidTable,
    uri: UriIndex,
}

impl DomainObserver for CidObserver {
    fn running(&mut self, vm: &DomainRun, devices: Devices, _now: Instant) {
        self.table.insert(self.uri, vm.clone(), devices.cids);
    }

    fn stopped(&mut self, uuid: Uuid) {
        self.table.remove(self.uri, uuid);
    }

    fn synced(&mut self) {
        self.table.set_complete(self.uri, true);
    }

    fn lost(&mut self) {
        self.table.set_complete(self.uri, false);
    }
}
