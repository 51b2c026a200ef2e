//! Serial listener: identity of the requester, thousands of lines, noise and
//! floods. The test binds the sockets; the
//! VMs belong to libvirt's test driver.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::daemon::{Daemon, conf};
use common::guests::{Socket, channel, raise_descriptor_limit, request, serial};
use common::net::Namespace;
use common::node::{self, NODE1, NODE2, NODE3, OFF, RUNNING, vm};
use common::{Dir, require, root_and_c_suite, until};
use fence_virt::fence::Operation;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(30);
/// Time for which a daemon stands still; input may wait for 1 s.
const FROZEN: Duration = Duration::from_secs(3);
/// Time without a reaction after which the daemon is taken to have none.
const QUIET: Duration = Duration::from_millis(700);

/// Daemon with lines of VMs of the test driver.
struct SerialHost {
    dir: Dir,
    daemon: Daemon,
    _namespace: Namespace,
}

impl SerialHost {
    /// Daemon with the running VMs `asker`, which has `devices`, and `victim`.
    fn new(dir: Dir, mode: &str, devices: String, groups: &str) -> SerialHost {
        let vms = [(vm("asker", NODE1, RUNNING), devices), (vm("victim", NODE2, RUNNING), String::new())];
        let uri = node::node_with_devices(&dir, "node.xml", &vms);
        let namespace = Namespace::new();
        let keys = format!("mode = \"{mode}\"; uri = \"{uri}\"; path = \"{}\";", dir.path("").display());
        let conf = conf("serial", &keys, std::slice::from_ref(&uri), groups);
        let daemon = Daemon::builder(&dir, &namespace).start(&conf);
        SerialHost { dir, daemon, _namespace: namespace }
    }

    /// Daemon with one connected serial line of `asker`.
    fn with_line(groups: &str) -> (SerialHost, Socket) {
        let dir = Dir::new();
        let mut socket = Socket::bind(dir.path("asker"));
        let host = SerialHost::new(dir, "serial", serial(&socket.path), groups);
        socket.accept();
        (host, socket)
    }
}

#[test]
fn a_line_knows_its_vm_and_the_groups_apply() {
    require!(root_and_c_suite());
    let group = |members: &[&str]| {
        let lines: String = members.iter().map(|member| format!("uuid = \"{member}\"; ")).collect();
        format!("groups {{ group {{ {lines} }} }}")
    };
    for (groups, verdicts) in [
        (String::new(), [0, 0]),
        (group(&[NODE1, "victim"]), [0, 0]),
        (group(&["asker", &NODE2.to_uppercase()]), [0, 0]),
        (group(&[&NODE1.to_uppercase(), "VICTIM"]), [0, 0]),
        // The requester's name is compared exactly: a user who defines VMs could choose this name.
        (group(&["ASKER", NODE2]), [3, 3]),
        (group(&[NODE1]), [3, 0]),
        (group(&[NODE2, "victim"]), [3, 3]),
        (group(&[NODE3, "victim", "asker"]) + "\n", [0, 0]),
    ] {
        let (host, mut socket) = SerialHost::with_line(&groups);
        let [victim, itself] = verdicts;
        assert_eq!(socket.ask(Operation::Status, "victim"), victim, "{groups}\n{}", host.daemon.log());
        assert_eq!(socket.ask(Operation::Status, NODE1), itself, "{groups}\n{}", host.daemon.log());
        assert_eq!(socket.ask(Operation::Off, "victim"), victim, "{groups}");
        let after = if victim == 0 { 2 } else { 3 };
        assert_eq!(socket.ask(Operation::Status, NODE2), after, "{groups}");
        host.daemon.await_log(&format!("serial: asker ({NODE1}): status"));
    }
}

#[test]
fn what_a_guest_wrote_while_the_daemon_stood_still_is_a_failure_and_may_be_asked_again() {
    require!(root_and_c_suite());
    let (host, mut socket) = SerialHost::with_line("");
    assert_eq!(socket.ask(Operation::Status, "victim"), 0);
    host.daemon.freeze();
    let off = request(Operation::Off, "victim", 7);
    socket.line().write_all(&off).unwrap();
    common::elapse(FROZEN);
    host.daemon.signal(Signal::SIGCONT);
    assert_eq!(socket.response(), 1, "{}", host.daemon.log());
    host.daemon.await_log("off \"victim\": refused: it may have waited for");
    host.daemon.await_log("the daemon stood still for 3.");
    assert_eq!(socket.ask(Operation::Status, "victim"), 0, "it runs");
    // The same request again, from a guest that waits now.
    socket.line().write_all(&off).unwrap();
    assert_eq!(socket.response(), 0, "{}", host.daemon.log());
    assert_eq!(socket.ask(Operation::Status, "victim"), 2);
}

#[test]
fn serial_ports_and_channels_are_served_side_by_side() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    let (mut port, mut line) = (Socket::bind(dir.path("port")), Socket::bind(dir.path("channel")));
    let devices = serial(&port.path) + &channel(&line.path);
    let vms = [(vm("asker", NODE1, RUNNING), devices), (vm("victim", NODE2, RUNNING), String::new())];
    let uri = node::node_with_devices(&dir, "node.xml", &vms);
    let conf = format!(
        "fence_virtd {{ listener = \"serial, serial:channels\"; backend = \"libvirt\"; }}
         listeners {{ serial {{ path = \"{0}\"; }} serial = \"channels\" {{ mode = \"vmchannel\"; path = \"{0}\"; }} }}
         backends {{ libvirt {{ uri = \"{uri}\"; }} }}
         groups {{ group {{ uuid = \"{NODE1}\"; uuid = \"victim\"; listener = \"serial:channels\"; }} }}",
        dir.path("").display()
    );
    let daemon = Daemon::builder(&dir, &namespace).start(&conf);
    port.accept();
    line.accept();
    let log = || daemon.log();
    assert_eq!(port.ask(Operation::Status, "victim"), 3, "no group is for it\n{}", log());
    assert_eq!(line.ask(Operation::Status, "victim"), 0, "{}", log());
    daemon.await_log(&format!("serial:channels: asker ({NODE1}): status"));
}

#[test]
fn whatever_comes_in_on_a_line_desynchronises_nothing() {
    require!(root_and_c_suite());
    let (host, mut socket) = SerialHost::with_line("");
    let status = |seqno| request(Operation::Status, "victim", seqno);
    // Noise before, between and inside requests: each complete request gets one answer.
    let noises: [&[u8]; 6] =
        [b"[    0.000000] Linux version 6.1", b"a", b"abba", b"abba\x01\0vic", b"\0\0\xff\xfe", b"aabb"];
    let mut seqno = 1000;
    for noise in noises {
        seqno += 2;
        let bytes = [noise, &status(seqno), noise, &status(seqno + 1)].concat();
        socket.line().write_all(&bytes).unwrap();
        assert_eq!([socket.response(), socket.response()], [0, 0], "{noise:?}");
        seqno += 2;
        // Noise after the last request must not spoil the next.
        socket.line().write_all(&status(seqno)).unwrap();
        assert_eq!(socket.response(), 0, "after {noise:?}");
    }
    for cut in [1, 5, 30, 69] {
        seqno += 2;
        let spoilt = [&status(seqno)[..cut], b"\r\nlogin: ", &status(seqno)[cut..]].concat();
        socket.line().write_all(&[&spoilt[..], &status(seqno + 1)].concat()).unwrap();
        assert_eq!(socket.response(), 0, "cut at {cut}");
        socket.assert_silent(Duration::from_millis(20));
    }
    // A request in pieces of one byte.
    seqno += 2;
    for byte in status(seqno) {
        socket.line().write_all(&[byte]).unwrap();
    }
    assert_eq!(socket.response(), 0);
    // A stalled request is dropped after a second; its rest is noise.
    seqno += 2;
    let stalled = request(Operation::Off, "victim", seqno);
    socket.line().write_all(&stalled[..40]).unwrap();
    socket.assert_silent(Duration::from_millis(1300));
    socket.line().write_all(&stalled[40..]).unwrap();
    socket.assert_silent(QUIET);
    assert_eq!(socket.ask(Operation::Status, "victim"), 0, "it was not carried out");
    // A slow request within that limit is carried out.
    socket.line().write_all(&status(seqno + 1)[..40]).unwrap();
    socket.assert_silent(Duration::from_millis(300));
    socket.line().write_all(&status(seqno + 1)[40..]).unwrap();
    assert_eq!(socket.response(), 0);
    assert!(!host.daemon.log().contains("panicked"), "{}", host.daemon.log());
}

#[test]
fn a_guest_that_does_not_read_blocks_nobody_and_grows_nothing() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let (mut mute, mut other) = (Socket::bind(dir.path("mute")), Socket::bind(dir.path("other")));
    let devices = serial(&mute.path) + &serial(&other.path);
    let host = SerialHost::new(dir, "serial", devices, "");
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", host.daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    other.accept();
    mute.accept().set_write_timeout(Some(QUIET)).unwrap();
    assert_eq!(other.ask(Operation::Status, "victim"), 0);
    let before = resident();
    let mut seqno = 0;
    // Unread lists, until the daemon stops reading requests.
    loop {
        seqno += 1;
        if mute.line().write_all(&request(Operation::HostList, "", seqno)).is_err() {
            break;
        }
    }
    assert!(seqno > 100, "{seqno}");
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(other.ask(Operation::Status, "victim"), 0);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB");
    // Once the guest reads again, the daemon serves it again.
    let mut reader = mute.line().try_clone().unwrap();
    let drain = std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    until("its requests are read again", LIMIT, || {
        mute.line().write_all(&request(Operation::Status, "victim", 1 << 30)).is_ok()
    });
    drop(host);
    drain.join().unwrap();
}

#[test]
fn a_refused_or_broken_line_is_tried_again_and_all_of_a_vm_are_served() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let (mut first, late) = (Socket::bind(dir.path("first")), dir.path("late"));
    let mut agent = Socket::bind(dir.path("agent"));
    let agents = channel(&agent.path).replace(
        "type='guestfwd' address='10.0.2.179' port='1229'",
        "type='virtio' name='org.qemu.guest_agent.0'",
    );
    let host = SerialHost::new(dir, "vmchannel", channel(&first.path) + &channel(&late) + &agents, "");
    first.accept();
    assert_eq!(first.ask(Operation::Status, "victim"), 0);
    let mut second = Socket::bind(host.dir.path("late"));
    second.accept();
    assert_eq!(second.ask(Operation::Status, "victim"), 0);
    first.hang_up();
    first.accept();
    assert_eq!(first.ask(Operation::Status, "victim"), 0);
    assert!(!agent.is_wanted(QUIET), "the guest agent's socket is libvirt's");
    assert!(host.daemon.stop(LIMIT).success());
    first.await_end();
    second.await_end();
}

#[test]
fn guests_that_flood_take_nobody_elses_fence_and_log_lines() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let names = ["one", "other", "good"];
    let mut sockets = names.map(|name| Socket::bind(dir.path(name)));
    let uuids = [NODE1, NODE2, NODE3];
    let mut vms: Vec<_> =
        (0..3).map(|at| (vm(names[at], uuids[at], RUNNING), serial(&sockets[at].path))).collect();
    vms.push((vm("victim", "44444444-dddd-4444-8444-444444444444", RUNNING), String::new()));
    let uri = node::node_with_devices(&dir, "node.xml", &vms);
    let namespace = Namespace::new();
    let keys = format!("path = \"{}\";", dir.path("").display());
    let groups = "groups { group { uuid = \"one\"; } group { uuid = \"other\"; } \
                  group { uuid = \"good\"; uuid = \"victim\"; } }";
    let daemon = Daemon::builder(&dir, &namespace).start(&conf("serial", &keys, &[uri], groups));
    for socket in &mut sockets {
        socket.accept();
    }
    let [one, other, good] = &mut sockets;
    std::thread::scope(|scope| {
        for (socket, name) in [(one, "one"), (other, "other")] {
            // Together more requests than the duplicate table holds.
            scope.spawn(move || (0..4000).map(|_| socket.ask(Operation::On, name)).max());
        }
    });
    for at in 0..20 {
        assert_eq!(good.ask(Operation::Off, "victim"), 0, "{at}");
    }
    assert!(daemon.log().contains("refused: too many requests within 10 s"), "they flooded");
    daemon.await_log(&format!("good ({NODE3}): off \"victim\": success"));
}

#[test]
fn three_thousand_lines_on_one_listener() {
    require!(root_and_c_suite());
    const LINES: usize = 3000;
    raise_descriptor_limit();
    let dir = Dir::new();
    let mut sockets: Vec<Socket> = (0..LINES).map(|at| Socket::bind(dir.path(&at.to_string()))).collect();
    let uri = node::crowd_with_lines(&dir, "node.xml", sockets.iter().map(|socket| serial(&socket.path)));
    let namespace = Namespace::new();
    let keys = format!("path = \"{}\";", dir.path("").display());
    // The usual soft limit of services: the daemon raises it to the hard limit.
    let builder = Daemon::builder(&dir, &namespace).descriptor_limit(1024);
    let daemon = builder.start(&conf("serial", &keys, &[uri], ""));
    let began = Instant::now();
    for socket in &mut sockets {
        socket.accept();
    }
    eprintln!("{LINES} lines after {:?}", began.elapsed());
    for at in [0, 1023, 1024, 1025, 2047, 2999] {
        assert_eq!(sockets[at].ask(Operation::Status, "vm1500"), 0, "{at}");
        assert_eq!(sockets[at].ask(Operation::Status, "nobody"), 2, "{at}");
    }
    daemon.await_log("3000 running VMs with 3000 serial ports");
    assert!(daemon.stop(LIMIT).success());
}

#[test]
fn a_serial_listener_needs_no_key_and_says_what_it_cannot_have() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    let uri = node::node(&dir, "node.xml", &[vm("asker", NODE1, OFF)]);
    let missing = format!("uri = \"test+unix:///default?socket={}\";", dir.path("none").display());
    let without_path = conf("serial", &missing, std::slice::from_ref(&uri), "");
    let mut daemon = Daemon::builder(&dir, &namespace).spawn(&without_path);
    assert_eq!(daemon.await_exit(LIMIT).code(), Some(1));
    let log = daemon.log();
    assert!(log.contains("serial: cannot connect to test+unix") && log.contains("start with -w"), "{log}");
    // With -w it waits; it needs no key, and reports the missing directory.
    let keys = format!("{missing} path = \"/nowhere/at/all\"; key_file = \"/nowhere/key\";");
    let builder = Daemon::builder(&dir, &namespace).args(&["-w"]);
    let daemon = builder.start(&conf("serial", &keys, &[uri], ""));
    daemon.await_log("directory /nowhere/at/all does not exist");
    assert!(!daemon.log().contains("key"), "{}", daemon.log());
}
