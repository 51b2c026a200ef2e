//! Guests on serial lines that do not read, send one byte a second, or never stop, while another fences.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fence_virt::fence::Operation;

use crate::common::daemon::Daemon;
use crate::common::daemon::conf;
use crate::common::guests::{Socket, request, serial};
use crate::common::net::Namespace;
use crate::common::node::{self, RUNNING, vm};
use crate::common::{Dir, require, root_and_c_suite};
use crate::honest::{Fences, PROMPT, Rhythm, by_line, pause};
use crate::host::{Usage, VICTIMS, assert_clean_log};

/// Time of the attack.
const ATTACK: Duration = Duration::from_secs(20);
/// Time after which buffers have their size.
const WARM_UP: Duration = Duration::from_secs(5);
/// Growth of VmRSS after the warm-up, in KiB.
const GROWTH: u64 = 2048;
/// Bytes of noise a second, and of one write.
const NOISE: usize = 1_000_000;
const PIECE: usize = 10_000;
/// VMs in a list: it is larger than a socket's buffer.
const BYSTANDERS: usize = 3000;

/// Guests that attack, besides the honest one.
const ATTACKERS: [&str; 4] = ["deaf", "sipping", "dripping", "noisy"];

/// Asks for lists, and never reads.
fn is_deaf(socket: &mut Socket, over: &AtomicBool) {
    socket.line().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    for seqno in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        // Its queue is full most of the time.
        let _ = socket.line().write(&request(Operation::HostList, "", seqno));
    }
}

/// Asks for lists, and reads ten bytes at a time, now and then.
fn sips(socket: &mut Socket, over: &AtomicBool) {
    for seqno in 0.. {
        socket.line().write_all(&request(Operation::HostList, "", seqno)).unwrap();
        for _ in 0..100 {
            if over.load(Ordering::Relaxed) {
                return;
            }
            socket.line().read_exact(&mut [0; 10]).unwrap();
            pause(Duration::from_millis(10));
        }
    }
}

/// Sends a request of one byte a second: it stays incomplete for longer than a request may.
fn drips(socket: &mut Socket, over: &AtomicBool) {
    for byte in request(Operation::Off, VICTIMS[1].0, 7) {
        if over.load(Ordering::Relaxed) {
            return;
        }
        socket.line().write_all(&[byte]).unwrap();
        pause(Duration::from_secs(1));
    }
}

/// Noise that looks like the beginning of requests as often as it can.
fn noise() -> Vec<u8> {
    let off = request(Operation::Off, VICTIMS[1].0, 7);
    let pieces: [&[u8]; 7] = [
        &off[..69],
        b"abbaabbaabba",
        b"abba\x01\0abba\x01\0",
        &[0; 200],
        b"\r\nlogin: ",
        &[&b"abba\x01\0"[..], &[b'a'; 63]].concat(),
        &[&b"abba\0\0"[..], &[0; 30], b"abba\0\0"].concat(),
    ];
    // Complete requests are not noise: no piece may complete the one before it.
    let noise: Vec<u8> = pieces.iter().flat_map(|piece| [*piece, b"\n"]).flatten().copied().collect();
    noise.into_iter().cycle().take(PIECE).collect()
}

/// Sends noise at its rate, and returns the number of bytes.
fn roars(socket: &mut Socket, over: &AtomicBool) -> usize {
    let (noise, begin) = (noise(), Instant::now());
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        socket.line().write_all(&noise).unwrap();
        sent += noise.len();
        pause(Duration::from_secs_f64(sent as f64 / NOISE as f64).saturating_sub(begin.elapsed()));
    }
    sent
}

#[test]
fn guests_that_are_slow_or_loud_hold_up_no_other_and_grow_nothing() {
    require!(root_and_c_suite());
    let (dir, namespace) = (Dir::new(), Namespace::new());
    let names = ATTACKERS.map(|name| (name, dir.path(name)));
    let mut sockets = names.map(|(_, path)| Socket::bind(path));
    let mut good = Socket::bind(dir.path("good"));
    let asker = |at: usize, name: &'static str, socket: &Socket| {
        let uuid: &'static str = format!("{at:08x}-bbbb-4bbb-8bbb-bbbbbbbbbbbb").leak();
        (vm(name, uuid, RUNNING), serial(&socket.path))
    };
    let mut vms: Vec<_> = ATTACKERS
        .iter()
        .zip(&sockets)
        .enumerate()
        .map(|(at, (name, socket))| asker(at, name, socket))
        .collect();
    vms.push(asker(99, "good", &good));
    vms.extend(VICTIMS.map(|(name, uuid)| (vm(name, uuid, RUNNING), String::new())));
    let uris = [node::node_with_devices(&dir, "node.xml", &vms), node::crowd(&dir, "crowd.xml", BYSTANDERS)];
    let keys = format!("path = \"{}\"; uri = \"{}\";", dir.path("").display(), uris[0]);
    let daemon = Daemon::builder(&dir, &namespace).start(&conf("serial", &keys, &uris, ""));
    for socket in &mut sockets {
        socket.accept();
    }
    good.accept();
    // Without the second host, failures would be right.
    daemon.await_log("crowd.xml: connected");
    let [deaf, sipping, dripping, noisy] = &mut sockets;
    let over = AtomicBool::new(false);
    let noise = thread::scope(|scope| {
        scope.spawn(|| is_deaf(deaf, &over));
        scope.spawn(|| sips(sipping, &over));
        scope.spawn(|| drips(dripping, &over));
        let noise = scope.spawn(|| roars(noisy, &over));
        let honest = scope.spawn(|| {
            Fences::until(
                &over,
                "serial",
                Rhythm { first: Duration::ZERO, interval: Duration::from_millis(500) },
                |operation| by_line(&mut good, operation, VICTIMS[0].0),
            )
        });
        pause(WARM_UP);
        let before = Usage::of(&daemon);
        pause(ATTACK - WARM_UP);
        let after = Usage::of(&daemon);
        over.store(true, Ordering::Relaxed);
        eprintln!("{before:?}, then {after:?}");
        assert!(after.resident < before.resident + GROWTH, "{before:?}, then {after:?}");
        assert_eq!(after.descriptors, before.descriptors);
        honest.join().unwrap().assert_within(PROMPT);
        noise.join().unwrap()
    });
    eprintln!("{} KB of noise a second", noise / 1000 / ATTACK.as_secs() as usize);
    assert_eq!(good.ask(Operation::Status, VICTIMS[1].0), 0, "nobody fenced it\n{}", daemon.log());
    assert_clean_log(&daemon);
}
