use super::super::place::ListeningPlace;
use super::super::reception::ReceptionState;
use super::super::sample::{call_since, restraints, snapshot};
use super::super::snapshot::{FencerState, HostFencingState, ListenerState, UriState};
use super::*;
use std::time::Duration;

fn text(snapshot: &Snapshot) -> String {
    render(snapshot, &Judgement::of(snapshot), Form::Text)
}

fn json(snapshot: &Snapshot) -> String {
    render(snapshot, &Judgement::of(snapshot), Form::Json)
}

fn metrics(snapshot: &Snapshot) -> String {
    render(snapshot, &Judgement::of(snapshot), Form::OpenMetrics)
}

#[test]
fn text_is_for_people() {
    let expected = "fence_virtd 5.0.0, pid 7, up 1 h 1 min\n\
        configuration: /etc/fence_virt.conf\n\
        worker: busy for 1 s; queue: 1 of 512\n\
        libvirt qemu:///system: connected, last reply 1 s ago; 2 of 32 lanes busy, 1 call waiting\n\
        libvirt a\"b\\: NOT AVAILABLE, no reply yet: no way\n\
        cluster: 3 members, 5 requests in flight\n\
        host fencing: pacemaker answers (libstonithd.so.26.8.2); host_fence_delay is not set\n\
        keys of VMs: 12\n\
        listener tcp:b: listening: 192.0.2.1 port 1229, key 2301ffb4; 2 open\n  off: 3 success, 1 failure\n  refused: 4 signature\n  probes: 24\n  with an older hash: 3\n\
        last power operations:\n  2026-11-30T06:40:02.125Z tcp: 192.0.2.7: off \"node\\u{202e}1\": success: destroyed: 9 ms\n\
        ERROR    a\"b\\: no way\n";
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
    let expected = "{\"up\":true,\"well\":false,\"version\":\"5.0.0\",\"pid\":7,\"uptime_seconds\":3700,\"configuration\":\"/etc/fence_virt.conf\",\
        \"reload_refused\":null,\"reload_refused_seconds_ago\":null,\
        \"worker\":{\"well\":true,\"busy_seconds\":1.000,\"queue\":1,\"queue_max\":512},\
        \"uris\":[{\"uri\":\"qemu:///system\",\"connected\":true,\"reason\":null,\"answered_seconds_ago\":1.000,\
        \"lanes_busy\":2,\"lanes_max\":32,\"calls_waiting\":1,\"oldest_call_seconds\":null,\"oldest_call\":null},\
        {\"uri\":\"a\\\"b\\\\\",\"connected\":false,\"reason\":\"no\\u000away\",\"answered_seconds_ago\":null,\
        \"lanes_busy\":0,\"lanes_max\":32,\"calls_waiting\":0,\"oldest_call_seconds\":null,\"oldest_call\":null}],\
        \"cluster\":{\"joined\":true,\"reason\":null,\"members\":3,\"under_way\":5,\
        \"fencer_connected\":true,\"host_fencing\":\"pacemaker answers (libstonithd.so.26.8.2); \
        host_fence_delay is not set\"},\
        \"vm_keys\":12,\
        \"listeners\":[{\"name\":\"tcp:b\",\"address\":\"192.0.2.1\",\"port\":1229,\"interface\":null,\"directory\":null,\
        \"key_fingerprint\":\"2301ffb4\",\"old_key_fingerprint\":null,\"listening\":true,\"listening_on\":[\"192.0.2.1\"],\
        \"not_listening\":[],\"not_listening_seconds\":null,\"open\":2,\"requests\":[\
        {\"operation\":\"off\",\"verdict\":\"success\",\"count\":3},\
        {\"operation\":\"off\",\"verdict\":\"failure\",\"count\":1}],\
        \"refusals\":[{\"reason\":\"signature\",\"count\":4,\"in_a_row\":0}],\"probes\":24,\"version_1_requests\":3}],\
        \"holds\":[],\"refused_by_hold\":0,\"refused_by_cap\":0,\
        \"last_operations\":[{\"time\":\"2026-11-30T06:40:02.125Z\",\"listener\":\"tcp\",\"requester\":\"192.0.2.7\",\
        \"operation\":\"off\",\"vm\":\"node\\u202e1\",\"verdict\":\"success\",\"reason\":\"destroyed\",\"milliseconds\":9}],\
        \"problems\":[\"a\\\"b\\\\: no\\u000away\"],\"warnings\":[]}\n";
    assert_eq!(json(&snapshot()), expected);
}

#[test]
fn metrics_come_in_families_and_end() {
    let out = metrics(&snapshot());
    for line in [
        "# TYPE fence_virtd_requests counter",
        "fence_virtd_requests_total{listener=\"tcp:b\",operation=\"off\",verdict=\"success\"} 3",
        "fence_virtd_refusals_total{listener=\"tcp:b\",reason=\"signature\"} 4",
        "fence_virtd_probes_total{listener=\"tcp:b\"} 24",
        "fence_virtd_uri_connected{uri=\"a\\\"b\\\\\"} 0",
        "fence_virtd_up 1",
        "fence_virtd_well 0",
        "fence_virtd_problems 1",
        "fence_virtd_reload_taken 1",
        "fence_virtd_listener_up{listener=\"tcp:b\"} 1",
        "fence_virtd_cluster_members 3",
        "fence_virtd_fencer_connected 1",
        "fence_virtd_vm_keys 12",
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
fn holds_and_caps_are_in_each_format() {
    let held = Snapshot { restraints: restraints(1), ..snapshot() };
    let lines = "\nhold on \"web\": since 1970-01-01T00:00:00.000Z, until 1970-01-01T00:01:00.000Z: new \"kernel\"\n\
        refused because of holds: 2 power operations\n\
        max_power_off: \"web\" 2/60s; refused: 1 power operation\n\
        last power operations:\n";
    assert!(text(&held).contains(lines), "{}", text(&held));
    let expected = "\"holds\":[{\"on\":\"web\",\"since\":\"1970-01-01T00:00:00.000Z\",\
        \"until\":\"1970-01-01T00:01:00.000Z\",\"reason\":\"new \\\"kernel\\\"\"}],\
        \"refused_by_hold\":2,\"refused_by_cap\":1,";
    assert!(json(&held).contains(expected), "{}", json(&held));
    for line in [
        "fence_virtd_holds 1",
        "fence_virtd_restrained_total{by=\"hold\"} 2",
        "fence_virtd_restrained_total{by=\"cap\"} 1",
    ] {
        assert!(metrics(&held).lines().any(|found| found == line), "{line} in\n{}", metrics(&held));
    }
    assert!(metrics(&snapshot()).contains("\nfence_virtd_holds 0\n"));
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
        let out = metrics(&snapshot);
        assert_eq!(out.lines().find(|line| line.starts_with("fence_virtd_fencer")), metric.as_deref());
        assert_eq!(!Judgement::of(&snapshot).is_well(), is_problem);
    }
}

#[test]
fn text_from_outside_is_printable() {
    let mut snapshot = snapshot();
    snapshot.uris[1].obstacle = Some("no domain \u{202e}x\u{2028}".to_owned());
    let text = text(&snapshot);
    assert!(text.contains("no domain \\u{202e}x\\u{2028}\n"), "{text}");
    assert!(json(&snapshot).contains("no domain \\u202ex\\u2028"));
}

#[test]
fn a_terminal_gets_one_table_of_the_counters() {
    let mut snapshot = snapshot();
    let other = ListenerState {
        name: "vsock".to_owned(),
        refusals: Vec::new(),
        probes: 0,
        version_1: 0,
        ..snapshot.listeners[0].clone()
    };
    snapshot.listeners.push(other);
    let shown = render(&snapshot, &Judgement::of(&snapshot), Form::Table);
    let expected = "LISTENER  OPERATION           SUCCESS  FAILURE  OFF  DENIED  LIST\n\
        tcp:b     off                 3        1        -    -       -\n\
        tcp:b     refused             4 signature\n\
        tcp:b     probes              24\n\
        tcp:b     with an older hash  3\n\
        vsock     off                 3        1        -    -       -\n";
    assert!(shown.contains(expected), "{shown}");
    snapshot.listeners.iter_mut().for_each(|it| {
        (it.requests, it.refusals, it.probes, it.version_1) = (Vec::new(), Vec::new(), 0, 0);
    });
    let shown = render(&snapshot, &Judgement::of(&snapshot), Form::Table);
    assert!(!shown.contains("OPERATION"), "no table without counts: {shown}");
}

#[test]
fn a_listener_that_hears_nothing_is_seen_in_each_format() {
    let mut snapshot = snapshot();
    snapshot.uris.truncate(1);
    snapshot.listeners[0].place = ListeningPlace::Network {
        address: [225, 0, 0, 12].into(),
        port: 1229,
        interface: Some("br0".to_owned()),
    };
    snapshot.listeners[0].reception = ReceptionState {
        open: Vec::new(),
        faults: vec!["there is no interface br0".to_owned()],
        is_deaf: true,
        deaf_for: Some(Duration::from_secs(70)),
    };
    let shown = text(&snapshot);
    assert!(
        shown.contains("listener tcp:b: NOT LISTENING: 225.0.0.12 port 1229 on br0, key 2301ffb4; 2 open\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with("ERROR    tcp:b does not listen (for 1 min 10 s): there is no interface br0\n"),
        "{shown}"
    );
    let shown = json(&snapshot);
    for words in [
        "\"well\":false",
        "\"listening\":false,\"listening_on\":[],\"not_listening\":[\"there is no interface br0\"]",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let shown = metrics(&snapshot);
    for words in ["fence_virtd_well 0\n", "fence_virtd_listener_up{listener=\"tcp:b\"} 0\n"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
}

#[test]
fn many_interfaces_are_cut() {
    let names: Vec<String> = (0..9).map(|at| format!("br{at}")).collect();
    let mut snapshot = snapshot();
    snapshot.listeners[0].reception.open = names;
    snapshot.listeners[0].place =
        ListeningPlace::Network { address: [225, 0, 0, 12].into(), port: 1229, interface: None };
    assert!(
        text(&snapshot).contains(" on br0, br1, br2, br3, br4, br5 and 3 more, key"),
        "{}",
        text(&snapshot)
    );
}

#[test]
fn an_agent_is_a_place_beside_the_uris() {
    let mut snapshot = snapshot();
    let first = snapshot.uris[0].clone();
    let agent = |uri: &str, obstacle: Option<&str>| UriState {
        uri: uri.to_owned(),
        is_agent: true,
        obstacle: obstacle.map(str::to_owned),
        ..first.clone()
    };
    snapshot.uris = vec![agent("agent:a", None), agent("agent:b", Some("no login"))];
    let text = text(&snapshot);
    assert!(text.contains("\nagent:a: works, last reply 1 s ago; 2 of 32 lanes busy"), "{text}");
    assert!(text.contains("\nagent:b: NOT AVAILABLE, last reply 1 s ago: no login\n"), "{text}");
    assert!(text.contains("ERROR    agent:b: no login\n") && !text.contains("libvirt"), "{text}");
    assert!(json(&snapshot).contains("{\"uri\":\"agent:b\",\"connected\":false,\"reason\":\"no login\""));
    assert!(metrics(&snapshot).contains("\nfence_virtd_uri_connected{uri=\"agent:a\"} 1\n"));
}
