//! Holds and caps where other hosts have the VM, and where they ask for one of this host.

use super::*;

/// Request of node 1 for a VM of this host.
fn call(operation: Operation, name: &str) -> ClusterMessage {
    let (number, target, name) = (RequestNumber(5), NodeId(2), name.to_owned());
    ClusterMessage::Request(ClusterCall { number, target, name, operation, client_number: 0 })
}

/// Responses to the other host since the last call.
fn responses(bench: &Bench) -> Vec<u8> {
    let response = |message| match message {
        ClusterMessage::Report(Report { response, .. }) => Some(response),
        _ => None,
    };
    bench.group.sent().into_iter().filter_map(response).collect()
}

#[test]
fn a_request_of_another_host_for_a_held_vm_fails_here() {
    for subject in ["VM2", OWN] {
        for name in ["vm2", OWN] {
            for operation in [Operation::Off, Operation::Reboot, Operation::On] {
                let mut bench = Bench::new(Groups::default());
                bench.tells_all();
                bench.group.sent();
                bench.restraints.hold(subject);
                bench.says(&call(operation, name));
                assert_eq!(responses(&bench), [1], "{operation} {name} {subject}");
                assert_eq!((bench.host.runs(OWN), bench.restraints.refused()), (Some(true), (1, 0)));
                let [record] = &bench.backend.served.journal.records()[..] else { panic!("one record") };
                assert!(record.record.reason.contains("held until"), "{record:?}");
            }
            let mut bench = Bench::new(Groups::default());
            bench.tells_all();
            bench.group.sent();
            bench.restraints.hold(subject);
            bench.says(&call(Operation::Status, name));
            assert_eq!(responses(&bench), [0]);
        }
    }
}

#[test]
fn a_hold_that_begins_after_the_request_of_another_host_stops_its_destroy() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.host.hold(&format!("power-off {OWN}"));
    bench.says(&call(Operation::Off, OWN));
    bench.group.sent();
    bench.restraints.hold("vm2");
    bench.host.release();
    bench.turn();
    assert_eq!((responses(&bench), bench.host.runs(OWN)), (vec![1], Some(true)));
}

#[test]
fn a_client_of_this_host_is_refused_wherever_its_vm_runs() {
    for (subject, name) in [("vm1", "vm1"), (OTHER, "vm1"), ("VM1", OTHER), ("vm2", OWN), ("vm9", "vm9")] {
        let mut bench = Bench::new(Groups::default());
        bench.tells_all();
        bench.group.sent();
        bench.restraints.hold(subject);
        for operation in [Operation::Off, Operation::Reboot, Operation::On] {
            let mail = bench.asks(operation, name);
            assert_eq!(
                (verdicts(&mail), bench.calls().len()),
                (vec![Verdict::Failure], 0),
                "{operation} {name}"
            );
        }
        assert_eq!((bench.host.runs(OWN), bench.restraints.refused()), (Some(true), (3, 0)));
    }
}

#[test]
fn the_cap_counts_the_clients_of_this_host_wherever_their_vms_run() {
    let mut bench = Bench::new(Groups::default());
    bench.tells_all();
    bench.restraints.cap(&[OTHER, "vm2"], "2/60s");
    let (first, joined) = (bench.asks(Operation::Off, "vm1"), bench.asks(Operation::Reboot, OTHER));
    assert_eq!((verdicts(&first), verdicts(&joined), bench.calls().len()), (vec![], vec![], 2));
    assert_eq!(verdicts(&bench.asks(Operation::Off, "vm2")), [Verdict::Success]);
    assert_eq!(verdicts(&bench.asks(Operation::Off, "vm2")), [Verdict::Failure]);
    assert_eq!(bench.restraints.refused(), (0, 1));
    // Those of other hosts are counted there.
    bench.says(&call(Operation::Off, OWN));
    assert_eq!(responses(&bench), [0]);
    bench.passes(61 * SECOND);
    bench.hear(vec![GroupEvent::Lost("corosync is not running".to_owned())]);
    for _ in 0..3 {
        assert_eq!(verdicts(&bench.asks(Operation::Off, "vm2")), [Verdict::Failure]);
    }
    assert_eq!(bench.restraints.refused(), (0, 1), "what is not begun is not counted");
    bench.hear(vec![GroupEvent::Joined(peer(2))]);
    bench.becomes_a_member();
    bench.tells_all();
    assert_eq!(verdicts(&bench.asks(Operation::Off, "vm2")), [Verdict::Success]);
}
