//! Requests that waited on a line while the daemon stood still.

use super::*;

/// Lets the daemon stand still for 40 s: the time was noted then for the last time.
fn pause(world: &World) {
    world.pauses.note(Instant::now() - Duration::from_secs(40));
}

#[test]
fn what_waited_on_a_line_during_a_pause_is_a_failure_and_may_be_asked_again() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let off = request(Operation::Off, 1);
    pause(&world);
    // Half of them is in the first read.
    guest.write_all(&[&off[..], &request(Operation::Off, 2)].concat().repeat(6)).unwrap();
    world.turn();
    world.pauses.note(Instant::now());
    world.turn();
    assert_eq!(read(&mut guest, 60), b"abba\x01".repeat(12));
    assert!(world.jobs.is_empty());
    // The turn that looks at the lines that were not polled.
    world.mailbox.post(Mail::Update(SerialEvent::Removed(LineId(9)))).unwrap();
    world.turn();
    let job = world.ask(&mut guest, &[off]);
    world.answer(job, Verdict::Success);
    assert_eq!(read(&mut guest, 5), b"abba\0");
}

#[test]
fn a_line_that_is_not_polled_right_after_a_pause_is_not_forgotten() {
    let mut world = World::new(8);
    let (mut active, mut other) = (world.line(0, 1), world.line(1, 2));
    let service = &mut world.event_loop.service;
    // Only the first is polled.
    service.recently_active = BTreeSet::from([LineId(0)]);
    service.active_until = Some(Instant::now() + Duration::from_secs(60));
    pause(&world);
    active.write_all(&request(Operation::Off, 1)).unwrap();
    other.write_all(&request(Operation::Off, 2)).unwrap();
    world.turn();
    world.pauses.note(Instant::now());
    assert_eq!(read(&mut active, 5), b"abba\x01");
    world.event_loop.service.active_until = Some(Instant::now());
    world.turn();
    assert_eq!(read(&mut other, 5), b"abba\x01");
    assert!(world.jobs.is_empty());
}

#[test]
fn a_request_whose_rest_came_during_a_pause_is_a_failure() {
    let mut world = World::new(8);
    let mut guest = world.line(0, 1);
    let off = request(Operation::Off, 1);
    guest.write_all(&off[..40]).unwrap();
    while world.lines().lines[&LineId(0)].machine.deadline().is_none() {
        world.turn();
    }
    // Long after the second that it has to become whole.
    let late = Instant::now() + STALL_LIMIT * 2;
    guest.write_all(&off[40..]).unwrap();
    let service = &mut world.event_loop.service;
    service.set_waiting_since(Some(Instant::now()));
    service.attend(LineId(0), Interest::Read, Readiness { read: true, write: false }, late);
    service.expire(late);
    assert_eq!(read(&mut guest, 5), b"abba\x01");
}
