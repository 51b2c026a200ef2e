//! VMs that fence each other: the second request waits, and its caller has to show that it lives.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{A, B, Bench};
use super::fake::{Fake, Fault};
use crate::backend::Backend;
use crate::caller::tests::Questions;
use crate::job::AGE_LIMIT;
use crate::job::tests::{Answers, answers, job_of};
use crate::libvirt::{DYING, LibvirtError};
use fence_virt::fence::Operation::{self, Off, On, Reboot};
use fence_virt::fence::{Domain, Source, Uuid, Verdict};
use fence_virt::groups::Groups;

const FAILURE: [fence_virt::fence::Answer; 1] = [fence_virt::fence::Answer::Verdict(Verdict::Failure)];
const SUCCESS: [fence_virt::fence::Answer; 1] = [fence_virt::fence::Answer::Verdict(Verdict::Success)];

fn ip(last: u8) -> Source {
    Source::ip([192, 0, 2, last].into())
}

fn line_of(name: &str, uuid: &str) -> Source {
    Source::Domain(Arc::new(Domain { name: name.to_owned(), uuid: Uuid::parse(uuid).unwrap() }))
}

impl Bench {
    pub(super) fn begin_as(
        &mut self,
        source: Source,
        operation: Operation,
        name: &str,
    ) -> (Answers, Questions) {
        let (job, mail, _, questions) = job_of(source, operation, name, self.now);
        self.backend.begin(job, self.now);
        self.settle();
        (mail, questions)
    }

    /// Answers the question that is open; false if there is none.
    pub(super) fn reply(&mut self, questions: &Questions, lives: bool) -> bool {
        let mut taken = questions.take();
        let Some(mut question) = taken.pop() else { return false };
        self.now += Duration::from_millis(10);
        assert!(question.answer(lives.then_some(self.now)));
        self.settle();
        true
    }
}

/// The VMs a and b; an off of b, asked for by 192.0.2.1, whose destroy takes time.
fn under_way(operation: Operation) -> (Bench, Answers) {
    let mut bench = Bench::single(&[("a", A, true), ("b", B, true)]);
    bench.hosts[0].hold(&format!("power-off {B}"));
    let (mail, _) = bench.begin_as(ip(1), operation, "b");
    bench.now += Duration::from_millis(1);
    (bench, mail)
}

#[test]
fn of_two_that_fence_each_other_one_goes_down() {
    for operation in [Off, Reboot] {
        for lives in [false, true] {
            let (mut bench, first) = under_way(operation);
            let (second, questions) = bench.begin_as(ip(2), operation, "a");
            assert!(questions.take().is_empty(), "a sign before the end of the other proves nothing");
            bench.release();
            assert_eq!(answers(&first), SUCCESS);
            assert_eq!(answers(&second), [], "nor is anything destroyed before");
            assert_eq!(bench.hosts[0].destroys.get(), 1);
            assert!(bench.reply(&questions, lives));
            assert_eq!(answers(&second), if lives { SUCCESS } else { FAILURE });
            assert_eq!(bench.hosts[0].destroys.get(), if lives { 2 } else { 1 });
        }
    }
}

#[test]
fn who_cannot_be_the_target_does_not_wait() {
    for (source, waits) in
        [(ip(1), false), (line_of("a", A), false), (line_of("b", B), true), (Source::Cid(3), true)]
    {
        let (mut bench, _first) = under_way(Off);
        let (second, _) = bench.begin_as(source.clone(), Off, "a");
        assert_eq!(answers(&second).is_empty(), waits, "{source}");
    }
    let (mut bench, first) = under_way(Off);
    let (joining, _) = bench.begin_as(ip(2), Off, "b");
    let (on, _) = bench.begin_as(ip(3), On, "a");
    assert_eq!(answers(&on), SUCCESS, "a start harms nobody");
    bench.release();
    assert_eq!((answers(&first), answers(&joining)), (SUCCESS.to_vec(), SUCCESS.to_vec()));
}

#[test]
fn a_caller_that_proved_itself_after_the_end_does_not_wait() {
    let (mut bench, _first) = under_way(Off);
    bench.release();
    bench.now += Duration::from_millis(1);
    let (second, _) = bench.begin_as(ip(2), Off, "a");
    assert_eq!(answers(&second), SUCCESS);
}

#[test]
fn an_operation_that_powered_nothing_off_leads_to_no_question() {
    let mut bench = Bench::single(&[("a", A, true), ("b", B, false)]);
    let asked = bench.now;
    let (first, _) = bench.begin_as(ip(1), Off, "b");
    assert_eq!(answers(&first), SUCCESS);
    let (job, second, _, _) = job_of(ip(2), Off, "a", asked);
    bench.backend.begin(job, bench.now);
    bench.settle();
    assert_eq!(answers(&second), SUCCESS);
}

#[test]
fn a_destroy_that_may_still_take_effect_counts_as_under_way() {
    let mut bench = Bench::single(&[("a", A, true), ("b", B, true)]);
    bench.hosts[0].faults.borrow_mut().push(Fault::Lost);
    let (first, _) = bench.begin_as(ip(1), Off, "b");
    assert_eq!(answers(&first), FAILURE);
    bench.hosts[0].broken.take();
    bench.now += Duration::from_millis(1);
    let (second, questions) = bench.begin_as(ip(2), Off, "a");
    assert_eq!(bench.wait(&second, 2 * DYING - Duration::from_secs(1)), []);
    assert!(questions.take().is_empty());
    bench.wait(&second, Duration::from_secs(1));
    assert!(bench.reply(&questions, true));
    assert_eq!(answers(&second), SUCCESS);
}

#[test]
fn a_destroy_that_libvirt_refused_or_that_cannot_end_holds_up_nobody() {
    for (fault, waits) in [
        (Fault::Fails(LibvirtError::Other("not permitted".to_owned())), false),
        (Fault::Fails(LibvirtError::Busy("another job".to_owned())), true),
        // The process survives, but was killed: it runs no more code.
        (Fault::Fails(LibvirtError::Dying("survives SIGKILL".to_owned())), false),
    ] {
        let mut bench = Bench::single(&[("a", A, true), ("b", B, true)]);
        *bench.hosts[0].faults.borrow_mut() = vec![fault.clone(); 1];
        let (_first, _) = bench.begin_as(ip(1), Off, "b");
        bench.now += Duration::from_millis(1);
        let (second, questions) = bench.begin_as(ip(2), Off, "a");
        assert!(questions.take().is_empty());
        assert_eq!(answers(&second).is_empty(), waits, "{fault:?}");
    }
}

#[test]
fn a_request_that_waits_for_the_other_expires() {
    let (mut bench, _first) = under_way(Off);
    let (second, questions) = bench.begin_as(ip(2), Off, "a");
    let (third, _) = bench.begin_as(ip(3), Off, "a");
    assert_eq!(bench.wait(&second, AGE_LIMIT), FAILURE);
    assert_eq!(answers(&third), FAILURE);
    bench.release();
    assert!(questions.take().is_empty() && bench.hosts[0].runs(A) == Some(true));
}

#[test]
fn a_vm_that_moved_while_its_request_waited_is_fenced_where_it_is() {
    let hosts = [Fake::with(&[("a", A, true), ("b", B, true)]), Fake::with(&[])];
    let mut bench = Bench::new(&hosts, Groups::default());
    hosts[0].hold(&format!("power-off {B}"));
    let (_first, _) = bench.begin_as(ip(1), Off, "b");
    bench.now += Duration::from_millis(1);
    let (second, questions) = bench.begin_as(ip(2), Off, "a");
    let moved = hosts[0].domains.borrow_mut().remove(A).unwrap();
    hosts[1].domains.borrow_mut().insert(A.to_owned(), moved);
    bench.release();
    assert!(bench.reply(&questions, true));
    assert_eq!((answers(&second), hosts[1].runs(A)), (SUCCESS.to_vec(), Some(false)));
}

#[test]
fn a_vm_that_vanished_while_its_request_waited_is_a_failure() {
    let (mut bench, _first) = under_way(Off);
    let (second, questions) = bench.begin_as(ip(2), Off, "a");
    bench.hosts[0].domains.borrow_mut().remove(A);
    bench.release();
    assert!(bench.reply(&questions, true));
    assert_eq!(answers(&second), FAILURE);
    bench.now += Duration::from_millis(1);
    let (next, _) = bench.begin_as(ip(3), Off, "b");
    assert_eq!(answers(&next), SUCCESS, "nothing is under way any more");
}

#[test]
fn nothing_is_destroyed_for_a_request_that_joined_before_its_caller_has_shown_that_it_lives() {
    for lives in [false, true] {
        let mut bench = Bench::single(&[("a", A, true), ("b", B, true)]);
        bench.hosts[0].hold(&format!("power-off {A}"));
        let (job, first, caller, _) = job_of(ip(1), Off, "a", bench.now);
        bench.backend.begin(job, bench.now);
        bench.settle();
        let (joined, questions) = bench.begin_as(ip(2), Off, "a");
        bench.now += Duration::from_millis(1);
        let (rival, _) = bench.begin_as(line_of("c", "cccccccc-0000-4000-8000-000000000000"), Off, "b");
        assert_eq!(answers(&rival), SUCCESS);
        caller.cancel();
        bench.release();
        assert_eq!((answers(&first), answers(&joined)), (FAILURE.to_vec(), vec![]));
        assert!(bench.reply(&questions, lives));
        assert_eq!(answers(&joined), if lives { SUCCESS } else { FAILURE });
        assert_eq!(bench.hosts[0].runs(A), Some(!lives));
    }
}
