use std::sync::Arc;

use super::*;
use crate::auth::{MacKeys, Transcript};
use crate::fence::{HostEntry, PowerState, Verdict};
use crate::wire::PACKET_LEN;

fn macs() -> AnswerMacs {
    Transcript::new(Arc::new(MacKeys::derive(b"key")), &[1; PACKET_LEN]).answer()
}

fn list(names: &[&str]) -> Answer {
    let entry = |name: &&str| HostEntry { name: name.to_string(), uuid: "u".into(), state: PowerState::Off };
    Answer::HostList(names.iter().map(entry).collect())
}

fn encoded(answer: &Answer) -> Vec<u8> {
    encode(answer, &mut macs())
}

/// Reads in pieces of this size.
fn read(operation: Operation, bytes: &[u8], piece: usize) -> Result<Option<Answer>, ProtocolError> {
    let mut reader = AnswerWithMacsReader::new(operation, macs());
    for mut piece in bytes.chunks(piece) {
        if let Some(answer) = reader.take(&mut piece)? {
            assert!(piece.is_empty());
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

#[test]
fn answers_survive_a_round_trip_in_any_pieces() {
    for answer in [list(&[]), list(&["a", "b"]), Verdict::Denied.into(), Verdict::Failure.into()] {
        for piece in [1, 31, 33, 162, 1000] {
            assert_eq!(read(Operation::HostList, &encoded(&answer), piece), Ok(Some(answer.clone())));
        }
    }
    assert_eq!(encoded(&Verdict::Off.into()).len(), 33);
    assert_eq!(encoded(&list(&["a", "b"])).len(), 33 + 3 * 162);
    assert_eq!(
        read(Operation::Off, &encoded(&Verdict::Success.into()), 7),
        Ok(Some(Verdict::Success.into()))
    );
}

#[test]
fn an_altered_byte_anywhere_is_a_failure() {
    for answer in [list(&["a", "b"]), Verdict::Failure.into()] {
        let bytes = encoded(&answer);
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(read(Operation::HostList, &altered, 99), Err(ProtocolError::AnswerMac), "byte {at}");
        }
        for end in 0..bytes.len() {
            assert_eq!(read(Operation::HostList, &bytes[..end], 99), Ok(None), "cut at {end}");
        }
    }
}

#[test]
fn records_cannot_be_dropped_repeated_or_exchanged() {
    let bytes = encoded(&list(&["a", "b"]));
    let (begin, records) = bytes.split_at(33);
    let items: Vec<&[u8]> = records.chunks(162).collect();
    for order in [[1, 2, 2], [0, 2, 2], [1, 0, 2], [0, 0, 2], [2, 2, 2]] {
        let spliced = [begin, items[order[0]], items[order[1]], items[order[2]]].concat();
        assert_eq!(read(Operation::HostList, &spliced, 99), Err(ProtocolError::AnswerMac), "{order:?}");
    }
}

#[test]
fn an_authentic_answer_still_has_to_be_one() {
    let mut macs = macs();
    let bytes = [&[9][..], &macs.mac(&[9])].concat();
    assert_eq!(read(Operation::Off, &bytes, 99), Err(ProtocolError::Answer(9)));
    let list = encoded(&list(&[]));
    assert_eq!(read(Operation::Off, &list, 99), Err(ProtocolError::Answer(253)), "no list was asked for");
}
