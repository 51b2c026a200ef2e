//! Log lines of requests that are carried out for other hosts.

use super::*;
use fence_virt::power_log::{PowerRecord, PowerVerdict};

#[test]
fn what_is_done_for_another_host_is_logged_like_a_clients_request() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    captured();
    let call = |operation, name: &str, number| {
        let (target, number) = (NodeId(2), RequestNumber(number));
        ClusterMessage::Request(ClusterCall {
            name: name.to_owned(),
            operation,
            number,
            target,
            client_number: 0,
        })
    };
    let received = bench.now;
    bench.host.hold(&format!("power-off {OWN}"));
    bench.says(&call(Operation::Off, OWN, 1));
    assert_eq!(captured(), [""; 0], "not yet");
    bench.now = received + SECOND;
    bench.host.release();
    bench.turn();
    let done = format!("INFO: cpg: node 1: off \"{OWN}\": success: destroyed on uri0, verified off: 1000 ms");
    assert_eq!(captured(), [done]);
    bench.says(&call(Operation::Status, OWN, 2));
    let status = format!("INFO: cpg: node 1: status \"{OWN}\": off: off on uri0: 0 ms");
    assert_eq!(captured(), [status]);
    bench.host.domains.borrow_mut().clear();
    bench.says(&call(Operation::Off, OWN, 3));
    let [gone] = captured().try_into().unwrap();
    assert!(gone.starts_with(&format!("WARN: cpg: node 1: off \"{OWN}\": failure: ")), "{gone}");
    let records = bench.backend.served.journal.records();
    let shown = |record: &PowerRecord| {
        let PowerRecord { listener, requester, operation, vm, verdict, millis, .. } = record.clone();
        assert_eq!((listener.as_str(), operation, vm.as_str()), ("cpg", Operation::Off, OWN));
        (requester, verdict, millis)
    };
    let records: Vec<_> = records.iter().map(|record| shown(&record.record)).collect();
    let node = "node 1".to_owned();
    let expected =
        [(node.clone(), PowerVerdict::Success, Some(1000)), (node, PowerVerdict::Failure, Some(0))];
    assert_eq!(records, expected, "the question is none");
    // For a client of this host, the line of its listener says it.
    let _mail = bench.asks(Operation::Status, "vm2");
    assert_eq!(captured(), [""; 0]);
}

#[test]
fn what_is_done_for_a_host_that_has_left_is_logged_too() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.host.hold(&format!("power-off {OWN}"));
    let (target, number) = (NodeId(2), RequestNumber(1));
    let call =
        ClusterCall { name: OWN.to_owned(), operation: Operation::Off, number, target, client_number: 0 };
    bench.says(&ClusterMessage::Request(call));
    captured();
    let left = vec![(peer(1), fence_virt::routing::Departure::Process)];
    let change = Membership { members: vec![peer(2)], left, joined: Vec::new() };
    bench.hear(vec![GroupEvent::Changed(change)]);
    bench.host.release();
    bench.turn();
    let [line] = captured().try_into().unwrap();
    assert!(line.starts_with(&format!("WARN: cpg: node 1: off \"{OWN}\": failure: ")), "{line}");
}

#[test]
fn an_answer_for_a_vm_that_no_host_has_is_logged_too() {
    let mut bench = Bench::new(Groups::default());
    captured();
    let (target, number) = (fence_virt::wire::cluster::EVERY_NODE, RequestNumber(1));
    let name = "vm9".to_owned();
    let call = ClusterCall { name, operation: Operation::Off, number, target, client_number: 0 };
    bench.says(&ClusterMessage::Request(call));
    let mut lines = Vec::new();
    for _ in 0..30 {
        bench.passes(SECOND);
        lines.extend(captured());
    }
    let [line] = lines.try_into().unwrap();
    assert!(line.starts_with("WARN: cpg: node 1: off \"vm9\": failure: "), "{line}");
}
