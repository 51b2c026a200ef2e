//! Arbiter of power operations: its rules one by one, and a random simulation of VMs that fence each other.
//! `FENCE_STEPS` is the number of steps of all simulations together (default: a million), `FENCE_SEED` the
//! first seed (default: 1).
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "arbiter/checks.rs"]
mod checks;
#[path = "arbiter/daemon.rs"]
mod daemon;
#[path = "arbiter/patience.rs"]
mod patience;
#[path = "arbiter/simulation.rs"]
mod simulation;
#[path = "arbiter/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use fence_virt::arbiter::{Arbiter, Contender, ENDED_MAX, OperationId, RETENTION, Rival, Ruling};
use fence_virt::fence::{Domain, Source, Uuid};
use fence_virt::time::Instant;

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;

fn uuid(vm: u8) -> Uuid {
    Uuid::from_bytes([vm; 16])
}

fn address(host: u8) -> Source {
    Source::Ip([192, 0, 2, host].into())
}

fn line(vm: u8) -> Source {
    Source::Domain(Arc::new(Domain { name: format!("vm{vm}"), uuid: uuid(vm) }))
}

fn begin(id: u64) -> Option<Ruling> {
    Some(Ruling::Begin(OperationId(id)))
}

/// Arbiter, and a clock in seconds.
struct Bench {
    arbiter: Arbiter,
    start: Instant,
    now: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench { arbiter: Arbiter::default(), start: Instant::now(), now: 0 }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// Asks for an operation of a caller who lives now.
    fn ask(&mut self, id: u64, source: Source, target: u8) {
        self.ask_as(id, Some((source, None, self.now)), target);
    }

    fn ask_as(&mut self, id: u64, caller: Option<(Source, Option<u8>, u64)>, target: u8) {
        let caller = caller.map(|(source, vm, alive_at)| Contender {
            source,
            vm: vm.map(uuid),
            alive_at: self.at(alive_at),
        });
        self.arbiter.ask(OperationId(id), caller, uuid(target), self.at(self.now));
    }

    fn finish(&mut self, id: u64, end: u64) {
        self.arbiter.finish(OperationId(id), self.at(end));
    }

    fn proved(&mut self, id: u64, alive_at: u64) {
        self.arbiter.proved(OperationId(id), self.at(alive_at));
    }

    fn next(&mut self) -> Option<Ruling> {
        self.arbiter.next(self.at(self.now))
    }

    fn deadline(&self) -> Option<Instant> {
        self.arbiter.deadline(self.at(self.now))
    }

    /// Demand for a proof after an operation that this source asked for.
    fn prove(&self, id: u64, after: u64, source: Source, target: u8) -> Option<Ruling> {
        let rival = Rival { source: Some(source), target: Some(uuid(target)) };
        Some(Ruling::Prove { id: OperationId(id), after: self.at(after), rival })
    }

    fn prove_after_forgotten(&self, id: u64, after: u64) -> Option<Ruling> {
        let rival = Rival { source: None, target: None };
        Some(Ruling::Prove { id: OperationId(id), after: self.at(after), rival })
    }

    /// Begins an operation that nothing contests.
    #[track_caller]
    fn begin(&mut self, id: u64, source: Source, target: u8) {
        self.ask(id, source, target);
        assert_eq!(self.next(), begin(id));
    }
}

#[test]
fn of_two_vms_that_fence_each_other_the_first_goes_on() {
    let mut bench = Bench::new();
    bench.ask(1, address(A), B);
    bench.ask(2, address(B), A);
    assert_eq!((bench.next(), bench.next()), (begin(1), None));
    bench.now = 10;
    assert_eq!(bench.next(), None, "under way");
    assert_eq!(bench.deadline(), None);
    bench.finish(1, 10);
    assert_eq!(bench.next(), bench.prove(2, 10, address(A), B));
    bench.now = 11;
    assert_eq!(bench.next(), None, "asked once");
    bench.arbiter.withdraw(OperationId(2));
    bench.proved(2, 12);
    assert_eq!(bench.next(), None, "withdrawn for want of a proof");
}

#[test]
fn a_caller_who_lived_after_the_end_goes_on() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.ask(2, address(C), B);
    assert_eq!(bench.next(), None);
    bench.now = 5;
    bench.finish(1, 5);
    assert_eq!(bench.next(), bench.prove(2, 5, address(A), B));
    bench.proved(2, 6);
    assert_eq!(bench.next(), begin(2));
}

#[test]
fn of_a_ring_of_three_the_first_goes_on_and_one_is_off_at_a_time() {
    let mut bench = Bench::new();
    bench.ask(1, address(A), B);
    bench.ask(2, address(B), C);
    bench.ask(3, address(C), A);
    assert_eq!((bench.next(), bench.next()), (begin(1), None));
    bench.now = 2;
    bench.finish(1, 2);
    assert_eq!(bench.next(), bench.prove(2, 2, address(A), B));
    assert_eq!(bench.next(), bench.prove(3, 2, address(A), B));
    assert_eq!(bench.next(), None);
    bench.now = 3;
    bench.proved(3, 3);
    assert_eq!(bench.next(), begin(3), "one that may begin does not wait for an older one");
    bench.arbiter.withdraw(OperationId(2));
    bench.finish(3, 4);
    assert_eq!(bench.next(), None);
}

#[test]
fn one_source_asks_for_many_vms_in_parallel() {
    let mut bench = Bench::new();
    for id in 1..=9 {
        bench.begin(id, address(A), id as u8);
    }
    bench.finish(1, 1);
    bench.begin(10, address(A), C);
    bench.ask(11, address(B), C);
    assert_eq!(bench.next(), None);
}

#[test]
fn a_line_of_another_vm_than_the_target_begins_at_once() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.begin(2, line(C), A);
    bench.now = 1;
    bench.finish(1, 1);
    bench.ask_as(3, Some((line(C), None, 0)), A);
    assert_eq!(bench.next(), begin(3));
}

#[test]
fn a_line_of_the_target_waits() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.ask(2, line(B), A);
    assert_eq!(bench.next(), None);
    bench.now = 1;
    bench.finish(1, 1);
    assert_eq!(bench.next(), bench.prove(2, 1, address(A), B));
}

#[test]
fn a_vm_that_fences_itself_contests_nothing_of_its_own() {
    let mut bench = Bench::new();
    bench.begin(1, line(A), A);
    bench.begin(2, line(A), B);
    bench.ask(3, address(A), B);
    assert_eq!(bench.next(), None, "another source, which may be the same VM");
}

#[test]
fn the_vm_of_a_cid_counts_if_it_is_known() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.ask_as(2, Some((Source::Cid(4), Some(C), 0)), A);
    assert_eq!(bench.next(), begin(2), "another VM");
    bench.ask_as(3, Some((Source::Cid(5), Some(B), 0)), A);
    bench.ask_as(4, Some((Source::Cid(6), None, 0)), A);
    assert_eq!(bench.next(), None, "the target, and an unknown VM");
}

#[test]
fn the_operations_of_another_host_begin_at_once_and_contest_all_others() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.ask_as(2, None, C);
    assert_eq!(bench.next(), begin(2));
    bench.ask(3, address(A), 4);
    bench.ask(4, line(C), 4);
    assert_eq!(bench.next(), None);
    bench.begin(5, line(4), C);
    bench.arbiter.discard(OperationId(5));
    bench.arbiter.discard(OperationId(1));
    bench.now = 1;
    bench.finish(2, 1);
    let rival = Rival { source: None, target: Some(uuid(C)) };
    let prove = |id| Ruling::Prove { id: OperationId(id), after: bench.at(1), rival: rival.clone() };
    let expected = [Some(prove(3)), Some(prove(4)), None];
    assert_eq!([bench.next(), bench.next(), bench.next()], expected);
}

#[test]
fn an_end_in_the_future_counts_as_under_way_until_then() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.now = 10;
    bench.finish(1, 25);
    bench.ask(2, address(B), A);
    assert_eq!(bench.next(), None);
    assert_eq!(bench.deadline(), Some(bench.at(25)));
    bench.ask(3, address(A), C);
    assert_eq!(bench.next(), begin(3));
    assert_eq!(bench.deadline(), None, "contested by one that has no end yet");
    bench.arbiter.discard(OperationId(3));
    bench.proved(2, 24);
    bench.now = 24;
    assert_eq!((bench.next(), bench.deadline()), (None, Some(bench.at(25))));
    bench.now = 25;
    assert_eq!(bench.next(), bench.prove(2, 25, address(A), B));
    assert_eq!(bench.deadline(), None);
    bench.proved(2, 26);
    assert_eq!(bench.next(), begin(2));
}

#[test]
fn an_end_before_the_caller_lived_contests_nothing() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.now = 5;
    bench.finish(1, 5);
    bench.ask_as(2, Some((address(B), None, 6)), A);
    assert_eq!(bench.next(), begin(2));
}

#[test]
fn an_end_at_the_time_at_which_the_caller_lived_or_later_does() {
    for alive_at in [4, 5] {
        let mut bench = Bench::new();
        bench.begin(1, address(A), B);
        bench.now = 5;
        bench.finish(1, 5);
        bench.ask_as(2, Some((address(B), None, alive_at)), A);
        assert_eq!(bench.next(), bench.prove(2, 5, address(A), B));
        bench.proved(2, 5);
        assert_eq!(bench.next(), bench.prove(2, 5, address(A), B), "no proof: asked again");
        bench.proved(2, 6);
        assert_eq!(bench.next(), begin(2));
    }
}

#[test]
fn two_that_waited_for_one_end_go_one_after_the_other() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), 4);
    bench.ask(2, address(B), 5);
    bench.ask(3, address(C), 6);
    bench.now = 1;
    bench.finish(1, 1);
    assert_eq!(bench.next(), bench.prove(2, 1, address(A), 4));
    assert_eq!(bench.next(), bench.prove(3, 1, address(A), 4));
    bench.now = 2;
    bench.proved(3, 2);
    bench.proved(2, 2);
    assert_eq!((bench.next(), bench.next()), (begin(2), None), "in the order in which they were asked for");
    bench.now = 3;
    bench.finish(2, 3);
    assert_eq!(bench.next(), bench.prove(3, 3, address(B), 5), "asked anew");
    bench.proved(3, 4);
    assert_eq!(bench.next(), begin(3));
}

#[test]
fn one_proof_at_a_time_is_asked_for() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), 4);
    bench.ask(2, address(B), 5);
    bench.now = 1;
    bench.finish(1, 1);
    assert_eq!(bench.next(), bench.prove(2, 1, address(A), 4));
    bench.now = 2;
    bench.begin(3, address(C), 6);
    bench.finish(3, 2);
    assert_eq!(bench.next(), None, "the first is not answered");
    bench.proved(2, 2);
    assert_eq!(bench.next(), bench.prove(2, 2, address(C), 6));
}

#[test]
fn the_latest_end_counts() {
    let mut bench = Bench::new();
    bench.begin(1, line(A), B);
    bench.begin(2, line(A), B);
    bench.begin(3, line(C), 4);
    bench.finish(2, 7);
    bench.finish(1, 3);
    bench.finish(3, 5);
    bench.now = 8;
    bench.ask_as(4, Some((address(A), None, 1)), C);
    assert_eq!(bench.next(), bench.prove(4, 7, line(A), B));
    bench.ask_as(5, Some((line(B), None, 6)), C);
    assert_eq!(bench.next(), bench.prove(5, 7, line(A), B), "the earlier end of the same does not hide it");
    bench.ask_as(6, Some((line(A), None, 1)), C);
    assert_eq!(bench.next(), begin(6), "the line of another VM");
}

#[test]
fn the_latest_end_of_another_source_counts() {
    let mut bench = Bench::new();
    bench.begin(1, line(A), 4);
    bench.begin(2, line(B), 5);
    bench.begin(3, line(C), 4);
    for (id, end) in [(1, 3), (2, 5), (3, 4)] {
        bench.finish(id, end);
    }
    bench.now = 6;
    bench.ask_as(4, Some((line(4), None, 1)), 7);
    assert_eq!(bench.next(), bench.prove(4, 4, line(C), 4));
    bench.ask_as(5, Some((address(9), None, 1)), 7);
    assert_eq!(bench.next(), bench.prove(5, 5, line(B), 5));
}

#[test]
fn one_that_powered_nothing_off_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.begin(1, address(A), B);
    bench.ask(2, address(B), A);
    assert_eq!(bench.next(), None);
    bench.arbiter.discard(OperationId(1));
    assert_eq!(bench.next(), begin(2));
}

#[test]
fn ends_that_are_forgotten_by_their_number_contest_everybody() {
    let mut bench = Bench::new();
    let count = ENDED_MAX as u64 + 2;
    for id in 1..=count {
        let target = Uuid::from_bytes(u128::from(id).to_be_bytes());
        let caller = Contender { source: address(A), vm: None, alive_at: bench.at(0) };
        bench.arbiter.ask(OperationId(id), Some(caller), target, bench.at(0));
        assert_eq!(bench.next(), begin(id));
    }
    for id in 1..=count {
        bench.finish(id, if id < 4 { 10 + id } else { 20 });
    }
    bench.now = 30;
    // Two are forgotten, which ended after 11 and 12 s.
    bench.ask_as(count + 1, Some((line(B), None, 12)), C);
    assert_eq!(bench.next(), bench.prove_after_forgotten(count + 1, 12));
    bench.ask_as(count + 2, Some((address(A), None, 12)), C);
    assert_eq!(bench.next(), bench.prove_after_forgotten(count + 2, 12), "even the same source");
    bench.ask_as(count + 3, Some((line(B), None, 13)), C);
    assert_eq!(bench.next(), begin(count + 3));
}

#[test]
fn an_end_in_the_future_is_waited_for_even_if_it_is_forgotten() {
    let mut bench = Bench::new();
    let count = ENDED_MAX as u64 + 1;
    for id in 1..=count {
        let target = Uuid::from_bytes(u128::from(id).to_be_bytes());
        bench.arbiter.ask(OperationId(id), None, target, bench.at(0));
        assert_eq!(bench.next(), begin(id));
        bench.finish(id, 10);
    }
    bench.ask(count + 1, line(B), C);
    assert_eq!((bench.next(), bench.deadline()), (None, Some(bench.at(10))));
    bench.now = 10;
    assert_eq!(bench.next(), bench.prove_after_forgotten(count + 1, 10));
}

#[test]
fn an_end_is_remembered_for_the_retention_time_and_contests_everybody_afterwards() {
    let retention = RETENTION.as_secs();
    for age in [retention, retention + 1] {
        let mut bench = Bench::new();
        bench.begin(1, address(A), B);
        bench.finish(1, 5);
        bench.now = 5 + age;
        bench.ask_as(2, Some((address(C), None, 4)), B);
        bench.ask_as(3, Some((line(C), None, 4)), B);
        let rulings = (bench.next(), bench.next());
        if age == retention {
            assert_eq!(rulings, (bench.prove(2, 5, address(A), B), begin(3)));
        } else {
            assert_eq!(rulings, (bench.prove_after_forgotten(2, 5), bench.prove_after_forgotten(3, 5)));
        }
    }
}

#[test]
fn calls_in_any_order_do_no_harm() {
    let mut bench = Bench::new();
    bench.finish(1, 1);
    bench.proved(1, 1);
    bench.arbiter.discard(OperationId(1));
    bench.arbiter.withdraw(OperationId(1));
    assert_eq!((bench.next(), bench.deadline()), (None, None));
    bench.ask(1, address(A), B);
    bench.ask(1, address(B), A);
    bench.finish(1, 1);
    bench.arbiter.discard(OperationId(1));
    assert_eq!((bench.next(), bench.next()), (begin(1), None), "asked for once, ended by nothing before");
    bench.arbiter.withdraw(OperationId(1));
    bench.ask(1, address(B), A);
    bench.ask(2, address(B), A);
    assert_eq!(bench.next(), None, "under way still");
    bench.finish(1, 3);
    bench.finish(1, 9);
    bench.now = 4;
    assert_eq!(bench.next(), bench.prove(2, 3, address(A), B));
}
