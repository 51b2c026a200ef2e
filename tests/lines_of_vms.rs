//! Lines of running VMs, followed by libvirt's events, also while VMs start and
//! stop quickly and after libvirtd was lost. The test binds the sockets; the
//! VMs belong to a libvirtd with the test driver.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::time::Duration;

use common::daemon::{Daemon, conf};
use common::guests::{PollingGuests, Socket, request, serial};
use common::libvirtd::{Libvirtd, define, libvirtd_installed};
use common::net::Namespace;
use common::node::{NODE1, NODE2};
use common::{Dir, Missing, require, root_and_c_suite, until};
use fence_virt::fence::Operation;
use virt::connect::Connect;
use virt::domain::Domain;

const LIMIT: Duration = Duration::from_secs(30);
/// Time without a reaction after which the daemon is taken to have none.
const QUIET: Duration = Duration::from_millis(700);

/// Directory and namespace for a libvirtd and a daemon.
fn libvirtd_lab() -> Result<(Dir, Namespace), Missing> {
    root_and_c_suite()?;
    libvirtd_installed()?;
    Ok((Dir::new(), Namespace::new()))
}

fn daemon(dir: &Dir, namespace: &Namespace, libvirtd: &Libvirtd) -> Daemon {
    let keys = format!("path = \"{}\";", dir.path("").display());
    Daemon::builder(dir, namespace).start(&conf("serial", &keys, &[libvirtd.uri()], ""))
}

#[test]
fn vms_that_start_stop_vanish_and_get_devices_are_followed() {
    let (dir, namespace) = require!(libvirtd_lab());
    let libvirtd = Libvirtd::started(&dir, &namespace, "lv");
    let connect = Connect::open(Some(&libvirtd.uri())).unwrap();
    let daemon = daemon(&dir, &namespace, &libvirtd);
    let (mut a, mut b) = (Socket::bind(dir.path("a")), Socket::bind(dir.path("b")));
    let devices = serial(&a.path) + &serial(&b.path);
    let guest = define(&connect, "guest", NODE1, &devices);
    assert!(!a.is_wanted(QUIET), "it is only defined");
    guest.create().unwrap();
    for socket in [&mut a, &mut b] {
        socket.accept();
        assert_eq!(socket.ask(Operation::Status, "guest"), 0);
    }
    guest.suspend().unwrap();
    assert_eq!(a.ask(Operation::Status, "guest"), 0, "a paused VM keeps its lines");
    guest.resume().unwrap();
    guest.destroy().unwrap();
    a.await_end();
    b.await_end();
    assert!(!a.is_wanted(QUIET), "it does not run");
    guest.create().unwrap();
    a.accept();
    b.accept();
    // An undefined VM keeps running, and vanishes when it stops.
    guest.undefine().unwrap();
    assert_eq!(a.ask(Operation::Status, "guest"), 0);
    // The guest fences itself.
    a.line().write_all(&request(Operation::Off, "guest", 77)).unwrap();
    b.await_end();
    until("it is gone", LIMIT, || Domain::lookup_by_name(&connect, "guest").is_err());
    assert!(!b.is_wanted(QUIET));
    daemon.await_log(&format!("serial: guest ({NODE1}): {} is closed", b.path.display()));
}

#[test]
fn after_a_lost_libvirtd_everything_is_found_anew() {
    let (dir, namespace) = require!(libvirtd_lab());
    let mut libvirtd = Libvirtd::started(&dir, &namespace, "lv");
    let daemon = daemon(&dir, &namespace, &libvirtd);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let mut counts = Vec::new();
    let mut a = Socket::bind(dir.path("a"));
    for round in 0..4 {
        let mut connect = Connect::open(Some(&libvirtd.uri())).unwrap();
        let guest = define(&connect, "guest", NODE1, &serial(&a.path));
        guest.create().unwrap();
        a.accept();
        until("requests are carried out", LIMIT, || a.ask(Operation::Status, "guest") == 0);
        counts.push(descriptors());
        eprintln!("round {round}: {} descriptors", counts[round]);
        libvirtd.kill();
        // QEMU would keep running: the line stays open and answers with failure.
        until("libvirt is missed", LIMIT, || a.ask(Operation::Status, "guest") == 1);
        // The connection may be broken already.
        let _ = connect.close();
        libvirtd.start();
        // The test driver has lost the VM, so it no longer runs.
        a.await_end();
    }
    assert!(counts.iter().all(|count| *count <= counts[0]), "descriptors leak: {counts:?}");
}

/// Linear congruential generator: every run is the same.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[test]
fn five_hundred_random_starts_and_stops_while_requests_flow() {
    let (dir, namespace) = require!(libvirtd_lab());
    const VMS: usize = 12;
    let libvirtd = Libvirtd::started(&dir, &namespace, "lv");
    let connect = Connect::open(Some(&libvirtd.uri())).unwrap();
    let paths: Vec<_> = (0..2 * VMS).map(|at| dir.path(&format!("s{at}"))).collect();
    let guests: Vec<Domain> = (0..VMS)
        .map(|at| {
            let devices = serial(&paths[2 * at]) + &serial(&paths[2 * at + 1]);
            define(&connect, &format!("vm{at}"), &format!("{at:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"), &devices)
        })
        .collect();
    let mut polling = PollingGuests::bind(&paths, "vm0");
    let daemon = daemon(&dir, &namespace, &libvirtd);
    let mut runs = [false; VMS];
    let mut state = 42;
    for _ in 0..500 {
        let at = random(&mut state) % VMS;
        match runs[at] {
            true => guests[at].destroy().unwrap(),
            false => drop(guests[at].create().unwrap()),
        }
        runs[at] = !runs[at];
        // Several changes between most polls.
        if random(&mut state) % 4 == 0 {
            polling.poll();
        }
    }
    let flowed = polling.answers();
    until("each line is as its VM", LIMIT, || {
        polling.poll();
        (0..2 * VMS).all(|at| {
            let wanted = usize::from(runs[at / 2]);
            polling.lines(at) == wanted && (wanted == 0 || polling.answers_now(at) > 0)
        })
    });
    eprintln!("{flowed} answers during the churn, {} in the end", polling.answers());
    assert!(flowed > 100, "requests flowed: {flowed}");
    assert!(daemon.stop(LIMIT).success());
    until("all lines are closed", LIMIT, || {
        polling.poll();
        (0..2 * VMS).all(|at| polling.lines(at) == 0)
    });
}

#[test]
fn a_socket_that_two_vms_name_is_nobodys_until_one_is_gone() {
    let (dir, namespace) = require!(libvirtd_lab());
    let libvirtd = Libvirtd::started(&dir, &namespace, "lv");
    let connect = Connect::open(Some(&libvirtd.uri())).unwrap();
    let daemon = daemon(&dir, &namespace, &libvirtd);
    let mut socket = Socket::bind(dir.path("a"));
    let alias = dir.path("..").join(dir.path("").file_name().unwrap()).join("a");
    let first = define(&connect, "first", NODE1, &serial(&socket.path));
    let second = define(&connect, "second", NODE2, &serial(&alias));
    first.create().unwrap();
    socket.accept();
    assert_eq!(socket.ask(Operation::Status, "first"), 0);
    second.create().unwrap();
    socket.await_end();
    assert!(!socket.is_wanted(QUIET), "nobody can tell who is there");
    daemon.await_log("or the same VM on another URI, has the same socket");
    first.destroy().unwrap();
    socket.accept();
    assert_eq!(socket.ask(Operation::Status, "second"), 0);
    daemon.await_log(&format!("serial: second ({NODE2}): status"));
}
