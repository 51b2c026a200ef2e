use super::*;
use crate::watch::fake::{Fake, Told, uuid};

/// A view over a fake, on a clock of its own.
struct World {
    fake: Fake,
    told: Told,
    view: View,
    now: Instant,
}

impl World {
    fn new() -> World {
        let told = Told::default();
        let view = View::new(Box::new(told.clone()));
        World { fake: Fake::default(), told, view, now: Instant::now() }
    }

    fn resync(&mut self, reread: bool) -> Vec<String> {
        self.view.resync(&self.fake, reread, self.now).unwrap();
        self.told.take()
    }

    fn look(&mut self, number: u8, reread: bool) -> Vec<String> {
        self.view.look(uuid(number), &self.fake, reread, self.now).unwrap();
        self.told.take()
    }

    fn attend(&mut self) -> Vec<String> {
        self.view.attend(&self.fake, "uri", self.now).unwrap();
        self.told.take()
    }
}

fn serials(count: usize) -> Devices {
    Devices { serials: (0..count).map(|at| format!("/s/{at}").into()).collect(), ..Devices::default() }
}

#[test]
fn a_vm_is_told_once_a_run() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(2));
    assert_eq!(world.resync(true), ["vm1 runs as 7 with 2"]);
    assert_eq!(world.attend(), ["uri synced"]);
    assert_eq!(world.attend(), [""; 0]);
    let reads = world.fake.reads.get();
    assert_eq!(world.look(1, false), [""; 0], "paused, resumed or the like");
    assert_eq!(world.resync(false), [""; 0]);
    assert_eq!(world.fake.reads.get(), reads, "its XML is not read for that");
    world.fake.start(1, 8, serials(0));
    assert_eq!(world.look(1, false), ["vm1 runs as 8 with 0"]);
    world.fake.stop(1);
    assert_eq!(world.look(1, false), ["01 is gone"]);
    assert_eq!(world.look(1, false), [""; 0]);
}

#[test]
fn a_device_that_came_is_told() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(0));
    world.resync(true);
    world.fake.start(1, 7, serials(1));
    assert_eq!(world.look(1, true), ["vm1 runs as 7 with 1"]);
}

#[test]
fn a_resync_finds_what_no_event_told() {
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
fn the_xml_of_another_run_is_not_taken() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.resync(true);
    world.fake.xml_run.set(Some(9));
    world.fake.start(1, 8, serials(1));
    assert_eq!(world.look(1, false), ["01 is gone"]);
    world.fake.xml_run.set(None);
    assert_eq!(world.view.deadline(), Some(world.now + AGAIN_AFTER));
    world.now += AGAIN_AFTER;
    assert_eq!(world.attend(), ["vm1 runs as 8 with 1", "uri synced"]);
    assert_eq!(world.view.deadline(), None);
}

#[test]
fn what_cannot_be_told_is_looked_at_again_unless_the_connection_is_gone() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.fake.failing.set(true);
    assert_eq!(world.resync(true), [""; 0]);
    assert_eq!(world.attend(), [""; 0], "not everything is told yet");
    world.fake.failing.set(false);
    world.now += AGAIN_AFTER;
    assert_eq!(world.attend(), ["vm1 runs as 7 with 1", "uri synced"]);
    world.fake.failing.set(true);
    world.fake.dead.set(true);
    assert_eq!(world.view.look(uuid(1), &world.fake, false, world.now), Err(Failed("dead".to_owned())));
    assert!(world.view.resync(&world.fake, false, world.now).is_err());
    world.view.lost();
    assert_eq!(world.told.take(), ["lost"], "what ran may run on");
}

#[test]
fn a_vm_whose_xml_cannot_be_read_has_no_devices() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.fake.garbled.set(true);
    assert_eq!(world.resync(true), ["vm1 runs as 7 with 0"]);
}

#[test]
fn a_vm_that_libvirt_never_tells_about_does_not_hold_up_the_others() {
    let mut world = World::new();
    world.fake.start(1, 7, serials(1));
    world.fake.failing.set(true);
    world.resync(true);
    world.now += SYNC_LIMIT / 2;
    assert_eq!(world.attend(), [""; 0]);
    world.now += SYNC_LIMIT / 2;
    assert_eq!(world.attend(), ["uri synced"]);
}

#[test]
fn a_line_that_was_lost_with_the_connection_is_told() {
    let told = Told::default();
    let inbox = Inbox::default();
    let mut watcher = Watcher {
        uri: "uri".to_owned(),
        inbox: inbox.clone(),
        view: Box::new(View::new(Box::new(told.clone()))),
        first: None,
        connection: 1,
        backoff: BACKOFF.0,
    };
    inbox.closed(crate::serial_event::LineId(7));
    inbox.lost(1);
    assert!(matches!(watcher.follow(&Fake::default()), Err(End::Lost(_))));
    assert_eq!(told.take(), ["uri synced", "line 7 closed"]);
}
