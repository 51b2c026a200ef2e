use super::*;
use crate::fence::{Operation, Target};
use crate::wire::encode_line_request;

fn request(operation: Operation, name: &str, seqno: u32) -> Request {
    Request { operation, target: Target::new(name.as_bytes()).unwrap(), seqno }
}

fn bytes(request: &Request) -> Vec<u8> {
    encode_line_request(request, 0).to_vec()
}

/// Returns the requests found if the bytes come in pieces of this size, followed by silence.
fn scan(input: &[u8], piece: usize) -> Vec<Request> {
    let now = Instant::now();
    let mut scanner = Scanner::default();
    let mut found = Vec::new();
    for piece in input.chunks(piece) {
        scanner.push(piece, now, |request| found.push(request));
    }
    while let Some(at) = scanner.deadline() {
        scanner.expire(at, |request| found.push(request));
    }
    assert_eq!(scanner.bytes.capacity(), 0, "a silent line holds no memory");
    found
}

fn assert_found(input: &[u8], wanted: &[&Request]) {
    for piece in [1, 2, 3, 7, 73, 74, 75, input.len().max(1)] {
        assert_eq!(scan(input, piece).iter().collect::<Vec<_>>(), wanted, "pieces of {piece}");
    }
}

#[test]
fn back_to_back_requests_are_all_found_whatever_their_sequence_numbers_end_in() {
    for last in [*b"\0\0\0\0", *b"xxxa", *b"xxab", *b"xabb", *b"abba", *b"abab"] {
        let first = request(Operation::Status, "node1", u32::from_le_bytes(last));
        let second = request(Operation::Off, "", 2);
        let input = [bytes(&first), bytes(&second), bytes(&first)].concat();
        assert_found(&input, &[&first, &second, &first]);
    }
}

#[test]
fn noise_around_requests_is_skipped() {
    let wanted = request(Operation::Off, "node2", 7);
    let long = "x".repeat(200);
    for noise in ["", "a", "ab", "abb", "abba", "aabbabbabba", "login: ", "abba\u{1}", "abba\u{1}\0", &long] {
        let input = [noise.as_bytes(), &bytes(&wanted), noise.as_bytes(), &bytes(&wanted)].concat();
        assert_found(&input, &[&wanted, &wanted]);
    }
}

#[test]
fn half_a_request_hides_no_following_one() {
    for operation in Operation::ALL {
        let half = bytes(&request(Operation::Reboot, "some-other-node", 0x0102_0304));
        for name in ["node2", ""] {
            let wanted = request(operation, name, 0x1112_1314);
            for cut in 1..half.len() {
                assert_found(&[&half[..cut], &bytes(&wanted)].concat(), &[&wanted]);
            }
        }
    }
}

#[test]
fn an_invalid_name_hides_no_following_request() {
    let wanted = request(Operation::Off, "node2", 0x1112_1314);
    let mut garbled = bytes(&request(Operation::Off, "node1", 0x0102_0304));
    garbled[8] = 0xff;
    for cut in 10..=garbled.len() {
        assert_found(&[&garbled[..cut], &bytes(&wanted)].concat(), &[&wanted]);
    }
}

#[test]
fn noise_inside_a_request_damages_only_that_one() {
    let damaged = request(Operation::Off, "node1", 1);
    let wanted = request(Operation::Off, "node2", 2);
    for at in 1..73 {
        let damaged = bytes(&damaged);
        let input = [&damaged[..at], b"[ 12.5] oops\r\n", &damaged[at..], &bytes(&wanted)].concat();
        let found = scan(&input, 5);
        assert_eq!(found.last(), Some(&wanted), "{at}");
        assert!(found.len() == 1 || at >= 70, "{at}: {found:?}");
    }
}

#[test]
fn a_stalled_candidate_is_dropped_after_a_second() {
    let now = Instant::now();
    let mut scanner = Scanner::default();
    let wanted = request(Operation::Off, "node1", 1);
    let none = |request| panic!("{request:?}");
    scanner.push(&bytes(&wanted)[..40], now, none);
    assert_eq!(scanner.deadline(), Some(now + STALL_LIMIT));
    scanner.push(&bytes(&wanted)[40..50], now + STALL_LIMIT / 2, none);
    assert_eq!(scanner.deadline(), Some(now + STALL_LIMIT), "counted from its first byte");
    scanner.expire(now + STALL_LIMIT / 2, none);
    assert!(scanner.deadline().is_some(), "not yet");
    scanner.expire(now + STALL_LIMIT, none);
    assert_eq!(scanner.deadline(), None, "nothing of it is left");
    scanner.push(&bytes(&wanted)[50..], now + STALL_LIMIT, none);
    assert_eq!(scanner.deadline(), None, "the rest of it is noise");
    let mut found = Vec::new();
    scanner.push(&bytes(&wanted), now + STALL_LIMIT, |request| found.push(request));
    assert_eq!(found, [wanted]);
}

#[test]
fn a_candidate_inside_a_stalled_one_has_its_own_second() {
    let now = Instant::now();
    let mut scanner = Scanner::default();
    let wanted = request(Operation::Status, "node1", 1);
    let mut found = Vec::new();
    scanner.push(b"abba\x01\0", now, |request| found.push(request));
    // At the position of the first one's name.
    let half = now + STALL_LIMIT / 2;
    scanner.push(b"ab", half, |request| found.push(request));
    scanner.expire(now + STALL_LIMIT, |request| found.push(request));
    assert_eq!(scanner.deadline(), Some(half + STALL_LIMIT));
    scanner.push(&bytes(&wanted)[2..], now + STALL_LIMIT, |request| found.push(request));
    assert_eq!(found, [wanted]);
}

#[test]
fn a_complete_request_waits_only_if_its_end_is_ambiguous() {
    let now = Instant::now();
    let mut scanner = Scanner::default();
    let mut found = Vec::new();
    let doubtful = request(Operation::Off, "node1", u32::from_le_bytes(*b"\0\0ab"));
    scanner.push(&bytes(&doubtful), now, |request| found.push(request));
    assert_eq!((found.len(), scanner.deadline()), (0, Some(now + OVERLAP_LIMIT)));
    scanner.expire(now + OVERLAP_LIMIT, |request| found.push(request));
    assert_eq!(found, [doubtful]);
    assert_eq!(scanner.deadline(), None);
}
