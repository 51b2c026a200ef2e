//! Lists: of all URIs, and one for many requests.

use std::time::Duration;

use super::bench::{A, B, Bench};
use super::fake::Fake;
use crate::backend::Backend;
use crate::job::tests::{answers, job};
use fence_virt::fence::{Answer, Operation, PowerState, Verdict};
use fence_virt::groups::Groups;

#[test]
fn lists_merge_placements_and_lack_only_unreachable_uris() {
    let hosts = [Fake::with(&[("a", A, false)]), Fake::with(&[("a", A, true), ("b", B, false)])];
    let mut bench = Bench::new(&hosts, Groups::default());
    let states: Vec<_> = bench.list().unwrap().into_iter().map(|entry| (entry.name, entry.state)).collect();
    assert_eq!(states, [("a".into(), PowerState::Running), ("b".into(), PowerState::Off)]);
    bench.break_host(1);
    assert_eq!(bench.list().unwrap().len(), 1);
    bench.break_host(0);
    assert_eq!(bench.list(), None, "no list instead of an empty one");
}

#[test]
fn one_list_serves_all_requests_received_before_it_began() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new(&[Fake::with(&[("a", A, true), ("b", B, false)])], Groups::default());
    let start = bench.now;
    // The worker begins ten requests, one after the other.
    let asked: Vec<_> = (0..10).map(|_| job(Operation::HostList, "", start)).collect();
    for (at, (job, mail, _caller)) in asked.into_iter().enumerate() {
        bench.now = start + second / 100 * (at as u32 + 1);
        bench.backend.begin(job, bench.now);
        bench.settle();
        assert!(matches!(answers(&mail)[..], [Answer::HostList(ref entries)] if entries.len() == 2));
    }
    assert_eq!(bench.hosts[0].lists.get(), 1);
    // A later request needs a new list.
    bench.now = start + second / 2;
    assert_eq!(bench.list().unwrap().len(), 2);
    assert_eq!(bench.hosts[0].lists.get(), 2);
}

#[test]
fn no_list_is_older_than_a_power_operation() {
    let mut bench = Bench::new(&[Fake::with(&[("a", A, true)])], Groups::default());
    let asked_before = bench.now;
    assert_eq!(bench.list().unwrap()[0].state, PowerState::Running);
    assert_eq!(bench.ask(Operation::Off, "a"), Verdict::Success);
    let (job, mail, _caller) = job(Operation::HostList, "", asked_before);
    bench.backend.begin(job, bench.now);
    bench.settle();
    let [Answer::HostList(entries)] = &answers(&mail)[..] else { panic!("a list") };
    assert_eq!(entries[0].state, PowerState::Off);
    // A list is kept for a second at most.
    assert_eq!(bench.list().unwrap().len(), 1);
    let kept = bench.hosts[0].lists.get();
    bench.now += Duration::from_secs(1);
    bench.backend.turn(bench.now);
    bench.list();
    assert_eq!(bench.hosts[0].lists.get(), kept + 1);
}
