use super::*;
use crate::fence::{PowerState, Target};
use crate::session::SYNC_PROBE_LEN;
use crate::wire::encode_host_list;

fn response(byte: u8) -> Vec<u8> {
    [&LINE_MAGIC[..], &[byte]].concat()
}

/// Makes a session whose request is sent.
fn session(operation: Operation) -> LineSession {
    let request = Request { operation, target: Target::default(), seqno: 1 };
    let mut session = LineSession::new(&request, 0);
    session.sent(session.output().len());
    session
}

fn feed(operation: Operation, bytes: &[u8], step: usize) -> Result<Option<Answer>, ProtocolError> {
    let mut session = session(operation);
    for mut piece in bytes.chunks(step) {
        if let Some(answer) = session.receive(&mut piece)? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

fn list() -> Vec<HostEntry> {
    let entry = |name: &str, state| HostEntry { name: name.into(), uuid: format!("u-{name}"), state };
    vec![entry("a", PowerState::Running), entry("b", PowerState::Off)]
}

/// Makes a host list as a daemon sends it on a line.
fn list_bytes(last: u8) -> Vec<u8> {
    let stream = encode_host_list(&list());
    [response(253), stream[1..stream.len() - 1].to_vec(), response(last)].concat()
}

const SUCCESS: Answer = Answer::Verdict(Verdict::Success);

#[test]
fn a_response_is_found_in_noise() {
    for noise in [
        &b""[..],
        b"a",
        b"aaa",
        b"ab",
        b"abb",
        b"abba",
        b"abbabb",
        b"abba\xff",
        b"abba\x04",
        b"login: \r\nabb",
        b"abbaabba",
        b"\0\0\0\0",
    ] {
        let bytes = [noise, &response(0)].concat();
        for step in 1..=bytes.len() {
            assert_eq!(feed(Operation::Off, &bytes, step), Ok(Some(SUCCESS)), "{noise:?} {step}");
        }
    }
}

#[test]
fn an_answer_to_another_operation_is_a_failure() {
    for (operation, byte) in [(Operation::Off, 2), (Operation::Off, 253), (Operation::HostList, 0)] {
        let got = feed(operation, &response(byte), 1);
        assert_eq!(got, Err(ProtocolError::Answer(byte)), "{operation} {byte}");
    }
    for (operation, byte) in [(Operation::Reboot, 4), (Operation::Status, 255)] {
        assert_eq!(feed(operation, &response(byte), 1), Ok(None), "{operation} {byte}: noise");
    }
    assert_eq!(feed(Operation::Status, &response(2), 1), Ok(Some(Answer::Verdict(Verdict::Off))));
    // The closing response of a list reads as a success without the list.
    assert_eq!(feed(Operation::Off, &list_bytes(0), 1), Err(ProtocolError::Answer(253)));
}

#[test]
fn lists_in_pieces_of_every_size() {
    for last in [0, 1] {
        let bytes = [b"noise abb".to_vec(), list_bytes(last)].concat();
        for step in 1..=bytes.len() {
            let got = feed(Operation::HostList, &bytes, step);
            assert_eq!(got, Ok(Some(Answer::HostList(list()))), "{step}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(feed(Operation::HostList, &bytes[..cut], 7), Ok(None), "cut at {cut}");
        }
    }
}

#[test]
fn noise_inside_a_list_never_makes_another_list() {
    let bytes = list_bytes(0);
    // Up to the magic of the closing response; nothing after it counts.
    for at in 5..bytes.len() - 1 {
        for noise in [&b"x"[..], b"\0", b"getty"] {
            let spoilt = [&bytes[..at], noise, &bytes[at..]].concat();
            match feed(Operation::HostList, &spoilt, 64) {
                // The noise was in the padding of a field, where C daemons leave stray bytes.
                Ok(Some(Answer::HostList(got))) => panic!("at {at}, {noise:?}: {got:?}"),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) | Err(_) => {}
            }
        }
    }
}

#[test]
fn noise_does_not_accumulate() {
    let mut session = session(Operation::Off);
    for _ in 0..100_000 {
        assert_eq!(session.receive(&mut b"abbabbaab".as_slice()), Ok(None));
        assert!(session.pending.len() < LINE_RESPONSE_LEN);
    }
}

const CHOICE: u32 = 0b1011_0010_1110;

fn probe_answers() -> Vec<u8> {
    let nobody = Target::default();
    let queries = SyncProbe::new(CHOICE).requests(&nobody, 1);
    queries.iter().flat_map(|q| response(if q.operation == Operation::Status { 2 } else { 1 })).collect()
}

fn after_silence(operation: Operation) -> LineSession {
    let nobody = Target::new(b"nobody").unwrap();
    let request = Request { operation, target: Target::new(b"vm").unwrap(), seqno: 1 };
    LineSession::after_silence(&request, 0, SyncProbe::new(CHOICE), &nobody)
}

#[test]
fn an_answer_to_an_older_request_is_not_taken_for_ours() {
    for stale in [
        vec![],
        response(0),
        response(1),
        [response(0), response(0), response(2), response(3)].concat(),
        list_bytes(0),
        [probe_answers(), response(0)].concat()[5..].to_vec(),
    ] {
        let mut session = after_silence(Operation::Off);
        let questions = session.output().to_vec();
        assert_eq!(questions.len(), SYNC_PROBE_LEN * 74);
        assert!(questions.chunks(74).all(|question| matches!(question[4], 0 | 4)), "only queries");
        session.sent(questions.len());
        assert_eq!(session.receive(&mut stale.as_slice()), Ok(None), "{stale:?}");
        assert!(session.output().is_empty(), "our request waits");
        let answers = probe_answers();
        assert_eq!(session.receive(&mut &answers[..answers.len() - 1]), Ok(None));
        assert_eq!((session.output().len(), session.awaited()), (0, Awaited::OlderAnswer));
        assert_eq!(session.receive(&mut &answers[answers.len() - 1..]), Ok(None));
        assert_eq!(session.output()[4], 1, "now it is sent");
        assert_eq!(session.receive(&mut response(0).as_slice()), Ok(None), "too early to be ours");
        session.sent(session.output().len());
        assert_eq!(session.receive(&mut response(0).as_slice()), Ok(Some(SUCCESS)));
    }
}

#[test]
fn a_probe_with_denied_answers_is_recognised_too() {
    let mut session = after_silence(Operation::Status);
    let answers: Vec<u8> = probe_answers().iter().map(|&byte| if byte == 2 { 3 } else { byte }).collect();
    assert_eq!(session.receive(&mut answers.as_slice()), Ok(None));
    assert_eq!(session.awaited(), Awaited::Response);
}

#[test]
fn answers_to_another_probe_never_release_the_request() {
    let mut session = after_silence(Operation::Off);
    session.sent(session.output().len());
    for byte in 0..=3 {
        for _ in 0..100 {
            assert_eq!(session.receive(&mut response(byte).as_slice()), Ok(None));
        }
    }
    assert!(session.output().is_empty());
}
