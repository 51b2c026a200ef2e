//! Rules for operations that starve.

use std::collections::BTreeMap;

use fence_virt::arbiter::{OperationId, PATIENCE, Ruling};
use fence_virt::fence::Source;

use super::{A, B, Bench, C, address, begin, line};

const D: u8 = 4;
const E: u8 = 5;
const FAR: u8 = 9;

/// Bench where an operation of `FAR` on B is under way, and B's address asks for C: the number is 2.
fn starving_at(seconds: u64) -> Bench {
    let mut bench = Bench::new();
    bench.begin(1, address(FAR), B);
    bench.ask(2, address(B), C);
    assert_eq!(bench.next(), None);
    bench.now = seconds;
    bench
}

impl Bench {
    /// Submits an operation that nothing under way contests.
    fn blocked(&mut self, id: u64) -> bool {
        self.ask(id, address(FAR), D);
        self.next().is_none()
    }

    /// Ends an operation now, and shows a second later that the caller of another one lives.
    #[track_caller]
    fn finish_and_prove(&mut self, id: u64, source: u8, target: u8, next: u64) {
        self.finish(id, self.now);
        assert_eq!(self.next(), self.prove(next, self.now, address(source), target));
        self.now += 1;
        self.proved(next, self.now);
    }
}

#[test]
fn operations_that_overlap_without_a_gap_keep_nobody_waiting_for_long() {
    const WAITING: OperationId = OperationId(1000);
    let mut bench = Bench::new();
    let mut ends = BTreeMap::new();
    let mut begun = BTreeMap::new();
    let mut proving = Vec::new();
    for now in 0..90 {
        bench.now = now;
        if now % 4 == 0 && now < 60 {
            bench.ask(now, address(A), B);
        }
        if now == 1 {
            bench.ask(WAITING.0, address(C), D);
        }
        for id in ends.remove(&now).into_iter().flatten() {
            bench.arbiter.finish(id, bench.at(now));
        }
        for id in proving.drain(..) {
            bench.arbiter.proved(id, bench.at(now));
        }
        while let Some(ruling) = bench.next() {
            match ruling {
                Ruling::Begin(id) => {
                    begun.insert(id, now);
                    ends.entry(now + 5).or_insert_with(Vec::new).push(id);
                }
                Ruling::Prove { id, .. } => proving.push(id),
            }
        }
    }
    assert_eq!(begun.len(), 16, "all begin: {begun:?}");
    // The last one that overtakes it begins after 8 s and ends after 13 s.
    assert_eq!(begun.get(&WAITING), Some(&14), "{begun:?}");
}

#[test]
fn one_that_starves_blocks_the_newer_ones() {
    let patience = PATIENCE.as_secs();
    assert!(!starving_at(patience - 1).blocked(3));
    assert!(starving_at(patience).blocked(3));
    assert!(starving_at(patience + 9).blocked(3));
}

#[test]
fn one_that_starves_blocks_no_older_ones() {
    let mut bench = Bench::new();
    bench.begin(1, address(FAR), A);
    bench.ask(2, line(A), C);
    bench.ask(3, address(B), C);
    assert_eq!(bench.next(), None);
    bench.now = 10;
    bench.arbiter.discard(OperationId(1));
    assert_eq!(bench.next(), begin(2), "both starve");
    assert_eq!((bench.next(), bench.deadline()), (None, None), "contested by it");
}

#[test]
fn one_that_starves_does_not_block_its_own_source() {
    let mut bench = Bench::new();
    bench.begin(1, address(FAR), B);
    bench.ask(2, line(B), C);
    bench.now = 10;
    bench.ask(3, line(B), D);
    assert_eq!(bench.next(), None, "contested, not blocked");
    bench.proved(2, 11);
    bench.proved(3, 11);
    bench.finish(1, 10);
    bench.now = 11;
    assert_eq!([bench.next(), bench.next()], [begin(2), begin(3)]);

    // Of an address that starves nothing is known.
    let mut bench = Bench::new();
    bench.begin(1, address(FAR), B);
    bench.ask(2, address(C), D);
    bench.now = 10;
    bench.ask_as(3, Some((address(C), Some(E), 10)), D);
    assert_eq!((bench.next(), bench.next()), (begin(3), None));
}

#[test]
fn one_that_starves_and_whose_vm_is_known_blocks_operations_on_that_vm_alone() {
    for vm in [line(B), Source::Cid(6)] {
        let mut bench = Bench::new();
        bench.begin(1, address(FAR), B);
        bench.ask_as(2, Some((vm, Some(B), 0)), C);
        assert_eq!(bench.next(), None);
        bench.now = 10;
        bench.ask(3, address(FAR), B);
        assert_eq!(bench.next(), None, "on its VM");
        bench.ask(4, address(FAR), D);
        assert_eq!(bench.next(), begin(4), "on another VM");
        bench.ask(5, line(C), B);
        assert_eq!(bench.next(), None, "on its VM, from a third source");
    }
}

#[test]
fn a_blocked_one_that_is_not_contested_begins_with_the_starving_one() {
    let mut bench = starving_at(10);
    bench.ask(3, line(D), E);
    assert_eq!((bench.next(), bench.deadline()), (None, None));
    bench.now = 12;
    bench.finish_and_prove(1, FAR, B, 2);
    assert_eq!([bench.next(), bench.next(), bench.next()], [begin(2), begin(3), None]);
}

#[test]
fn a_blocked_one_that_is_contested_begins_after_the_end_of_the_starving_one() {
    let mut bench = starving_at(10);
    assert!(bench.blocked(3));
    bench.now = 12;
    bench.finish_and_prove(1, FAR, B, 2);
    assert_eq!((bench.next(), bench.next()), (begin(2), None));
    bench.now = 15;
    bench.finish_and_prove(2, B, C, 3);
    assert_eq!(bench.next(), begin(3));
}

#[test]
fn one_that_is_withdrawn_blocks_nobody() {
    let mut bench = starving_at(10);
    assert!(bench.blocked(3));
    bench.arbiter.withdraw(OperationId(2));
    assert_eq!(bench.next(), begin(3));
}

#[test]
fn one_that_waits_for_its_proof_blocks_until_it_is_withdrawn() {
    let mut bench = starving_at(10);
    bench.finish(1, 10);
    assert_eq!(bench.next(), bench.prove(2, 10, address(FAR), B));
    assert!(bench.blocked(3));
    bench.now = 13;
    assert_eq!(bench.next(), None);
    bench.arbiter.withdraw(OperationId(2));
    assert_eq!(bench.next(), begin(3));
}

#[test]
fn a_blocked_one_is_asked_for_its_proof() {
    let mut bench = starving_at(10);
    bench.ask(3, address(D), E);
    bench.finish(1, 10);
    assert_eq!(bench.next(), bench.prove(2, 10, address(FAR), B));
    assert_eq!(bench.next(), bench.prove(3, 10, address(FAR), B));
    bench.now = 11;
    bench.proved(3, 11);
    assert_eq!((bench.next(), bench.deadline()), (None, None), "blocked still");
    bench.proved(2, 11);
    assert_eq!((bench.next(), bench.next()), (begin(2), None));
}

#[test]
fn the_operations_of_another_host_are_not_blocked() {
    let mut bench = starving_at(10);
    bench.ask_as(3, None, D);
    assert_eq!(bench.next(), begin(3));
    bench.arbiter.discard(OperationId(1));
    assert_eq!(bench.next(), None, "contested by it");
}

#[test]
fn the_operations_of_another_host_block_nobody() {
    let mut bench = Bench::new();
    bench.ask_as(1, None, A);
    bench.now = 10;
    bench.ask(2, line(B), C);
    assert_eq!([bench.next(), bench.next()], [begin(1), begin(2)]);
}

#[test]
fn those_that_starve_begin_one_after_the_other() {
    let mut bench = starving_at(0);
    bench.ask(3, address(C), A);
    bench.now = 10;
    // Each of these differs from the source of one that starves.
    bench.ask(4, address(B), E);
    bench.ask(5, address(C), E);
    assert!(bench.blocked(6));
    bench.finish(1, 10);
    for id in 2..=5 {
        assert_eq!(bench.next(), bench.prove(id, 10, address(FAR), B));
    }
    bench.now = 11;
    for id in [5, 4, 3, 2] {
        assert_eq!(bench.next(), None, "older ones starve");
        bench.proved(id, 11);
    }
    assert_eq!((bench.next(), bench.next()), (begin(2), None), "its source's other one is blocked");
    bench.finish(2, 12);
    bench.now = 12;
    for id in [3, 5, 6] {
        assert_eq!(bench.next(), bench.prove(id, 12, address(B), C));
    }
    bench.now = 13;
    bench.proved(3, 13);
    bench.proved(5, 13);
    assert_eq!([bench.next(), bench.next()], [begin(3), begin(5)], "nobody starves any more");
    assert_eq!(bench.next(), None);
}

#[test]
fn a_blocked_one_that_starves_itself_blocks_newer_ones() {
    for (now, is_blocked) in [(19, false), (20, true)] {
        let mut bench = Bench::new();
        bench.begin(1, address(FAR), B);
        bench.ask(2, line(B), C);
        bench.now = 10;
        bench.ask(3, address(FAR), B);
        assert_eq!(bench.next(), None, "blocked by 2 alone");
        bench.now = now;
        bench.ask(4, line(C), D);
        assert_eq!(bench.next(), (!is_blocked).then_some(Ruling::Begin(OperationId(4))));
    }
}

#[test]
fn one_source_that_asks_for_many_vms_is_blocked_only_as_long_as_one_starves() {
    let mut bench = starving_at(10);
    let many = 3..9;
    for id in many.clone() {
        bench.ask(id, address(FAR), D);
    }
    assert_eq!(bench.next(), None);
    bench.arbiter.withdraw(OperationId(2));
    for id in many {
        assert_eq!(bench.next(), begin(id));
    }
    bench.now = 30;
    bench.begin(9, address(FAR), A);
}
