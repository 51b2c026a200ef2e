//! Honest clients of each listener that fence while the others of the host flood all of them.

use std::io;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clients::{LIMIT, SHA, client};
use crate::common::agent::{Agent, AgentTransport, Programs};
use crate::common::client::packet;
use crate::common::daemon::Daemon;
use crate::common::net::{HOST_V4, HOST_V6};
use crate::common::{Missing, Suite, met, require, skip};
use crate::floods::Conduct::{Asking, Mixed};
use crate::floods::{
    CONNECTIONS, DATAGRAMS, beside_the_honest, elsewhere, flood_connections, flood_datagrams,
    own_many_addresses,
};
use crate::honest::{Fences, PROMPT, Rhythm, TIMEOUT, by_agent, by_line, pause};
use crate::host::{AttackedHost, Usage, VICTIMS, assert_clean_log, guest, tcp4, tcp6};
use fence_virt::fence::Operation;

/// Time of the flood over all listeners.
const MINUTE: Duration = Duration::from_secs(60);
/// Time after which the daemon's buffers and tables have their size.
const WARM_UP: Duration = Duration::from_secs(15);
/// Time of the flood from one /64.
const SHORT: Duration = Duration::from_secs(15);
/// Time between the request of a slow client and its challenge.
const SLOW: Duration = Duration::from_millis(1500);
/// Minimum share of the floods' rates that a busy machine has to reach, in percent.
const REACHED: u64 = 10;

/// Growth of VmRSS after the warm-up, in KiB.
const GROWTH: u64 = 2048;
/// Threads: one of each listener, watcher, connection manager and lane, and a few more.
const THREADS: u64 = 32;
/// Descriptors: 256 sessions of each of four listeners, and 100.
const DESCRIPTORS: u64 = 4 * 256 + 100;
/// Lines of the log that one listener may write in a minute: bursts, then the rates of its limits.
const LINES: usize = 5 * 2000;

/// Port of the vsock listener: vsock(7) knows no namespaces.
fn vsock_port() -> u32 {
    40_000 + std::process::id() % 20_000
}

/// Requirement: vsock connections of this machine to itself.
fn vsock_loopback() -> Result<(), Missing> {
    let why = "it needs vsock's loopback (modprobe vsock_loopback)";
    let soon = fence_virt::time::Instant::now() + Duration::from_secs(1);
    let Ok(_listener) = fence_virt::sys::vsock::listen(vsock_port()) else { return met(false, why) };
    met(fence_virt::sys::vsock::connect(1, vsock_port(), soon).is_ok(), why)
}

/// True if the vsock listener takes part. Few machines have the loopback, so its lack never fails.
fn has_vsock() -> bool {
    let Err(Missing(why)) = vsock_loopback() else { return true };
    if std::env::var("FENCE_SKIP").as_deref() != Ok("fail") {
        skip("a_flood_of_all_listeners_starves_no_fence_and_grows_nothing, its vsock part", &why);
    }
    false
}

fn by_vsock(programs: &Programs, host: &AttackedHost, operation: &str) -> Result<(), String> {
    let mut agent = Command::new(&programs.virt);
    agent.args([
        "-S1",
        "-p",
        &vsock_port().to_string(),
        "-t",
        &TIMEOUT.to_string(),
        "-o",
        operation,
        "-n",
        VICTIMS[4].0,
    ]);
    let output = agent.arg("-k").arg(host.dir.path("key")).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
}

#[test]
fn a_flood_of_all_listeners_starves_no_fence_and_grows_nothing() {
    let (host, mut line) = require!(AttackedHost::with_line());
    host.own(&[66, 67]);
    own_many_addresses(&host.pair);
    let (programs, key) = (Programs::of(Suite::Ours, &host.dir), host.dir.path("key"));
    let has_vsock = has_vsock();
    let mut listeners = vec![
        host.listener("tcp", &format!("address = \"{HOST_V4}\";")),
        host.listener("tcp:six", &format!("address = \"{HOST_V6}\";")),
        host.listener("multicast", "interface = \"eth0\";"),
        host.serial(),
    ];
    if has_vsock {
        listeners.push(host.listener("vsock", &format!("port = \"{}\";", vsock_port())));
    }
    let daemon = host.start(&host.conf(&listeners, ""));
    line.accept();

    let [four, six, datagrams] = &[0; 3].map(AtomicU64::new);
    let over = &AtomicBool::new(false);
    let fences = |name, way, victim: u32| {
        let agent = Agent { timeout: TIMEOUT, ..Agent::new(&programs, &host.pair.guest, way, &key) };
        let vm = VICTIMS[victim as usize].0;
        Fences::until(over, name, Rhythm::of(victim), |operation| by_agent(&agent, operation, vm))
    };
    let fences = &fences;
    thread::scope(|scope| {
        let guests = &host.pair.guest;
        scope.spawn(|| guests.inside(|| flood_connections(over, four, Mixed, tcp4(), |_| guest(66))));
        scope.spawn(|| guests.inside(|| flood_connections(over, six, Mixed, tcp6(), elsewhere)));
        scope.spawn(|| guests.inside(|| flood_datagrams(over, datagrams)));
        let mut honest = vec![
            scope.spawn(|| fences("tcp", AgentTransport::Tcp(HOST_V4), 0)),
            scope.spawn(|| fences("tcp:six", AgentTransport::Tcp(HOST_V6), 1)),
            scope.spawn(|| fences("multicast", AgentTransport::Multicast("ipv4"), 2)),
            scope.spawn(|| {
                let fence = |operation: &'static str| by_line(&mut line, operation, VICTIMS[3].0);
                Fences::until(over, "serial", Rhythm::of(3), fence)
            }),
        ];
        if has_vsock {
            let fence = |operation: &'static str| by_vsock(&programs, &host, operation);
            honest.push(scope.spawn(move || Fences::until(over, "vsock", Rhythm::of(4), fence)));
        }
        let usage = watch(&daemon);
        over.store(true, Ordering::Relaxed);
        for fences in honest {
            fences.join().unwrap().assert_within(PROMPT);
        }
        assert_flat(&usage);
    });
    assert_reached(datagrams, DATAGRAMS, MINUTE, "datagrams");
    assert_reached(four, CONNECTIONS, MINUTE, "connections over IPv4");
    assert_reached(six, CONNECTIONS, MINUTE, "connections over IPv6");
    assert_clean_log(&daemon);
    let lines = daemon.log().lines().count();
    eprintln!("{lines} lines of the log");
    assert!(lines < LINES, "{lines} lines");
}

/// Usage in each second of the minute, after the warm-up.
fn watch(daemon: &Daemon) -> Vec<Usage> {
    pause(WARM_UP);
    let seconds = (MINUTE - WARM_UP).as_secs();
    let usage = |_| {
        pause(Duration::from_secs(1));
        Usage::of(daemon)
    };
    (0..seconds).map(usage).collect()
}

fn assert_flat(usage: &[Usage]) {
    let (first, last) = (usage[0], usage[usage.len() - 1]);
    let most = |figure: fn(&Usage) -> u64| usage.iter().map(figure).max().unwrap();
    let resident = most(|usage| usage.resident);
    let (threads, descriptors) = (most(|usage| usage.threads), most(|usage| usage.descriptors));
    eprintln!(
        "{first:?}, then {last:?}; at most {resident} KiB, {threads} threads, {descriptors} descriptors"
    );
    assert!(resident < first.resident + GROWTH, "{} KiB, then {resident} KiB", first.resident);
    assert!(threads <= THREADS, "{threads} threads");
    assert!(descriptors <= DESCRIPTORS, "{descriptors} descriptors");
}

/// Asserts that a flood was one.
fn assert_reached(sent: &AtomicU64, rate: u32, time: Duration, name: &str) {
    let sent = sent.load(Ordering::Relaxed);
    eprintln!("{name}: {} a second", sent / time.as_secs());
    assert!(sent * 100 >= u64::from(rate) * time.as_secs() * REACHED, "{name}: only {sent}: no flood");
}

/// Fences as a client over a slow network.
fn slow_fence(operation: &str) -> io::Result<()> {
    let operation = if operation == "off" { Operation::Off } else { Operation::On };
    let mut slow = client(tcp6());
    slow.send(&packet(operation, VICTIMS[2].0, SHA))?;
    pause(SLOW);
    slow.authenticate()?;
    let verdict = slow.verdict()?;
    if verdict == 0 { Ok(()) } else { Err(io::Error::other(format!("verdict {verdict}"))) }
}

/// Clients from this source flood a listener over IPv6, and use up what one origin may ask for. An
/// honest client fences, one that is slow completes its request.
fn assert_unharmed_beside(source: fn(u32) -> IpAddr) {
    let host = AttackedHost::new().unwrap();
    own_many_addresses(&host.pair);
    let (programs, key) = (Programs::of(Suite::Ours, &host.dir), host.dir.path("key"));
    let daemon = host.start(&host.conf(&[host.listener("tcp", &format!("address = \"{HOST_V6}\";"))], ""));
    let way = AgentTransport::Tcp(HOST_V6);
    let agent = Agent { timeout: TIMEOUT, ..Agent::new(&programs, &host.pair.guest, way, &key) };
    let (over, sent) = (&AtomicBool::new(false), &AtomicU64::new(0));
    thread::scope(|scope| {
        for conduct in [Mixed, Asking] {
            let flood = move || flood_connections(over, sent, conduct, tcp6(), source);
            let guests = &host.pair.guest;
            scope.spawn(move || guests.inside(flood));
        }
        let honest = scope.spawn(|| {
            Fences::until(over, "tcp6", Rhythm::of(0), |operation| by_agent(&agent, operation, VICTIMS[1].0))
        });
        let slow = scope.spawn(|| {
            host.pair.guest.inside(|| {
                let slow = |operation: &'static str| slow_fence(operation).map_err(|error| error.to_string());
                Fences::until(over, "a slow client", Rhythm::of(1), slow)
            })
        });
        pause(SHORT);
        over.store(true, Ordering::Relaxed);
        honest.join().unwrap().assert_within(PROMPT);
        slow.join().unwrap().assert_within(SLOW + PROMPT);
    });
    assert_reached(sent, 2 * CONNECTIONS, SHORT, "connections");
    assert!(daemon.log().contains("to make room"), "{}", daemon.log());
    assert!(daemon.stop(LIMIT).success());
}

#[test]
fn a_flood_from_another_64_harms_nobody() {
    require!(AttackedHost::new());
    assert_unharmed_beside(elsewhere);
}

#[test]
fn a_flood_from_the_clients_own_64_harms_nobody() {
    require!(AttackedHost::new());
    assert_unharmed_beside(beside_the_honest);
}
