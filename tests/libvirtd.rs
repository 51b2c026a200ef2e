//! libvirtd that dies, freezes, starts late or keeps restarting: no request is
//! answered with a false success or off, or waits without a limit, and the
//! daemon reconnects.
//!
//! Each test starts a libvirtd with libvirt's test driver.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::agent::{Agent, AgentTransport, Programs};
use common::daemon::{Daemon, DaemonBuilder, auth_keys, conf};
use common::libvirtd::{Libvirtd, TEST_VM, libvirtd_installed};
use common::load::{KEEPALIVE, Load, LoadRequest, ask, begin};
use common::net::Namespace;
use common::node::{NODE1, NODE2, NODE3, RUNNING, Vm, vm};
use common::{Dir, Missing, require, root_and_c_suite, until};
use fence_virt::fence::Operation;
use nix::sys::signal::Signal;

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const OFF: u8 = 2;

/// Limit of an answer that waits for nothing: 2 s of devstatus, and a margin
/// for a busy host.
const PROMPT: Duration = Duration::from_secs(3);
/// Limit of failures after libvirtd is back. The connection manager retries at least every 5 s.
const RECOVERY: Duration = Duration::from_secs(15);
/// Limit of a stop: 5 s of grace, 2 s for hanging threads, and a margin.
const STOP: Duration = Duration::from_secs(8);

/// Directory with a key, and the network namespace of libvirtd and the daemon.
struct LibvirtdHarness {
    dir: Dir,
    namespace: Namespace,
}

impl LibvirtdHarness {
    fn new() -> Result<LibvirtdHarness, Missing> {
        root_and_c_suite()?;
        libvirtd_installed()?;
        let harness = LibvirtdHarness { dir: Dir::new(), namespace: Namespace::new() };
        harness.dir.key("key", b'k');
        Ok(harness)
    }

    /// Runs a test on a thread inside the namespace.
    fn run(&self, body: impl FnOnce(&LibvirtdHarness) + Send) {
        self.namespace.inside(|| body(self));
    }

    fn builder(&self) -> DaemonBuilder<'_> {
        Daemon::builder(&self.dir, &self.namespace)
    }

    fn libvirtd(&self) -> Libvirtd<'_> {
        Libvirtd::started(&self.dir, &self.namespace, "lv")
    }

    fn conf(&self, libvirtds: &[&Libvirtd]) -> String {
        let keys =
            format!("address = \"127.0.0.1\"; {}", auth_keys(&self.dir.path("key"), "sha256", "sha256"));
        let uris: Vec<String> = libvirtds.iter().map(|libvirtd| libvirtd.uri()).collect();
        conf("tcp", &keys, &uris, "")
    }

    fn daemon(&self, libvirtds: &[&Libvirtd]) -> Daemon {
        self.builder().start(&self.conf(libvirtds))
    }

    /// Runs the C agent, asserts that it exits within `limit`, and returns its exit code.
    fn agent(&self, limit: Duration, operation: &str, vm: &str) -> i32 {
        let key = self.dir.path("key");
        let programs = Programs::deployed();
        let agent = Agent {
            timeout: 30,
            ..Agent::new(&programs, &self.namespace, AgentTransport::Tcp("127.0.0.1"), &key)
        };
        let began = Instant::now();
        let code = agent.code(operation, vm);
        let took = began.elapsed();
        eprintln!("{operation} {vm}: {code} after {took:?}");
        assert!(took < limit, "{operation} {vm}: {code}, but after {took:?}");
        code
    }

    /// Exit codes of the C agent, each within [`PROMPT`].
    fn prompt<const N: usize>(&self, requests: [(&str, &str); N]) -> [i32; N] {
        requests.map(|(operation, vm)| self.agent(PROMPT, operation, vm))
    }

    /// Waits until the status of [`TEST_VM`] is success, and returns how long it took.
    fn await_success(&self) -> Duration {
        let began = Instant::now();
        until("requests succeed again", RECOVERY, || ask(Operation::Status, TEST_VM).ok() == Some(SUCCESS));
        began.elapsed()
    }
}

const LOAD_VM: &str = "load";
const VICTIM: &str = "victim";
const VICTIM2: &str = "victim2";

fn vms() -> [Vm; 3] {
    [vm(LOAD_VM, NODE1, RUNNING), vm(VICTIM, NODE2, RUNNING), vm(VICTIM2, NODE3, RUNNING)]
}

/// Status of a VM that always runs: any "off" is false.
const STATUS: &[(Operation, &str)] = &[(Operation::Status, TEST_VM)];
const POWER: &[(Operation, &str)] = &[(Operation::Off, LOAD_VM), (Operation::On, LOAD_VM)];

/// Asserts that no answer is a false "off", nor "off" to a request other than status.
fn assert_never_off(asked: &[LoadRequest]) {
    let may_be_off = |asked: &LoadRequest| asked.operation == Operation::Status && asked.vm != TEST_VM;
    let false_off = asked.iter().find(|asked| asked.verdict == Ok(OFF) && !may_be_off(asked));
    assert!(false_off.is_none(), "{false_off:?}");
}

#[test]
fn a_killed_libvirtd_is_failure_and_a_new_one_is_found() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let mut libvirtd = harness.libvirtd();
        let daemon = harness.daemon(&[&libvirtd]);
        let requests =
            [("status", TEST_VM), ("off", TEST_VM), ("reboot", TEST_VM), ("monitor", ""), ("list", "")];
        assert_eq!(harness.prompt([("status", TEST_VM), ("monitor", ""), ("list", "")]), [0, 0, 0]);
        for _ in 0..2 {
            libvirtd.kill();
            assert_eq!(harness.prompt(requests), [1, 1, 1, 1, 1]);
            // A slow restart: the connection manager has failed to connect.
            daemon.await_log("cannot connect");
            assert_eq!(harness.prompt(requests), [1, 1, 1, 1, 1]);
            libvirtd.start();
            eprintln!("back {:?} after the restart", harness.await_success());
            assert_eq!(harness.prompt([("monitor", ""), ("off", TEST_VM), ("status", TEST_VM)]), [0, 0, 2]);
            assert_eq!(harness.prompt([("on", TEST_VM), ("list", "")]), [0, 0]);
        }
        assert!(daemon.stop(PROMPT).success());
    });
}

#[test]
fn a_frozen_libvirtd_is_failure_and_nothing_is_made_up_for_after_the_thaw() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let libvirtd = harness.libvirtd();
        let _holder = libvirtd.hold(&vms());
        let daemon = harness.daemon(&[&libvirtd]);
        let runs = [VICTIM, VICTIM2].map(|vm| libvirtd.run_of(vm));
        let load = Load::start(&[STATUS, STATUS, STATUS, POWER, POWER]);

        libvirtd.freeze();
        let frozen = Instant::now();
        // While the worker is in a blocked call: one client waits, one gives up.
        let mut patient = begin(Operation::Off, VICTIM).unwrap();
        drop(begin(Operation::Reboot, VICTIM2).unwrap());
        assert_eq!(patient.verdict().unwrap(), FAILURE);
        assert!(frozen.elapsed() < KEEPALIVE, "{:?}", frozen.elapsed());
        let unblocked = load.first_failure_after(frozen).unwrap_or_else(Instant::now).max(frozen);
        eprintln!("frozen: answers after {:?}", unblocked - frozen);

        // Afterwards no request waits for the frozen libvirtd.
        let requests =
            [("status", TEST_VM), ("off", VICTIM), ("reboot", VICTIM2), ("monitor", ""), ("list", "")];
        assert_eq!(harness.prompt(requests), [1, 1, 1, 1, 1]);
        drop(begin(Operation::Off, VICTIM).unwrap());
        drop(begin(Operation::Reboot, VICTIM2).unwrap());
        load.await_answers(3);
        let thawing = Instant::now();

        libvirtd.thaw();
        eprintln!("back {:?} after the thaw", harness.await_success());
        load.await_answers(10);
        assert_eq!(harness.prompt([("status", VICTIM), ("monitor", ""), ("off", LOAD_VM)]), [0, 0, 0]);
        let asked = load.stop();

        // No VM was fenced after its client received failure or hung up.
        assert_eq!([VICTIM, VICTIM2].map(|vm| libvirtd.run_of(vm)), runs);
        assert_never_off(&asked);
        let ended =
            |asked: &&LoadRequest| asked.began + asked.took < thawing && asked.began + asked.took > frozen;
        let meanwhile: Vec<&LoadRequest> = asked.iter().filter(ended).collect();
        for asked in meanwhile.iter().filter(|asked| asked.began > frozen) {
            assert_eq!(asked.verdict, Ok(FAILURE), "{asked:?}");
            let limit = if asked.began > unblocked { PROMPT } else { KEEPALIVE };
            assert!(asked.took < limit, "{asked:?}");
        }
        let slowest = |late: bool| {
            let which = |asked: &&&LoadRequest| (asked.began > unblocked) == late;
            meanwhile.iter().filter(which).map(|asked| asked.took).max()
        };
        eprintln!(
            "slowest: {:?} at the freeze, {:?} later of {}",
            slowest(false),
            slowest(true),
            meanwhile.len()
        );
        assert!(slowest(false).is_some_and(|took| took < KEEPALIVE));
        assert!(daemon.stop(PROMPT).success());
    });
}

#[test]
fn a_request_behind_the_probe_of_a_frozen_libvirtd_is_failure_too() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let libvirtd = harness.libvirtd();
        let _holder = libvirtd.hold(&vms());
        let daemon = harness.daemon(&[&libvirtd]);
        let run = libvirtd.run_of(VICTIM);
        assert_eq!(harness.prompt([("status", VICTIM)]), [0]);

        libvirtd.freeze();
        let frozen = Instant::now();
        // The connection manager probes first; its probe is not overdue when the worker starts.
        let mut monitor = begin(Operation::Devstatus, "").unwrap();
        let mut off = begin(Operation::Off, VICTIM).unwrap();
        for client in [&mut off, &mut monitor] {
            assert_eq!(client.verdict().unwrap(), FAILURE);
            eprintln!("answered after {:?}", frozen.elapsed());
            assert!(frozen.elapsed() < KEEPALIVE);
        }
        assert_eq!(harness.prompt([("status", VICTIM), ("off", VICTIM), ("monitor", "")]), [1, 1, 1]);

        libvirtd.thaw();
        eprintln!("back {:?} after the thaw", harness.await_success());
        assert_eq!(libvirtd.run_of(VICTIM), run);
        assert!(daemon.stop(PROMPT).success());
    });
}

#[test]
fn a_short_freeze_does_not_bring_back_who_gave_up() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let libvirtd = harness.libvirtd();
        let _holder = libvirtd.hold(&vms());
        let daemon = harness.builder().args(&["-d1"]).start(&harness.conf(&[&libvirtd]));
        let vms = [LOAD_VM, VICTIM, VICTIM2];
        let runs = vms.map(|vm| libvirtd.run_of(vm));
        assert_eq!(harness.prompt(vms.map(|vm| ("status", vm))), [0, 0, 0]);

        libvirtd.freeze();
        // The worker looks up the first VM; the other requests are queued.
        let requests = [(Operation::Off, vms[0]), (Operation::Off, vms[1]), (Operation::Reboot, vms[2])];
        let clients = requests.map(|(operation, vm)| begin(operation, vm).unwrap());
        // Else the listener may see the hang-up before it passes the request on.
        let passed_on = || daemon.log().matches("the client has proven itself").count() >= 6;
        until("the worker has the requests", PROMPT, passed_on);
        drop(clients);
        until("the clients have hung up", PROMPT, || daemon.log().matches("hung up").count() >= 3);
        libvirtd.thaw();

        assert_eq!(harness.prompt(vms.map(|vm| ("status", vm))), [0, 0, 0]);
        assert_eq!(vms.map(|vm| libvirtd.run_of(vm)), runs);
        daemon.await_log("the client hung up first");
        assert!(daemon.stop(PROMPT).success());
    });
}

#[test]
fn sigterm_ends_the_daemon_though_libvirtd_is_frozen() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let libvirtd = harness.libvirtd();
        let _holder = libvirtd.hold(&vms());
        let daemon = harness.daemon(&[&libvirtd]);
        let run = libvirtd.run_of(VICTIM);
        let load = Load::start(&[STATUS, STATUS, POWER]);

        libvirtd.freeze();
        let frozen = Instant::now();
        let mut victim = begin(Operation::Off, VICTIM).unwrap();
        let status = daemon.stop(STOP);
        eprintln!("ended after {:?}", frozen.elapsed());
        assert!(status.success(), "{status:?}");
        // The daemon answers failure, or hangs up.
        assert_eq!(victim.verdict().unwrap_or(FAILURE), FAILURE);
        let asked = load.stop();
        assert_never_off(&asked);
        let late: Vec<_> =
            asked.iter().filter(|asked| asked.began > frozen && asked.verdict == Ok(SUCCESS)).collect();
        assert!(late.is_empty(), "{late:?}");

        libvirtd.thaw();
        assert_eq!(libvirtd.run_of(VICTIM), run);
    });
}

#[test]
fn one_frozen_uri_does_not_keep_the_other_from_fencing() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let started = |name| Libvirtd::started(&harness.dir, &harness.namespace, name);
        let (bad, good) = (started("bad"), started("good"));
        let _holders = [bad.hold(&[vm("away", NODE1, RUNNING)]), good.hold(&[vm("here", NODE2, RUNNING)])];
        let daemon = harness.daemon(&[&bad, &good]);
        let run = bad.run_of("away");
        assert_eq!(harness.prompt([("status", "here"), ("status", "away"), ("status", "nobody")]), [0, 0, 2]);

        bad.freeze();
        assert_eq!(harness.agent(KEEPALIVE, "off", "here"), 0);
        assert_eq!(good.run_of("here"), "-");
        // Off at one URI does not mean off at the other: the VM may have moved.
        assert_eq!(harness.prompt([("status", "here"), ("on", "here"), ("off", "here")]), [1, 1, 1]);
        assert_eq!(harness.prompt([("reboot", "here"), ("monitor", ""), ("list", "")]), [1, 0, 0]);
        // VMs that are or may be at the frozen URI are neither off nor fenced. Both URIs have a VM `test`.
        for vm in ["away", "nobody", TEST_VM] {
            let expected = if vm == TEST_VM { SUCCESS } else { FAILURE };
            assert_eq!(harness.agent(PROMPT, "status", vm), i32::from(expected), "{vm}");
            assert_eq!(harness.prompt([("off", vm), ("reboot", vm), ("status", vm)]), [1, 1, 1], "{vm}");
        }

        bad.thaw();
        until("both are asked again", RECOVERY, || ask(Operation::Status, "nobody").ok() == Some(OFF));
        assert_eq!(bad.run_of("away"), run);
        assert_eq!(harness.prompt([("off", "away"), ("off", TEST_VM), ("status", "away")]), [0, 0, 2]);

        // Without requests only the connection manager hangs.
        bad.freeze();
        let status = daemon.stop(STOP);
        assert!(status.success(), "{status:?}");
    });
}

#[test]
fn a_start_without_libvirtd_fails_unless_it_is_to_wait() {
    require!(LibvirtdHarness::new()).run(|harness| {
        let mut libvirtd = Libvirtd::new(&harness.dir, &harness.namespace, "lv");
        let conf = harness.conf(&[&libvirtd]);
        let mut daemon = harness.builder().spawn(&conf);
        assert_eq!(daemon.await_exit(PROMPT).code(), Some(1));
        assert!(daemon.log().contains(&libvirtd.uri()), "{}", daemon.log());

        let daemon = harness.builder().args(&["-w"]).start(&conf);
        assert_eq!(harness.prompt([("status", TEST_VM), ("off", TEST_VM), ("monitor", "")]), [1, 1, 1]);
        daemon.await_log(&libvirtd.uri());
        libvirtd.start();
        eprintln!("back {:?} after the start", harness.await_success());
        assert_eq!(harness.prompt([("off", TEST_VM), ("status", TEST_VM), ("monitor", "")]), [0, 2, 0]);
        assert!(daemon.stop(PROMPT).success());
    });
}

/// Numbers of descriptors and threads of a process.
fn holdings(daemon: &Daemon) -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().count();
    (count("fd"), count("task"))
}

#[test]
fn restarts_under_load_leave_nothing_behind_and_nobody_is_off() {
    const RESTARTS: usize = 8;
    require!(LibvirtdHarness::new()).run(|harness| {
        let mut libvirtd = harness.libvirtd();
        let daemon = harness.daemon(&[&libvirtd]);
        assert_eq!(ask(Operation::Status, TEST_VM).unwrap(), SUCCESS);
        let before = holdings(&daemon);

        let load = Load::start(&[STATUS, STATUS, STATUS, STATUS]);
        for at in 0..RESTARTS {
            libvirtd.end(if at % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM });
            load.await_answers(2);
            libvirtd.start();
            eprintln!("back {:?} after restart {at}", harness.await_success());
            load.await_answers(2);
        }
        let asked = load.stop();
        let count = |verdict| asked.iter().filter(|asked| asked.verdict == Ok(verdict)).count();
        let (yes, no) = (count(SUCCESS), count(FAILURE));
        eprintln!("{yes} success, {no} failure");
        assert_eq!(yes + no, asked.len(), "and never off, nor no answer at all");
        assert!(no >= RESTARTS, "it was noticed that libvirtd was away");
        let slowest = asked.iter().map(|asked| asked.took).max();
        assert!(slowest < Some(PROMPT), "{slowest:?}");

        // The connection manager closes dead connections at its next probe, after 2 s; one of each may be pending.
        let slack = RESTARTS / 4;
        until(&format!("no more than {before:?} are left"), KEEPALIVE, || {
            let (descriptors, threads) = holdings(&daemon);
            descriptors <= before.0 + slack && threads <= before.1 + slack
        });
        eprintln!("descriptors and threads: {before:?}, later {:?}", holdings(&daemon));
        assert!(daemon.stop(PROMPT).success());
    });
}
