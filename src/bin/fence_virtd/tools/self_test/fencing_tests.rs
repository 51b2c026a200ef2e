use std::cell::RefCell;
use std::sync::Arc;

use super::*;
use Operation::{Reboot, Status};
use Verdict::{Denied, Failure, Off, Success};
use fence_virt::auth::{HashKind, Key};
use fence_virt::client::{LocalDaemon, LocalRoute};
use fence_virt::fence::{Endpoint, ListenerName};
use fence_virt::session::Policy;

/// Listener that is never asked itself.
fn listener(label: &str) -> ListenerTest {
    let none = HashKind::None;
    let policy = Policy::new(none, none, Key::new(Vec::new()), Endpoint::LINE);
    let route = LocalRoute::Tcp { address: [127, 0, 0, 1].into(), port: 1 };
    ListenerTest {
        name: ListenerName::new("tcp", Some(label)),
        daemon: LocalDaemon { route, policy: Arc::new(policy) },
        has_groups: true,
        limit: Duration::ZERO,
        config: "a.conf".to_owned(),
        unanswered: String::new(),
    }
}

/// Outcome, output, and the number of questions, if listeners a and b give these replies in order.
fn rebooted(
    replies: &[(&str, Operation, Result<Verdict, &str>)],
    leave: bool,
) -> (RebootOutcome, String, u32) {
    let replies = RefCell::new(replies.iter());
    let questions = RefCell::new(0);
    let mut out = Vec::new();
    let outcome = TestReboot {
        target: &Target::new(b"vm").unwrap(),
        ask: &|test, operation| {
            let (label, expected, verdict) = replies.borrow_mut().next().expect("no further request");
            assert_eq!((test.name.label(), operation), (Some(*label), *expected));
            let reply = verdict.map(Answer::from).map_err(str::to_owned);
            TimedReply { reply, took: Duration::from_millis(7) }
        },
        confirm: &|question| {
            assert!(question.contains("Reboot \"vm\" through tcp:"), "{question}");
            *questions.borrow_mut() += 1;
            Ok(leave)
        },
        start_limit: Duration::ZERO,
        out: &mut out,
    }
    .run(&[listener("a"), listener("b")])
    .unwrap();
    assert_eq!(replies.borrow_mut().next(), None, "each reply was asked for");
    (outcome, String::from_utf8(out).unwrap(), questions.into_inner())
}

#[test]
fn the_first_listener_that_permits_it_is_used() {
    let on = [
        ("a", Status, Ok(Denied)),
        ("b", Status, Ok(Success)),
        ("b", Reboot, Ok(Success)),
        ("b", Status, Ok(Success)),
    ];
    let (outcome, text, questions) = rebooted(&on, true);
    assert_eq!((outcome, questions), (RebootOutcome::Verified, 1), "{text}");
    assert!(text.contains("note     tcp:a: no group permits this host to fence \"vm\""), "{text}");
    assert!(text.contains("ok       tcp:b: reboot of \"vm\": success after 7 ms"), "{text}");
    let (outcome, text, questions) = rebooted(&[("a", Status, Ok(Denied)), ("b", Status, Ok(Denied))], true);
    assert_eq!((outcome, questions), (RebootOutcome::NotTried, 0), "{text}");
    assert!(text.contains("no listener permits this host"), "{text}");
}

#[test]
fn a_listener_that_permits_the_status_alone_is_not_used() {
    let replies = [
        ("a", Status, Ok(Success)),
        ("a", Reboot, Ok(Denied)),
        ("b", Status, Ok(Success)),
        ("b", Reboot, Ok(Denied)),
    ];
    let (outcome, text, questions) = rebooted(&replies, true);
    assert_eq!((outcome, questions), (RebootOutcome::NotTried, 2), "{text}");
    for label in ["a", "b"] {
        let note = format!("note     tcp:{label}: no group permits this host reboot of \"vm\"");
        assert!(text.contains(&note), "{text}");
    }
    assert!(
        text.contains("vm --operation reboot -f a.conf") && text.contains("nothing was rebooted"),
        "{text}"
    );
    let (_, text, _) = rebooted(&[("a", Status, Ok(Denied)), ("b", Status, Ok(Denied))], true);
    assert!(text.contains("vm --operation status -f a.conf"), "{text}");
}

#[test]
fn nothing_is_rebooted_without_leave_or_unless_it_is_on() {
    let (outcome, text, questions) = rebooted(&[("a", Status, Ok(Success))], false);
    assert_eq!((outcome, questions), (RebootOutcome::NotTried, 1), "{text}");
    assert!(text.contains("nothing was rebooted: \"vm\" is on"), "{text}");
    let (outcome, text, questions) = rebooted(&[("a", Status, Ok(Off))], true);
    assert_eq!((outcome, questions), (RebootOutcome::NotTried, 0), "{text}");
    assert!(text.contains("no VM has this name: nothing was rebooted"), "{text}");
}

#[test]
fn what_is_not_verified_has_failed() {
    let on = ("a", Status, Ok(Success));
    let done = ("a", Reboot, Ok(Success));
    for (replies, words) in [
        (&[("a", Status, Err("lost"))][..], "status of \"vm\" failed: lost"),
        (&[on, ("a", Reboot, Ok(Failure))], "reboot of \"vm\" failed: the daemon answered failure"),
        (&[on, ("a", Reboot, Err("lost"))], "reboot of \"vm\" failed: lost"),
        (&[on, done, ("a", Status, Ok(Off))], "\"vm\" is off 0 s after the reboot: it has not started"),
        (&[on, done, ("a", Status, Ok(Failure))], "status of \"vm\" failed"),
        (&[on, done, ("a", Status, Err("lost"))], "status of \"vm\" failed: lost"),
    ] {
        let (outcome, text, _) = rebooted(replies, true);
        assert_eq!(outcome, RebootOutcome::Failed, "{text}");
        assert!(text.contains(&format!("ERROR    tcp:a: {words}")), "{words}: {text}");
    }
}
