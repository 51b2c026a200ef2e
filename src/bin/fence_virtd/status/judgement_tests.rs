use super::super::counts::Refusal;
use super::super::reception::ReceptionState;
use super::super::sample::{call_since, restraints, snapshot};
use super::super::snapshot::{ClusterState, RefusedReload};
use super::*;
use fence_virt::time::Instant;

/// State without problems.
fn well() -> Snapshot {
    let mut snapshot = snapshot();
    snapshot.uris.truncate(1);
    assert_eq!(Judgement::of(&snapshot), Judgement::default());
    snapshot
}

#[test]
fn what_is_wrong_is_said() {
    let mut snapshot = well();
    snapshot.uris[0].obstacle = Some("libvirtd does not answer".to_owned());
    snapshot.uris[0].lanes.oldest = Some(call_since(40));
    snapshot.is_worker_healthy = false;
    snapshot.busy_for = Some(Duration::from_secs(70));
    snapshot.queue.len = 512;
    snapshot.cluster =
        Some(ClusterState { alone: Some("corosync has ended".into()), ..ClusterState::default() });
    let expected = [
        "the worker has been stuck in one call for 70 s",
        "the worker's queue is full: new requests fail",
        "qemu:///system: libvirtd does not answer",
        "qemu:///system: a call has taken 40 s so far: start of \"a\"",
        "this host is not in the cluster's group: corosync has ended",
    ];
    assert_eq!(Judgement::of(&snapshot).problems, expected);
}

#[test]
fn holds_are_one_warning() {
    for (count, named) in
        [(1, "\"web\""), (3, "\"web\", \"vm1\", \"vm2\""), (5, "\"web\", \"vm1\", \"vm2\" and 2 more")]
    {
        let judgement = Judgement::of(&Snapshot { restraints: restraints(count), ..well() });
        let expected = format!(
            "holds ({count}, the last one until 1970-01-01T00:01:00.000Z): power operations fail on {named}; end \
             one with --release"
        );
        assert!(judgement.is_well() && judgement.warnings == [expected], "{judgement:?}");
    }
}

#[test]
fn a_call_is_a_problem_from_30_s_on() {
    let mut snapshot = well();
    snapshot.uris[0].lanes.oldest = Some(call_since(29));
    assert!(Judgement::of(&snapshot).is_well());
    snapshot.uris[0].lanes.oldest = Some(call_since(30));
    assert!(!Judgement::of(&snapshot).is_well());
}

#[test]
fn a_listener_that_is_deaf_is_a_problem_and_one_that_is_so_in_part_a_warning() {
    let mut snapshot = well();
    snapshot.listeners[0].reception.faults = vec!["br1 is down".to_owned()];
    let judgement = Judgement::of(&snapshot);
    assert!(judgement.is_well());
    assert_eq!(judgement.warnings, ["tcp:b does not listen everywhere: br1 is down"]);
    snapshot.listeners[0].reception.is_deaf = true;
    let judgement = Judgement::of(&snapshot);
    assert_eq!(judgement.problems, ["tcp:b does not listen: br1 is down"]);
    assert!(judgement.warnings.is_empty());
    snapshot.listeners[0].reception = ReceptionState { is_deaf: true, ..ReceptionState::default() };
    assert_eq!(Judgement::of(&snapshot).problems, ["tcp:b does not listen: it has not begun yet"]);
}

#[test]
fn a_refused_reload_is_a_problem() {
    let at = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
    let refused_reload = Some(RefusedReload { reason: "no key".to_owned(), at });
    let snapshot = Snapshot { refused_reload, ..well() };
    let expected =
        "the reload 1 min 1 s ago was refused, and the configuration before it is in force: no key";
    assert_eq!(Judgement::of(&snapshot).problems, [expected]);
}

#[test]
fn refusals_in_a_row_are_a_warning_unless_they_are_ordinary() {
    let second = Duration::from_secs(1);
    let of = |reason, count| {
        let streak = Some(Streak { count, began: 300 * second, ended: 4 * second });
        let mut snapshot = well();
        snapshot.listeners[0].refusals = vec![RefusalCount { reason, count: 30, streak }];
        let judgement = Judgement::of(&snapshot);
        assert!(judgement.is_well());
        judgement.warnings
    };
    let expected = "tcp:b has refused 24 requests in a row (signature), the first 5 min 0 s ago, the last 4 s ago: \
        the agents have another key: compare fence_xvm --key-fingerprint with the key of the listener";
    assert_eq!(of("signature", 24), [expected]);
    assert_eq!(of("signature", STREAK_MIN).len(), 1);
    assert!(of("signature", STREAK_MIN - 1).is_empty());
    assert!(of("duplicate", 24).is_empty());
}

#[test]
fn each_reason_but_duplicates_has_a_cause() {
    let without: Vec<&str> =
        Refusal::ALL.iter().map(|(_, reason)| *reason).filter(|reason| cause(reason).is_none()).collect();
    assert_eq!(without, ["duplicate"]);
}
