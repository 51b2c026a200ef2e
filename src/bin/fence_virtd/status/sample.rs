//! State of a daemon for tests.

use std::sync::Arc;
use std::time::Duration;

use super::place::ListeningPlace;
use super::reception::ReceptionState;
use super::snapshot::{
    ClusterState, FencerState, HostFencingState, KeyNames, LaneReport, ListenerState, OldestCall, QueueState,
    RefusalCount, RequestCount, Snapshot, UriState,
};
use crate::power_journal::sample::record;
use crate::restraints::RestraintReport;
use fence_virt::auth::Key;
use fence_virt::fence::Operation;
use fence_virt::power_log::WallTime;
use fence_virt::restraints::{HoldReason, HoldSubject, HoldTime, PowerHold};
use fence_virt::time::Instant;

/// State with an unavailable URI, refusals, and a power operation.
pub(super) fn snapshot() -> Snapshot {
    let second = Duration::from_secs(1);
    let lanes = LaneReport { busy: 2, max: 32, queued: 1, oldest: None };
    Snapshot {
        version: "5.0.0",
        pid: 7,
        uptime: 3700 * second,
        config: "/etc/fence_virt.conf".into(),
        refused_reload: None,
        listeners: vec![ListenerState {
            name: "tcp:b".to_owned(),
            place: ListeningPlace::Network { address: [192, 0, 2, 1].into(), port: 1229, interface: None },
            reception: ReceptionState { open: vec!["192.0.2.1".to_owned()], ..ReceptionState::default() },
            keys: Some(KeyNames { key: Key::new(b"secret".to_vec()).id(), old: None }),
            open: 2,
            requests: vec![
                RequestCount { operation: Operation::Off, verdict: "success", count: 3 },
                RequestCount { operation: Operation::Off, verdict: "failure", count: 1 },
            ],
            refusals: vec![RefusalCount { reason: "signature", count: 4, streak: None }],
            version_1: 3,
            probes: 24,
        }],
        vm_keys: 12,
        queue: QueueState { len: 1, max: 512 },
        restraints: RestraintReport::default(),
        last_operations: vec![Arc::new(record("node\u{202e}1"))],
        busy_for: Some(second),
        is_worker_healthy: true,
        uris: vec![
            UriState {
                uri: "qemu:///system".to_owned(),
                is_agent: false,
                obstacle: None,
                answered: Some(second),
                lanes,
            },
            UriState {
                uri: "a\"b\\".to_owned(),
                is_agent: false,
                obstacle: Some("no\nway".to_owned()),
                answered: None,
                lanes: LaneReport { max: 32, ..LaneReport::default() },
            },
        ],
        cluster: Some(ClusterState {
            alone: None,
            members: 3,
            under_way: 5,
            fencing: HostFencingState {
                fencer: Some(FencerState::Connected("libstonithd.so.26.8.2".to_owned())),
                delay: None,
            },
        }),
    }
}

/// Restraints with so many holds, on the group web and on VMs, and a cap.
pub(super) fn restraints(holds: usize) -> RestraintReport {
    let vms = (1..holds).map(|at| hold(&format!("vm{at}"), "moved"));
    RestraintReport {
        holds: std::iter::once(hold("web", "new \"kernel\"")).chain(vms).collect(),
        caps: vec!["\"web\" 2/60s".to_owned()],
        refused_by_hold: 2,
        refused_by_cap: 1,
    }
}

/// Hold of a minute from the beginning of 1970 on.
fn hold(subject: &str, reason: &str) -> PowerHold {
    let (subject, reason) = (HoldSubject::new(subject).unwrap(), HoldReason::new(reason).unwrap());
    PowerHold::begin(subject, reason, HoldTime::parse("1m").unwrap(), WallTime::from_millis(0))
}

/// Call that began this long ago.
pub(super) fn call_since(seconds: u64) -> OldestCall {
    let began = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    OldestCall { label: "start of \"a\"".to_owned(), began }
}
