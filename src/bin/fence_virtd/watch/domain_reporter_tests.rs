use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::libvirt::LifecycleChange;
use crate::watch::change_queue::ChangeQueue;
use crate::watch::fake::{Fake, uuid};
use fence_virt::domain_xml::Devices;

/// A reporter of a fake connection, and the worker's end.
struct World {
    fake: Fake,
    reporter: DomainReporter,
    worker: Receiver<Message>,
    now: Instant,
}

impl World {
    fn new() -> World {
        let (sender, worker) = unbounded();
        let reporter = DomainReporter::new(UriIndex(3), sender);
        World { fake: Fake::default(), reporter, worker, now: Instant::now() }
    }

    /// Messages to the worker since the last call.
    fn messages(&self) -> Vec<String> {
        let words = |message| {
            let Message::Event(Event::Domains { uri: UriIndex(3), change }) = message else {
                panic!("{message:?}")
            };
            let moved = |may_run_elsewhere| if may_run_elsewhere { " that may run elsewhere" } else { "" };
            match change {
                DomainChange::All(vms) => {
                    format!("{} VMs{}", vms.len(), moved(vms.iter().any(|vm| vm.may_run_elsewhere)))
                }
                DomainChange::One(vm) => format!("{}{}", vm.name, moved(vm.may_run_elsewhere)),
                DomainChange::Gone(uuid) => format!("{} is gone", &uuid.to_string()[..2]),
                DomainChange::Lost => "lost".to_owned(),
            }
        };
        self.worker.try_iter().map(words).collect()
    }

    fn resync(&mut self, reread: bool) -> Vec<String> {
        self.reporter.resync(&self.fake, reread, self.now).unwrap();
        self.messages()
    }

    /// Handles an event about a VM.
    fn stir(&mut self, number: u8) -> LibvirtResult<Vec<String>> {
        self.hear(number, &[LifecycleChange::Other])
    }

    /// Handles events about a VM, which were merged.
    fn hear(&mut self, number: u8, events: &[LifecycleChange]) -> LibvirtResult<Vec<String>> {
        let queue = ChangeQueue::default();
        events.iter().for_each(|&event| queue.lifecycle(uuid(number), event));
        let changes = queue.wait(None);
        self.reporter.handle(&changes, &self.fake, self.now)?;
        Ok(self.messages())
    }

    fn turn(&mut self) -> Vec<String> {
        self.reporter.turn(&self.fake, self.now).unwrap();
        self.messages()
    }

    fn start(&self, number: u8) {
        self.fake.start(number, 1, Devices::default());
    }
}

#[test]
fn all_are_reported_once_and_then_their_changes() {
    let mut world = World::new();
    world.start(1);
    world.start(2);
    assert_eq!(world.resync(true), ["2 VMs"]);
    assert_eq!(world.resync(false), [""; 0], "nothing has changed");
    assert_eq!(world.stir(1).unwrap(), [""; 0], "neither has this one");
    world.start(3);
    assert_eq!(world.stir(3).unwrap(), ["vm3"]);
    world.fake.stop(1);
    assert_eq!(world.stir(1).unwrap(), ["01 is gone"]);
    assert_eq!(world.stir(1).unwrap(), [""; 0], "reported once");
    assert_eq!(world.resync(false), [""; 0]);
}

#[test]
fn a_resync_finds_missed_changes_and_a_new_connection_reports_all() {
    let mut world = World::new();
    world.start(1);
    world.resync(true);
    world.start(2);
    assert_eq!(world.resync(false), ["2 VMs"]);
    assert_eq!(world.resync(true), ["2 VMs"], "the worker may have lost them with the connection");
}

#[test]
fn a_failed_query_is_retried() {
    let mut world = World::new();
    world.resync(true);
    world.messages();
    world.start(1);
    world.fake.failing.set(true);
    assert_eq!(world.stir(1).unwrap(), ["lost"], "incomplete");
    assert_eq!(world.stir(1).unwrap(), [""; 0], "reported once");
    let due = world.reporter.deadline().unwrap();
    assert!(due > world.now && due < world.now + Duration::from_secs(10));
    world.fake.failing.set(false);
    assert_eq!(world.turn(), [""; 0], "it is not due yet");
    world.now = due;
    assert_eq!(world.turn(), ["vm1", "1 VMs"], "that is all");
    assert_eq!(world.reporter.deadline(), None);
}

#[test]
fn a_resync_makes_up_for_a_failed_query() {
    let mut world = World::new();
    world.start(1);
    world.resync(true);
    world.fake.failing.set(true);
    assert_eq!(world.stir(1).unwrap(), ["lost"]);
    world.fake.failing.set(false);
    assert_eq!(world.resync(false), ["1 VMs"]);
    assert_eq!(world.reporter.deadline(), None);
}

#[test]
fn a_connection_that_is_gone_is_an_error() {
    let mut world = World::new();
    world.fake.failing.set(true);
    world.fake.dead.set(true);
    assert!(world.stir(1).is_err());
    world.fake.dead.set(false);
    world.stir(1).unwrap();
    assert!(world.reporter.deadline().is_some());
    world.reporter.lost();
    assert_eq!(world.reporter.deadline(), None, "another connection starts over");
    assert_eq!(world.messages(), ["lost"]);
    world.fake.failing.set(false);
    assert_eq!(world.resync(true), ["0 VMs"], "all are reported on the next connection");
}

#[test]
fn a_vm_that_has_migrated_away_is_reported_as_moved_until_it_is_back() {
    let mut world = World::new();
    world.start(1);
    assert_eq!(world.resync(true), ["1 VMs"]);
    world.fake.shut_off(1, true);
    assert_eq!(world.stir(1).unwrap(), ["vm1 that may run elsewhere"]);
    assert_eq!(world.resync(false), [""; 0], "a list does not tell, but nothing has changed");
    world.start(1);
    world.fake.pause(1);
    assert_eq!(world.stir(1).unwrap(), ["vm1 that may run elsewhere"], "it is coming back");
    assert_eq!(world.resync(false), [""; 0], "a list is completed with it");
    world.start(1);
    assert_eq!(world.stir(1).unwrap(), ["vm1"]);
    world.fake.shut_off(1, false);
    assert_eq!(world.stir(1).unwrap(), ["vm1"], "it is off");
    assert_eq!(world.resync(false), [""; 0]);
}

#[test]
fn a_list_is_completed_with_the_vms_that_have_moved() {
    let mut world = World::new();
    world.fake.shut_off(1, true);
    world.fake.shut_off(2, false);
    world.start(3);
    assert_eq!(world.resync(true), ["3 VMs that may run elsewhere"], "before this daemon has started");
    assert_eq!(world.fake.queries.take(), 2, "the one that runs is not asked for");
    assert_eq!(world.resync(false), [""; 0]);
    assert_eq!(world.fake.queries.take(), 1, "nor is one that is known to be off");
    world.fake.shut_off(3, true);
    assert_eq!(world.resync(false), ["3 VMs that may run elsewhere"], "its event was missed");
    world.fake.queries.take();
    assert_eq!(world.resync(true), ["3 VMs that may run elsewhere"]);
    assert_eq!(world.fake.queries.take(), 3, "events may have been missed before a new connection");
}

#[test]
fn a_list_that_cannot_be_completed_is_not_reported_as_complete() {
    let mut world = World::new();
    world.fake.shut_off(1, true);
    world.start(2);
    world.fake.failing.set(true);
    assert_eq!(world.resync(true), ["lost"]);
    world.now = world.reporter.deadline().unwrap();
    assert_eq!(world.turn(), [""; 0]);
    world.fake.failing.set(false);
    world.now = world.reporter.deadline().unwrap();
    assert_eq!(world.turn(), ["vm1 that may run elsewhere", "2 VMs that may run elsewhere"]);
    world.fake.dies.set(true);
    assert!(world.reporter.resync(&world.fake, true, world.now).is_err(), "the connection is gone");
}

#[test]
fn a_paused_vm_that_cannot_be_queried_may_run_elsewhere() {
    let mut world = World::new();
    world.start(1);
    world.fake.pause(1);
    world.fake.failing.set(true);
    assert_eq!(world.resync(true), ["1 VMs that may run elsewhere"], "and the list is complete");
}

#[test]
fn a_paused_vm_is_queried_though_it_was_reported_as_off() {
    let mut world = World::new();
    world.fake.shut_off(1, false);
    assert_eq!(world.resync(true), ["1 VMs"]);
    world.start(1);
    world.fake.pause(1);
    assert_eq!(world.resync(false), ["1 VMs that may run elsewhere"], "its event was missed");
}

#[test]
fn a_vm_that_has_moved_away_may_run_elsewhere_though_its_way_back_has_failed() {
    use LifecycleChange::{Active, MovedAway, Other};
    let mut world = World::new();
    world.start(1);
    world.resync(true);
    world.fake.shut_off(1, false);
    // It leaves, begins to come back, and that fails, before libvirt is asked.
    assert_eq!(world.hear(1, &[MovedAway, Other, Other]).unwrap(), ["vm1 that may run elsewhere"]);
    assert_eq!(world.resync(true), ["1 VMs that may run elsewhere"]);
    assert_eq!(world.hear(1, &[Other]).unwrap(), [""; 0], "nothing has changed");
    // It has come back, ran, and was ended here.
    assert_eq!(world.hear(1, &[Active, Other]).unwrap(), ["vm1"]);
    assert_eq!(world.hear(1, &[MovedAway, Active, Other]).unwrap(), [""; 0]);
    // Events were missed.
    world.hear(1, &[MovedAway]).unwrap();
    world.reporter.lost();
    world.messages();
    assert_eq!(world.resync(true), ["1 VMs"], "libvirt's own memory counts");
}
