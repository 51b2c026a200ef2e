use super::*;
use crate::fence::{HostEntry, Operation, PowerState, Target, Verdict};
use crate::wire::encode_line_request;

fn bytes(seqno: u32) -> [u8; LINE_REQUEST_LEN] {
    let target = Target::new(b"node1").unwrap();
    encode_line_request(&Request { operation: Operation::Status, target, seqno }, 0)
}

fn next(line: &mut GuestLine) -> Option<u32> {
    line.next_request().map(|(request, _)| request.seqno)
}

fn sent(line: &mut GuestLine) -> Vec<u8> {
    let output = line.output().to_vec();
    line.sent(output.len());
    output
}

#[test]
fn one_request_at_a_time_in_order() {
    let now = Instant::now();
    let mut line = GuestLine::default();
    line.receive(&[bytes(1), bytes(2)].concat(), true, now);
    assert_eq!(next(&mut line), Some(1));
    assert_eq!(next(&mut line), None, "the first is not answered");
    line.answer(&Verdict::Success.into());
    line.answer(&Verdict::Failure.into());
    assert_eq!(next(&mut line), None, "its answer is not sent");
    assert_eq!(sent(&mut line), b"abba\0", "one answer each");
    assert_eq!(next(&mut line), Some(2));
    line.skip();
    assert_eq!((next(&mut line), line.output().len()), (None, 0));
}

#[test]
fn a_guest_that_does_not_read_is_not_read_from() {
    let now = Instant::now();
    let mut line = GuestLine::default();
    let entry = || HostEntry { name: "a".into(), uuid: "u".into(), state: PowerState::Off };
    let mut seqno = 0;
    while line.wants_input() {
        let piece: Vec<u8> = (seqno..seqno + 6).flat_map(bytes).collect();
        line.receive(&piece, false, now);
        seqno += 6;
        if next(&mut line).is_some() {
            line.answer(&Answer::HostList((0..100).map(|_| entry()).collect()));
        }
    }
    assert!(line.queue.len() < LINE_QUEUE_MAX + 6);
    let held = line.output().len();
    assert_eq!(held, 5 + 101 * 130 + 5, "one answer");
    // The guest reads again: all answers come in order.
    let mut answered = 1;
    sent(&mut line);
    while let Some(number) = next(&mut line) {
        assert_eq!(number, answered);
        line.answer(&Verdict::Off.into());
        sent(&mut line);
        answered += 1;
    }
    assert_eq!(answered, seqno);
    assert!(line.wants_input());
}

#[test]
fn input_after_a_pause_counts_from_its_start() {
    let now = Instant::now();
    let later = now + std::time::Duration::from_secs(60);
    let mut line = GuestLine::default();
    while line.wants_input() {
        line.receive(&bytes(1), false, now);
    }
    while next(&mut line).is_some() {
        line.answer(&Verdict::Off.into());
        sent(&mut line);
    }
    assert!(line.wants_input());
    line.receive(&bytes(2), false, later);
    line.receive(&bytes(3), true, later);
    line.receive(&bytes(4), true, later);
    let mut came = Vec::new();
    while let Some((request, at)) = line.next_request() {
        came.push((request.seqno, at.at));
        line.skip();
    }
    assert_eq!(came, [(2, now), (3, now), (4, later)]);
}

#[test]
fn a_pause_that_starts_at_a_deadline_counts_too() {
    let now = Instant::now();
    let mut line = GuestLine::default();
    for seqno in 1..LINE_QUEUE_MAX as u32 {
        line.receive(&bytes(seqno), true, now);
    }
    // Its last bytes may begin another request for a moment; then the queue is full.
    line.receive(&bytes(u32::from_le_bytes(*b"\0\0ab")), true, now);
    assert!(line.wants_input());
    let full = line.deadline().unwrap();
    line.expire(full);
    assert!(!line.wants_input());
    while next(&mut line).is_some() {
        line.skip();
    }
    line.receive(&bytes(7), true, full + std::time::Duration::from_secs(60));
    assert_eq!(line.next_request().map(|(_, came)| came.at), Some(full));
}

#[test]
fn clearing_keeps_only_the_answer_in_flight() {
    let now = Instant::now();
    let mut line = GuestLine::default();
    line.receive(&[&bytes(1)[..], &bytes(2), &bytes(3), b"abba"].concat(), true, now);
    assert_eq!(next(&mut line), Some(1));
    assert_eq!(line.clear(), 2);
    assert_eq!(line.deadline(), None);
    line.answer(&Verdict::Success.into());
    assert_eq!((sent(&mut line), next(&mut line)), (b"abba\0".to_vec(), None));
}

#[test]
fn what_waited_while_the_daemon_stood_still_is_late() {
    let now = Instant::now();
    let thawed = now + std::time::Duration::from_secs(40);
    let mut line = GuestLine::default();
    line.receive(&bytes(1), true, now);
    line.note_late(now);
    line.receive(&bytes(2), false, thawed);
    line.receive(&bytes(3), true, thawed);
    line.receive(&bytes(4), true, thawed);
    let mut came = Vec::new();
    while let Some((request, Arrival { at, is_late })) = line.next_request() {
        came.push((request.seqno, at, is_late));
        line.skip();
    }
    assert_eq!(came, [(1, now, false), (2, now, true), (3, now, true), (4, thawed, false)]);
}

#[test]
fn a_request_that_waits_for_its_deadline_counts_from_that() {
    let now = Instant::now();
    let mut line = GuestLine::default();
    // Its last bytes may begin another request.
    line.receive(&bytes(u32::from_le_bytes(*b"\0\0ab")), true, now);
    let deadline = line.deadline().unwrap();
    line.expire(deadline + std::time::Duration::from_secs(40));
    assert_eq!(line.next_request().map(|(_, came)| came.at), Some(deadline));
}
