use super::*;
use crate::watch::fake::{Fake, Observed, uuid};

/// A tracker of a fake connection, with its own clock.
struct World {
    fake: Fake,
    observed: Observed,
    tracker: DomainTracker,
    now: Instant,
}

impl World {
    fn new() -> World {
        let observed = Observed::default();
        let tracker = DomainTracker::new("test", Box::new(observed.clone()));
        World { fake: Fake::default(), observed, tracker, now: Instant::now() }
    }

    fn resync(&mut self, reread: bool) -> Vec<String> {
        self.tracker.resync(&self.fake, reread, self.now).unwrap();
        self.observed.take()
    }

    fn refresh(&mut self, number: u8, reread: bool) -> Vec<String> {
        self.tracker.refresh(uuid(number), &self.fake, reread, self.now).unwrap();
        self.observed.take()
    }

    fn turn(&mut self) -> Vec<String> {
        self.tracker.turn(&self.fake, self.now).unwrap();
        self.observed.take()
    }
}

fn serials(count: usize) -> Devices {
    Devices { serials: (0..count).map(|at| format!("/s/{at}").into()).collect(), ..Devices::default() }
}

#[test]
fn a_vm_is_reported_once_a_run() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(2));
    assert_eq!(world.resync(true), ["vm1 runs as 7 with 2"]);
    assert_eq!(world.turn(), ["synced"]);
    assert_eq!(world.turn(), [""; 0]);
    let reads = world.fake.reads.get();
    assert_eq!(world.refresh(1, false), [""; 0], "paused, resumed or the like");
    assert_eq!(world.resync(false), [""; 0]);
    assert_eq!(world.fake.reads.get(), reads, "its XML is not read for that");
    world.fake.start(1, 8, serials(0));
    assert_eq!(world.refresh(1, false), ["vm1 runs as 8 with 0"]);
    world.fake.stop(1);
    assert_eq!(world.refresh(1, false), ["01 is gone"]);
    assert_eq!(world.refresh(1, false), [""; 0]);
}

#[test]
fn a_new_device_is_reported() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(0));
    world.resync(true);
    world.fake.start(1, 7, serials(1));
    assert_eq!(world.refresh(1, true), ["vm1 runs as 7 with 1"]);
}

#[test]
fn a_resync_finds_what_no_event_reported() {
    let mut world = World::new();
    world.fake.start(1, 1, serials(0));
    world.fake.start(2, 2, serials(0));
    world.resync(true);
    world.fake.stop(1);
    world.fake.start(2, 3, serials(0));
    world.fake.start(3, 4, serials(1));
    assert_eq!(world.resync(false), ["01 is gone", "vm2 runs as 3 with 0", "vm3 runs as 4 with 1"]);
    assert_eq!(world.resync(true), ["vm2 runs as 3 with 0", "vm3 runs as 4 with 1"], "after a loss all");
}

#[test]
fn the_xml_of_another_run_is_ignored() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.resync(true);
    world.fake.xml_run.set(Some(9));
    world.fake.start(1, 8, serials(1));
    assert_eq!(world.refresh(1, false), ["01 is gone"]);
    world.fake.xml_run.set(None);
    assert_eq!(world.tracker.deadline(), Some(world.now + RETRY_AFTER));
    world.now += RETRY_AFTER;
    assert_eq!(world.turn(), ["vm1 runs as 8 with 1", "synced"]);
    assert_eq!(world.tracker.deadline(), None);
}

#[test]
fn a_failed_query_is_retried_unless_the_connection_is_gone() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.fake.failing.set(true);
    assert_eq!(world.resync(true), [""; 0]);
    assert_eq!(world.turn(), [""; 0], "not everything is observed yet");
    world.fake.failing.set(false);
    world.now += RETRY_AFTER;
    assert_eq!(world.turn(), ["vm1 runs as 7 with 1", "synced"]);
    world.fake.failing.set(true);
    world.fake.dead.set(true);
    let refreshed = world.tracker.refresh(uuid(1), &world.fake, false, world.now);
    assert_eq!(refreshed, Err(LibvirtError::Other("dead".to_owned())));
    assert!(world.tracker.resync(&world.fake, false, world.now).is_err());
    world.tracker.lost();
    assert_eq!(world.observed.take(), ["lost"], "what ran may run on");
}

#[test]
fn a_vm_whose_xml_cannot_be_read_has_no_devices() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.fake.garbled.set(true);
    assert_eq!(world.resync(true), ["vm1 runs as 7 with 0"]);
}

#[test]
fn a_vm_whose_query_always_fails_does_not_hold_up_the_others() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.fake.failing.set(true);
    world.resync(true);
    world.now += SYNC_LIMIT / 2;
    assert_eq!(world.turn(), [""; 0]);
    world.now += SYNC_LIMIT / 2;
    assert_eq!(world.turn(), ["synced"]);
}
