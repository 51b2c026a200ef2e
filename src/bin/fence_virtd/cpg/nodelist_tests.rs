//! The nodes that corosync's configuration names, as the worker hears of them.

use super::*;
use crate::cpg::nodelist::{NodelistReader, REREAD, RETRY};

/// Nodes that an event tells.
fn told(event: Option<GroupEvent>) -> Option<Option<Vec<u32>>> {
    match event? {
        GroupEvent::Configured(nodes) => Some(nodes.map(|nodes| nodes.iter().map(|node| node.0).collect())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn they_are_told_after_a_join_and_when_a_quorum_event_brings_a_change() {
    let fake = Fake::default();
    fake.script().nodelist = Some(vec![3, 7]);
    let mut bench = bench(fake);
    assert!(matches!(bench.next(), GroupEvent::Joined(_)));
    assert_eq!(told(Some(bench.next())), Some(Some(vec![3, 7])));

    bench.fake.script().nodelist = Some(vec![3, 7, 9]);
    bench.fake.script().quorum.push_back(vec![3, 7]);
    assert!(matches!(bench.next(), GroupEvent::Quorum { .. }), "they follow the event");
    assert_eq!(told(Some(bench.next())), Some(Some(vec![3, 7, 9])));

    bench.fake.script().quorum.push_back(vec![3]);
    assert!(matches!(bench.next(), GroupEvent::Quorum { .. }));
    bench.fake.until("it is not read", |script| script.nodelist_reads == 3);
    bench.fake.script().to_hear.push_back(1);
    assert!(matches!(bench.next(), GroupEvent::Message { .. }), "nothing has changed");
    assert_eq!(bench.fake.script().nodelist_reads, 3, "a message is no reason to read");

    bench.fake.script().is_lost = true;
    assert!(matches!(bench.next(), GroupEvent::Lost(_)));
    assert!(matches!(bench.next(), GroupEvent::Joined(_)));
    assert_eq!(told(Some(bench.next())), Some(Some(vec![3, 7, 9])), "the worker may have forgotten them");
}

#[test]
fn a_nodelist_that_is_not_known_is_told_once() {
    let fake = Fake::default();
    let (mut reader, mut member, now) = (NodelistReader::default(), fake.join().unwrap(), Instant::now());
    assert_eq!(told(reader.read(&mut member, now)), Some(None));
    reader.expire();
    assert_eq!(told(reader.read(&mut member, now)), None);
    // A corosync without that service.
    fake.script().nodelist = Some(vec![7]);
    reader.expire();
    assert_eq!(told(reader.read(&mut member, now)), Some(Some(vec![7])));
    fake.script().refuses_nodelist = Some(12);
    reader.expire();
    assert_eq!(told(reader.read(&mut member, now)), Some(None));
    reader.expire();
    assert_eq!(told(reader.read(&mut member, now)), None);
}

#[test]
fn a_reload_is_noticed_without_an_event() {
    let fake = Fake::default();
    fake.script().nodelist = Some(vec![7]);
    let (mut reader, mut member, now) = (NodelistReader::default(), fake.join().unwrap(), Instant::now());
    assert_eq!(told(reader.read(&mut member, now)), Some(Some(vec![7])));
    fake.script().nodelist = Some(vec![7, 8]);
    let early = now + REREAD - Duration::from_millis(1);
    assert_eq!((told(reader.read(&mut member, early)), fake.script().nodelist_reads), (None, 1));
    assert_eq!(told(reader.read(&mut member, now + REREAD)), Some(Some(vec![7, 8])));
}

#[test]
fn a_corosync_that_is_busy_is_asked_again_soon() {
    let fake = Fake::default();
    fake.script().nodelist = Some(vec![7]);
    let (mut reader, mut member, now) = (NodelistReader::default(), fake.join().unwrap(), Instant::now());
    assert_eq!(told(reader.read(&mut member, now)), Some(Some(vec![7])));
    fake.script().refuses_nodelist = Some(TRY_AGAIN);
    reader.expire();
    assert_eq!(told(reader.read(&mut member, now)), None, "the old one stands");
    fake.script().refuses_nodelist = None;
    fake.script().nodelist = Some(vec![8]);
    assert_eq!(told(reader.read(&mut member, now)), None);
    assert_eq!(told(reader.read(&mut member, now + RETRY)), Some(Some(vec![8])));
}
