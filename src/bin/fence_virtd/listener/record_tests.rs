//! Records of power operations.

use super::*;
use fence_virt::power_log::{NumberedRecord, PowerVerdict};

#[test]
fn power_operations_and_their_refusals_are_recorded() {
    let mut world = World::new(1);
    let mut served = world.client(&packet(1).encode());
    world.job().finish(Verdict::Success, "destroyed");
    world.deliver();
    assert_eq!(rest(&mut served), [0]);
    // A duplicate of one that was carried out is no operation of its own, and a question is none.
    world.client(&packet(1).encode());
    let mut question = packet(2);
    question.request.operation = Operation::Status;
    world.client(&question.encode());
    world.job().finish(Verdict::Success, "runs");
    let mut denied = world.client(&packet(3).encode());
    world.job().refuse(Verdict::Denied, "no group");
    world.deliver();
    assert_eq!(rest(&mut denied), [3]);
    let _takes_the_queue = world.client(&packet(4).encode());
    let mut crowded = world.client(&packet(5).encode());
    assert_eq!(rest(&mut crowded), [1]);
    let records = world.sessions.dispatcher.log.journal().records();
    let found: Vec<_> = records
        .iter()
        .map(|NumberedRecord { record, .. }| {
            assert_eq!((record.listener.as_str(), record.requester.as_str()), ("tcp", "127.0.0.1"));
            assert_eq!(
                (record.operation, record.millis.is_none()),
                (Operation::Off, record.verdict == PowerVerdict::Refused)
            );
            (record.verdict, record.reason.as_str())
        })
        .collect();
    let expected = [
        (PowerVerdict::Success, "destroyed"),
        (PowerVerdict::Denied, "no group"),
        (PowerVerdict::Refused, "refused: the worker's queue is full"),
    ];
    assert_eq!(found, expected);
}
