use super::*;
use crate::fence::{PowerState, Target};
use crate::wire::encode_host_list;

fn response(byte: u8) -> Vec<u8> {
    [&LINE_MAGIC[..], &[byte]].concat()
}

fn session(operation: Operation) -> LineSession {
    LineSession::new(&Request { operation, target: Target::default(), seqno: 1 }, 0)
}

fn feed(operation: Operation, bytes: &[u8], step: usize) -> Result<Option<Answer>, Breach> {
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

/// A host list as a daemon sends it on a line.
fn list_bytes(last: u8) -> Vec<u8> {
    let stream = encode_host_list(&list());
    [response(253), stream[1..stream.len() - 1].to_vec(), response(last)].concat()
}

const SUCCESS: Answer = Answer::Verdict(Verdict::Success);

#[test]
fn noise_before_and_inside_is_looked_through() {
    for noise in [
        &b""[..],
        b"a",
        b"aaa",
        b"ab",
        b"abb",
        b"abba",
        b"abbabb",
        b"abba\xff",
        b"abba\x02",
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
fn what_answers_something_else_is_noise() {
    for (operation, byte) in [
        (Operation::Off, 2),
        (Operation::Off, 253),
        (Operation::HostList, 0),
        (Operation::Reboot, 4),
        (Operation::Status, 255),
    ] {
        assert_eq!(feed(operation, &response(byte), 1), Ok(None), "{operation} {byte}");
    }
    assert_eq!(feed(Operation::Status, &response(2), 1), Ok(Some(Answer::Verdict(Verdict::Off))));
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
    // Up to the magic of the last response, behind which nothing counts.
    for at in 5..bytes.len() - 1 {
        for noise in [&b"x"[..], b"\0", b"getty"] {
            let spoilt = [&bytes[..at], noise, &bytes[at..]].concat();
            match feed(Operation::HostList, &spoilt, 64) {
                // The noise stood in the padding of a field, where C daemons leave stray bytes.
                Ok(Some(Answer::HostList(got))) => panic!("at {at}, {noise:?}: {got:?}"),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) | Err(_) => {}
            }
        }
    }
}

#[test]
fn what_is_held_of_noise_is_bounded() {
    let mut session = session(Operation::Off);
    for _ in 0..100_000 {
        assert_eq!(session.receive(&mut b"abbabbaab".as_slice()), Ok(None));
        assert!(session.pending.len() < LINE_RESPONSE_LEN);
    }
}
