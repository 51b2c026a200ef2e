//! `fence_virtd --explain`, beside a daemon with the same configuration.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use common::daemon::Daemon;
use common::net::GUEST_V4 as GUEST;
use common::node::{NODE1, NODE2, RUNNING, vm};
use common::tcp_host::TcpHost;
use common::{Missing, require};

fn host() -> Result<TcpHost, Missing> {
    TcpHost::new(&[vm("node1", NODE1, RUNNING), vm("node2", NODE2, RUNNING)])
}

#[test]
fn the_daemon_decides_as_it_is_explained() {
    let harness = require!(host());
    let group =
        |lines: &str| format!("group {{ name = \"web\"; ip = \"{GUEST}\"; uuid = \"node1\"; {lines} }}");
    let daemon =
        Daemon::builder(&harness.dir, &harness.pair.host).start(&harness.conf(&harness.uri, &group("")));
    let (code, text) = harness.run(&["--explain", GUEST, NODE1], daemon.conf());
    assert!(code == Some(0) && text.ends_with("\nallowed\n"), "{text}");
    assert_eq!(harness.code("off", NODE1), 0);
    let (code, text) = harness.run(&["--explain", GUEST, "node2"], daemon.conf());
    assert!(code == Some(1) && text.ends_with("\ndenied\n"), "{text}");
    assert_ne!(harness.code("off", "node2"), 0);
    // The line that it names, where it names it.
    let (_, advice) = text.split_once("to allow it, add to group \"web\" (number 1 of the file):\n").unwrap();
    let line = advice.lines().next().unwrap().trim();
    assert_eq!(line, format!("uuid = \"{NODE2}\";"));
    daemon.reload(&harness.dir, &harness.conf(&harness.uri, &group(line)));
    let (code, text) = harness.run(&["--explain", GUEST, "node2"], daemon.conf());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(harness.code("off", "node2"), 0);
}

#[test]
fn without_libvirt_it_says_what_it_cannot_tell() {
    let harness = require!(host());
    let group = format!("group {{ ip = \"{GUEST}\"; uuid = \"node1\"; }}");
    let conf = harness.dir.write("f.conf", &harness.conf("test:///nonexistent/node.xml", &group));
    let (code, text) = harness.run(&["--explain", GUEST, "node1"], &conf);
    assert!(
        code == Some(0) && text.contains("libvirt: test:///nonexistent/node.xml cannot be asked"),
        "{text}"
    );
    let (code, text) = harness.run(&["--explain", GUEST, NODE1], &conf);
    assert!(code == Some(2) && text.contains("by another name, or by its UUID"), "{text}");
    let (code, text) = harness.run(&["--explain", GUEST, "node1"], &harness.dir.path("none.conf"));
    assert!(code == Some(2) && text.contains("cannot read the configuration"), "{text}");
    let (code, text) = harness.run(&["--explain", "cid:x", "node1"], &conf);
    assert!(code == Some(2) && text.contains("is not a CID"), "{text}");
    // Names from outside change no terminal.
    let (_, text) = harness.run(&["--explain", GUEST, "a\u{1b}[2J\u{202e}"], &conf);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
}

#[test]
fn uris_of_the_backend_and_of_a_listener_are_asked_at_once() {
    let harness = require!(host());
    // libvirtds that hang: each takes a connection and says nothing.
    let [one, two] = ["one", "two"].map(|name| harness.dir.path(name));
    let _hang = [&one, &two].map(|path| UnixListener::bind(path).unwrap());
    let [one, two] = [one, two].map(|path| format!("test+unix:///default?socket={}", path.display()));
    let group = format!("group {{ ip = \"{GUEST}\"; uuid = \"{NODE1}\"; }}");
    let serial = format!("listeners {{ serial {{ path = \"/tmp\"; uri = \"{two}\"; }}");
    let conf = harness.conf(&one, &group).replacen("listeners {", &serial, 1).replacen(
        "\"tcp\"",
        "\"tcp, serial\"",
        1,
    );
    let conf = harness.dir.write("f.conf", &conf);
    let began = Instant::now();
    let (code, text) = harness.run(&["--explain", GUEST, "node1"], &conf);
    let took = began.elapsed();
    assert_eq!(code, Some(2), "{text}");
    for uri in [one, two] {
        assert!(text.contains(&format!("{uri} cannot be asked: no answer within 5 s")), "{text}");
    }
    assert!((Duration::from_secs(5)..Duration::from_secs(10)).contains(&took), "{took:?}");
}
