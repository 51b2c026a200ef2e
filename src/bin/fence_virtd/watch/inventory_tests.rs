use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::watch::fake::{Fake, uuid};
use crate::watch::inbox::Change;
use fence_virt::domain_xml::Devices;

/// An inventory of a fake connection, and what the worker is told.
struct World {
    fake: Fake,
    inventory: Inventory,
    worker: Receiver<Message>,
    now: Instant,
}

impl World {
    fn new() -> World {
        let (sender, worker) = unbounded();
        World { fake: Fake::default(), inventory: Inventory::new(3, sender), worker, now: Instant::now() }
    }

    /// What was told since, in words.
    fn told(&self) -> Vec<String> {
        let words = |message| match message {
            Message::Event(Event::Domains { uri: 3, change: DomainChange::All(vms) }) => {
                format!("{} VMs", vms.len())
            }
            Message::Event(Event::Domains { uri: 3, change: DomainChange::One(vm) }) => vm.name,
            Message::Event(Event::Domains { uri: 3, change: DomainChange::Gone(uuid) }) => {
                format!("{} is gone", &uuid.to_string()[..2])
            }
            Message::Event(Event::Domains { uri: 3, change: DomainChange::Lost }) => "lost".to_owned(),
            other => panic!("{other:?}"),
        };
        self.worker.try_iter().map(words).collect()
    }

    fn resync(&mut self, reread: bool) -> Vec<String> {
        self.inventory.resync(&self.fake, reread, self.now).unwrap();
        self.told()
    }

    /// Libvirt says that something happened to a VM.
    fn stir(&mut self, number: u8) -> Result<Vec<String>, Failed> {
        let news = News { changed: BTreeMap::from([(uuid(number), Change::Lifecycle)]), ..News::default() };
        self.inventory.take(&news, &self.fake, self.now)?;
        Ok(self.told())
    }

    fn attend(&mut self) -> Vec<String> {
        self.inventory.attend(&self.fake, "uri", self.now).unwrap();
        self.told()
    }

    fn start(&self, number: u8) {
        self.fake.start(number, 1, Devices::default());
    }
}

#[test]
fn all_are_told_once_and_then_what_changes() {
    let mut world = World::new();
    world.start(1);
    world.start(2);
    assert_eq!(world.resync(true), ["2 VMs"]);
    assert_eq!(world.resync(false), [""; 0], "nothing has changed");
    assert_eq!(world.stir(1).unwrap(), [""; 0], "nor has this one");
    world.start(3);
    assert_eq!(world.stir(3).unwrap(), ["vm3"]);
    world.fake.stop(1);
    assert_eq!(world.stir(1).unwrap(), ["01 is gone"]);
    assert_eq!(world.stir(1).unwrap(), [""; 0], "that is told once");
    assert_eq!(world.resync(false), [""; 0]);
}

#[test]
fn what_no_event_told_is_found_and_a_new_connection_tells_all() {
    let mut world = World::new();
    world.start(1);
    world.resync(true);
    world.start(2);
    assert_eq!(world.resync(false), ["2 VMs"]);
    assert_eq!(world.resync(true), ["2 VMs"], "the worker may have lost them with the connection");
}

#[test]
fn a_vm_that_cannot_be_looked_at_is_looked_at_again() {
    let mut world = World::new();
    world.resync(true);
    world.told();
    world.start(1);
    world.fake.failing.set(true);
    assert_eq!(world.stir(1).unwrap(), ["lost"], "it is not known what is here");
    assert_eq!(world.stir(1).unwrap(), [""; 0], "that is told once");
    let due = world.inventory.deadline().unwrap();
    assert!(due > world.now && due < world.now + Duration::from_secs(10));
    world.fake.failing.set(false);
    assert_eq!(world.attend(), [""; 0], "it is not due yet");
    world.now = due;
    assert_eq!(world.attend(), ["vm1", "1 VMs"], "that is all");
    assert_eq!(world.inventory.deadline(), None);
}

#[test]
fn a_full_look_makes_up_for_one_that_failed() {
    let mut world = World::new();
    world.start(1);
    world.resync(true);
    world.fake.failing.set(true);
    assert_eq!(world.stir(1).unwrap(), ["lost"]);
    world.fake.failing.set(false);
    assert_eq!(world.resync(false), ["1 VMs"]);
    assert_eq!(world.inventory.deadline(), None);
}

#[test]
fn a_connection_that_is_gone_is_an_error() {
    let mut world = World::new();
    world.fake.failing.set(true);
    world.fake.dead.set(true);
    assert!(world.stir(1).is_err());
    world.fake.dead.set(false);
    world.stir(1).unwrap();
    assert!(world.inventory.deadline().is_some());
    world.inventory.lost();
    assert_eq!(world.inventory.deadline(), None, "another connection begins anew");
    assert_eq!(world.told(), ["lost"]);
    world.fake.failing.set(false);
    assert_eq!(world.resync(true), ["0 VMs"], "all are told when it is there");
}
