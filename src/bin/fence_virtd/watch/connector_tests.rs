use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::*;
use crate::watch::fake::{Fake, running, uuid};
use crate::watch::vm_socket::BACKOFF;
use crossbeam_channel::{Receiver, unbounded};

/// A connector with a folder of sockets, with its own clock.
struct World {
    folder: PathBuf,
    fake: Fake,
    connector: Connector,
    events: Receiver<SerialEvent>,
    now: Instant,
}

impl World {
    fn new(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("fence-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let config = SerialConfig { uri: None, path: Some(folder.clone()), mode: SerialMode::Serial };
        let (sender, events) = unbounded();
        let sink: SerialSink = Arc::new(move |event| sender.send(event).unwrap());
        let connector =
            Connector::new("uri", &config, sink, ChangeQueue::default(), SocketRegistry::default());
        World { folder, fake: Fake::default(), connector, events, now: Instant::now() }
    }

    fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.folder.join(name)).unwrap()
    }

    /// A VM runs, with serial ports of these names.
    fn runs(&mut self, number: u8, run: u32, names: &[&str]) {
        let serials = names.iter().map(|name| self.folder.join(name)).collect();
        let devices = Devices { run: Some(run), serials, ..Devices::default() };
        self.fake.start(number, run, devices.clone());
        self.connector.running(&running(number, run), devices, self.now);
    }

    /// Runs a turn and returns the listener's events.
    fn turn(&mut self) -> Vec<String> {
        self.connector.turn(&self.fake, self.now).unwrap();
        self.events()
    }

    fn events(&self) -> Vec<String> {
        let words = |mail| match mail {
            SerialEvent::Connected(ConnectedLine { id, domain, path, .. }) => {
                format!("{}: {} {}", id.0, domain.name, path.file_name().unwrap().to_string_lossy())
            }
            SerialEvent::Removed(line) => format!("{}: closed", line.0),
        };
        self.events.try_iter().map(words).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn all_sockets_of_a_vm_are_connected_and_all_closed() {
    let mut world = World::new("all");
    let _sockets = [world.listen("a"), world.listen("b")];
    world.runs(1, 1, &["a", "b", "a"]);
    assert_eq!(world.turn(), ["0: vm1 a", "1: vm1 b"]);
    assert_eq!((world.turn(), world.connector.deadline()), (vec![], None));
    world.connector.stopped(uuid(1));
    assert_eq!(world.events(), ["0: closed", "1: closed"]);
    assert!(world.connector.registry.claim(&world.folder.join("a")).is_sole());
}

#[test]
fn a_connection_counts_only_if_the_same_run_is_still_there_afterwards() {
    let mut world = World::new("run");
    let _socket = world.listen("a");
    world.runs(1, 1, &["a"]);
    world.fake.start(1, 2, Devices::default());
    assert_eq!(world.turn(), [""; 0], "restarted");
    world.now += BACKOFF.min;
    world.fake.stop(1);
    assert_eq!(world.turn(), [""; 0], "gone");
    world.now += 2 * BACKOFF.min;
    world.fake.start(1, 1, Devices::default());
    world.fake.failing.set(true);
    assert_eq!(world.turn(), [""; 0], "the query fails");
    world.now += 4 * BACKOFF.min;
    world.fake.failing.set(false);
    world.fake.dead.set(true);
    assert!(world.connector.turn(&world.fake, world.now).is_err(), "libvirt is gone");
    world.fake.dead.set(false);
    assert_eq!(world.turn(), ["0: vm1 a"]);
}

#[test]
fn a_new_run_has_new_lines_and_a_change_of_devices_keeps_what_stays() {
    let mut world = World::new("change");
    let _sockets = [world.listen("a"), world.listen("b"), world.listen("c")];
    world.runs(1, 1, &["a", "b"]);
    assert_eq!(world.turn(), ["0: vm1 a", "1: vm1 b"]);
    world.runs(1, 1, &["b", "c"]);
    assert_eq!(world.events(), ["0: closed"]);
    assert_eq!(world.turn(), ["2: vm1 c"]);
    world.runs(1, 2, &["b"]);
    assert_eq!(world.events(), ["1: closed", "2: closed"]);
    assert_eq!(world.turn(), ["3: vm1 b"]);
}

#[test]
fn a_socket_that_refuses_or_closes_is_retried_with_a_growing_backoff() {
    let mut world = World::new("backoff");
    world.runs(1, 1, &["a"]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(world.turn(), [""; 0]);
        let at = world.connector.deadline().unwrap();
        waits.push(at - world.now);
        world.now = at;
    }
    assert!(waits.is_sorted() && waits[0] == BACKOFF.min && waits[7] == BACKOFF.max, "{waits:?}");
    let _socket = world.listen("a");
    assert_eq!(world.turn(), ["0: vm1 a"]);
    world.connector.line_lost(LineId(0), world.now);
    assert_eq!(world.connector.deadline(), Some(world.now + BACKOFF.max), "it was connected for no time");
    world.now += BACKOFF.max;
    assert_eq!(world.turn(), ["1: vm1 a"]);
    world.now += BACKOFF.max;
    world.connector.line_lost(LineId(0), world.now);
    assert_eq!(world.connector.deadline(), None, "that line is unknown by now");
    world.connector.line_lost(LineId(1), world.now);
    assert_eq!(world.connector.deadline(), Some(world.now + BACKOFF.min));
}

#[test]
fn a_socket_that_two_vms_have_is_not_served() {
    let mut world = World::new("both");
    let _socket = world.listen("a");
    world.runs(1, 1, &["a"]);
    world.runs(2, 2, &["a"]);
    assert_eq!(world.turn(), [""; 0]);
    world.connector.stopped(uuid(2));
    world.now = world.connector.deadline().unwrap();
    assert_eq!(world.turn(), ["0: vm1 a"]);
    // One that starts with it later: the line is of either.
    world.runs(2, 3, &["a"]);
    assert_eq!(world.turn(), ["0: closed"]);
    world.now = world.connector.deadline().unwrap();
    assert_eq!(world.turn(), [""; 0]);
    // The same under another name, at another watcher of the listener.
    world.connector.stopped(uuid(2));
    world.now += BACKOFF.max;
    assert_eq!(world.turn(), ["1: vm1 a"]);
    let other = world.connector.registry.claim(&world.folder.join("../").join(&world.folder).join("./a"));
    assert_eq!(world.turn(), ["1: closed"]);
    drop(other);
}

#[test]
fn only_sockets_directly_in_the_folder_and_of_the_kind_count() {
    let mut world = World::new("path");
    fs::create_dir(world.folder.join("deeper")).unwrap();
    std::os::unix::fs::symlink(&world.folder, world.folder.join("same")).unwrap();
    let _sockets = [world.listen("a"), world.listen("deeper/b"), world.listen("c"), world.listen("d")];
    world.runs(1, 1, &["a", "deeper/b", "deeper/../nowhere/x", "same/c"]);
    assert_eq!(world.turn(), ["0: vm1 a", "1: vm1 c"]);
    let channels = vec![world.folder.join("d")];
    world.connector.running(&running(2, 1), Devices { channels, ..Devices::default() }, world.now);
    assert_eq!(world.turn(), [""; 0], "a channel");
    world.connector.config.mode = SerialMode::VmChannel;
    let channels = vec![world.folder.join("d")];
    world.fake.start(2, 1, Devices::default());
    world.connector.running(&running(2, 1), Devices { channels, ..Devices::default() }, world.now);
    assert_eq!(world.turn(), ["2: vm2 d"]);
}

#[test]
fn lines_leave_descriptors_for_others() {
    let mut world = World::new("descriptors");
    let _sockets = [world.listen("a"), world.listen("b")];
    world.runs(1, 1, &["a"]);
    world.connector.descriptors_max = 0;
    assert_eq!(world.turn(), [""; 0]);
    world.connector.descriptors_max = rlim_t::MAX;
    world.now = world.connector.deadline().unwrap();
    assert_eq!(world.turn(), ["0: vm1 a"]);
    assert!(descriptors_for_lines() > 0);
}
