//! Sources of a report, from which a snapshot is taken.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::client_order::ClientOrder;
use super::counts::Counts;
use super::form::Form;
use super::history;
use super::last_reload::LastReload;
use super::place::ListeningPlace;
use super::reception::Reception;
use super::snapshot::{ClusterState, KeyNames, ListenerState, QueueState, Snapshot, UriState};
use crate::heartbeat::Heartbeat;
use crate::host_checks::missing_vsock_device;
use crate::power_journal::PowerJournal;
use crate::restraints::SharedRestraints;
use fence_virt::auth::{HashKind, Key};
use fence_virt::session::Policy;
use fence_virt::sys::mailbox::MailboxSender;
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;

/// Names of the keys in force, and the number of those of VMs; a reload replaces them.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeysInForce(Arc<Mutex<(Option<KeyNames>, usize)>>);

impl KeysInForce {
    /// Sets the keys of a policy.
    pub(crate) fn set(&self, policy: &Policy) {
        let old = policy.old_key.as_ref().map(Key::id);
        // Without a shared key it is empty.
        let needs_key = policy.hash != HashKind::None.into() || policy.auth != HashKind::None;
        let names = (needs_key && !policy.key.is_empty()).then(|| KeyNames { key: policy.key.id(), old });
        *lock(&self.0) = (names, policy.vm_keys.len());
    }
}

/// Source of the state of one listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerSource {
    pub(crate) place: ListeningPlace,
    pub(crate) reception: Reception,
    pub(crate) keys: KeysInForce,
    pub(crate) counts: Arc<Counts>,
}

impl ListenerSource {
    fn state(&self) -> ListenerState {
        let ListenerSource { place, reception, keys, counts } = self;
        let (mut reception, open) = (reception.state(), counts.open());
        // Lines that are open stay so, whatever becomes of libvirt or the directory.
        if open > 0 && matches!(place, ListeningPlace::Sockets { .. }) {
            (reception.is_deaf, reception.deaf_for) = (false, None);
        }
        if matches!(place, ListeningPlace::Vsock { .. }) {
            reception.faults.extend(missing_vsock_device());
        }
        ListenerState {
            name: counts.name().to_string(),
            place: place.clone(),
            reception,
            keys: lock(&keys.0).0,
            open,
            requests: counts.requests(),
            refusals: counts.refusals(),
            probes: counts.probes(),
            version_1: counts.version_1(),
        }
    }
}

/// Sources of a report.
pub(crate) struct Sources {
    /// Start of the daemon.
    pub(crate) started: Instant,
    /// Configuration, with an absolute path.
    pub(crate) config: PathBuf,
    /// Way of orders to the main thread.
    pub(crate) orders: MailboxSender<ClientOrder>,
    /// The listeners, in the order of the configuration.
    pub(crate) listeners: Vec<ListenerSource>,
    /// Returns the length of the worker's queue.
    pub(crate) queue_len: Box<dyn Fn() -> usize + Send>,
    /// Capacity of the worker's queue.
    pub(crate) queue_max: usize,
    /// Heartbeat of the worker.
    pub(crate) heartbeat: Heartbeat,
    /// Returns the states of the libvirt URIs.
    pub(crate) uris: Box<dyn Fn() -> Vec<UriState> + Send>,
    /// The cluster, with the backend cpg.
    pub(crate) cluster: Option<Arc<Mutex<ClusterState>>>,
    /// Power operations.
    pub(crate) journal: PowerJournal,
    /// Result of the last reload.
    pub(crate) last_reload: LastReload,
    /// Holds and caps.
    pub(crate) restraints: SharedRestraints,
}

impl Sources {
    /// State at present, for a report in this format.
    pub(super) fn snapshot(&self, form: Form) -> Snapshot {
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime: self.started.elapsed(),
            config: self.config.clone(),
            refused_reload: self.last_reload.refused(),
            listeners: self.listeners.iter().map(ListenerSource::state).collect(),
            // All listeners share them.
            vm_keys: self.listeners.iter().map(|source| lock(&source.keys.0).1).max().unwrap_or(0),
            queue: QueueState { len: (self.queue_len)(), max: self.queue_max },
            busy_for: self.heartbeat.busy_for(),
            is_worker_healthy: self.heartbeat.is_healthy(),
            uris: (self.uris)(),
            cluster: self.cluster.as_ref().map(|cluster| lock(cluster).clone()),
            restraints: self.restraints.report(),
            last_operations: match form {
                Form::Text | Form::Table | Form::Json => self.journal.last(history::LAST),
                // It shows none.
                Form::OpenMetrics => Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_journal::sample::record;
    use crate::status::reception::Channel;
    use fence_virt::auth::{KeyRing, MacKeys, VmKey};
    use fence_virt::fence::{Endpoint, KeyHolder, ListenerName, SignatureKind};
    use fence_virt::sys::mailbox::mailbox;

    #[test]
    fn a_serial_listener_with_open_lines_is_not_deaf() {
        let place = ListeningPlace::Sockets { kind: "channels", directory: None };
        let counts = Arc::new(Counts::new(ListenerName::new("serial", None), PowerJournal::default()));
        let (reception, keys) = (Reception::new(None), KeysInForce::default());
        reception.set_channel(Channel::closed("uri", "no connection"));
        let source = ListenerSource { place, reception, keys, counts };
        assert!(source.state().reception.is_deaf);
        source.counts.set_open(1);
        let state = source.state().reception;
        assert!(!state.is_deaf && state.faults == ["no connection"], "{state:?}");
    }

    #[test]
    fn the_names_of_the_keys_are_those_in_force() {
        let key = |text: &str| Key::new(text.as_bytes().to_vec());
        let policy = |hash: HashKind, auth, old_key| Policy {
            old_key,
            ..Policy::new(hash, auth, key("a"), Endpoint::LINE)
        };
        let keys = KeysInForce::default();
        keys.set(&policy(HashKind::Sha256, HashKind::None, Some(key("b"))));
        let names = KeyNames { key: key("a").id(), old: Some(key("b").id()) };
        assert_eq!(*lock(&keys.0), (Some(names), 0));
        keys.set(&policy(HashKind::None, HashKind::None, None));
        assert_eq!(*lock(&keys.0), (None, 0));
        let mut ring = KeyRing::default();
        let mac_keys = Arc::new(MacKeys::derive(b"c"));
        let holder = Arc::new(KeyHolder { name: "vm".to_owned(), uuid: None, key: mac_keys.id() });
        ring.insert(VmKey { holder, mac_keys });
        let empty =
            Policy::new(SignatureKind::HmacSha256, HashKind::Sha256, Key::new(Vec::new()), Endpoint::LINE);
        keys.set(&Policy { vm_keys: Arc::new(ring), ..empty });
        assert_eq!(*lock(&keys.0), (None, 1), "there is no shared key");
    }

    #[test]
    fn a_report_has_the_last_operations_and_metrics_have_none() {
        let (orders, _orders) = mailbox().unwrap();
        let sources = Sources {
            orders,
            started: Instant::now(),
            config: PathBuf::from("/etc/fence_virt.conf"),
            listeners: Vec::new(),
            queue_len: Box::new(|| 0),
            queue_max: 1,
            heartbeat: Heartbeat::default(),
            uris: Box::new(Vec::new),
            cluster: None,
            journal: PowerJournal::default(),
            last_reload: LastReload::default(),
            restraints: SharedRestraints::default(),
        };
        (0..9).for_each(|at| sources.journal.record(record(&format!("vm{at}"))));
        for (form, expected) in [
            (Form::Text, &["vm4", "vm5", "vm6", "vm7", "vm8"][..]),
            (Form::Table, &["vm4", "vm5", "vm6", "vm7", "vm8"]),
            (Form::Json, &["vm4", "vm5", "vm6", "vm7", "vm8"]),
            (Form::OpenMetrics, &[]),
        ] {
            let last = sources.snapshot(form).last_operations;
            assert_eq!(last.iter().map(|record| record.vm.as_str()).collect::<Vec<_>>(), expected);
        }
    }
}
