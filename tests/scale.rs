//! Messages of a large cluster: their number has bounds. benches/scale.rs measures what they cost.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "scale/group.rs"]
mod group;
#[path = "scale/stages.rs"]
mod stages;

/// Number of messages that a stage may take.
fn bound(stage: &str, nodes: usize, vms_each: usize) -> usize {
    // Every node advertises all its VMs, says hello before and after that, and a few things besides.
    let round = nodes * (vms_each + 4);
    match stage {
        // Every join makes all members advertise all their VMs.
        "all but one join, one by one" => round * nodes / 2,
        "the last one joins" | "all advertise again" | "the halves meet again" => round,
        "a status from each" => 2 * nodes,
        "half are cut off" => nodes,
        // All requests together make the members advertise once.
        "1000 offs of lost VMs" => round,
        // Each node asks, and each answers it; one round answers all that have asked until it begins.
        "5 vanished VMs from each" => 2 * round + nodes * nodes,
        other => panic!("stage {other:?} has no bound"),
    }
}

#[test]
fn messages_of_each_stage_are_bounded() {
    for (nodes, vms_each) in [(4, 100), (8, 50), (16, 50)] {
        let stages = stages::run(nodes, vms_each, |stage| stage());
        for (name, cost, ()) in &stages {
            let (total, bound) = (cost.total(), bound(name, nodes, vms_each));
            let messages = &cost.messages;
            assert!(total <= bound, "{name}: {nodes} nodes: {total} messages > {bound}: {messages:?}");
        }
        let answers =
            |stage: &str| stages.iter().find(|(name, ..)| *name == stage).map(|(_, cost, ())| cost.answers);
        assert_eq!(answers("a status from each"), Some(nodes), "all are answered");
        let advertised = stages.iter().find(|(name, ..)| *name == "the last one joins");
        let stores = advertised.and_then(|(_, cost, ())| cost.messages.get("store"));
        assert!(stores.is_some_and(|&stores| stores >= vms_each), "the new node advertises its VMs");
    }
}
