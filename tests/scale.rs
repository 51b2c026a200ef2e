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
    // Every node says hello and its digest, and asks for at most one table that is not known.
    let greetings = 3 * nodes;
    match stage {
        // Each advertises its VMs when it joins, and once or twice more for all who have joined since. Each join
        // is greeted by all.
        "all but one join, one by one" => 3 * round + greetings * nodes / 2,
        // Who has just started knows no VM; the others know its VMs.
        "the last one joins" | "a daemon is restarted" => round + greetings,
        // All know all.
        "all advertise again" | "the halves meet again" => greetings,
        "a status from each" => 2 * nodes,
        "half are cut off" => nodes,
        // All requests together make the members advertise once.
        "1000 offs of lost VMs" => round,
        // Each node asks all members for each VM, and each answers.
        "5 vanished VMs from each" => 5 * nodes * (nodes + 2) + round,
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
