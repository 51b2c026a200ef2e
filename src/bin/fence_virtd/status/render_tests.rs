use super::super::snapshot::{QueueState, RefusalCount, RequestCount};
use super::*;
use crate::power_journal::sample::record;
use fence_virt::fence::Operation;
use fence_virt::time::Instant;
use std::sync::Arc;

fn snapshot() -> Snapshot {
    let second = Duration::from_secs(1);
    let lanes = LaneReport { busy: 2, max: 32, queued: 1, oldest: None };
    Snapshot {
        version: "5.0.0",
        pid: 7,
        uptime: 3700 * second,
        listeners: vec![ListenerState {
            name: "tcp:b".to_owned(),
            open: 2,
            requests: vec![
                RequestCount { operation: Operation::Off, verdict: "success", count: 3 },
                RequestCount { operation: Operation::Off, verdict: "failure", count: 1 },
            ],
            refusals: vec![RefusalCount { reason: "signature", count: 4 }],
            probes: 24,
        }],
        queue: QueueState { len: 1, max: 512 },
        last_operations: vec![Arc::new(record("node\u{202e}1"))],
        busy_for: Some(second),
        is_worker_healthy: true,
        uris: vec![
            UriState { uri: "qemu:///system".to_owned(), closed: None, answered: Some(second), lanes },
            UriState {
                uri: "a\"b\\".to_owned(),
                closed: Some("no\nway".to_owned()),
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

fn call_since(seconds: u64) -> OldestCall {
    let began = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    OldestCall { label: "start of \"a\"".to_owned(), began }
}

#[test]
fn text_is_for_people() {
    let expected = "fence_virtd 5.0.0, pid 7, up 1 h 1 min\n\
        worker: busy for 1 s; queue: 1 of 512\n\
        libvirt qemu:///system: connected, last reply 1 s ago; 2 of 32 lanes busy, 1 call waiting\n\
        libvirt a\"b\\: not connected, no reply yet: no way\n\
        cluster: 3 members, 5 requests in flight\n\
        host fencing: pacemaker answers (libstonithd.so.26.8.2); host_fence_delay is not set\n\
        listener tcp:b: 2 open\n  off: 3 success, 1 failure\n  refused: 4 signature\n  probes: 24\n\
        last power operations:\n  2026-11-30T06:40:02.125Z tcp: 192.0.2.7: off \"node\\u{202e}1\": success: destroyed: 9 ms\n\
        problems:\n  a\"b\\: no way\n";
    assert_eq!(text(&snapshot()), expected);
    let mut well = snapshot();
    well.uris.truncate(1);
    assert!(text(&well).ends_with("no problems\n"));
    well.uris[0].lanes.oldest = Some(call_since(4));
    assert!(text(&well).contains("waiting, oldest call 4 s: start of \"a\"\n"), "{}", text(&well));
    assert!(json(&well).contains("\"oldest_call_seconds\":4."), "{}", json(&well));
}

#[test]
fn json_is_one_line_with_all_of_it() {
    let expected = "{\"version\":\"5.0.0\",\"pid\":7,\"uptime_seconds\":3700,\
        \"worker\":{\"well\":true,\"busy_seconds\":1.000,\"queue\":1,\"queue_max\":512},\
        \"uris\":[{\"uri\":\"qemu:///system\",\"connected\":true,\"reason\":null,\"answered_seconds_ago\":1.000,\
        \"lanes_busy\":2,\"lanes_max\":32,\"calls_waiting\":1,\"oldest_call_seconds\":null,\"oldest_call\":null},\
        {\"uri\":\"a\\\"b\\\\\",\"connected\":false,\"reason\":\"no\\u000away\",\"answered_seconds_ago\":null,\
        \"lanes_busy\":0,\"lanes_max\":32,\"calls_waiting\":0,\"oldest_call_seconds\":null,\"oldest_call\":null}],\
        \"cluster\":{\"joined\":true,\"reason\":null,\"members\":3,\"under_way\":5,\
        \"fencer_connected\":true,\"host_fencing\":\"pacemaker answers (libstonithd.so.26.8.2); \
        host_fence_delay is not set\"},\
        \"listeners\":[{\"name\":\"tcp:b\",\"open\":2,\"requests\":[\
        {\"operation\":\"off\",\"verdict\":\"success\",\"count\":3},\
        {\"operation\":\"off\",\"verdict\":\"failure\",\"count\":1}],\
        \"refusals\":[{\"reason\":\"signature\",\"count\":4}],\"probes\":24}],\
        \"last_operations\":[{\"time\":\"2026-11-30T06:40:02.125Z\",\"listener\":\"tcp\",\"requester\":\"192.0.2.7\",\
        \"operation\":\"off\",\"vm\":\"node\\u202e1\",\"verdict\":\"success\",\"reason\":\"destroyed\",\"milliseconds\":9}],\
        \"problems\":[\"a\\\"b\\\\: no\\u000away\"]}\n";
    assert_eq!(json(&snapshot()), expected);
}

#[test]
fn metrics_come_in_families_and_end() {
    let out = openmetrics(&snapshot());
    for line in [
        "# TYPE fence_virtd_requests counter",
        "fence_virtd_requests_total{listener=\"tcp:b\",operation=\"off\",verdict=\"success\"} 3",
        "fence_virtd_refusals_total{listener=\"tcp:b\",reason=\"signature\"} 4",
        "fence_virtd_probes_total{listener=\"tcp:b\"} 24",
        "fence_virtd_uri_connected{uri=\"a\\\"b\\\\\"} 0",
        "fence_virtd_well 0",
        "fence_virtd_cluster_members 3",
        "fence_virtd_fencer_connected 1",
    ] {
        assert!(out.lines().any(|found| found == line), "{line} in\n{out}");
    }
    assert!(out.ends_with("# EOF\n"));
    let names: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let mut once = names.clone();
    once.dedup();
    assert_eq!(names, once);
}

#[test]
fn host_fencing_is_what_is_in_force() {
    let why = || "no library".to_owned();
    for (fencer, delay, expected, is_connected, is_problem) in [
        (
            None,
            Some(Duration::from_secs(60)),
            "pacemaker is not asked; host_fence_delay is 60 s",
            None,
            false,
        ),
        (Some(FencerState::Unknown), None, "pacemaker has not answered yet; ", Some(false), false),
        (Some(FencerState::Absent(why())), None, "no fence is known: no library; ", Some(false), false),
        (Some(FencerState::Lost(why())), None, "no fence is known: no library; ", Some(false), true),
    ] {
        let mut snapshot = snapshot();
        snapshot.uris.truncate(1);
        let Some(cluster) = &mut snapshot.cluster else { panic!("there is a cluster") };
        cluster.fencing = HostFencingState { fencer, delay };
        assert!(text(&snapshot).contains(&format!("host fencing: {expected}")), "{}", text(&snapshot));
        let metric = is_connected.map(|is| format!("fence_virtd_fencer_connected {}", u8::from(is)));
        let out = openmetrics(&snapshot);
        assert_eq!(out.lines().find(|line| line.starts_with("fence_virtd_fencer")), metric.as_deref());
        assert_eq!(!snapshot.problems().is_empty(), is_problem, "{:?}", snapshot.problems());
    }
}

#[test]
fn spans_are_short() {
    for (seconds, text) in
        [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")]
    {
        assert_eq!(span(Duration::from_secs(seconds)), text);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let mut snapshot = snapshot();
    snapshot.uris.truncate(1);
    snapshot.uris[0].answered = Some(Duration::from_secs(11));
    snapshot.uris[0].lanes.oldest = Some(call_since(40));
    snapshot.is_worker_healthy = false;
    snapshot.busy_for = Some(Duration::from_secs(70));
    snapshot.queue.len = 512;
    snapshot.cluster =
        Some(ClusterState { alone: Some("corosync has ended".into()), ..ClusterState::default() });
    let expected = [
        "the worker has been stuck in one call for 70 s",
        "the worker's queue is full: new requests fail",
        "qemu:///system has not replied for 10 s",
        "qemu:///system: a call has taken 40 s so far: start of \"a\"",
        "this host is not in the cluster's group: corosync has ended",
    ];
    assert_eq!(snapshot.problems(), expected);
}

#[test]
fn text_from_outside_is_printable() {
    let mut snapshot = snapshot();
    snapshot.uris[1].closed = Some("no domain \u{202e}x\u{2028}".to_owned());
    let text = text(&snapshot);
    assert!(text.contains("no domain \\u{202e}x\\u{2028}\n"), "{text}");
    assert!(json(&snapshot).contains("no domain \\u202ex\\u2028"));
}
