//! Lines and counts about clients that leave before their answer.

use super::*;
use crate::logging::captured;
use crate::status::Refusal;
use fence_virt::session::nobody;

/// World in which a client has sent this packet and left before its answer.
fn left_by_sender_of(packet: &Packet) -> World {
    let mut world = World::new(8);
    captured();
    let client = world.client(&packet.encode());
    let job = world.job();
    drop(client);
    world.turn();
    job.finish(Verdict::Failure, "done");
    world.deliver();
    world
}

#[test]
fn a_request_whose_client_left_is_one_line() {
    let world = left_by_sender_of(&packet(1));
    let lines = captured();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]
            .starts_with("WARN: tcp: 127.0.0.1: off \"node1\": failure: done; the client no longer waits")
    );
    let refusals = world.sessions.dispatcher.log.counts().refusals();
    assert!(refusals.len() == 1 && refusals[0].reason == Refusal::HungUp.word(), "{refusals:?}");
}

#[test]
fn a_question_of_a_probe_whose_client_left_is_counted_once_and_quiet() {
    let mut question = packet(1);
    question.request.operation = Operation::Null;
    question.request.target = Target::new(nobody(5).as_bytes()).unwrap();
    let mut world = left_by_sender_of(&question);
    // The same question again is a duplicate, and as quiet.
    world.client(&question.encode());
    assert_eq!(captured(), [""; 0]);
    let counts = world.sessions.dispatcher.log.counts();
    assert_eq!((counts.probes(), counts.requests().len(), counts.refusals().len()), (2, 0, 0));
}

#[test]
fn a_flood_of_questions_that_read_as_probes_is_a_flood_of_refusals() {
    let mut question = packet(1);
    question.request.operation = Operation::Null;
    question.request.target = Target::new(nobody(5).as_bytes()).unwrap();
    let mut world = left_by_sender_of(&question);
    (0..60).for_each(|_| drop(world.client(&question.encode())));
    let counts = world.sessions.dispatcher.log.counts();
    let refusals = counts.refusals();
    assert_eq!((counts.probes(), refusals.len()), (1 + 48, 1), "{refusals:?}");
    assert_eq!((refusals[0].reason, refusals[0].count), (Refusal::Duplicate.word(), 12));
}
