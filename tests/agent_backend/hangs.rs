//! Agents that do not end, and what is left of them.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use fence_virt::auth::HashKind;
use fence_virt::fence::Operation::{Off, Status};

use crate::common::client::packet;
use crate::common::daemon::Daemon;
use crate::common::{require, until};
use crate::fake::{AgentBench, FAILURE, FakeAgent, LIMIT, SUCCESS};

/// Shell commands of an agent that notes its process and one of its group, and goes on for ever.
const HANGS: &str = "sleep 1000 & echo $! >>pids; echo $$ >>pids; wait";
/// The same, with no ear for SIGTERM.
const STUBBORN: &str =
    "trap '' TERM; sleep 1000 & echo $! >>pids; echo $$ >>pids; while :; do wait; sleep 1000; done";

/// State and parent of a process, unless it is gone.
fn process(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// True if a process runs, or is a zombie that the daemon has not reaped. Those of others are not its affair.
fn is_left(pid: u32, daemon: u32) -> bool {
    process(pid).is_some_and(|(state, parent)| !matches!(state, 'Z' | 'X') || parent == daemon)
}

/// Processes whose parent this is.
fn children(of: u32) -> Vec<u32> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| process(*pid).is_some_and(|(_, parent)| parent == of)).collect()
}

/// Number of the daemon's pipes and descriptors of processes.
fn descriptors(daemon: &Daemon) -> usize {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let links = entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok());
    links.filter(|link| link.starts_with("pipe:") || link.contains("pidfd")).count()
}

/// Asserts that nothing is left of an agent's calls.
fn assert_nothing_left(agent: &FakeAgent, daemon: u32) {
    let pids = agent.numbers("pids");
    assert!(pids.len() >= 2);
    until("its processes are gone", Duration::from_secs(5), || pids.iter().all(|pid| !is_left(*pid, daemon)));
}

#[test]
fn an_agent_that_hangs_is_ended_and_holds_up_nobody_else() {
    let bench = require!(AgentBench::new());
    let (a, b) = (FakeAgent::new(&bench.dir), FakeAgent::new(&bench.dir));
    b.write("list", "200,mail\n");
    b.set("200", "on");
    let sections = a.section("a", "timeout = \"2\";") + &b.section("b", "timeout = \"2\";");
    let daemon = bench.start(&bench.conf("agent", &sections, ""));
    assert_eq!([bench.ask(Status, "web"), bench.ask(Status, "mail")], [SUCCESS; 2]);
    let idle = || children(daemon.pid()).is_empty();
    until("it is idle", LIMIT, idle);
    let before = descriptors(&daemon);
    for (commands, limit) in [(HANGS, 3500), (STUBBORN, 5500)] {
        let _ = fs::remove_file(a.path("pids"));
        a.hook("status", &format!("[ $plug != 100 ] || {{ {commands}; }}"));
        let began = Instant::now();
        std::thread::scope(|scope| {
            let hung = scope.spawn(|| bench.ask(Off, "web"));
            until("it hangs", LIMIT, || a.numbers("pids").len() == 2);
            a.set("101", "on");
            b.set("200", "on");
            assert_eq!(
                [bench.ask(Off, "db"), bench.ask(Off, "mail"), bench.ask(Status, "nobody")],
                [SUCCESS, SUCCESS, FAILURE]
            );
            assert!(began.elapsed() < Duration::from_millis(1900), "meanwhile: {:?}", began.elapsed());
            assert!(!hung.is_finished());
            assert_eq!(hung.join().unwrap(), FAILURE);
        });
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_millis(limit), "{elapsed:?}");
        assert_nothing_left(&a, daemon.pid());
    }
    daemon.await_log("status of \"100\" failed (no end within 2 s)");
    until("it is idle", LIMIT, idle);
    until("no descriptor is left", LIMIT, || descriptors(&daemon) == before);
    assert!(!daemon.log().contains("off \"web\": success"));
    assert_eq!(a.count("off"), 2, "of the other VM");
}

#[test]
fn what_an_agent_says_after_its_time_does_not_count() {
    let bench = require!(AgentBench::new());
    let (agent, daemon) = bench.with_one("timeout = \"1\";");
    agent.hook("status", "trap 'echo TERM >>got; exit 2' TERM; sleep 1000 & wait");
    assert_eq!([bench.ask(Off, "web"), bench.ask(Status, "web")], [FAILURE; 2]);
    assert_eq!(agent.text("got"), "TERM\nTERM\n");
    agent.hook("status", "");
    // An off that hangs is repeated as long as somebody waits, and no success while the VM runs.
    agent.hook("off", "trap 'exit 0' TERM; sleep 1000 & wait");
    let mut client = bench.client();
    client.stream.set_read_timeout(Some(Duration::from_millis(4000))).unwrap();
    assert!(client.ask(&packet(Off, "web", HashKind::Sha256)).is_err());
    assert!(agent.count("off") >= 2, "{:?}", agent.calls());
    drop(client);
    until("nobody waits", LIMIT, || children(daemon.pid()).is_empty());
    assert!(!daemon.log().contains("off \"web\": success"));
}

#[test]
fn a_stop_during_a_call_leaves_no_process() {
    let bench = require!(AgentBench::new());
    for (hook, is_started) in [("status", true), ("metadata", false), ("monitor", false)] {
        let agent = FakeAgent::new(&bench.dir);
        agent.hook(hook, STUBBORN);
        let conf = bench.conf("agent", &agent.section("", ""), "");
        let (began, daemon_id) = std::thread::scope(|scope| {
            let mut daemon = Daemon::builder(&bench.dir, &bench.namespace).spawn(&conf);
            if is_started {
                daemon.await_ready();
                scope.spawn(|| bench.client().ask(&packet(Off, "web", HashKind::Sha256)));
            }
            until("the call is made", LIMIT, || agent.numbers("pids").len() >= 2);
            let began = Instant::now();
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.await_exit(LIMIT).success(), "{}", daemon.log());
            assert!(!daemon.log().contains("panic") && !daemon.log().contains("success"));
            (began, daemon.pid())
        });
        // Requests in flight have 5 s.
        let limit = if is_started { 8 } else { 3 };
        assert!(began.elapsed() < Duration::from_secs(limit), "{hook}: {:?}", began.elapsed());
        assert_nothing_left(&agent, daemon_id);
    }
}

#[test]
fn a_start_that_fails_leaves_no_process() {
    let bench = require!(AgentBench::new());
    let (bad, hung) = (FakeAgent::new(&bench.dir), FakeAgent::new(&bench.dir));
    hung.hook("metadata", STUBBORN);
    bad.hook(
        "metadata",
        "until [ -s PIDS ]; do sleep 0.05; done; exit 1"
            .replace("PIDS", hung.path("pids").to_str().unwrap())
            .as_str(),
    );
    let sections = hung.section("hung", "") + &bad.section("bad", "");
    let began = Instant::now();
    let (code, text) = bench.refused(&bench.conf("agent", &sections, ""));
    assert_eq!(code, Some(1), "{text}");
    assert!(began.elapsed() < Duration::from_secs(10), "{text}");
    assert_nothing_left(&hung, 0);
}
