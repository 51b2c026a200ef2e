//! Starts that hang or fail: an off does not wait for them, and a VM that was rebooted runs again.

use std::time::Duration;

use super::bench::{A, B, Bench};
use super::fake::Fake;
use super::power_operations::RETRY;
use super::starting::START_PATIENCE;
use super::starts::{RESTART_INTERVAL, RESTARTS_MAX};
use crate::backend::Backend;
use crate::job::tests::{Answers, answers, job_of};
use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};
use fence_virt::fence::{Answer, Source, Verdict};
use fence_virt::time::Instant;

const FAILURE: [Answer; 1] = [Answer::Verdict(Verdict::Failure)];
const SUCCESS: [Answer; 1] = [Answer::Verdict(Verdict::Success)];
const NOTHING: [Answer; 0] = [];

/// Two VMs. The first one, a, was rebooted, and its QEMU hangs while it starts.
fn start_that_hangs() -> Bench {
    let mut bench = Bench::single(&[("a", A, true), ("b", B, true)]);
    bench.hosts[0].hold(&format!("start {A}"));
    assert_eq!(bench.ask(Reboot, "a"), Verdict::Success);
    run_as(&bench.hosts[0], Some(99));
    bench
}

/// Changes libvirt's number of the run of a.
fn run_as(fake: &Fake, run: Option<u32>) {
    fake.domains.borrow_mut().get_mut(A).unwrap().runs = run;
}

fn starts(bench: &Bench) -> usize {
    bench.hosts[0].log.borrow().iter().filter(|line| line.starts_with("start")).count()
}

impl Bench {
    /// Time at which work on the only VM that is being powered off or started is due.
    fn next_turn(&self) -> Instant {
        self.backend.vm_operations.iter().find_map(|vm_operation| vm_operation.deadline()).unwrap()
    }

    fn counts(&self) -> (usize, Option<bool>) {
        (self.hosts[0].destroys.get(), self.hosts[0].runs(A))
    }

    fn ask_as(&mut self, last: u8, operation: Operation, name: &str) -> Answers {
        let (job, mail, _, _) = job_of(Source::ip([192, 0, 2, last].into()), operation, name, self.now);
        self.backend.begin(job, self.now);
        self.settle();
        mail
    }
}

#[test]
fn an_off_interrupts_a_start_that_hangs_and_is_answered_after_its_end() {
    for operation in [Off, Reboot] {
        let mut bench = start_that_hangs();
        let (on, _) = bench.begin(On, "a");
        let (off, _) = bench.begin(operation, "a");
        assert_eq!(bench.wait(&off, START_PATIENCE - RETRY), NOTHING);
        assert_eq!(bench.counts(), (1, Some(true)), "most starts take less");
        assert_eq!(bench.wait(&off, 2 * RETRY), NOTHING, "it may still run after the end of the start");
        assert_eq!(bench.counts(), (2, Some(false)));
        assert_eq!(bench.ask(Status, "a"), Verdict::Success, "on until its end");
        bench.hosts[0].starts_fail.set(true);
        bench.release();
        assert_eq!((answers(&off), answers(&on)), (SUCCESS.to_vec(), FAILURE.to_vec()));
        bench.hosts[0].starts_fail.set(false);
        bench.wait(&off, RESTART_INTERVAL);
        assert_eq!(bench.counts(), (2, Some(operation == Reboot)), "{operation:?}");
        assert!(bench.held.is_empty());
    }
}

#[test]
fn a_start_that_takes_effect_beside_the_off_is_no_off() {
    let mut bench = start_that_hangs();
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&off, START_PATIENCE + RETRY), NOTHING);
    assert_eq!(bench.counts(), (2, Some(false)));
    run_as(&bench.hosts[0], Some(100));
    bench.release();
    assert_eq!(answers(&off), NOTHING, "it runs");
    assert_eq!(bench.wait(&off, Duration::from_secs(11)), SUCCESS);
    assert_eq!(bench.counts(), (3, Some(false)));
}

#[test]
fn a_start_that_ends_during_a_call_of_the_off_is_observed_again() {
    let mut bench = start_that_hangs();
    bench.hosts[0].hold(&format!("power-off {A}"));
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(bench.next_turn(), bench.now + START_PATIENCE);
    assert_eq!(bench.wait(&off, START_PATIENCE + RETRY), NOTHING);
    run_as(&bench.hosts[0], None);
    let both = bench.hosts[0].take_held();
    assert_eq!(both.len(), 2);
    both.into_iter().for_each(|call| call.make());
    // The start took effect after the power-off saw that the VM was off.
    run_as(&bench.hosts[0], Some(101));
    bench.settle();
    assert_eq!(bench.hosts[0].held(), 1, "another round");
    bench.release();
    assert_eq!(bench.wait(&off, RETRY), SUCCESS);
    assert_eq!(bench.counts(), (2, Some(false)));
}

#[test]
fn an_off_whose_caller_hangs_up_leaves_the_start_to_the_next_one() {
    let mut bench = start_that_hangs();
    bench.hosts[0].hold(&format!("power-off {A}"));
    let (first, caller) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&first, START_PATIENCE), NOTHING);
    caller.cancel();
    let mut calls = bench.hosts[0].take_held();
    calls.pop().unwrap().make();
    bench.settle();
    assert_eq!((answers(&first), bench.counts()), (FAILURE.to_vec(), (1, Some(true))));
    bench.hosts[0].hold_no_more();
    let (second, _) = bench.begin(Off, "a");
    assert_eq!(bench.wait(&second, RETRY), NOTHING);
    assert_eq!(bench.counts(), (2, Some(false)));
    calls.pop().unwrap().make();
    bench.settle();
    assert_eq!(bench.wait(&second, RETRY), SUCCESS);
    assert_eq!(bench.counts(), (2, Some(false)));
    assert_eq!(bench.backend.vm_operations.iter().count(), 0);
}

#[test]
fn only_a_caller_that_lives_interrupts_a_start() {
    let mut bench = start_that_hangs();
    bench.hosts[0].hold(&format!("power-off {B}"));
    bench.now += Duration::from_millis(1);
    let other = bench.ask_as(2, Off, "b");
    bench.now += Duration::from_millis(1);
    let off = bench.ask_as(3, Off, "a");
    assert_eq!(bench.wait(&off, START_PATIENCE * 2), NOTHING);
    assert_eq!(bench.counts(), (1, Some(true)), "its caller may be b, which is being powered off");
    assert_eq!(answers(&other), NOTHING);
}

#[test]
fn an_off_withdraws_a_start_that_waits_for_its_next_attempt() {
    let mut bench = Bench::single(&[("a", A, true)]);
    bench.hosts[0].starts_fail.set(true);
    assert_eq!(bench.ask(Reboot, "a"), Verdict::Success);
    bench.hosts[0].starts_fail.set(false);
    let (off, _) = bench.begin(Off, "a");
    assert_eq!(answers(&off), SUCCESS);
    bench.wait(&off, RESTART_INTERVAL * 2);
    assert_eq!((starts(&bench), bench.hosts[0].runs(A)), (0, Some(false)));
}

#[test]
fn a_restart_that_fails_is_tried_again() {
    for failures in 0..=RESTARTS_MAX {
        let mut bench = Bench::single(&[("a", A, true)]);
        bench.hosts[0].starts_fail.set(failures > 0);
        assert_eq!(bench.ask(Reboot, "a"), Verdict::Success);
        if failures > 0 {
            assert_eq!(bench.next_turn(), bench.now + RESTART_INTERVAL);
        }
        let (on, _) = bench.begin(On, "a");
        for left in (0..failures).rev() {
            assert_eq!(bench.hosts[0].runs(A), Some(false));
            bench.hosts[0].starts_fail.set(left > 0);
            bench.wait(&Answers::default(), RESTART_INTERVAL);
        }
        let runs = failures < RESTARTS_MAX;
        assert_eq!(bench.hosts[0].runs(A), Some(runs), "{failures} failures");
        assert_eq!(answers(&on), if runs { SUCCESS } else { FAILURE }, "{failures} failures");
    }
}

#[test]
fn a_start_that_fails_without_a_reboot_is_not_tried_again() {
    let mut bench = Bench::single(&[("a", A, false)]);
    bench.hosts[0].starts_fail.set(true);
    let (on, _) = bench.begin(On, "a");
    assert_eq!(answers(&on), FAILURE, "its client tries again");
}

#[test]
fn a_reboot_that_interrupts_a_start_starts_the_vm_again() {
    let mut bench = start_that_hangs();
    run_as(&bench.hosts[0], None);
    let (reboot, _) = bench.begin(Reboot, "a");
    assert_eq!(bench.wait(&reboot, START_PATIENCE + RETRY), NOTHING);
    bench.release();
    assert_eq!(bench.wait(&reboot, RETRY), SUCCESS);
    assert_eq!((starts(&bench), bench.counts()), (1, (1, Some(true))));
}
